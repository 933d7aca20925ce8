//! `gateway admin budget`

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::path;
use super::output::{Column, text};

/// Budgets: how far they are used.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "budget",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} list\n{command_name} show search-team",
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

const COLUMNS: [Column; 8] = [
    Column { title: "BUDGET", cell: |row| text(row, &["/budget"]) },
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
                fields.insert("budget".into(), name);
                fields.insert("unit".into(), unit.as_str().into());
                fields.insert("mode".into(), entry.get("mode").cloned().unwrap_or_default());
                fields.insert("entity".into(), entity.get("entity").cloned().unwrap_or_else(|| "all".into()));
            }
            rows.push(row);
        }
    }
    rows
}

impl Budget {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let place = match &self.verb {
            Verb::List(List {}) => "/llm-gateway/budgets".to_owned(),
            Verb::Show(verb) => format!(
                "/{}",
                path(&["llm-gateway", "budgets", &verb.id, "leaderboard"])?.trim_start_matches('/')
            ),
        };
        let context = open()?;
        let answer = context.client.call("GET", &place, None)?;
        let found = match self.verb {
            Verb::List(_) => answer.get("data").and_then(Value::as_array).map(|budgets| {
                budgets
                    .iter()
                    .flat_map(|budget| match budget.get("usage") {
                        Some(usage) if usage.is_object() => rows(usage),
                        _ => vec![serde_json::json!({"budget": budget.get("name"), "entity": "nobody yet"})],
                    })
                    .collect()
            }),
            Verb::Show(_) => answer
                .get("matched")
                .and_then(Value::as_array)
                .map(|entries| entries.iter().flat_map(rows).collect::<Vec<_>>()),
        };
        context.output.list(&COLUMNS, found.unwrap_or_default())
    }
}
