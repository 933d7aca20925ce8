//! `gateway admin usage`

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::date;
use super::output::{Column, text};

/// What was used, by whom.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "usage",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} report\n{command_name} report --by team,model --from 2027-01-01 --to 2027-01-31"
)]
pub struct Usage {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Report(Report),
}

/// Add up calls, tokens and latencies.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "report",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --by team,model --from 2027-01-01 --to 2027-01-31\n\
    {command_name} --by day --output json",
    note = "Days are days in UTC. ESTIMATED counts the calls whose token numbers the provider did not report."
)]
struct Report {
    /// what to group by: user, virtual-account, model, account, team, day; several with commas between
    /// (default: user,virtual-account,model)
    #[argh(option, arg_name = "groups", default = "\"user,virtual-account,model\".to_owned()")]
    by: String,

    /// first day or moment that counts, such as 2027-01-01
    #[argh(option, arg_name = "date", from_str_fn(date))]
    from: Option<String>,

    /// last day or moment that counts
    #[argh(option, arg_name = "date", from_str_fn(date))]
    to: Option<String>,
}

/// The groups there are, with where their value stands in a row.
const GROUPS: [(&str, Column); 6] = [
    ("user", Column { title: "USER", cell: |row| text(row, &["/user"]) }),
    (
        "virtual-account",
        Column { title: "VIRTUAL-ACCOUNT", cell: |row| text(row, &["/virtualAccount", "/virtual-account"]) },
    ),
    ("model", Column { title: "MODEL", cell: |row| text(row, &["/model"]) }),
    ("account", Column { title: "ACCOUNT", cell: |row| text(row, &["/account"]) }),
    ("team", Column { title: "TEAM", cell: |row| text(row, &["/team"]) }),
    ("day", Column { title: "DAY", cell: |row| text(row, &["/day"]) }),
];

const FIGURES: [Column; 8] = [
    Column { title: "CALLS", cell: |row| text(row, &["/calls"]) },
    Column { title: "ERRORS", cell: |row| text(row, &["/errors"]) },
    Column { title: "INPUT", cell: |row| text(row, &["/inputTokens"]) },
    Column { title: "OUTPUT", cell: |row| text(row, &["/outputTokens"]) },
    Column { title: "CACHED", cell: |row| text(row, &["/cachedTokens"]) },
    Column { title: "REASONING", cell: |row| text(row, &["/reasoningTokens"]) },
    Column { title: "ESTIMATED", cell: |row| text(row, &["/estimatedCalls"]) },
    Column { title: "LATENCY-MS", cell: |row| text(row, &["/latencyMsAvg"]) },
];

/// The columns of a report that is grouped like that, in the order that was asked for.
fn columns(by: &str) -> Result<Vec<Column>, Failure> {
    let mut columns = Vec::new();
    for word in by.split(',') {
        let Some((_, column)) = GROUPS.into_iter().find(|(name, _)| *name == word.trim()) else {
            let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            return Err(Failure::Usage(format!(
                "'{word}' is nothing to group by; there are {}.",
                names.join(", ")
            )));
        };
        columns.push(column);
    }
    columns.extend(FIGURES);
    Ok(columns)
}

impl Usage {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let Verb::Report(verb) = self.verb;
        let columns = columns(&verb.by)?;
        let by: Vec<&str> = verb.by.split(',').map(str::trim).collect();
        let by = by.join(",");
        let context = open()?;
        let parameters =
            [("by", Some(by.as_str())), ("from", verb.from.as_deref()), ("to", verb.to.as_deref())];
        let rows: Vec<Value> = context.client.list("/usage/report", &parameters)?;
        context.output.list(&columns, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_in_the_order_asked_for() {
        let titles: Vec<&str> =
            columns("model, user").unwrap().iter().map(|column| column.title).take(3).collect();
        assert_eq!(titles, ["MODEL", "USER", "CALLS"]);
        assert!(columns("user,phase-of-the-moon").is_err());
        assert!(columns("").is_err());
    }
}
