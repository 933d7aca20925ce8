//! The models that the caller may use, and a playground to try them.

use maud::{Render as _, html};
use serde_json::json;

use super::super::form::{Fields, encode};
use super::super::parts::{buttons, empty, field, money, name};
use super::super::table::{Column, Wish, column};
use super::super::visit::{Page, Visit};
use super::super::{Answer, Route};
use crate::domain::{Model, ModelType, Money, Unit};
use crate::manage::{self, OfferedModel};

pub(in crate::console) const ROUTES: &[Route] =
    &[Route::new("/models", &[("GET", list)]), Route::new("/playground", &[("GET", playground)])];

/// Where the playground asks. The server hands it to the relay, with the principal of the session.
pub const ASK: &str = "/playground/ask";

const COLUMNS: &[Column] = &[
    column("Model").sort("name"),
    column("Provider").sort("provider"),
    column("Types"),
    column("Input / million").sort("input").number(),
    column("Output / million").sort("output").number(),
    column(""),
];

/// More than there can be.
const ALL: manage::Page = manage::Page { limit: 100_000, offset: 0 };
/// Models that the playground offers while one types.
const SUGGESTED: manage::Page = manage::Page { limit: 500, offset: 0 };

fn full_name(offered: &OfferedModel) -> String {
    format!("{}/{}", offered.account, offered.model.name)
}

fn types(model: &Model) -> String {
    let word = |kind: &ModelType| json!(kind).as_str().map(|text| text.replace('_', " "));
    model.types.iter().filter_map(word).collect::<Vec<_>>().join(", ")
}

fn list(visit: &Visit) -> Answer {
    let models = visit.manage.models(visit.principal, None, ALL)?;
    if models.total == 0 {
        let page = if visit.rights.manages_accounts {
            empty("There is no model yet. Add a provider account and its models first.", None)
        } else {
            empty("You may not use a model yet. Ask an administrator for access.", None)
        };
        return Page::new("Models", page).into();
    }
    let wish = Wish::of(visit, COLUMNS, "name");
    let price = |offered: &OfferedModel, unit| visit.manage.price_of(offered, unit, visit.now);
    let found = wish.select(
        models.items,
        |one| {
            wish.text.is_empty() || wish.fits(&[&full_name(one), one.provider.as_str(), &types(&one.model)])
        },
        |a, b| {
            let by_name = || (&a.account, &a.model.name).cmp(&(&b.account, &b.model.name));
            match wish.sort {
                "provider" => a.provider.as_str().cmp(b.provider.as_str()).then_with(by_name),
                "input" => price(a, Unit::Input).cmp(&price(b, Unit::Input)).then_with(by_name),
                "output" => price(a, Unit::Output).cmp(&price(b, Unit::Output)).then_with(by_name),
                _ => by_name(),
            }
        },
    );
    let shown = |amount: Option<Money>| {
        html! { @match amount { Some(amount) => (money(amount)), None => span.quiet { "unknown" } } }
    };
    let rows = found.items.iter().map(|one| {
        let full = full_name(one);
        html! {
            tr {
                th scope="row" { (name(&full)) }
                td { (one.provider.as_str()) }
                td { (types(&one.model)) }
                td.number { (shown(price(one, Unit::Input))) }
                td.number { (shown(price(one, Unit::Output))) }
                td { @if one.model.types.contains(&ModelType::Chat) {
                    a href={ "/playground?model=" (encode(&full)) } { "Try" }
                } }
            }
        }
    });
    let body = html! {
        (wish.search(visit, "Search models"))
        (wish.table(visit, COLUMNS, found.total, rows))
    };
    Page::new("Models", body).actions(html! { a.button href="/playground" { "Playground" } }).into()
}

fn playground(visit: &Visit) -> Answer {
    let models = visit.manage.models(visit.principal, None, SUGGESTED)?;
    let is_chat = |one: &&OfferedModel| one.model.types.contains(&ModelType::Chat);
    let names: Vec<String> = models.items.iter().filter(is_chat).map(full_name).collect();
    let first = names.first().map_or("", String::as_str);
    let model = visit.query.filled("model").unwrap_or(first);
    let body = html! {
        form.fields.playground method="post" action=(ASK) autocomplete="off" {
            input type="hidden" name="form-token" value=(visit.form_token);
            (field("model", "Model", model).required().suggestions(&names).render())
            (field("system", "System message", "").rows(2).render())
            (field("message", "Message", "").rows(6).required().render())
            p.quiet { "A call of your own: it counts against your budgets like any other." }
            (buttons("Send", None))
        }
        section.card #answer hidden {
            h2 { "Answer" }
            pre.answer dir="auto" tabindex="0" aria-live="polite" {}
            p.quiet role="status" {}
            button type="button" hidden { "Stop" }
        }
    };
    Page::new("Playground", body).below("/models", "Models").into()
}

/// The call that the playground's form asks for.
pub fn question(form: &Fields) -> String {
    let mut messages = Vec::new();
    if let Some(system) = form.filled("system") {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": form.raw("message")}));
    json!({"model": form.text("model"), "messages": messages}).to_string()
}
