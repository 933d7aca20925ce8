//! Virtual accounts: the identities of applications, their access, tokens, copies and end.

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::super::form::encode;
use super::super::parts::{
    Confirm, Tone, badge, card, confirm, copyable, definitions, empty, field, form, name, time, time_or,
};
use super::super::table::{Column, Wish, column};
use super::super::visit::{Page, Visit, mendable};
use super::super::{Answer, Route};
use super::{grants, manifests, tokens};
use crate::failure::Failure;
use crate::manage::{self, TokenOwner, VirtualAccountFilter, VirtualAccountView};

pub(in crate::console) const ROUTES: &[Route] = &[
    Route::new("/virtual-accounts", &[("GET", list)]),
    Route::new("/virtual-accounts/new", &[("GET", new), ("POST", create)]),
    Route::new("/virtual-accounts/{name}", &[("GET", show)]),
    Route::new("/virtual-accounts/{name}/manifest", &[("GET", manifest)]),
    Route::new("/virtual-accounts/{name}/clone", &[("GET", ask_to_clone), ("POST", clone)]),
    Route::new("/virtual-accounts/{name}/delete", &[("GET", ask_to_delete), ("POST", delete)]),
];

const COLUMNS: &[Column] = &[
    column("Name"),
    column("State"),
    column("Team"),
    column("May use"),
    column("Last used"),
    column("Ends"),
];

fn state(view: &VirtualAccountView) -> Markup {
    match (view.expired, view.tokens.is_empty()) {
        (true, _) => badge(Tone::Bad, "expired"),
        (false, true) => badge(Tone::Warning, "no token"),
        (false, false) => badge(Tone::Good, "active"),
    }
}

fn list(visit: &Visit) -> Answer {
    let wish = Wish::of(visit, COLUMNS, "");
    let filter = VirtualAccountFilter { name: wish.text.clone(), ..VirtualAccountFilter::default() };
    let found = visit.manage.virtual_accounts_like(visit.principal, &filter, wish.page())?;
    if found.total == 0 && wish.text.is_empty() {
        let text = "There is no virtual account yet. An application gets one, with an explicit list of what it may use and tokens of its own; no person stands behind it.";
        return Page::new(
            "Virtual accounts",
            empty(text, Some(("/virtual-accounts/new", "Make a virtual account"))),
        )
        .into();
    }
    let rows = found.items.iter().map(|view| {
        let account = &view.account;
        html! {
            tr {
                th scope="row" { a href={ "/virtual-accounts/" (encode(account.name.as_str())) } { (name(account.name.as_str())) } }
                td { (state(view)) }
                td { @if let Some(team) = &account.owned_by { (name(team.as_str())) } }
                td.number { (view.permissions.len()) }
                td { (time_or(view.last_used, "never")) }
                td { (time_or(account.expires_at, "never")) }
            }
        }
    });
    let body = html! {
        (wish.search(visit, "Search virtual accounts"))
        (wish.table(visit, COLUMNS, found.total, rows))
    };
    let add = html! { a.button.primary href="/virtual-accounts/new" { "New virtual account" } };
    Page::new("Virtual accounts", body).actions(add).into()
}

fn new(visit: &Visit) -> Answer {
    visit.manage.require_admin(visit.principal)?;
    new_page(visit, None).into()
}

fn new_page(visit: &Visit, refused: Option<Failure>) -> Page {
    let body = form(
        visit,
        "/virtual-accounts/new",
        html! {
            (field("name", "Name", visit.form.text("name")).required().placeholder("search-bot")
                .hint("3 to 36 lower-case letters, digits and hyphens."))
            (field("team", "Team", visit.form.text("team")).hint("Whose it is; may stay empty."))
            (field("expires", "Last day", visit.form.text("expires")).kind("date")
                .hint("To the end of that day in UTC all of its tokens may work. Empty: no end."))
            (field("tags", "Tags", visit.form.raw("tags")).rows(3).placeholder("project=search")
                .hint("One key=value a line. They are in each usage record, and rules may select by them."))
            (grants::make_buttons("Make the virtual account", "/virtual-accounts"))
        },
    );
    Page::new("New virtual account", body).below("/virtual-accounts", "Virtual accounts").refused(refused)
}

fn create(visit: &Visit) -> Answer {
    let account = visit.form.text("name");
    match wanted(visit).and_then(|manifest| manifests::apply_new(visit, manifest)) {
        Ok(()) => visit.go(
            format!("/virtual-accounts/{}", encode(account)),
            "The virtual account was made; now give it access and a token",
        ),
        Err(failure) => new_page(visit, Some(mendable(failure)?)).into(),
    }
}

fn wanted(visit: &Visit) -> Result<Value, Failure> {
    let mut tags = Map::new();
    for line in visit.form.raw("tags").lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or_else(|| {
            Failure::Unprocessable("Write each tag on a line of its own, as key=value".into())
        })?;
        tags.insert(key.trim().to_owned(), value.trim().into());
    }
    let mut manifest = Map::new();
    manifest.insert("type".into(), "virtual-account".into());
    manifest.insert("name".into(), visit.form.text("name").into());
    manifest.insert("tags".into(), tags.into());
    if let Some(date) = visit.form.filled("expires") {
        manifest.insert("expiration_date".into(), date.into());
    }
    if let Some(team) = visit.form.filled("team") {
        manifest.insert("ownedBy".into(), json!({"team": team}));
    }
    Ok(manifest.into())
}

fn here(visit: &Visit) -> String {
    format!("/virtual-accounts/{}", encode(visit.id()))
}

fn show(visit: &Visit) -> Answer {
    let view = visit.manage.virtual_account(visit.principal, visit.id())?;
    let account = &view.account;
    let here = here(visit);
    let tags: Vec<String> = account.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let rotation = account.auto_rotate.map(|rotate| {
        format!("every {} days, the old token works {} days more", rotate.interval_days, rotate.grace_days)
    });
    let body = html! {
        (definitions(&[
            ("State", state(&view)),
            ("Team", html! { @match &account.owned_by { Some(team) => (name(team.as_str())), None => span.quiet { "none" } } }),
            ("Tags", html! { @if tags.is_empty() { span.quiet { "none" } } @else { @for tag in &tags { (badge(Tone::Plain, tag)) " " } } }),
            ("Ends", time_or(account.expires_at, "never")),
            ("Rotation by itself", html! { @match &rotation { Some(text) => (text), None => span.quiet { "off" } } }),
            ("Next rotation", time_or(view.next_rotation, "none")),
            ("Last used", time_or(view.last_used, "never")),
            ("Made", html! { (time(account.created_at)) " by " bdi { (account.created_by) } }),
        ]))
        (card("What it may use", grants::of_subject(visit, &format!("virtualaccount:{}", account.name), &here)?))
        (card("Tokens", tokens::of_owner(visit, &TokenOwner::VirtualAccount(account.name.to_string()), "No token yet: it can not call anything.")?))
    };
    let actions = html! {
        (tokens::new_button("virtual-account", account.name.as_str()))
        a.button href={ (here) "/clone" } { "Clone" }
        a.button href={ (here) "/manifest" } { "Manifest" }
        a.button.danger href={ (here) "/delete" } { "Delete" }
    };
    Page::new(account.name.as_str(), body)
        .below("/virtual-accounts", "Virtual accounts")
        .actions(actions)
        .into()
}

fn manifest(visit: &Visit) -> Answer {
    let manifest = visit.manage.export(visit.principal, "virtual-account", visit.id())?;
    let body = html! {
        p { "Applied again with " code { "gateway admin apply -f FILE" } " it changes nothing. Secrets are not in it." }
        (copyable(&manifests::yaml(&manifest)?))
    };
    let title = format!("Manifest of {}", visit.id());
    Page::new(title, body)
        .below("/virtual-accounts", "Virtual accounts")
        .below(here(visit), visit.id())
        .into()
}

fn ask_to_clone(visit: &Visit) -> Answer {
    visit.manage.require_admin(visit.principal)?;
    visit.manage.virtual_account(visit.principal, visit.id())?;
    clone_page(visit, None).into()
}

fn clone_page(visit: &Visit, refused: Option<Failure>) -> Page {
    let here = here(visit);
    let body = html! {
        p { "The new one gets the same access, tags and end, and no token yet. So a key can be changed without an interruption: move the application over, then delete the old one." }
        (form(visit, &format!("{here}/clone"), html! {
            (field("name", "Name of the new one", visit.form.text("name")).required().placeholder("search-bot-2"))
            (grants::make_buttons("Clone it", &here))
        }))
    };
    Page::new(format!("Clone {}", visit.id()), body)
        .below("/virtual-accounts", "Virtual accounts")
        .below(here.clone(), visit.id())
        .refused(refused)
}

fn clone(visit: &Visit) -> Answer {
    let mut manifest = visit.manage.export(visit.principal, "virtual-account", visit.id())?;
    if let Some(fields) = manifest.as_object_mut() {
        fields.insert("name".into(), visit.form.text("name").into());
    }
    match manifests::apply_new(visit, manifest) {
        Ok(()) => visit.go(
            format!("/virtual-accounts/{}", encode(visit.form.text("name"))),
            "The virtual account was cloned; it needs a token",
        ),
        Err(failure) => clone_page(visit, Some(mendable(failure)?)).into(),
    }
}

fn ask_to_delete(visit: &Visit) -> Answer {
    let account = visit.id();
    let delete = |manage: &manage::Manage| manage.delete_virtual_account(visit.principal, account);
    let (_, diff) = visit.manage.dry_run(delete)?;
    let working = tokens::working(visit, &TokenOwner::VirtualAccount(account.to_owned()))?;
    let mut losses = vec![format!("{working} of its tokens end now, and its open calls are cut.")];
    losses.extend(grants::losses(&diff, "It could use nothing anyway."));
    losses.push("Its usage stays on record under its name.".to_owned());
    let here = here(visit);
    let page = confirm(
        visit,
        &Confirm {
            title: format!("Delete the virtual account {account}?"),
            losses,
            action: &format!("{here}/delete"),
            button: "Delete the virtual account",
            back: &here,
            hidden: &[],
        },
    );
    page.below("/virtual-accounts", "Virtual accounts").below(here.clone(), account).into()
}

fn delete(visit: &Visit) -> Answer {
    visit.manage.delete_virtual_account(visit.principal, visit.id())?;
    visit.go("/virtual-accounts", format!("The virtual account {} is deleted", visit.id()))
}
