//! The shell around every page: head, navigation, heading, messages.

use maud::{DOCTYPE, Markup, html};

use super::assets::{ICON, SCRIPT, STYLE};
use super::session::Flash;
use super::visit::{Page, Rights, Visit};

/// One entry of the navigation, and who sees it.
struct Entry {
    path: &'static str,
    title: &'static str,
    is_for: fn(Rights) -> bool,
}

const NAVIGATION: &[Entry] = &[
    Entry { path: "/", title: "Home", is_for: |_| true },
    Entry { path: "/models", title: "Models", is_for: |_| true },
    Entry { path: "/tokens", title: "Tokens", is_for: |_| true },
    Entry { path: "/virtual-accounts", title: "Virtual accounts", is_for: |rights| rights.is_admin },
    Entry { path: "/people", title: "People", is_for: |rights| rights.is_admin },
    Entry { path: "/teams", title: "Teams", is_for: |rights| rights.manages_teams },
];

fn head(title: &str, tenant: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        title { (title) " \u{b7} " (tenant) }
        link rel="icon" href=(ICON.path);
        link rel="stylesheet" href=(STYLE.path);
        script src=(SCRIPT.path) defer {}
    }
}

fn navigation(visit: &Visit) -> Markup {
    let is_here = |path: &str| match path {
        "/" => visit.path == "/",
        path => visit.path == path || visit.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
    };
    html! {
        ul {
            @for entry in NAVIGATION.iter().filter(|entry| (entry.is_for)(visit.rights)) {
                li {
                    a href=(entry.path) aria-current=[is_here(entry.path).then_some("page")] { (entry.title) }
                }
            }
        }
    }
}

fn account_menu(visit: &Visit) -> Markup {
    html! {
        p.who dir="auto" title=(visit.email()) { (visit.email()) }
        ul {
            li { a href="/sessions" aria-current=[(visit.path == "/sessions").then_some("page")] { "My sessions" } }
        }
        form method="post" action="/sign-out" {
            input type="hidden" name="form-token" value=(visit.form_token);
            button.link type="submit" { "Sign out" }
        }
    }
}

/// A whole page for someone who is signed in.
pub fn page(visit: &Visit, page: &Page, flash: Option<&Flash>) -> String {
    let tenant = visit.manage.tenant.as_str();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(&page.title, tenant)) }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.side {
                    a.brand href="/" { img src=(ICON.path) alt="" width="24" height="24"; span dir="auto" { (tenant) } }
                    // Twice, so that a narrow window has a menu that opens without script; one of them is not displayed.
                    nav.wide aria-label="Main" { (navigation(visit)) (account_menu(visit)) }
                    details.narrow {
                        summary { "Menu" }
                        nav aria-label="Main" { (navigation(visit)) (account_menu(visit)) }
                    }
                }
                main #main tabindex="-1" {
                    @if !page.crumbs.is_empty() {
                        nav.crumbs aria-label="Breadcrumbs" {
                            ol { @for (path, title) in &page.crumbs { li { a href=(path) dir="auto" { (title) } } } }
                        }
                    }
                    div.heading {
                        h1 dir="auto" { (page.title) }
                        @if let Some(actions) = &page.actions { div.actions { (actions) } }
                    }
                    @if let Some(flash) = flash {
                        div.message.error[flash.is_error] role="status" { (flash.text) }
                    }
                    @if let Some(failure) = &page.failure {
                        div.message.error role="alert" { (failure.message()) }
                    }
                    (page.body)
                }
            }
        }
    };
    markup.into_string()
}

/// A whole page for someone who is not signed in, or for whom there is no more to show.
pub fn bare(tenant: &str, title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(title, tenant)) }
            body.bare {
                main #main {
                    p.brand { img src=(ICON.path) alt="" width="24" height="24"; span dir="auto" { (tenant) } }
                    h1 { (title) }
                    (body)
                }
            }
        }
    };
    markup.into_string()
}
