//! `gateway check-config`

use std::path::Path;

use argh::FromArgs;

use super::config_file;
use super::failure::Failure;
use super::output::Output;
use crate::config::Config;

/// Read the configuration file and say what is wrong with it, without starting anything.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "check-config",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} --config /etc/gateway/config.toml",
    note = "Exit code 0 means that 'gateway serve' would take the file; 1 that it would not."
)]
pub struct CheckConfig {
    /// configuration file (default: $GATEWAY_CONFIG, else /etc/gateway/config.toml if there is one)
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

impl CheckConfig {
    /// Reads the file and prints what it comes to.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn run(self, output: &Output) -> Result<(), Failure> {
        let file = Config::source(self.config.as_deref().map(Path::new));
        let config = config_file::load(self.config.as_deref(), None)?;
        let first = match &file {
            Some(file) => format!("{} is fine.", file.display()),
            None => "There is no configuration file; the built-in defaults hold.".to_owned(),
        };
        let scheme = if config.server.tls_cert_file.is_some() { "https" } else { "http" };
        let mut notes = vec![
            first,
            format!(
                "Listens on {scheme}://{}, operators' listener on http://{}.",
                config.server.listen, config.ops.listen
            ),
            format!("Keeps its state in {}.", config.store.data_dir.display()),
        ];
        if scheme == "http" && !config.server.listen.ip().is_loopback() {
            notes.push(
                "Note: it listens beyond this host without TLS; tokens travel in the clear.".to_owned(),
            );
        }
        match config.egress.allow.as_deref() {
            None => {}
            Some([]) => notes.push("Note: egress.allow is empty, so no provider can be reached.".to_owned()),
            Some(allowed) => notes.push(format!("Dials only: {}.", allowed.join(", "))),
        }
        output.print(&format!("{}\n", notes.join("\n")))
    }
}
