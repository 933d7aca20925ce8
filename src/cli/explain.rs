//! `gateway admin explain`

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::with_query;
use super::output::text;

/// Say whether someone may use a model, by which grant and until when, or what is missing.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "explain",
    help_triggers("-h", "--help"),
    example = "{command_name} user:ada@example.com main/gpt-4o\n{command_name} virtualaccount:billing main/gpt-4o --token 0123456789ab",
    note = "Exit codes: 0 allowed, 1 not allowed."
)]
pub struct Explain {
    /// user:EMAIL, team:NAME or virtualaccount:NAME
    #[argh(positional, arg_name = "subject")]
    subject: String,

    /// ACCOUNT/MODEL
    #[argh(positional, arg_name = "model")]
    model: String,

    /// id of one of their tokens, whose end counts too
    #[argh(option, arg_name = "id")]
    token: Option<String>,
}

impl Explain {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let context = open()?;
        let parameters = [
            ("subject", Some(self.subject.as_str())),
            ("model", Some(self.model.as_str())),
            ("token", self.token.as_deref()),
        ];
        let answer = context.client.object("GET", &with_query("/explain", &parameters), None)?;
        context.output.said(&sentences(&answer), &answer)?;
        if answer.get("allowed").and_then(Value::as_bool) == Some(true) { Ok(()) } else { Err(Failure::No) }
    }
}

/// The answer for people.
fn sentences(answer: &Value) -> String {
    let at = |value: &Value, pointer: &str| text(value, &[pointer]);
    let (subject, model) = (at(answer, "/subject"), at(answer, "/model"));
    let is = |name: &str| answer.get(name).and_then(Value::as_bool) == Some(true);
    let mut lines = vec![if is("allowed") {
        format!("allowed: {subject} may use {model}")
    } else {
        format!("not allowed: {subject} may not use {model}: {}", at(answer, "/missing"))
    }];
    if is("asAdmin") {
        lines.push("by: the tenant role admin".to_owned());
    }
    for grant in answer.get("grants").and_then(Value::as_array).into_iter().flatten() {
        let by = at(grant, "/subject");
        let via = if by == subject { String::new() } else { format!(" through {by}") };
        lines.push(format!(
            "by: {} on {}{via} ({})",
            at(grant, "/role"),
            at(grant, "/target"),
            at(grant, "/source")
        ));
    }
    if is("allowed") {
        lines.push(match at(answer, "/until").as_str() {
            "-" => "until: someone changes it".to_owned(),
            time => format!("until: {time}"),
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_answer_in_words() {
        let grant = json!({"subject": "team:search", "role": "provider-account-access", "target": "main", "source": "direct"});
        let allowed = json!({"subject": "user:ada@x.io", "model": "main/gpt", "allowed": true, "missing": null,
            "asAdmin": false, "grants": [grant], "until": null});
        assert_eq!(
            sentences(&allowed),
            "allowed: user:ada@x.io may use main/gpt\n\
             by: provider-account-access on main through team:search (direct)\n\
             until: someone changes it"
        );
        let denied = json!({"subject": "user:ada@x.io", "model": "main/gpt", "allowed": false,
            "missing": "no grant covers the model", "asAdmin": false, "grants": [], "until": null});
        assert_eq!(
            sentences(&denied),
            "not allowed: user:ada@x.io may not use main/gpt: no grant covers the model"
        );
    }
}
