//! What one subject may use: the grants of a user, a team or a virtual account on that one's page, and their
//! beginning and end.

use maud::{Markup, html};

use super::super::form::encode;
use super::super::parts::{Confirm, Tone, badge, buttons, confirm, field, form, name, time};
use super::super::visit::{Page, Visit, mendable};
use super::super::{Answer, Route, security};
use crate::domain::{GrantSource, Role, Subject};
use crate::failure::Failure;
use crate::id::InvalidName;
use crate::manage::{self, AccessDiff, GrantFilter, Manage};

pub(in crate::console) const ROUTES: &[Route] = &[
    Route::new("/grants/new", &[("GET", new), ("POST", create)]),
    Route::new("/grants/revoke", &[("GET", ask), ("POST", revoke)]),
];

/// More than one subject may have.
const ALL: manage::Page = manage::Page { limit: 1000, offset: 0 };
/// Names that the browser offers while one types.
const OFFERED: manage::Page = manage::Page { limit: 300, offset: 0 };
/// Lines of a change of access that a page tells.
const TOLD: usize = 20;

const ROLES: &[(&str, &str)] =
    &[("provider-account-access", "use the models"), ("provider-account-manager", "manage the account")];

/// The grants of one subject as a table, with what changes them. `back` is the page that this is on.
pub(super) fn of_subject(visit: &Visit, subject: &str, back: &str) -> Result<Markup, Failure> {
    let parsed = Subject::parse(subject).map_err(|InvalidName(text)| Failure::BadRequest(text.into()))?;
    let filter = GrantFilter { subject: Some(parsed), target: None };
    let grants = visit.manage.grants(visit.principal, &filter, ALL)?;
    let add = format!("/grants/new?subject={}&back={}", encode(subject), encode(back));
    Ok(html! {
        @if grants.items.is_empty() {
            p.quiet { "No grant of its own." }
        } @else {
            div.table tabindex="0" role="region" aria-label="Grants" {
                table {
                    thead { tr {
                        th scope="col" { "On" } th scope="col" { "May" } th scope="col" { "From" } th scope="col" { "Since" }
                        th scope="col" { span.hidden { "End it" } }
                    } }
                    tbody {
                        @for grant in &grants.items {
                            tr {
                                th scope="row" { (name(&grant.target.to_string())) }
                                td { (role_word(grant.role)) }
                                td { (source(&grant.source)) }
                                td { (time(grant.created_at)) }
                                td {
                                    @if grant.source == GrantSource::Direct {
                                        a href={ "/grants/revoke?subject=" (encode(subject)) "&role=" (grant.role.as_str())
                                            "&target=" (encode(&grant.target.to_string())) "&back=" (encode(back)) } { "Revoke" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if visit.rights.manages_accounts { div.buttons { a.button href=(add) { "Give access" } } }
    })
}

/// What a role allows, in words.
pub(super) fn role_word(role: Role) -> Markup {
    match role {
        Role::Manager => badge(Tone::Warning, "manage"),
        Role::Access => badge(Tone::Plain, "use"),
    }
}

/// Where a grant came from.
pub(super) fn source(source: &GrantSource) -> Markup {
    html! { @match source { GrantSource::Direct => "granted", GrantSource::Manifest(manifest) => { "manifest " bdi { (manifest) } } } }
}

/// Where the form goes back to: a page of this console.
fn back<'a>(visit: &'a Visit) -> &'a str {
    let said = visit.form.filled("back").or_else(|| visit.query.filled("back")).unwrap_or("/");
    security::local_path(said).unwrap_or("/")
}

fn said<'a>(visit: &'a Visit, field: &str) -> &'a str {
    visit.form.filled(field).unwrap_or_else(|| visit.query.text(field))
}

fn new(visit: &Visit) -> Answer {
    new_page(visit, None, None)?.into()
}

fn new_page(visit: &Visit, refused: Option<Failure>, diff: Option<&AccessDiff>) -> Result<Page, Failure> {
    let accounts = visit.manage.accounts(visit.principal, OFFERED)?;
    let mut targets: Vec<String> =
        accounts.items.iter().filter(|one| one.managed).map(|one| one.spec.name.to_string()).collect();
    let models = visit.manage.models(visit.principal, None, OFFERED)?;
    targets.extend(models.items.iter().map(|one| format!("{}/{}", one.account, one.model.name)));
    let body = html! {
        @if let Some(diff) = diff { (told(diff)) }
        (form(visit, "/grants/new", html! {
            input type="hidden" name="back" value=(back(visit));
            (field("subject", "Who", said(visit, "subject")).required()
                .hint("user:ada@example.com, team:research or virtualaccount:search-bot"))
            (field("role", "May", said(visit, "role")).choices(ROLES))
            (field("target", "On", said(visit, "target")).required().suggestions(&targets)
                .hint("A provider account, with all its models now and later, or one model as account/model."))
            div.buttons {
                button.primary type="submit" { "Give access" }
                button type="submit" name="try" value="on" { "Try it first" }
                a.button href=(back(visit)) { "Cancel" }
            }
        }))
    };
    Ok(Page::new("Give access", body).refused(refused))
}

fn create(visit: &Visit) -> Answer {
    let (subject, role, target) = (said(visit, "subject"), said(visit, "role"), said(visit, "target"));
    let grant = |manage: &Manage| manage.grant(visit.principal, subject, role, target);
    if visit.form.is_set("try") {
        return match visit.manage.dry_run(grant) {
            Ok((_, diff)) => new_page(visit, None, Some(&diff))?.into(),
            Err(failure) => new_page(visit, Some(mendable(failure)?), None)?.into(),
        };
    }
    match grant(visit.manage) {
        Ok(grant) => visit.go(back(visit), format!("{} may use {}", grant.subject, grant.target)),
        Err(failure) => new_page(visit, Some(mendable(failure)?), None)?.into(),
    }
}

fn ask(visit: &Visit) -> Answer {
    let (subject, role, target) =
        (visit.query.text("subject"), visit.query.text("role"), visit.query.text("target"));
    let (_, diff) = visit.manage.dry_run(|manage| manage.revoke(visit.principal, subject, role, target))?;
    let page = confirm(
        visit,
        &Confirm {
            title: format!("Take this grant from {subject}?"),
            losses: losses(&diff, "Nobody loses anything: other grants give the same."),
            action: "/grants/revoke",
            button: "Revoke the grant",
            back: back(visit),
            hidden: &[("subject", subject), ("role", role), ("target", target), ("back", back(visit))],
        },
    );
    page.into()
}

fn revoke(visit: &Visit) -> Answer {
    let (subject, role, target) =
        (visit.form.text("subject"), visit.form.text("role"), visit.form.text("target"));
    visit.manage.revoke(visit.principal, subject, role, target)?;
    visit.go(back(visit), format!("{subject} has no more {role} on {target}"))
}

/// Who loses what, as sentences; `nothing` when nobody does.
pub(super) fn losses(diff: &AccessDiff, nothing: &str) -> Vec<String> {
    let mut losses: Vec<String> = diff
        .loses
        .iter()
        .take(TOLD)
        .map(|line| match line.role {
            Role::Manager => format!("{} no longer manages {}.", line.subject, line.model),
            Role::Access => format!("{} can no longer use {}.", line.subject, line.model),
        })
        .collect();
    if diff.loses.len() > TOLD {
        losses.push(format!("And {} more lines of this kind.", diff.loses.len() - TOLD));
    }
    if diff.truncated {
        losses.push("There may be more, which is not yours to see or too long to tell.".to_owned());
    }
    if losses.is_empty() {
        losses.push(nothing.to_owned());
    }
    losses
}

/// Who would gain and who would lose what.
pub(super) fn told(diff: &AccessDiff) -> Markup {
    let lines = |lines: &[manage::AccessLine]| {
        html! { ul { @for line in lines.iter().take(TOLD) { li dir="auto" { (line.subject) " \u{b7} " (line.model) " \u{b7} " (line.role.as_str()) } } } }
    };
    html! {
        div.card role="status" {
            h2 { "What this would change" }
            @if diff.gains.is_empty() && diff.loses.is_empty() { p { "Nothing: nobody would gain or lose anything." } }
            @if !diff.gains.is_empty() { p { (diff.gains.len()) " would be new:" } (lines(&diff.gains)) }
            @if !diff.loses.is_empty() { p { (diff.loses.len()) " would be gone:" } (lines(&diff.loses)) }
            @if diff.truncated { p.quiet { "There is more than is told here." } }
        }
    }
}

/// The buttons of a form that makes something.
pub(super) fn make_buttons(text: &str, back: &str) -> Markup {
    buttons(text, Some(back))
}
