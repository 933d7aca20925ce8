//! The caller's own personal access tokens.

use maud::html;

use super::super::parts::{Tone, badge, empty, name, time, time_or};
use super::super::table::{Column, Wish, column};
use super::super::visit::{Page, Visit};
use super::super::{Answer, Route};
use crate::domain::TokenState;
use crate::manage;

pub(in crate::console) const ROUTES: &[Route] = &[Route::new("/tokens", &[("GET", list)])];

const COLUMNS: &[Column] = &[
    column("Name").sort("name"),
    column("State"),
    column("Ends").sort("ends"),
    column("Last used").sort("used"),
    column("Made").sort("made"),
];

/// More than one owner may have.
const ALL: manage::Page = manage::Page { limit: 1000, offset: 0 };

pub(super) fn tone(state: TokenState) -> Tone {
    match state {
        TokenState::Active => Tone::Good,
        TokenState::Expiring | TokenState::InGrace => Tone::Warning,
        TokenState::Expired | TokenState::Revoked => Tone::Bad,
    }
}

fn list(visit: &Visit) -> Answer {
    let tokens = visit.manage.own_personal_tokens(visit.principal, "", ALL)?;
    let wish = Wish::of(visit, COLUMNS, "name");
    if tokens.total == 0 {
        let text = "You have no personal access token. Ask an administrator for your first one.";
        return Page::new("Tokens", empty(text, None)).into();
    }
    let found = wish.select(
        tokens.items,
        |view| wish.fits(&[view.token.name.as_str()]),
        |a, b| match wish.sort {
            "ends" => a.end.cmp(&b.end),
            "used" => a.last_used.cmp(&b.last_used),
            "made" => a.token.created_at.cmp(&b.token.created_at),
            _ => a.token.name.cmp(&b.token.name),
        },
    );
    let rows = found.items.iter().map(|view| {
        html! {
            tr {
                th scope="row" { (name(view.token.name.as_str())) }
                td { (badge(tone(view.state), view.state.as_str())) }
                td { (time_or(view.end, "never")) }
                td { (time_or(view.last_used, "never")) }
                td { (time(view.token.created_at)) }
            }
        }
    });
    let body = html! {
        (wish.search(visit, "Search tokens"))
        (wish.table(visit, COLUMNS, found.total, rows))
    };
    Page::new("Tokens", body).into()
}
