//! `gateway admin clock`

use argh::FromArgs;

use super::admin::Open;
use super::failure::Failure;
use super::output::text;

/// The clock: the gateway never believes that it is earlier than it once was.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "clock",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} reset",
    note = "A host's clock that is turned back must not revive what has expired, so the highest time seen holds."
)]
pub struct Clock {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Reset(Reset),
}

/// Believe the host's clock again, after it once ran ahead and was put right.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "reset",
    help_triggers("-h", "--help"),
    example = "{command_name}",
    note = "Only on the gateway's host. Tokens that ended in the time that never was work again."
)]
struct Reset {}

impl Clock {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let Verb::Reset(Reset {}) = self.verb;
        let context = open()?;
        let answer = context.client.call("POST", "/clock/reset", None)?;
        let sentence = format!(
            "The clock went from {} to {}.",
            text(&answer, &["/data/before"]),
            text(&answer, &["/data/after"])
        );
        context.output.done(&sentence, &answer)
    }
}
