//! `gateway admin logs`

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::{date, path, with_query};
use super::output::{Column, text};
use super::usage::metadata;

/// Calls of one request.
const PAGE_CALLS: usize = 1000;

/// Calls one by one, and what they said where that is kept.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "logs",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} list --subject user:ada@example.com --from 2027-01-01\n\
    {command_name} list --status 5xx --limit 20\n{command_name} show 0b6c1f7f2a4e4b0d"
)]
pub struct Logs {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    List(List),
    Show(Show),
}

/// List calls, the newest first.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "list",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --account main --status 429 --from 2027-01-01\n\
    {command_name} --metadata project=search --output json --limit 100000",
    note = "LOGGED says whose bodies are kept: show has them.",
    note = "With --output json each call is a line of its own."
)]
struct List {
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

    /// only with this status, such as 429, or of this class, such as 4xx
    #[argh(option, arg_name = "status")]
    status: Option<String>,

    /// only with this in the metadata, as key=value; may be repeated
    #[argh(option, arg_name = "key=value")]
    metadata: Vec<String>,

    /// at most so many calls (default: 100)
    #[argh(option, arg_name = "number", default = "100")]
    limit: usize,
}

/// Show one call, and its bodies where they are kept.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "show",
    help_triggers("-h", "--help"),
    example = "{command_name} 0b6c1f7f2a4e4b0d\n{command_name} 0b6c1f7f2a4e4b0d --output json",
    note = "The id is the x-request-id of the answer. Callers may choose it, so several calls can have one: the newest is\n  \
    shown, and --from and --to lead to the others.",
    note = "Bodies are for the user whose call it was and for administrators; each reading is in the audit log."
)]
struct Show {
    /// id of the request
    #[argh(positional)]
    request_id: String,

    /// first day or moment to look at
    #[argh(option, arg_name = "date", from_str_fn(date))]
    from: Option<String>,

    /// last day or moment to look at
    #[argh(option, arg_name = "date", from_str_fn(date))]
    to: Option<String>,
}

const TIME: Column = Column { title: "TIME", cell: |call| text(call, &["/at"]) };
const REQUEST: Column = Column { title: "REQUEST", cell: |call| text(call, &["/requestId"]) };
const SUBJECT: Column = Column { title: "SUBJECT", cell: |call| text(call, &["/subject"]) };
const MODEL: Column = Column { title: "MODEL", cell: |call| text(call, &["/model"]) };
const STATUS: Column = Column { title: "STATUS", cell: |call| text(call, &["/status"]) };
const OUTCOME: Column = Column { title: "OUTCOME", cell: |call| text(call, &["/outcome"]) };
const INPUT: Column = Column { title: "INPUT", cell: |call| text(call, &["/inputTokens"]) };
const OUTPUT: Column = Column { title: "OUTPUT", cell: |call| text(call, &["/outputTokens"]) };
const COST: Column = Column { title: "COST", cell: |call| text(call, &["/cost"]) };
const LATENCY: Column = Column { title: "LATENCY-MS", cell: |call| text(call, &["/latencyMs"]) };
const LOGGED: Column = Column { title: "LOGGED", cell: |call| text(call, &["/logged"]) };
const SHOWN: [Column; 11] =
    [TIME, REQUEST, SUBJECT, MODEL, STATUS, OUTCOME, INPUT, OUTPUT, COST, LATENCY, LOGGED];
const OF_ONE: [Column; 9] = [
    Column { title: "TEAMS", cell: |call| text(call, &["/teams"]) },
    Column { title: "TOKEN", cell: |call| text(call, &["/tokenId"]) },
    Column { title: "MODEL-ASKED", cell: |call| text(call, &["/modelAsked"]) },
    Column { title: "ENDPOINT", cell: |call| text(call, &["/endpoint"]) },
    Column { title: "ERROR", cell: |call| text(call, &["/errorKind"]) },
    Column { title: "STREAM", cell: |call| text(call, &["/stream"]) },
    Column { title: "ORIGIN", cell: |call| text(call, &["/tokenOrigin"]) },
    Column { title: "FIRST-BYTE-MS", cell: |call| text(call, &["/firstByteMs"]) },
    Column { title: "METADATA", cell: |call| text(call, &["/metadata"]) },
];

impl Logs {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::List(verb) => verb.run(open),
            Verb::Show(verb) => verb.run(open),
        }
    }
}

impl List {
    fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let metadata = metadata(&self.metadata)?;
        let context = open()?;
        let mut parameters = vec![
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("subject", self.subject.as_deref()),
            ("team", self.team.as_deref()),
            ("model", self.model.as_deref()),
            ("account", self.account.as_deref()),
            ("status", self.status.as_deref()),
        ];
        parameters.extend(metadata.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))));
        let path = with_query("/logs", &parameters);
        let (mut rows, mut before): (Vec<Value>, Option<String>) = (Vec::new(), None);
        while rows.len() < self.limit {
            let limit = (self.limit - rows.len()).min(PAGE_CALLS).to_string();
            let parameters = [("limit", Some(limit.as_str())), ("before", before.as_deref())];
            let mut page = context.client.call("GET", &with_query(&path, &parameters), None)?;
            match page.get_mut("data").map(Value::take) {
                Some(Value::Array(mut calls)) => rows.append(&mut calls),
                _ => return Err(Failure::Input("the gateway answered without a list".to_owned())),
            }
            match page.pointer("/pagination/before").and_then(Value::as_str) {
                Some(next) => before = Some(next.to_owned()),
                None => break,
            }
        }
        context.output.entries(&SHOWN, rows)
    }
}

impl Show {
    fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let path = path(&["logs", &self.request_id])?;
        let context = open()?;
        let path = with_query(&path, &[("from", self.from.as_deref()), ("to", self.to.as_deref())]);
        let call = context.client.object("GET", &path, None)?;
        if context.output.is_json() {
            return context.output.json(&call);
        }
        let [columns @ .., _] = SHOWN;
        let fields: Vec<Column> = columns.into_iter().chain(OF_ONE).chain([LOGGED]).collect();
        context.output.object(&fields, &call)?;
        if let Some(why) = call.pointer("/bodiesWithheld").and_then(Value::as_str) {
            return context.output.said(&format!("\n{why}."), &call);
        }
        for (title, pointer) in [("REQUEST", "/requestBody"), ("ANSWER", "/answerBody")] {
            let Some(body) = call.pointer(pointer).filter(|body| !body.is_null()) else { continue };
            context.output.said(&shown(title, body), &call)?;
        }
        Ok(())
    }
}

/// A body under its title.
fn shown(title: &str, body: &Value) -> String {
    let cut = if body.pointer("/truncated") == Some(&Value::Bool(true)) {
        ", only the beginning was kept"
    } else {
        ""
    };
    let content = ["/text", "/base64"].iter().find_map(|pointer| body.pointer(pointer)?.as_str());
    let form = if body.pointer("/text").is_some_and(Value::is_string) { "" } else { ", in base64" };
    format!("\n{title} ({} bytes{cut}{form})\n{}", text(body, &["/bytes"]), content.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_says_what_it_is() {
        let plain = json!({"text": "hi\n", "base64": null, "bytes": 3, "truncated": false});
        assert_eq!(shown("REQUEST", &plain), "\nREQUEST (3 bytes)\nhi\n");
        let binary = json!({"text": null, "base64": "/wA=", "bytes": 9, "truncated": true});
        assert_eq!(
            shown("ANSWER", &binary),
            "\nANSWER (9 bytes, only the beginning was kept, in base64)\n/wA="
        );
    }
}
