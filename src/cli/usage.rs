//! `gateway admin usage`

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::{self, date};
use super::output::{Column, text};
use super::plot::Plot;

/// What was used, by whom, and what it cost.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "usage",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} report\n{command_name} report --by team,model --from 2027-01-01 --to 2027-01-31\n\
    {command_name} export --from 2027-01-01 --to 2027-01-31 > january.ndjson\n\
    {command_name} plot --by model --file spend.svg"
)]
pub struct Usage {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Report(Report),
    Export(Export),
    Plot(Plot),
}

/// Add up calls, tokens, costs and latencies.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "report",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --by team,model --from 2027-01-01 --to 2027-01-31\n\
    {command_name} --by metadata.project,day --account main\n{command_name} --by day --output csv",
    note = "Days and hours are in UTC. Reports on whole hours are quick; tokens, metadata and minutes are read from the\n  \
    records, which are kept for a shorter time.",
    note = "ESTIMATED counts the calls whose token numbers the provider did not report, UNPRICED those that no price is\n  \
    known of: COST is without them, and empty where it is known of none.",
    note = "P50-MS and P95-MS are the latencies that so many of a hundred calls did not exceed, within an eighth."
)]
struct Report {
    /// what to group by: user, virtual-account, team, model, account, endpoint, outcome, token, day, hour,
    /// metadata.KEY; up to four with commas between (default: user,virtual-account,model)
    #[argh(option, arg_name = "groups", default = "\"user,virtual-account,model\".to_owned()")]
    by: String,

    /// first day or moment that counts, such as 2027-01-01
    #[argh(option, arg_name = "date", from_str_fn(date))]
    from: Option<String>,

    /// last day or moment that counts
    #[argh(option, arg_name = "date", from_str_fn(date))]
    to: Option<String>,

    /// only of this user or virtual account: user:EMAIL or virtualaccount:NAME
    #[argh(option, arg_name = "subject")]
    subject: Option<String>,

    /// only of those in this team
    #[argh(option, arg_name = "team")]
    team: Option<String>,

    /// only of this model, as ACCOUNT/NAME
    #[argh(option, arg_name = "model")]
    model: Option<String>,

    /// only on this provider account
    #[argh(option, arg_name = "account")]
    account: Option<String>,

    /// only with this in the metadata, as key=value; may be repeated
    #[argh(option, arg_name = "key=value")]
    metadata: Vec<String>,
}

/// Write the records themselves, one a line.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "export",
    help_triggers("-h", "--help"),
    example = "{command_name} --from 2027-01-01 --to 2027-01-31 > january.ndjson\n\
    {command_name} --account main --output csv > main.csv",
    note = "One JSON object a line, or with --output csv one line of values under a header. However many records there are,\n  \
    they pass a few hundred at a time."
)]
struct Export {
    /// first day or moment that counts, such as 2027-01-01
    #[argh(option, arg_name = "date", from_str_fn(date))]
    from: Option<String>,

    /// last day or moment that counts
    #[argh(option, arg_name = "date", from_str_fn(date))]
    to: Option<String>,

    /// only of this user or virtual account: user:EMAIL or virtualaccount:NAME
    #[argh(option, arg_name = "subject")]
    subject: Option<String>,

    /// only of those in this team
    #[argh(option, arg_name = "team")]
    team: Option<String>,

    /// only of this model, as ACCOUNT/NAME
    #[argh(option, arg_name = "model")]
    model: Option<String>,

    /// only on this provider account
    #[argh(option, arg_name = "account")]
    account: Option<String>,

    /// only with this in the metadata, as key=value; may be repeated
    #[argh(option, arg_name = "key=value")]
    metadata: Vec<String>,
}

/// The groups there are, with where their value stands in a row.
const GROUPS: [(&str, Column); 10] = [
    ("user", Column { title: "USER", cell: |row| text(row, &["/user"]) }),
    (
        "virtual-account",
        Column { title: "VIRTUAL-ACCOUNT", cell: |row| text(row, &["/virtualAccount", "/virtual-account"]) },
    ),
    ("team", Column { title: "TEAM", cell: |row| text(row, &["/team"]) }),
    ("model", Column { title: "MODEL", cell: |row| text(row, &["/model"]) }),
    ("account", Column { title: "ACCOUNT", cell: |row| text(row, &["/account"]) }),
    ("endpoint", Column { title: "ENDPOINT", cell: |row| text(row, &["/endpoint"]) }),
    ("outcome", Column { title: "OUTCOME", cell: |row| text(row, &["/outcome"]) }),
    ("token", Column { title: "TOKEN", cell: |row| text(row, &["/token"]) }),
    ("day", Column { title: "DAY", cell: |row| text(row, &["/day"]) }),
    ("hour", Column { title: "HOUR", cell: |row| text(row, &["/hour"]) }),
];

/// A value of the metadata; one key at once, which stands under this name in the table.
const METADATA: Column = Column {
    title: "METADATA",
    cell: |row| {
        let members = row.as_object().into_iter().flatten();
        let found = members.filter(|(name, _)| name.starts_with("metadata.")).map(|(_, value)| value);
        found.map(|value| text(value, &[""])).collect::<Vec<_>>().join(" ")
    },
};

const FIGURES: [Column; 12] = [
    Column { title: "CALLS", cell: |row| text(row, &["/calls"]) },
    Column { title: "ERRORS", cell: |row| text(row, &["/errors"]) },
    Column { title: "INPUT", cell: |row| text(row, &["/inputTokens"]) },
    Column { title: "OUTPUT", cell: |row| text(row, &["/outputTokens"]) },
    Column { title: "CACHED", cell: |row| text(row, &["/cachedTokens"]) },
    Column { title: "REASONING", cell: |row| text(row, &["/reasoningTokens"]) },
    Column { title: "ESTIMATED", cell: |row| text(row, &["/estimatedCalls"]) },
    Column { title: "COST", cell: |row| text(row, &["/cost"]) },
    Column { title: "UNPRICED", cell: |row| text(row, &["/unpricedCalls"]) },
    Column { title: "LATENCY-MS", cell: |row| text(row, &["/latencyMsAvg"]) },
    Column { title: "P50-MS", cell: |row| text(row, &["/latencyMsP50"]) },
    Column { title: "P95-MS", cell: |row| text(row, &["/latencyMsP95"]) },
];

/// The columns of a report that is grouped like that, in the order that was asked for.
fn columns(by: &str) -> Result<Vec<Column>, Failure> {
    let mut columns = Vec::new();
    let mut has_metadata = false;
    for word in by.split(',').map(str::trim) {
        if word.strip_prefix("metadata.").is_some_and(|key| !key.is_empty()) {
            if !has_metadata {
                columns.push(METADATA);
            }
            has_metadata = true;
            continue;
        }
        let Some((_, column)) = GROUPS.into_iter().find(|(name, _)| *name == word) else {
            let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            return Err(Failure::Usage(format!(
                "'{word}' is nothing to group by; there are {} and metadata.KEY.",
                names.join(", ")
            )));
        };
        columns.push(column);
    }
    columns.extend(FIGURES);
    Ok(columns)
}

/// Filters of the metadata as parameters of the query.
pub fn metadata(given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let wrong =
        |text: &String| Failure::Usage(format!("'{text}' is no filter; write --metadata as key=value."));
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((format!("metadata.{key}"), value.to_owned())),
        _ => Err(wrong(text)),
    };
    given.iter().map(pair).collect()
}

impl Usage {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Report(verb) => verb.run(open),
            Verb::Export(verb) => verb.run(open),
            Verb::Plot(verb) => verb.run(open),
        }
    }
}

impl Report {
    fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let columns = columns(&self.by)?;
        let by: Vec<&str> = self.by.split(',').map(str::trim).collect();
        let by = by.join(",");
        let metadata = metadata(&self.metadata)?;
        let context = open()?;
        let mut parameters = vec![
            ("by", Some(by.as_str())),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("subject", self.subject.as_deref()),
            ("team", self.team.as_deref()),
            ("model", self.model.as_deref()),
            ("account", self.account.as_deref()),
        ];
        parameters.extend(metadata.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))));
        let rows: Vec<Value> = context.client.list("/usage/report", &parameters)?;
        context.output.list(&columns, rows)
    }
}

impl Export {
    fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let metadata = metadata(&self.metadata)?;
        let context = open()?;
        let mut parameters = vec![
            ("format", Some(if context.output.is_csv() { "csv" } else { "ndjson" })),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("subject", self.subject.as_deref()),
            ("team", self.team.as_deref()),
            ("model", self.model.as_deref()),
            ("account", self.account.as_deref()),
        ];
        parameters.extend(metadata.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))));
        let path = input::with_query("/usage/export", &parameters);
        context.client.stream(&path, &mut |piece| context.output.piece(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_in_the_order_asked_for() {
        let titles: Vec<&str> =
            columns("model, user,metadata.x").unwrap().iter().map(|column| column.title).take(4).collect();
        assert_eq!(titles, ["MODEL", "USER", "METADATA", "CALLS"]);
        for wrong in ["user,phase-of-the-moon", "", "metadata.", "metadata"] {
            assert!(columns(wrong).is_err(), "{wrong}");
        }
        let row = serde_json::json!({"metadata.a.b": "x", "calls": 1});
        assert_eq!((METADATA.cell)(&row), "x");
    }

    #[test]
    fn metadata_filters() {
        let given =
            |texts: &[&str]| metadata(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(given(&["a=b=c"]).unwrap(), [("metadata.a".to_owned(), "b=c".to_owned())]);
        for wrong in ["a", "=b", ""] {
            assert!(given(&[wrong]).is_err(), "{wrong}");
        }
    }
}
