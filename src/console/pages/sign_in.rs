//! The way in.

use maud::{Markup, Render as _, html};

use super::super::form::encode;
use super::super::parts::{buttons, field};
use crate::failure::Failure;

/// The form, and why it was refused.
pub(in crate::console) fn form(form_token: &str, next: &str, failure: Option<&Failure>) -> Markup {
    let token = field("token", "Personal access token", "")
        .kind("password")
        .required()
        .hint("It begins with tfy_pat_. You stay signed in until it ends, at most a week.");
    html! {
        @if let Some(failure) = failure { div.message.error role="alert" { (failure.message()) } }
        form.fields method="post" action={ "/sign-in?next=" (encode(next)) } {
            input type="hidden" name="form-token" value=(form_token);
            (token.render())
            (buttons("Sign in", None))
        }
        p.quiet { "No token? Ask an administrator: " code { "gateway admin token create --user you@example.com --name laptop" } }
    }
}
