//! `gateway serve`

use std::path::PathBuf;
use std::process::ExitCode;

use argh::FromArgs;

use super::config_file;
use super::failure::Failure;
use super::output::Output;
use crate::config::Config;

/// Run the gateway in the foreground, until SIGTERM or Ctrl-C.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "serve",
    help_triggers("-h", "--help", "help"),
    example = "Try it with no configuration, no provider and no network:\n    {command_name} --demo",
    example = "Run it with a configuration file:\n    {command_name} --config /etc/gateway/config.toml",
    note = "It prints one line on standard error when it is ready: listening on http://ADDRESS.",
    note = "A first signal lets calls in flight finish, a second one ends them. SIGHUP reads the TLS files and log.level again."
)]
pub struct Serve {
    /// configuration file (default: $GATEWAY_CONFIG, else /etc/gateway/config.toml if there is one, else
    /// the built-in defaults)
    #[argh(option, arg_name = "file")]
    config: Option<String>,

    /// start with a demo tenant, a model that answers by itself and a token, in a folder of its own, on
    /// loopback only
    #[argh(switch)]
    demo: bool,

    /// folder that holds the state, in place of the configuration's store.data_dir
    #[argh(option, arg_name = "dir")]
    data_dir: Option<String>,
}

impl Serve {
    /// Serves until a signal ends it.
    pub fn run(self, output: &Output) -> ExitCode {
        match self.prepare() {
            Ok(config) => {
                let temporary_store = self.demo && self.data_dir.is_none();
                let temporary = temporary_store.then(|| config.store.data_dir.clone());
                let store = config.store.clone();
                let reread = move || {
                    let read = config_file::load(self.config.as_deref(), self.data_dir.as_deref());
                    let fresh = read.map_err(|failure| failure.to_string())?;
                    // The folder of a demo is made up anew each time it is read.
                    Ok(if temporary_store { Config { store: store.clone(), ..fresh } } else { fresh })
                };
                let code = crate::server::run(config, self.demo, &reread);
                // Nothing of a demo in a folder of its own is worth keeping; a failure leaves a folder in /tmp.
                temporary.map(std::fs::remove_dir_all);
                code
            }
            Err(failure) => output.fail(&failure),
        }
    }

    fn prepare(&self) -> Result<Config, Failure> {
        let mut config = config_file::load(self.config.as_deref(), self.data_dir.as_deref())?;
        if self.demo && self.data_dir.is_none() {
            // A demo never touches the store of a real gateway: a new folder each time, unless one is named.
            let id = crate::token::random_id().map_err(|error| Failure::Input(error.to_string()))?;
            config.store.data_dir = std::env::temp_dir().join(format!("gateway-demo-{id}"));
            config.store.master_key_file = None::<PathBuf>;
        }
        Ok(config)
    }
}
