//! `gateway admin limit`

use argh::FromArgs;

use super::admin::Open;
use super::budget::{COLUMNS, rows_of_rules};
use super::failure::Failure;
use super::input::path;

/// Rate limits: how far they are used.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "limit",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} list\n{command_name} show per-user",
    note = "Rate limits are changed with 'gateway admin apply' and shown as they were applied by\n  \
    'gateway admin export gateway-rate-limiting-config'."
)]
pub struct Limit {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    List(List),
    Show(Show),
}

/// Show every rate limit and how far it is used.
#[derive(FromArgs)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "{command_name}")]
struct List {}

/// Show one rate limit: what it counts apart, the fullest first.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "show",
    help_triggers("-h", "--help"),
    example = "{command_name} per-user\n{command_name} per-user --output json"
)]
struct Show {
    /// the id of its rule
    #[argh(positional)]
    id: String,
}

impl Limit {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let place = match &self.verb {
            Verb::List(List {}) => "/llm-gateway/rate-limits".to_owned(),
            Verb::Show(verb) => path(&["llm-gateway", "rate-limits", &verb.id])?,
        };
        let context = open()?;
        let rules = match self.verb {
            Verb::List(_) => context.client.list(&place, &[])?,
            Verb::Show(_) => vec![context.client.call("GET", &place, None)?],
        };
        context.output.list(&COLUMNS, rows_of_rules(&rules))
    }
}
