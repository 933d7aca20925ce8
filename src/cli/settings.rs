//! `gateway admin settings`

use argh::FromArgs;
use serde_json::{Map, Value, json};

use super::admin::Open;
use super::failure::Failure;
use super::output::{Column, text};

/// Settings: what the organisation decides while the gateway runs.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "settings",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} get\n{command_name} set pat_max_validity_days 90 --dry-run\n\
    {command_name} set pat_max_validity_days none",
    note = "pat_max_validity_days: days after its creation on which a personal access token ends at the latest (none: no bound).",
    note = "pat_may_mint: whether someone who shows a personal access token may make others with it (true or false).",
    note = "audit_retention_days: days that audit entries are kept (none: for ever).",
    note = "limits_when_accounting_fails: calls under a budget while usage can not be written (refuse or serve).",
    note = "logging_settings: whose request and answer bodies are kept (never, always, header_controlled: those of calls\n  \
    whose headers ask for it, header_controlled=true: those of calls whose headers do not say no)."
)]
pub struct Settings {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Get(Get),
    Set(Set),
}

/// Show the settings.
#[derive(FromArgs)]
#[argh(subcommand, name = "get", help_triggers("-h", "--help"), example = "{command_name}")]
struct Get {}

/// Change one setting.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "set",
    help_triggers("-h", "--help"),
    example = "{command_name} pat_max_validity_days 90 --dry-run\n{command_name} pat_max_validity_days 90 --yes\n\
    {command_name} pat_may_mint true",
    note = "A bound that ends tokens at once is refused without --yes; --dry-run lists them."
)]
struct Set {
    /// its name, as get shows it
    #[argh(positional)]
    key: String,

    /// a number, true, false, none, or a word
    #[argh(positional)]
    value: String,

    /// end the tokens that end by it
    #[argh(switch)]
    yes: bool,

    /// change nothing; show what would be, and which tokens would end
    #[argh(switch)]
    dry_run: bool,
}

const LONGEST: Column =
    Column { title: "PAT_MAX_VALIDITY_DAYS", cell: |value| text(value, &["/pat_max_validity_days"]) };
const MINT: Column = Column { title: "PAT_MAY_MINT", cell: |value| text(value, &["/pat_may_mint"]) };
const RETENTION: Column =
    Column { title: "AUDIT_RETENTION_DAYS", cell: |value| text(value, &["/audit_retention_days"]) };

const ACCOUNTING: Column = Column {
    title: "LIMITS_WHEN_ACCOUNTING_FAILS",
    cell: |value| text(value, &["/limits_when_accounting_fails"]),
};

const LOGGING: Column = Column { title: "LOGGING_SETTINGS", cell: logging_word };

/// The word for `logging_settings` of an object; `-` where it has none.
pub fn logging_word(object: &Value) -> String {
    let settings =
        object.pointer("/logging_settings").or_else(|| object.pointer("/manifest/logging_settings"));
    let Some(settings) = settings else { return "-".to_owned() };
    match settings.pointer("/log_body_by_default").and_then(Value::as_bool) {
        Some(true) => text(settings, &["/type"]) + "=true",
        _ => text(settings, &["/type"]),
    }
}

/// Reads the word.
pub fn logging_settings(word: &str) -> Option<Value> {
    let by_default = |log: bool| json!({"type": "header_controlled", "log_body_by_default": log});
    match word {
        "always" | "never" => Some(json!({"type": word})),
        "header_controlled" | "header_controlled=false" => Some(by_default(false)),
        "header_controlled=true" => Some(by_default(true)),
        _ => None,
    }
}

impl Settings {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Get(Get {}) => {
                let context = open()?;
                let settings = context.client.object("GET", "/settings", None)?;
                context.output.object(&[LONGEST, MINT, RETENTION, ACCOUNTING, LOGGING], &settings)
            }
            Verb::Set(verb) => {
                let value = match verb.value.as_str() {
                    "none" => Value::Null,
                    "refuse" | "serve" => verb.value.as_str().into(),
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    word if logging_settings(word).is_some() => logging_settings(word).unwrap_or_default(),
                    number => match number.parse::<u64>() {
                        Ok(number) => number.into(),
                        Err(_) => {
                            return Err(Failure::Usage(format!(
                                "'{number}' is not a value; write a number, true, false or none."
                            )));
                        }
                    },
                };
                let mut body = Map::new();
                body.insert("yes".to_owned(), verb.yes.into());
                body.insert("dryRun".to_owned(), verb.dry_run.into());
                if body.insert(verb.key.clone(), value).is_some() {
                    return Err(Failure::Usage(format!("'{}' is no setting.", verb.key)));
                }
                let context = open()?;
                let answer = context.client.call("PATCH", "/settings", Some(&Value::Object(body)))?;
                let ended: Vec<&str> = answer
                    .pointer("/endedTokens")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let done = if verb.dry_run { "Nothing was changed." } else { "The setting is changed." };
                let tokens = match (ended.as_slice(), verb.dry_run) {
                    ([], _) => String::new(),
                    (ended, true) => format!(
                        " {} tokens would end now: {}",
                        text(&answer, &["/endedTokensTotal"]),
                        ended.join(", ")
                    ),
                    (ended, false) => {
                        format!(
                            " {} tokens ended: {}",
                            text(&answer, &["/endedTokensTotal"]),
                            ended.join(", ")
                        )
                    }
                };
                context.output.done(&format!("{done}{tokens}"), &answer)
            }
        }
    }
}
