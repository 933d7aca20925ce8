//! `gateway admin budget`

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::{path, tags};
use super::output::{Column, text};

/// Budgets: how far they are used.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "budget",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} list\n{command_name} show search-team\n\
    {command_name} simulate --user ada@example.com --model main/gpt-4o\n{command_name} delete search-team",
    note = "Budgets and rate limits are changed with 'gateway admin apply' and shown by\n  \
    'gateway admin export gateway-budget-config' and 'gateway admin export gateway-rate-limiting-config'."
)]
pub struct Budget {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Simulate(Simulate),
    Delete(Delete),
}

/// Show every budget and how far it is used.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "{command_name}")]
struct List {}

/// Show one budget: what it counts apart, the fullest first.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "show",
    help_triggers("-h", "--help"),
    example = "{command_name} search-team\n{command_name} search-team --output json"
)]
struct Show {
    /// the id of its rule
    #[argh(positional)]
    id: String,
}

/// Show which budgets a call would count in, and how far they are used. Nothing is counted.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "simulate",
    help_triggers("-h", "--help"),
    example = "{command_name} --user ada@example.com --model main/gpt-4o\n\
    {command_name} --virtual-account bot --tag env=prod",
    note = "A rule that asks for what is not given is not matched. Tags stand in place of those of the virtual account;\n  \
    what callers send as metadata matches nothing, here as in truth."
)]
struct Simulate {
    /// who calls: the email of a user
    #[argh(option, arg_name = "email")]
    user: Option<String>,

    /// or a virtual account
    #[argh(option, arg_name = "name")]
    virtual_account: Option<String>,

    /// a team, in place of those that the caller is in; may be given several times
    #[argh(option, arg_name = "team")]
    team: Vec<String>,

    /// the model, as ACCOUNT/NAME
    #[argh(option, arg_name = "model")]
    model: Option<String>,

    /// key=value in place of the virtual account's tags; may be given several times
    #[argh(option, arg_name = "key=value")]
    tag: Vec<String>,
}

/// Take one budget away.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "delete",
    help_triggers("-h", "--help"),
    example = "{command_name} search-team",
    note = "What was spent under it stays in the usage records."
)]
struct Delete {
    /// the id of its rule
    #[argh(positional)]
    id: String,
}

/// What a table of limits shows of each counter.
pub const COLUMNS: [Column; 8] = [
    Column { title: "RULE", cell: |row| text(row, &["/rule"]) },
    Column { title: "OF", cell: |row| text(row, &["/entity"]) },
    Column { title: "UNIT", cell: |row| text(row, &["/unit"]) },
    Column { title: "USED", cell: |row| text(row, &["/used"]) },
    Column { title: "LIMIT", cell: |row| text(row, &["/limit"]) },
    Column { title: "PERCENT", cell: |row| text(row, &["/percentage"]) },
    Column { title: "MODE", cell: |row| text(row, &["/mode"]) },
    Column { title: "UNTIL", cell: |row| text(row, &["/end"]) },
];

/// One row for each counter of an entry.
fn rows(entry: &Value) -> Vec<Value> {
    let mut rows = Vec::new();
    for entity in entry.get("entities").and_then(Value::as_array).into_iter().flatten() {
        for (unit, period) in entity.get("periods").and_then(Value::as_object).into_iter().flatten() {
            let mut row = period.clone();
            if let Value::Object(fields) = &mut row {
                let name = entry.get("name").cloned().unwrap_or_default();
                fields.insert("rule".into(), name);
                fields.insert("unit".into(), unit.as_str().into());
                fields.insert("mode".into(), entry.get("mode").cloned().unwrap_or_default());
                fields.insert("entity".into(), entity.get("entity").cloned().unwrap_or_else(|| "all".into()));
            }
            rows.push(row);
        }
    }
    rows
}

/// The rows of a list of rules with their usage.
pub fn rows_of_rules(rules: &[Value]) -> Vec<Value> {
    let one = |rule: &Value| match rule.get("usage") {
        Some(usage) if usage.is_object() => rows(usage),
        _ => vec![serde_json::json!({"rule": rule.get("name"), "entity": "nobody yet"})],
    };
    rules.iter().flat_map(one).collect()
}

/// The rows of an answer with `matched` entries.
fn rows_of_matched(answer: &Value) -> Vec<Value> {
    answer.get("matched").and_then(Value::as_array).into_iter().flatten().flat_map(rows).collect()
}

impl Budget {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::List(List {}) => {
                let context = open()?;
                let rules = context.client.list("/llm-gateway/budgets", &[])?;
                context.output.list(&COLUMNS, rows_of_rules(&rules))
            }
            Verb::Show(verb) => {
                let place = path(&["llm-gateway", "budgets", &verb.id, "leaderboard"])?;
                let context = open()?;
                let answer = context.client.call("GET", &place, None)?;
                context.output.list(&COLUMNS, rows_of_matched(&answer))
            }
            Verb::Simulate(verb) => {
                if verb.user.is_some() && verb.virtual_account.is_some() {
                    let text = "Give --user or --virtual-account, not both.";
                    return Err(Failure::Usage(text.to_owned()));
                }
                let tags = tags(&verb.tag)?;
                let mut body = serde_json::Map::new();
                for (name, value) in
                    [("user", verb.user), ("virtual_account", verb.virtual_account), ("model", verb.model)]
                {
                    body.extend(value.map(|value| (name.to_owned(), value.into())));
                }
                if !verb.team.is_empty() {
                    body.insert("teams".to_owned(), verb.team.into());
                }
                if !tags.is_empty() {
                    body.insert("metadata".to_owned(), tags.into());
                }
                let context = open()?;
                let answer =
                    context.client.call("POST", "/llm-gateway/budgets/simulate", Some(&body.into()))?;
                context.output.list(&COLUMNS, rows_of_matched(&answer))
            }
            Verb::Delete(verb) => {
                let place = path(&["llm-gateway", "budgets", &verb.id])?;
                let context = open()?;
                let answer = context.client.call("DELETE", &place, None)?;
                context.output.done(&format!("The budget {} is deleted.", verb.id), &answer)
            }
        }
    }
}
