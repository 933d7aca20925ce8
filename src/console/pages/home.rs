//! What one needs first: where the gateway is, how to call it, what one used, and what is about to end.

use maud::{Markup, html};

use super::super::parts::{card, copyable, empty, money, name, number, time_or};
use super::super::visit::{Page, Visit};
use super::super::{Answer, Route};
use crate::domain::{Model, ModelType, TokenState};
use crate::failure::Failure;
use crate::manage;
use crate::usage::ReportFilter;

pub(in crate::console) const ROUTES: &[Route] = &[Route::new("/", &[("GET", show)])];

/// Models that the snippets are looked for among.
const SOME: manage::Page = manage::Page { limit: 200, offset: 0 };
const TOKENS: manage::Page = manage::Page { limit: 1000, offset: 0 };

fn show(visit: &Visit) -> Answer {
    let models = visit.manage.models(visit.principal, None, SOME)?;
    let is_chat = |model: &&manage::OfferedModel| is_chat(&model.model);
    let chat = models.items.iter().find(is_chat).map(|one| format!("{}/{}", one.account, one.model.name));
    let body = html! {
        (card("Call it", html! {
            p { "Base URL of every OpenAI SDK:" }
            (copyable(&format!("{}/v1", visit.base_url)))
            @match &chat {
                Some(model) => (snippets(visit.base_url, model)),
                None if models.total == 0 => (no_models(visit)),
                None => p { "None of your models is one for chats; " a href="/models" { "see what you have" } "." },
            }
        }))
        (this_month(visit)?)
        (ending_tokens(visit)?)
    };
    Page::new("Home", body).into()
}

fn is_chat(model: &Model) -> bool {
    model.types.contains(&ModelType::Chat)
}

fn no_models(visit: &Visit) -> Markup {
    if visit.rights.manages_accounts {
        empty(
            "There is no model yet. Add a provider account and its models first: gateway admin provider create, model add.",
            None,
        )
    } else {
        empty("You may not use a model yet. Ask an administrator for access.", None)
    }
}

fn snippets(base: &str, model: &str) -> Markup {
    let python = format!(
        "from openai import OpenAI\n\nclient = OpenAI(base_url=\"{base}/v1\", api_key=\"YOUR_TOKEN\")\n\
         answer = client.chat.completions.create(\n    model=\"{model}\",\n    messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}],\n)\n\
         print(answer.choices[0].message.content)"
    );
    let curl = format!(
        "curl {base}/v1/chat/completions \\\n  -H \"Authorization: Bearer $GATEWAY_TOKEN\" \\\n  -H 'Content-Type: application/json' \\\n  \
         -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    );
    let javascript = format!(
        "import OpenAI from \"openai\";\n\nconst client = new OpenAI({{ baseURL: \"{base}/v1\", apiKey: process.env.GATEWAY_TOKEN }});\n\
         const answer = await client.chat.completions.create({{\n  model: \"{model}\",\n  messages: [{{ role: \"user\", content: \"Hello\" }}],\n}});\n\
         console.log(answer.choices[0].message.content);"
    );
    html! {
        details open { summary { "Python" } (copyable(&python)) }
        details { summary { "curl" } (copyable(&curl)) }
        details { summary { "JavaScript" } (copyable(&javascript)) }
    }
}

fn this_month(visit: &Visit) -> Result<Markup, Failure> {
    let filter = ReportFilter {
        from: Some(visit.now.month_start()),
        subject: Some(visit.principal.subject_text()),
        ..ReportFilter::default()
    };
    let rows = match visit.manage.usage_report(visit.principal, &filter) {
        Ok(rows) => rows,
        // The rest of the page does not wait for it: after a start the records are opened in the background.
        Err(Failure::Unavailable(_)) => {
            return Ok(card(
                "This month",
                html! { p.quiet { "Not to be had at the moment; load the page again." } },
            ));
        }
        Err(failure) => return Err(failure),
    };
    let figures = rows.into_iter().next().map(|row| row.figures).unwrap_or_default();
    Ok(card(
        "This month",
        html! {
            dl.figures {
                div { dt { "Spent" } dd { (money(figures.cost)) } }
                div { dt { "Calls" } dd { (number(figures.calls)) } }
                div { dt { "Input tokens" } dd { (number(figures.input_tokens)) } }
                div { dt { "Output tokens" } dd { (number(figures.output_tokens)) } }
            }
            @if figures.unpriced_calls > 0 {
                p.quiet { (number(figures.unpriced_calls)) " calls of models without a known price are not in what was spent." }
            }
        },
    ))
}

fn ending_tokens(visit: &Visit) -> Result<Markup, Failure> {
    let tokens = visit.manage.own_personal_tokens(visit.principal, "", TOKENS)?;
    let is_ending = |view: &&manage::TokenView| view.state == TokenState::Expiring;
    let ending: Vec<_> = tokens.items.iter().filter(is_ending).collect();
    Ok(html! {
        @if !ending.is_empty() {
            (card("Tokens about to end", html! {
                ul { @for view in &ending {
                    li { a href="/tokens" { (name(view.token.name.as_str())) } " ends " (time_or(view.end, "never")) }
                } }
            }))
        }
    })
}
