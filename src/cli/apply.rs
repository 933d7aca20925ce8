//! `gateway admin apply`

use argh::FromArgs;
use serde_json::{Value, json};

use super::access;
use super::admin::Open;
use super::failure::Failure;
use super::manifest_file;
use super::output::text;

/// Make the gateway what manifests say: users, teams, provider accounts, virtual accounts, settings.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "apply",
    help_triggers("-h", "--help"),
    example = "{command_name} -f access.yaml --dry-run\n\
    {command_name} -f access.yaml -f accounts.toml\n\
    gateway admin export team/research | {command_name} -f -",
    note = "YAML, JSON or TOML, by the file's ending; of what has none, such as standard input, by what is in it. YAML\n  \
    may hold several documents, JSON an array, TOML [[manifests]].",
    note = "All of one apply is one change: when one document is refused, none is applied. Applying the same again\n  \
    changes nothing.",
    note = "A secret in auth_data may be {{from_file: PATH}} or {{from_env: NAME}}: it is read here, not by the gateway. A key\n  \
    that is left out, or masked as export shows it, keeps the one that is stored."
)]
pub struct Apply {
    /// file with manifests, '-' for standard input; may be given several times
    #[argh(option, short = 'f', long = "file", arg_name = "file")]
    files: Vec<String>,

    /// change nothing; show what would change, and who would gain and lose access
    #[argh(switch)]
    dry_run: bool,
}

impl Apply {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        if self.files.is_empty() {
            return Err(Failure::Usage("Give at least one file: -f FILE.".to_owned()));
        }
        if self.files.iter().filter(|file| *file == "-").count() > 1 {
            return Err(Failure::Usage("Standard input can be read only once.".to_owned()));
        }
        let mut manifests = Vec::new();
        for file in &self.files {
            manifests.extend(manifest_file::read(file)?);
        }
        let context = open()?;
        let body = json!({"manifests": manifests, "dryRun": self.dry_run});
        let answer = context.client.call("POST", "/manifests", Some(&body))?;
        context.output.lines(&summary(&answer, self.dry_run), &answer)
    }
}

/// One line for each document, then who gains and who loses what.
fn summary(answer: &Value, dry_run: bool) -> Vec<String> {
    let rows = |pointer: &str| answer.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let mut lines: Vec<String> = rows("/data")
        .map(|row| {
            let done = match (row.get("action").and_then(Value::as_str), dry_run) {
                (Some("CREATE"), false) => "created",
                (Some("CREATE"), true) => "would be created",
                (Some("UPDATE"), false) => "updated",
                (Some("UPDATE"), true) => "would be updated",
                _ => "unchanged",
            };
            let (kind, name) = (text(row, &["/type"]), text(row, &["/name"]));
            // There is one object of settings: its name would say nothing.
            if kind == "settings" { format!("{kind} {done}") } else { format!("{kind} {name} {done}") }
        })
        .collect();
    lines.extend(access::lines(answer, dry_run));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let answer = json!({
            "data": [
                {"type": "team", "name": "a", "action": "CREATE"},
                {"type": "settings", "name": "settings", "action": "UPDATE"},
                {"type": "team", "name": "b", "action": "UNCHANGED"},
            ],
            "access": {
                "gains": [{"subject": "user:a@b.c", "model": "main/m", "role": "provider-account-access"}],
                "loses": [{"subject": "team:b", "model": "main", "role": "provider-account-manager"}],
            },
        });
        assert_eq!(
            summary(&answer, false),
            [
                "team a created",
                "settings updated",
                "team b unchanged",
                "user:a@b.c gains provider-account-access on main/m",
                "team:b loses provider-account-manager on main",
            ]
        );
        assert_eq!(
            summary(&answer, true),
            [
                "team a would be created",
                "settings would be updated",
                "team b unchanged",
                "user:a@b.c would gain provider-account-access on main/m",
                "team:b would lose provider-account-manager on main",
            ]
        );
    }
}
