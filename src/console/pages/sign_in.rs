//! The forms of those who are not signed in.

use maud::{Markup, Render as _, html};

use super::super::form::encode;
use super::super::parts::{buttons, field};
use crate::failure::Failure;
use crate::password::MIN_CHARS;

fn refused(failure: Option<&Failure>) -> Markup {
    html! { @if let Some(failure) = failure { div.message.error role="alert" { (failure.message()) } } }
}

/// The two ways to sign in, and why the last attempt was refused.
pub(in crate::console) fn form(
    form_token: &str,
    next: &str,
    email: &str,
    failure: Option<&Failure>,
) -> Markup {
    let action = format!("/sign-in?next={}", encode(next));
    let password = field("password", "Password", "").kind("password").required();
    let token = field("token", "Personal access token", "")
        .kind("password")
        .required()
        .hint("It begins with tfy_pat_. The session ends with it at the latest.");
    html! {
        (refused(failure))
        form.fields method="post" action=(action) {
            input type="hidden" name="form-token" value=(form_token);
            (field("email", "Email", email).kind("email").required().autocomplete("username").render())
            (password.autocomplete("current-password").render())
            (buttons("Sign in", None))
        }
        details open[email.is_empty() && failure.is_some()] {
            summary { "Sign in with a token" }
            form.fields method="post" action=(action) {
                input type="hidden" name="form-token" value=(form_token);
                (token.render())
                (buttons("Sign in with the token", None))
            }
        }
        p.quiet { "No password yet, or forgotten? An administrator can send you an invitation." }
    }
}

/// The two fields of a new password.
pub(in crate::console) fn new_password() -> Markup {
    let hint = format!("At least {MIN_CHARS} characters; a sentence is easy to remember.");
    html! {
        (field("password", "New password", "").kind("password").required().autocomplete("new-password").hint(&hint).render())
        (field("password-again", "The same again", "").kind("password").required().autocomplete("new-password").render())
    }
}

/// The form of an invitation.
pub(in crate::console) fn choose(
    form_token: &str,
    email: &str,
    code: &str,
    failure: Option<&Failure>,
) -> Markup {
    html! {
        (refused(failure))
        p { "You are invited as " bdi.name { (email) } "." }
        form.fields method="post" action="/invitation" {
            input type="hidden" name="form-token" value=(form_token);
            input type="hidden" name="code" value=(code);
            // Where password managers find for whom to keep it.
            input type="hidden" name="email" value=(email) autocomplete="username";
            (new_password())
            (buttons("Set the password and sign in", None))
        }
    }
}
