//! `gateway admin`: the nouns, and the way to the gateway.

use std::path::Path;

use argh::FromArgs;

use super::client::{self, Client};
use super::failure::Failure;
use super::output::{Format, Output};
use super::{
    apply, audit, backup, budget, catalogue, clock, config_file, explain, export, grant, limit, logs, model,
    provider, settings, team, token, usage, user, virtual_account,
};

/// Administer a gateway: people, applications, provider accounts, who may use what, and what was used.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "admin",
    help_triggers("-h", "--help", "help"),
    example = "On the gateway's host, as the user that runs it (no token needed, the server may run or not):\n    \
    {command_name} user list\n    \
    {command_name} --data-dir ./data user create ada@example.com --role admin",
    example = "From elsewhere:\n    \
    GATEWAY_TOKEN=tfy_pat_... {command_name} --url https://gateway.example.com user list",
    example = "For a program:\n    {command_name} token list --output json",
    note = "Grants have verbs of their own: grant, revoke, grants and explain. Each noun and verb has its own --help.",
    note = "The options above may stand anywhere in the line. What begins with a hyphen and is no option goes after '--'.",
    note = "Environment: GATEWAY_URL is used like --url, unless --config or --data-dir is given; GATEWAY_TOKEN holds the\n  \
    token; GATEWAY_CA_FILE names a PEM file of certificates to trust in place of the public ones; GATEWAY_CONFIG\n  \
    is used like --config.",
    note = "Secrets are read from files, environment variables or standard input, never from the command line, where\n  \
    other users of the host could see them.",
    note = "With --output json errors are JSON too, on standard error: {{\"error\":{{\"status\":409,\"message\":\"...\"}}}}.",
    note = "Exit codes: 0 done, 1 refused or failed, 2 the command line was wrong."
)]
pub struct Admin {
    /// configuration file of the gateway on this host, for its data folder (default: $GATEWAY_CONFIG, else
    /// /etc/gateway/config.toml if there is one)
    #[argh(option, arg_name = "file")]
    config: Option<String>,

    /// data folder of the gateway on this host, in place of the configuration's
    #[argh(option, arg_name = "dir")]
    data_dir: Option<String>,

    /// address of a gateway elsewhere, such as https://gateway.example.com
    #[argh(option, arg_name = "url")]
    url: Option<String>,

    /// table (default), json, or csv for lists
    #[argh(option, arg_name = "format", default = "Format::Table")]
    // Read from the arguments before they are parsed, so that usage errors are JSON too.
    #[allow(dead_code, reason = "see above")]
    output: Format,

    #[argh(subcommand)]
    noun: Noun,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Noun {
    User(user::User),
    Team(team::Team),
    Provider(provider::Provider),
    Model(model::Model),
    Grant(grant::Grant),
    Revoke(grant::Revoke),
    Grants(grant::Grants),
    Token(token::Token),
    VirtualAccount(virtual_account::VirtualAccount),
    Catalog(catalogue::Catalog),
    Settings(settings::Settings),
    Clock(clock::Clock),
    Usage(usage::Usage),
    Logs(logs::Logs),
    Budget(budget::Budget),
    Limit(limit::Limit),
    Apply(apply::Apply),
    Export(export::Export),
    Explain(explain::Explain),
    Audit(audit::Audit),
    Backup(backup::Backup),
    Restore(backup::Restore),
}

/// What every verb works with.
pub struct Context<'a> {
    /// The way to the gateway.
    pub client: Client,
    /// Where results go.
    pub output: &'a Output,
    /// Under which address the gateway is reached, as far as that is known here; without a slash at its end.
    pub base_url: String,
}

impl Admin {
    /// Carries the command out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, output: &Output) -> Result<(), Failure> {
        let local = self.config.is_some() || self.data_dir.is_some();
        if self.url.is_some() && local {
            let message = "Give --url for a gateway elsewhere, or --config or --data-dir for the one on this host, not both.";
            return Err(Failure::Usage(message.to_owned()));
        }
        let open = || -> Result<Context<'_>, Failure> {
            let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
            let url = self.url.clone().or_else(|| if local { None } else { variable("GATEWAY_URL") });
            let (transport, base_url) = match url {
                Some(url) => {
                    let ca_file = variable("GATEWAY_CA_FILE");
                    let transport = client::open_url(
                        &url,
                        variable("GATEWAY_TOKEN").as_deref(),
                        ca_file.as_deref().map(Path::new),
                    )?;
                    (transport, url.trim_end_matches('/').to_owned())
                }
                None => {
                    let config = config_file::load(self.config.as_deref(), self.data_dir.as_deref())?;
                    let scheme = if config.server.tls_cert_file.is_some() { "https" } else { "http" };
                    (client::open_local(&config)?, format!("{scheme}://{}", config.server.listen))
                }
            };
            Ok(Context { client: Client::new(transport), output, base_url })
        };
        // Verbs open the way themselves: first they check what was given, so that a wrong command line is a
        // usage error wherever the gateway is.
        match self.noun {
            Noun::User(noun) => noun.run(&open),
            Noun::Team(noun) => noun.run(&open),
            Noun::Provider(noun) => noun.run(&open),
            Noun::Model(noun) => noun.run(&open),
            Noun::Grant(verb) => verb.run(&open),
            Noun::Revoke(verb) => verb.run(&open),
            Noun::Grants(verb) => verb.run(&open),
            Noun::Token(noun) => noun.run(&open),
            Noun::VirtualAccount(noun) => noun.run(&open),
            Noun::Catalog(noun) => noun.run(&open),
            Noun::Settings(noun) => noun.run(&open),
            Noun::Clock(noun) => noun.run(&open),
            Noun::Usage(noun) => noun.run(&open),
            Noun::Logs(noun) => noun.run(&open),
            Noun::Budget(noun) => noun.run(&open),
            Noun::Limit(noun) => noun.run(&open),
            Noun::Apply(verb) => verb.run(&open),
            Noun::Export(verb) => verb.run(&open),
            Noun::Explain(verb) => verb.run(&open),
            Noun::Audit(noun) => noun.run(&open),
            Noun::Backup(verb) => verb.run(&open),
            Noun::Restore(_) if self.url.is_some() => {
                let message = "A backup is restored on the gateway's host: 'restore' takes no --url.";
                Err(Failure::Usage(message.to_owned()))
            }
            Noun::Restore(verb) => {
                verb.run(output, &config_file::load(self.config.as_deref(), self.data_dir.as_deref())?)
            }
        }
    }
}

/// Opens the way to the gateway.
pub type Open<'a> = &'a dyn Fn() -> Result<Context<'a>, Failure>;
