//! The caller's own sessions and password.

use maud::{Render as _, html};

use super::super::entrance;
use super::super::form::encode;
use super::super::parts::{Confirm, Tone, badge, buttons, confirm, field, form, time};
use super::super::visit::{Page, Visit, mendable};
use super::super::{Answer, Route};
use super::sign_in::new_password;
use crate::clock::monotonic_ms;
use crate::console::attempts::Counted;
use crate::domain::SignInWay;
use crate::failure::Failure;
use crate::secret::Secret;

pub(in crate::console) const ROUTES: &[Route] = &[
    Route::new("/sessions", &[("GET", list)]),
    Route::new("/sessions/others/end", &[("GET", ask_others), ("POST", end_others)]),
    Route::new("/sessions/{id}/end", &[("GET", ask), ("POST", end)]),
    Route::new("/password", &[("GET", password), ("POST", change_password)]),
];

fn way(way: SignInWay) -> &'static str {
    match way {
        SignInWay::Token => "with a token",
        SignInWay::Password => "with the password",
        SignInWay::Invitation => "with an invitation",
        SignInWay::Provider => "through the identity provider",
    }
}

fn list(visit: &Visit) -> Answer {
    let sessions = visit.manage.sessions(visit.principal, visit.email())?;
    let body = html! {
        div.table tabindex="0" role="region" aria-label="Sessions" {
            table {
                thead { tr {
                    th scope="col" { "Browser" } th scope="col" { "Signed in" } th scope="col" { "Last used" }
                    th scope="col" { "Ends at the latest" } th scope="col" { "" }
                } }
                tbody { @for view in &sessions { tr {
                    th scope="row" {
                        bdi { @if view.session.agent.is_empty() { "unknown" } @else { (view.session.agent) } }
                        @if view.is_this { " " (badge(Tone::Good, "this one")) }
                    }
                    td { (time(view.session.created_at)) " " (way(view.session.way)) }
                    td { (time(view.seen_at)) }
                    td { (time(view.session.expires_at)) }
                    td { a href={ "/sessions/" (view.session.id) "/end" } { "End" } }
                } } }
            }
        }
    };
    let actions = html! {
        @if visit.session.way != SignInWay::Token { a.button href="/password" { "Change password" } }
        @if sessions.len() > 1 { a.button href="/sessions/others/end" { "End all others" } }
    };
    Page::new("My sessions", body).actions(actions).into()
}

fn ask(visit: &Visit) -> Answer {
    let sessions = visit.manage.sessions(visit.principal, visit.email())?;
    let found = sessions.iter().find(|view| view.session.id.as_str() == visit.id());
    let found =
        found.ok_or(Failure::NotFound("There is no such session of yours; it may have ended".into()))?;
    let loss = if found.is_this {
        "You will be signed out of this browser, and answers that still run in it break off.".to_owned()
    } else {
        format!(
            "The browser \u{201c}{}\u{201d} will be signed out, and answers that still run in it break off.",
            found.session.agent
        )
    };
    let page = confirm(
        visit,
        &Confirm {
            title: "End the session?".to_owned(),
            losses: vec![loss],
            action: &format!("/sessions/{}/end", encode(visit.id())),
            button: "End the session",
            back: "/sessions",
            hidden: &[],
        },
    );
    page.below("/sessions", "My sessions").into()
}

fn end(visit: &Visit) -> Answer {
    visit.manage.end_session(visit.principal, visit.id())?;
    visit.go("/sessions", "The session was ended")
}

fn ask_others(visit: &Visit) -> Answer {
    let others = visit.manage.sessions(visit.principal, visit.email())?.len().saturating_sub(1);
    let page = confirm(
        visit,
        &Confirm {
            title: "End all other sessions?".to_owned(),
            losses: vec![format!(
                "{others} other browsers will be signed out, and answers that still run in them break off."
            )],
            action: "/sessions/others/end",
            button: "End all others",
            back: "/sessions",
            hidden: &[],
        },
    );
    page.below("/sessions", "My sessions").into()
}

fn end_others(visit: &Visit) -> Answer {
    let count = visit.manage.end_other_sessions(visit.principal, visit.email())?;
    visit.go("/sessions", format!("{count} sessions were ended"))
}

fn password(visit: &Visit) -> Answer {
    password_page(visit, None).into()
}

fn password_page(visit: &Visit, failure: Option<Failure>) -> Page {
    let old = field("old-password", "Present password", "").kind("password").required();
    let body = if visit.session.way == SignInWay::Token {
        html! { p { "This session began with a token, which changes no password. Sign in with your password, or ask an administrator for an invitation." } }
    } else {
        form(
            visit,
            "/password",
            html! {
                (old.autocomplete("current-password").render())
                (new_password())
                p.quiet { "All your other sessions end. Your tokens stay as they are." }
                (buttons("Change the password", Some("/sessions")))
            },
        )
    };
    Page::new("Change password", body).below("/sessions", "My sessions").refused(failure)
}

fn change_password(visit: &Visit) -> Answer {
    match change(visit) {
        Ok(()) => visit.go("/sessions", "The password was changed; your other sessions have ended"),
        Err(failure) => password_page(visit, Some(mendable(failure)?)).into(),
    }
}

fn change(visit: &Visit) -> Result<(), Failure> {
    // Before the password is looked at: a token that leaked must not be a way to guess it.
    if visit.session.way == SignInWay::Token {
        return Err(Failure::Forbidden(
            "A session that began with a token changes no password; sign in with the password".into(),
        ));
    }
    // Whoever sits down at an open session must not guess the password either.
    let counted = [Counted::account(visit.email(), Some(visit.session.id.as_str()))];
    visit.console.attempts.begin(&counted, monotonic_ms())?;
    let login = visit.manage.password_of(visit.email());
    let old = Secret::new(visit.form.raw("old-password").to_owned());
    let proven = visit.console.proves(&old, login.as_deref());
    let is_right = proven.map_err(|failure| visit.console.unseen(&counted, failure))?;
    let wrong = || Failure::Unprocessable("The present password is wrong".into());
    let login = login.filter(|_| is_right).ok_or_else(wrong)?;
    visit.console.attempts.succeeded(&counted);
    let password = entrance::new_password(visit.form, visit.email())?;
    let hash = visit.console.hash(&password)?;
    visit.manage.change_password(visit.principal, &login, &hash)
}
