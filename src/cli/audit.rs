//! `gateway admin audit`

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::{date, with_query};
use super::output::{Column, text};

/// Entries of one request.
const PAGE_ENTRIES: usize = 1000;

/// Who changed what, and who tried to.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "audit",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} list --actor user:ada@example.com --from 2027-01-01\n{command_name} list --refused\n\
    {command_name} verify"
)]
pub struct Audit {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    List(List),
    Verify(Verify),
}

/// List entries, the newest first.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "list",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --action token. --limit 20\n{command_name} --output json --limit 100000",
    note = "With --output json each entry is a line of its own, with the object before and after.",
    note = "COUNT is how many refused attempts of one minute an entry stands for."
)]
struct List {
    /// by whom: user:EMAIL, virtualaccount:NAME or local:uid:N
    #[argh(option, arg_name = "subject")]
    actor: Option<String>,

    /// what the action begins with, such as token. or token.create
    #[argh(option, arg_name = "action")]
    action: Option<String>,

    /// what the object's kind and name begin with, such as user/ or account/main
    #[argh(option, arg_name = "object")]
    resource: Option<String>,

    /// first day or moment
    #[argh(option, arg_name = "date", from_str_fn(date))]
    from: Option<String>,

    /// last day or moment
    #[argh(option, arg_name = "date", from_str_fn(date))]
    to: Option<String>,

    /// only attempts that were refused
    #[argh(switch)]
    refused: bool,

    /// at most so many entries (default: 100)
    #[argh(option, arg_name = "number", default = "100")]
    limit: usize,
}

/// Check that no entry was changed or removed; exits with 1 when one was.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "verify",
    help_triggers("-h", "--help"),
    example = "{command_name}\n{command_name} --head 7f9c...",
    note = "Note the head that it shows, away from the gateway. With --head it is looked for again: only so one finds\n  \
    that the newest entries were cut off."
)]
struct Verify {
    /// a head that was noted earlier
    #[argh(option, arg_name = "hex")]
    head: Option<String>,
}

const COLUMNS: [Column; 7] = [
    Column { title: "TIME", cell: |row| text(row, &["/at"]) },
    Column { title: "ACTOR", cell: |row| text(row, &["/actor"]) },
    Column { title: "SOURCE", cell: |row| text(row, &["/source"]) },
    Column { title: "ACTION", cell: |row| text(row, &["/action"]) },
    Column { title: "OBJECT", cell: |row| text(row, &["/resource"]) },
    Column { title: "REFUSED", cell: |row| text(row, &["/refused"]) },
    Column { title: "COUNT", cell: |row| text(row, &["/count"]) },
];

impl Audit {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::List(verb) => verb.run(open),
            Verb::Verify(verb) => verb.run(open),
        }
    }
}

impl List {
    fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let context = open()?;
        let path = with_query(
            "/audit",
            &[
                ("actor", self.actor.as_deref()),
                ("action", self.action.as_deref()),
                ("resource", self.resource.as_deref()),
                ("from", self.from.as_deref()),
                ("to", self.to.as_deref()),
                ("refused", self.refused.then_some("true")),
            ],
        );
        let (mut rows, mut before): (Vec<Value>, Option<String>) = (Vec::new(), None);
        while rows.len() < self.limit {
            let limit = (self.limit - rows.len()).min(PAGE_ENTRIES).to_string();
            let parameters = [("limit", Some(limit.as_str())), ("before", before.as_deref())];
            let mut page = context.client.call("GET", &with_query(&path, &parameters), None)?;
            match page.get_mut("data").map(Value::take) {
                Some(Value::Array(mut entries)) => rows.append(&mut entries),
                _ => return Err(Failure::Input("the gateway answered without a list".to_owned())),
            }
            match page.pointer("/pagination/before").and_then(Value::as_u64) {
                Some(next) => before = Some(next.to_string()),
                None => break,
            }
        }
        context.output.entries(&COLUMNS, rows)
    }
}

impl Verify {
    fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let context = open()?;
        let answer = context.client.call(
            "GET",
            &with_query("/audit/verify", &[("head", self.head.as_deref())]),
            None,
        )?;
        let at = |pointer: &str| text(&answer, &[pointer]);
        let whole = answer.get("ok").and_then(Value::as_bool) == Some(true);
        let sentence = match answer.get("brokenAt").and_then(Value::as_u64) {
            Some(number) => format!(
                "The audit log is broken: entry {number} was changed or removed, or what stood before it."
            ),
            None if !whole => format!(
                "Every entry that is there follows from the one before, but the head you noted is not among them: the\n\
                 newest entries were cut off, or entries from before that head were removed by the retention.\n\
                 records {}\nhead {}",
                at("/records"),
                at("/head")
            ),
            None => format!(
                "The audit log is whole.\nrecords {} (of these the retention has removed {})\nhead {}",
                at("/records"),
                at("/pruned"),
                at("/head")
            ),
        };
        context.output.said(&sentence, &answer)?;
        if whole { Ok(()) } else { Err(Failure::No) }
    }
}
