//! Tokens: the caller's own list, and of any token that they may see its page, its renewal and its end. Secrets are
//! shown by the answer that made them and by nothing else.

use maud::{Markup, html};

use super::super::form::encode;
use super::super::parts::{
    Confirm, Tone, badge, button_form, buttons, confirm, copyable, definitions, empty, field, form, name,
    time, time_or,
};
use super::super::table::{Column, Wish, column};
use super::super::visit::{Page, Visit, mendable};
use super::super::{Answer, Route};
use crate::clock::UnixMillis;
use crate::domain::{Owner, TokenState};
use crate::failure::Failure;
use crate::manage::{self, Minted, NewToken, TokenOwner, TokenView, Validity};

pub(in crate::console) const ROUTES: &[Route] = &[
    Route::new("/tokens", &[("GET", list)]),
    Route::new("/tokens/new", &[("GET", new), ("POST", create)]),
    Route::new("/tokens/{id}", &[("GET", show)]),
    Route::new("/tokens/{id}/rename", &[("POST", rename)]),
    Route::new("/tokens/{id}/rotate", &[("GET", ask_to_rotate), ("POST", rotate)]),
    Route::new("/tokens/{id}/revoke", &[("GET", ask_to_revoke), ("POST", revoke)]),
];

const COLUMNS: &[Column] = &[
    column("Name").sort("name"),
    column("State"),
    column("Ends").sort("ends"),
    column("Last used").sort("used"),
    column("Made").sort("made"),
];

/// More than one owner may have.
const ALL: manage::Page = manage::Page { limit: 1000, offset: 0 };

/// How long an old token works beside its successor: minutes and words.
const GRACES: &[(&str, &str)] = &[
    ("1440", "1 day"),
    ("60", "1 hour"),
    ("10080", "7 days"),
    ("43200", "30 days"),
    ("0", "not at all: the old one ends now"),
];

pub(super) fn tone(state: TokenState) -> Tone {
    match state {
        TokenState::Active => Tone::Good,
        TokenState::Expiring | TokenState::InGrace => Tone::Warning,
        TokenState::Expired | TokenState::Revoked => Tone::Bad,
    }
}

fn list(visit: &Visit) -> Answer {
    let tokens = visit.manage.own_personal_tokens(visit.principal, "", ALL)?;
    let may_make = visit.manage.require_minting(visit.principal).is_ok();
    let mut page = if tokens.total == 0 {
        let text = "You have no personal access token. You need one to call models from an SDK, a coding agent or curl.";
        let ask = "You have no personal access token. Ask an administrator for your first one.";
        let make = may_make.then_some(("/tokens/new", "Make a token"));
        Page::new("Tokens", empty(if may_make { text } else { ask }, make))
    } else {
        Page::new("Tokens", table(visit, tokens.items))
    };
    if may_make {
        page = page.actions(html! { a.button.primary href="/tokens/new" { "New token" } });
    }
    page.into()
}

/// A table of tokens of one owner, searched and sorted.
pub(super) fn table(visit: &Visit, tokens: Vec<TokenView>) -> Markup {
    let wish = Wish::of(visit, COLUMNS, "name");
    let found = wish.select(
        tokens,
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
                th scope="row" { a href={ "/tokens/" (view.token.id.as_str()) } { (name(view.token.name.as_str())) } }
                td { (badge(tone(view.state), view.state.as_str())) }
                td { (time_or(view.end, "never")) }
                td { (time_or(view.last_used, "never")) }
                td { (time(view.token.created_at)) }
            }
        }
    });
    html! {
        (wish.search(visit, "Search tokens"))
        (wish.table(visit, COLUMNS, found.total, rows))
    }
}

/// The page of a token's owner, and what it is called there.
fn home_of(visit: &Visit, owner: &Owner) -> (String, String) {
    match owner {
        Owner::User(email) if email.as_str() == visit.email() => ("/tokens".to_owned(), "Tokens".to_owned()),
        Owner::User(email) => (format!("/people/{}", encode(email.as_str())), email.to_string()),
        Owner::VirtualAccount(account) => {
            (format!("/virtual-accounts/{}", encode(account.as_str())), account.to_string())
        }
    }
}

/// For whom a token is to be made: as the form or the link says, else for oneself.
fn wanted_owner(visit: &Visit) -> TokenOwner {
    let said = |name: &str| visit.form.filled(name).or_else(|| visit.query.filled(name)).map(str::to_owned);
    match (said("virtual-account"), said("user")) {
        (Some(account), _) => TokenOwner::VirtualAccount(account),
        (None, Some(email)) => TokenOwner::User(email),
        (None, None) => TokenOwner::User(visit.email().to_owned()),
    }
}

fn new(visit: &Visit) -> Answer {
    visit.manage.require_minting(visit.principal)?;
    new_page(visit, None).into()
}

fn new_page(visit: &Visit, refused: Option<Failure>) -> Page {
    let owner = wanted_owner(visit);
    let (kind, of) = match &owner {
        TokenOwner::User(email) => ("user", email),
        TokenOwner::VirtualAccount(account) => ("virtual-account", account),
    };
    let (back, title) = match &owner {
        TokenOwner::User(email) if email == visit.email() => ("/tokens".to_owned(), "Tokens".to_owned()),
        TokenOwner::User(email) => (format!("/people/{}", encode(email)), email.clone()),
        TokenOwner::VirtualAccount(account) => {
            (format!("/virtual-accounts/{}", encode(account)), account.clone())
        }
    };
    let body = html! {
        p { "It acts as " bdi { (of) } ", with whatever that one may use, until it ends or is revoked." }
        (form(visit, "/tokens/new", html! {
            input type="hidden" name=(kind) value=(of);
            (field("name", "Name", visit.form.text("name")).required().placeholder("laptop")
                .hint("What it is for: 3 to 36 lower-case letters, digits and hyphens."))
            (field("expires", "Last day", visit.form.text("expires")).kind("date")
                .hint("It works to the end of that day in UTC. Empty: until it is revoked."))
            (buttons("Make the token", Some(&back)))
        }))
    };
    Page::new("New token", body).below(back.clone(), title).refused(refused)
}

fn create(visit: &Visit) -> Answer {
    visit.manage.require_minting(visit.principal)?;
    let made = validity(visit.form.filled("expires")).and_then(|validity| {
        let new = NewToken { owner: wanted_owner(visit), name: visit.form.text("name").to_owned(), validity };
        visit.manage.create_token(visit.principal, &new)
    });
    match made {
        Ok(minted) => secret_page(visit, &minted, "The token was made."),
        Err(failure) => new_page(visit, Some(mendable(failure)?)).into(),
    }
}

fn validity(date: Option<&str>) -> Result<Validity, Failure> {
    let Some(date) = date else { return Ok(Validity::Unlimited) };
    UnixMillis::parse(date).map(Validity::Until).map_err(|text| Failure::Unprocessable(text.into()))
}

/// Shows a new secret, this once.
pub(super) fn secret_page(visit: &Visit, minted: &Minted, said: &str) -> Answer {
    let (back, title) = home_of(visit, &minted.token.token.owner);
    let body = html! {
        div.message role="status" { (said) }
        p { strong { "Copy it now: it is shown this once." } " The gateway keeps a hash of it and can not show it again." }
        (copyable(minted.text.expose()))
        (definitions(&facts(&minted.token)))
        div.buttons { a.button.primary href=(back) { "I have it" } }
    };
    Page::new("New token", body).below(back.clone(), title).into()
}

fn facts(view: &TokenView) -> Vec<(&'static str, Markup)> {
    let token = &view.token;
    let other = |id: &Option<crate::id::TokenId>| {
        id.as_ref().map(|id| html! { a href={ "/tokens/" (id.as_str()) } { (id.as_str()) } })
    };
    let mut facts = vec![
        ("Name", name(token.name.as_str())),
        ("ID", html! { code { (token.id.as_str()) } }),
        ("Acts as", html! { (token.owner.subject().to_string()) }),
        ("State", badge(tone(view.state), view.state.as_str())),
        ("Ends", time_or(view.end, "never")),
        ("Last used", time_or(view.last_used, "never")),
        ("Made", html! { (time(token.created_at)) " by " bdi { (token.created_by) } }),
    ];
    facts.extend(other(&token.replaces).map(|link| ("Replaces", link)));
    facts.extend(other(&token.replaced_by).map(|link| ("Replaced by", link)));
    facts
}

fn show(visit: &Visit) -> Answer {
    let view = visit.manage.token(visit.principal, visit.id())?;
    show_page(visit, &view, None).into()
}

fn show_page(visit: &Visit, view: &TokenView, refused: Option<Failure>) -> Page {
    let id = view.token.id.as_str();
    let (back, title) = home_of(visit, &view.token.owner);
    let shown_name = visit.form.filled("name").unwrap_or(view.token.name.as_str());
    let body = html! {
        (definitions(&facts(view)))
        @if !view.state.is_over() {
            section.card {
                h2 { "Rename" }
                (form(visit, &format!("/tokens/{id}/rename"), html! {
                    (field("name", "Name", shown_name).required())
                    (buttons("Rename", None))
                }))
            }
        }
    };
    let mut page = Page::new(format!("Token {}", view.token.name), body).below(back, title).refused(refused);
    if !view.state.is_over() {
        page = page.actions(html! {
            @if view.token.replaced_by.is_none() && visit.manage.require_minting(visit.principal).is_ok() {
                a.button href={ "/tokens/" (id) "/rotate" } { "Rotate" }
            }
            a.button.danger href={ "/tokens/" (id) "/revoke" } { "Revoke" }
        });
    }
    page
}

fn rename(visit: &Visit) -> Answer {
    match visit.manage.rename_token(visit.principal, visit.id(), visit.form.text("name")) {
        Ok(view) => visit.go(format!("/tokens/{}", view.token.id), "The token was renamed"),
        Err(failure) => {
            let failure = mendable(failure)?;
            let view = visit.manage.token(visit.principal, visit.id())?;
            show_page(visit, &view, Some(failure)).into()
        }
    }
}

fn ask_to_rotate(visit: &Visit) -> Answer {
    let view = visit.manage.token(visit.principal, visit.id())?;
    rotate_page(visit, &view, None).into()
}

fn rotate_page(visit: &Visit, view: &TokenView, refused: Option<Failure>) -> Page {
    let here = format!("/tokens/{}", view.token.id);
    let grace = visit.form.filled("grace").unwrap_or("1440");
    let body = html! {
        p { "A new secret is made. For a while the old one goes on working beside it, so that nothing is interrupted while you change over." }
        (form(visit, &format!("{here}/rotate"), html! {
            (field("grace", "The old one works for another", grace).choices(GRACES)
                .hint("A token that leaked should not work at all any more."))
            (buttons("Make the new one", Some(&here)))
        }))
    };
    let title = format!("Rotate {}", view.token.name);
    Page::new(title, body).below(here.clone(), view.token.name.to_string()).refused(refused)
}

fn rotate(visit: &Visit) -> Answer {
    let minted = visit.form.number("grace").and_then(|minutes| {
        let minutes =
            minutes.ok_or_else(|| Failure::Unprocessable("Say how long the old one works".into()))?;
        visit.manage.rotate_token(visit.principal, visit.id(), minutes)
    });
    match minted {
        Ok(minted) => secret_page(visit, &minted, "The new token was made."),
        Err(failure) => {
            let failure = mendable(failure)?;
            let view = visit.manage.token(visit.principal, visit.id())?;
            rotate_page(visit, &view, Some(failure)).into()
        }
    }
}

fn ask_to_revoke(visit: &Visit) -> Answer {
    let view = visit.manage.token(visit.principal, visit.id())?;
    let here = format!("/tokens/{}", view.token.id);
    let used = match view.last_used {
        Some(at) => format!("It was last used at {} UTC.", minute(at)),
        None => "It was never used.".to_owned(),
    };
    let losses = vec![
        format!(
            "The next call with it is refused, and its open calls are cut. It acts as {}.",
            view.token.owner.subject()
        ),
        used,
        "It can not be brought back; a new one can be made.".to_owned(),
    ];
    let page = confirm(
        visit,
        &Confirm {
            title: format!("Revoke the token '{}'?", view.token.name),
            losses,
            action: &format!("{here}/revoke"),
            button: "Revoke the token",
            back: &here,
            hidden: &[],
        },
    );
    page.below(here.clone(), view.token.name.to_string()).into()
}

/// To the minute, for sentences.
pub(super) fn minute(at: UnixMillis) -> String {
    at.to_iso().get(..16).unwrap_or_default().replace('T', " ")
}

fn revoke(visit: &Visit) -> Answer {
    let view = visit.manage.token(visit.principal, visit.id())?;
    visit.manage.revoke_token(visit.principal, visit.id())?;
    let (back, _) = home_of(visit, &view.token.owner);
    visit.go(back, format!("The token '{}' is revoked", view.token.name))
}

/// A button to a page where a token is made for somebody.
pub(super) fn new_button(kind: &str, owner: &str) -> Markup {
    html! { a.button href={ "/tokens/new?" (kind) "=" (encode(owner)) } { "New token" } }
}

/// All tokens of an owner on that one's page.
pub(super) fn of_owner(visit: &Visit, owner: &TokenOwner, nothing: &str) -> Result<Markup, Failure> {
    let tokens = visit.manage.tokens(visit.principal, Some(owner), ALL)?;
    Ok(html! {
        @if tokens.total == 0 { p.quiet { (nothing) } } @else { (table(visit, tokens.items)) }
    })
}

/// How many of an owner's tokens work.
pub(super) fn working(visit: &Visit, owner: &TokenOwner) -> Result<usize, Failure> {
    let tokens = visit.manage.tokens(visit.principal, Some(owner), ALL)?;
    Ok(tokens.items.iter().filter(|view| !view.state.is_over()).count())
}

/// A form of one button, where nothing is lost by it.
pub(super) fn one_button(visit: &Visit, action: &str, text: &str) -> Markup {
    button_form(visit, action, text, &[])
}
