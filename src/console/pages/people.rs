//! People: who there is, what each of them holds, and how somebody comes and leaves.

use maud::html;

use super::super::form::encode;
use super::super::parts::{Confirm, Tone, badge, card, confirm, definitions, empty, field, form, name, time};
use super::super::table::{Column, Wish, column};
use super::super::visit::{Page, Visit, mendable};
use super::super::{Answer, Route};
use super::{grants, tokens};
use crate::domain::{TenantRole, User};
use crate::failure::Failure;
use crate::manage::{self, Manage, NewUser, TokenOwner};

pub(in crate::console) const ROUTES: &[Route] = &[
    Route::new("/people", &[("GET", list)]),
    Route::new("/people/new", &[("GET", new), ("POST", create)]),
    Route::new("/people/{email}", &[("GET", show)]),
    Route::new("/people/{email}/role", &[("POST", set_role)]),
    Route::new("/people/{email}/deactivate", &[("GET", ask_to_deactivate), ("POST", deactivate)]),
    Route::new("/people/{email}/activate", &[("POST", activate)]),
    Route::new("/people/{email}/delete", &[("GET", ask_to_delete), ("POST", delete)]),
];

const COLUMNS: &[Column] = &[
    column("Email").sort("email"),
    column("Name").sort("name"),
    column("Role").sort("role"),
    column("State").sort("state"),
    column("Since").sort("since"),
];

const EVERYBODY: manage::Page = manage::Page { limit: usize::MAX, offset: 0 };
const ROLES: &[(&str, &str)] = &[("member", "member"), ("admin", "administrator")];

fn state(user: &User) -> maud::Markup {
    if user.active { badge(Tone::Good, "active") } else { badge(Tone::Bad, "deactivated") }
}

fn role(user: &User) -> maud::Markup {
    match user.role {
        TenantRole::Admin => badge(Tone::Warning, "administrator"),
        TenantRole::Member => badge(Tone::Plain, "member"),
    }
}

fn list(visit: &Visit) -> Answer {
    visit.manage.require_admin(visit.principal)?;
    let users = visit.manage.users(visit.principal, "", true, EVERYBODY)?;
    let add = html! { a.button.primary href="/people/new" { "Add a person" } };
    if users.total == 0 {
        let text = "There is nobody yet. Add the first person; what they may use comes after that.";
        return Page::new("People", empty(text, Some(("/people/new", "Add a person")))).into();
    }
    let wish = Wish::of(visit, COLUMNS, "email");
    let found = wish.select(
        users.items,
        |user| wish.fits(&[user.email.as_str(), &user.display_name]),
        |a, b| match wish.sort {
            "name" => a.display_name.cmp(&b.display_name),
            "role" => a.role.as_str().cmp(b.role.as_str()),
            "state" => b.active.cmp(&a.active),
            "since" => a.created_at.cmp(&b.created_at),
            _ => a.email.cmp(&b.email),
        },
    );
    let rows = found.items.iter().map(|user| {
        html! {
            tr {
                th scope="row" { a href={ "/people/" (encode(user.email.as_str())) } { (name(user.email.as_str())) } }
                td { (name(&user.display_name)) }
                td { (role(user)) }
                td { (state(user)) }
                td { (time(user.created_at)) }
            }
        }
    });
    let body = html! {
        (wish.search(visit, "Search people"))
        (wish.table(visit, COLUMNS, found.total, rows))
    };
    Page::new("People", body).actions(add).into()
}

fn new(visit: &Visit) -> Answer {
    visit.manage.require_admin(visit.principal)?;
    new_page(visit, None).into()
}

fn new_page(visit: &Visit, refused: Option<Failure>) -> Page {
    let body = html! {
        p { "A new person may use nothing until a grant reaches them, in person or through a team." }
        (form(visit, "/people/new", html! {
            (field("email", "Email", visit.form.text("email")).required().kind("email").placeholder("ada@example.com"))
            (field("name", "Name", visit.form.text("name")).hint("Shown beside the address; may stay empty."))
            (field("role", "Role", visit.form.filled("role").unwrap_or("member")).choices(ROLES)
                .hint("Administrators see and change everything."))
            (grants::make_buttons("Add the person", "/people"))
        }))
    };
    Page::new("Add a person", body).below("/people", "People").refused(refused)
}

fn create(visit: &Visit) -> Answer {
    let new = NewUser {
        email: visit.form.text("email").to_owned(),
        display_name: visit.form.text("name").to_owned(),
        role: TenantRole::parse(visit.form.text("role")),
        ..NewUser::default()
    };
    match visit.manage.register_user(visit.principal, &new) {
        Ok(()) => {
            visit.go(format!("/people/{}", encode(&new.email.to_ascii_lowercase())), "The person was added")
        }
        Err(failure) => new_page(visit, Some(mendable(failure)?)).into(),
    }
}

/// The path of the person that a page is about.
fn here(visit: &Visit) -> String {
    format!("/people/{}", encode(visit.id()))
}

fn show(visit: &Visit) -> Answer {
    let user = visit.manage.user(visit.principal, visit.id())?;
    let email = user.email.as_str();
    let here = here(visit);
    let is_admin = visit.rights.is_admin;
    let teams = visit.manage.teams_of_user(visit.principal, email)?;
    let owner = TokenOwner::User(email.to_owned());
    let body = html! {
        (definitions(&[
            ("Email", name(email)),
            ("Name", name(&user.display_name)),
            ("Role", role(&user)),
            ("State", state(&user)),
            ("Since", time(user.created_at)),
        ]))
        @if is_admin && user.active {
            (card("Role", form(visit, &format!("{here}/role"), html! {
                (field("role", "Role", user.role.as_str()).choices(ROLES))
                (super::super::parts::buttons("Change the role", None))
            })))
        }
        (card("Teams", html! {
            @if teams.is_empty() { p.quiet { "In no team but the one of everyone." } } @else {
                ul { @for one in &teams {
                    li { a href={ "/teams/" (encode(one.team.as_str())) } { (name(one.team.as_str())) } " (" (one.roles.join(", ")) ")" }
                } }
            }
        }))
        (card("Access in person", grants::of_subject(visit, &format!("user:{email}"), &here)?))
        (card("Tokens", tokens::of_owner(visit, &owner, "No token.")?))
    };
    let mut page = Page::new(email, body);
    if is_admin {
        page = page.below("/people", "People").actions(html! {
            @if user.active {
                @if visit.manage.require_minting(visit.principal).is_ok() { (tokens::new_button("user", email)) }
                a.button.danger href={ (here) "/deactivate" } { "Deactivate" }
            } @else {
                (tokens::one_button(visit, &format!("{here}/activate"), "Activate"))
                a.button.danger href={ (here) "/delete" } { "Delete" }
            }
        });
    }
    page.into()
}

fn set_role(visit: &Visit) -> Answer {
    let role = TenantRole::parse(visit.form.text("role"))
        .ok_or_else(|| Failure::Unprocessable("A role is 'admin' or 'member'".into()))?;
    visit.manage.set_user_role(visit.principal, visit.id(), role)?;
    visit.go(
        here(visit),
        format!(
            "The person is {} now",
            if role == TenantRole::Admin { "an administrator" } else { "a member" }
        ),
    )
}

fn ask_to_deactivate(visit: &Visit) -> Answer {
    let user = visit.manage.user(visit.principal, visit.id())?;
    let email = user.email.as_str();
    let deactivate = |manage: &Manage| manage.deactivate_user(visit.principal, email);
    let (_, diff) = visit.manage.dry_run(deactivate)?;
    let working = tokens::working(visit, &TokenOwner::User(email.to_owned()))?;
    let mut losses = vec![
        format!("{working} of their tokens end now, and can not be brought back."),
        "Their open calls are cut, and whoever is signed in here as them is signed out.".to_owned(),
    ];
    losses.extend(grants::losses(&diff, "They could use nothing anyway."));
    losses.push("What they used and what they changed stays on record.".to_owned());
    let here = here(visit);
    let page = confirm(
        visit,
        &Confirm {
            title: format!("Deactivate {email}?"),
            losses,
            action: &format!("{here}/deactivate"),
            button: "Deactivate",
            back: &here,
            hidden: &[],
        },
    );
    page.below("/people", "People").below(here.clone(), email).into()
}

fn deactivate(visit: &Visit) -> Answer {
    visit.manage.deactivate_user(visit.principal, visit.id())?;
    visit.go(here(visit), "The person is deactivated; their tokens are revoked")
}

fn activate(visit: &Visit) -> Answer {
    visit.manage.activate_user(visit.principal, visit.id())?;
    visit.go(here(visit), "The person is active again; they need new tokens")
}

fn ask_to_delete(visit: &Visit) -> Answer {
    let user = visit.manage.user(visit.principal, visit.id())?;
    let email = user.email.as_str();
    let (_, diff) = visit.manage.dry_run(|manage| manage.delete_user(visit.principal, email, false))?;
    let mut losses = grants::losses(&diff, "They could use nothing any more.");
    losses.push(
        "Their grants, tokens and memberships are removed. Usage and audit entries stay under their address."
            .to_owned(),
    );
    let here = here(visit);
    let page = confirm(
        visit,
        &Confirm {
            title: format!("Delete {email}?"),
            losses,
            action: &format!("{here}/delete"),
            button: "Delete the person",
            back: &here,
            hidden: &[],
        },
    );
    page.below("/people", "People").below(here.clone(), email).into()
}

fn delete(visit: &Visit) -> Answer {
    visit.manage.delete_user(visit.principal, visit.id(), false)?;
    visit.go("/people", format!("{} is deleted", visit.id()))
}
