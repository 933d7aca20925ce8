//! Teams: named sets of people, and what a team gives to whoever is in it.

use maud::{Markup, html};
use serde_json::json;

use super::super::form::encode;
use super::super::parts::{Confirm, button_form, card, confirm, empty, field, form, name, number};
use super::super::table::{Column, Wish, column};
use super::super::visit::{Page, Visit, mendable};
use super::super::{Answer, Route};
use super::grants;
use super::manifests::apply_new;
use crate::authz;
use crate::domain::Team;
use crate::failure::Failure;
use crate::id::Email;
use crate::manage::{self, Manage};

pub(in crate::console) const ROUTES: &[Route] = &[
    Route::new("/teams", &[("GET", list)]),
    Route::new("/teams/new", &[("GET", new), ("POST", create)]),
    Route::new("/teams/{name}", &[("GET", show)]),
    Route::new("/teams/{name}/members", &[("POST", add_member)]),
    Route::new("/teams/{name}/members/{email}/remove", &[("GET", ask_to_remove), ("POST", remove_member)]),
    Route::new("/teams/{name}/managers", &[("POST", add_manager)]),
    Route::new("/teams/{name}/managers/{email}/remove", &[("POST", remove_manager)]),
    Route::new("/teams/{name}/delete", &[("GET", ask_to_delete), ("POST", delete)]),
];

const COLUMNS: &[Column] = &[
    column("Name").sort("name"),
    column("Description"),
    column("Members").sort("members").number(),
    column("Managers").sort("managers").number(),
];
const MEMBERS: &[Column] = &[column("Email").sort("email"), column("")];

const ALL: manage::Page = manage::Page { limit: usize::MAX, offset: 0 };

fn list(visit: &Visit) -> Answer {
    let teams = visit.manage.teams(visit.principal, false, ALL)?;
    let wish = Wish::of(visit, COLUMNS, "name");
    let found = wish.select(
        teams.items.into_iter().filter(|team| team.name.as_str() != Team::EVERYONE),
        |team| wish.fits(&[team.name.as_str(), &team.description]),
        |a, b| match wish.sort {
            "members" => a.members.len().cmp(&b.members.len()),
            "managers" => a.managers.len().cmp(&b.managers.len()),
            _ => a.name.cmp(&b.name),
        },
    );
    let add = html! { a.button.primary href="/teams/new" { "New team" } };
    if found.total == 0 && wish.text.is_empty() {
        let text = "There is no team yet. What a team is granted, each of its members has, from the day they join to the day they leave.";
        let make = visit.rights.is_admin.then_some(("/teams/new", "Make a team"));
        return Page::new("Teams", empty(text, make)).into();
    }
    let rows = found.items.iter().map(|team| {
        html! {
            tr {
                th scope="row" { a href={ "/teams/" (encode(team.name.as_str())) } { (name(team.name.as_str())) } }
                td dir="auto" { (team.description) }
                td.number { (team.members.len()) }
                td.number { (team.managers.len()) }
            }
        }
    });
    let body = html! {
        (wish.search(visit, "Search teams"))
        (wish.table(visit, COLUMNS, found.total, rows))
    };
    let page = Page::new("Teams", body);
    if visit.rights.is_admin { page.actions(add).into() } else { page.into() }
}

fn new(visit: &Visit) -> Answer {
    visit.manage.require_admin(visit.principal)?;
    new_page(visit, None).into()
}

fn new_page(visit: &Visit, refused: Option<Failure>) -> Page {
    let body = form(
        visit,
        "/teams/new",
        html! {
            (field("name", "Name", visit.form.text("name")).required().placeholder("research")
                .hint("Lower-case letters, digits and hyphens."))
            (field("description", "Description", visit.form.text("description")))
            (grants::make_buttons("Make the team", "/teams"))
        },
    );
    Page::new("New team", body).below("/teams", "Teams").refused(refused)
}

fn create(visit: &Visit) -> Answer {
    let team = visit.form.text("name");
    let manifest =
        json!({"type": "team", "name": team, "description": visit.form.text("description"), "members": []});
    match apply_new(visit, manifest) {
        Ok(()) => visit.go(format!("/teams/{}", encode(team)), "The team was made; now put people into it"),
        Err(failure) => new_page(visit, Some(mendable(failure)?)).into(),
    }
}

fn here(visit: &Visit) -> String {
    format!("/teams/{}", encode(visit.id()))
}

fn show(visit: &Visit) -> Answer {
    show_page(visit, None)?.into()
}

fn show_page(visit: &Visit, refused: Option<Failure>) -> Result<Page, Failure> {
    let team = visit.manage.team(visit.principal, visit.id())?;
    let here = here(visit);
    let manages = authz::may_manage_team(visit.principal, &team);
    let body = html! {
        @if !team.description.is_empty() { p dir="auto" { (team.description) } }
        (card("Members", members(visit, &team, manages, &here)))
        (card("Managers", html! {
            p.quiet { "They may change who is in the team, and see its usage." }
            @if !team.managers.is_empty() {
                ul { @for email in &team.managers {
                    li { (name(email.as_str())) " "
                        @if manages { (button_form(visit, &format!("{here}/managers/{}/remove", encode(email.as_str())), "Remove", &[])) }
                    }
                } }
            }
            @if manages { (add_form(visit, &format!("{here}/managers"), "manager", "Add a manager")) }
        }))
        (card("Access of everyone in it", grants::of_subject(visit, &format!("team:{}", team.name), &here)?))
    };
    let mut page = Page::new(team.name.as_str(), body).below("/teams", "Teams").refused(refused);
    if visit.rights.is_admin {
        page = page.actions(html! { a.button.danger href={ (here) "/delete" } { "Delete" } });
    }
    Ok(page)
}

fn members(visit: &Visit, team: &Team, manages: bool, here: &str) -> Markup {
    let wish = Wish::of(visit, MEMBERS, "email");
    let found =
        wish.select(team.members.iter(), |email| wish.fits(&[email.as_str()]), |a: &&Email, b| a.cmp(b));
    let rows = found.items.iter().map(|email| {
        html! {
            tr {
                th scope="row" { (name(email.as_str())) }
                td { @if manages { a href={ (here) "/members/" (encode(email.as_str())) "/remove" } { "Remove" } } }
            }
        }
    });
    html! {
        @if team.members.is_empty() { p.quiet { "Nobody is in it yet." } } @else {
            p { (number(team.members.len() as u64)) " in all" }
            (wish.search(visit, "Search members"))
            (wish.table(visit, MEMBERS, found.total, rows))
        }
        @if manages { (add_form(visit, &format!("{here}/members"), "member", "Add a member")) }
    }
}

fn add_form(visit: &Visit, action: &str, id: &str, label: &str) -> Markup {
    form(
        visit,
        action,
        html! {
            (field(id, label, visit.form.text(id)).required().kind("email").placeholder("ada@example.com"))
            (super::super::parts::buttons("Add", None))
        },
    )
}

fn add_member(visit: &Visit) -> Answer {
    let email = visit.form.text("member");
    match visit.manage.add_member(visit.principal, visit.id(), email) {
        Ok(_) => visit.go(here(visit), format!("{email} is in the team")),
        Err(failure) => show_page(visit, Some(mendable(failure)?))?.into(),
    }
}

fn ask_to_remove(visit: &Visit) -> Answer {
    let (team, email) = (visit.id(), visit.second_id());
    let remove = |manage: &Manage| manage.remove_member(visit.principal, team, email);
    let (_, diff) = visit.manage.dry_run(remove)?;
    let here = here(visit);
    let page = confirm(
        visit,
        &Confirm {
            title: format!("Take {email} out of {team}?"),
            losses: grants::losses(&diff, "They lose nothing that other grants do not give them."),
            action: &format!("{here}/members/{}/remove", encode(email)),
            button: "Remove the member",
            back: &here,
            hidden: &[],
        },
    );
    page.below("/teams", "Teams").below(here.clone(), team).into()
}

fn remove_member(visit: &Visit) -> Answer {
    visit.manage.remove_member(visit.principal, visit.id(), visit.second_id())?;
    visit.go(here(visit), format!("{} is out of the team", visit.second_id()))
}

fn add_manager(visit: &Visit) -> Answer {
    let email = visit.form.text("manager");
    match visit.manage.add_team_manager(visit.principal, visit.id(), email) {
        Ok(()) => visit.go(here(visit), format!("{email} manages the team")),
        Err(failure) => show_page(visit, Some(mendable(failure)?))?.into(),
    }
}

fn remove_manager(visit: &Visit) -> Answer {
    visit.manage.remove_team_manager(visit.principal, visit.id(), visit.second_id())?;
    visit.go(here(visit), format!("{} no longer manages the team", visit.second_id()))
}

fn ask_to_delete(visit: &Visit) -> Answer {
    let team = visit.id();
    let (_, diff) = visit.manage.dry_run(|manage| manage.delete_team(visit.principal, team))?;
    let mut losses = grants::losses(&diff, "Nobody loses anything that other grants do not give them.");
    losses.push("The team and its grants are removed; its members stay.".to_owned());
    let here = here(visit);
    let page = confirm(
        visit,
        &Confirm {
            title: format!("Delete the team {team}?"),
            losses,
            action: &format!("{here}/delete"),
            button: "Delete the team",
            back: &here,
            hidden: &[],
        },
    );
    page.below("/teams", "Teams").below(here.clone(), team).into()
}

fn delete(visit: &Visit) -> Answer {
    visit.manage.delete_team(visit.principal, visit.id())?;
    visit.go("/teams", format!("The team {} is deleted", visit.id()))
}
