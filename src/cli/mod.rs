//! Commands. Each is a thin client: `serve` starts the server, `admin` speaks the management API.

mod access;
mod admin;
mod apply;
mod arguments;
mod audit;
mod backup;
mod budget;
mod catalogue;
mod check_config;
mod client;
mod clock;
mod config_file;
mod explain;
mod export;
mod failure;
mod grant;
mod input;
mod limit;
mod logs;
mod manifest_file;
mod model;
mod output;
mod plot;
mod provider;
mod serve;
mod settings;
mod team;
mod token;
mod usage;
mod user;
mod virtual_account;

use std::process::ExitCode;

use argh::FromArgs;

use failure::Failure;
use output::{Format, Output};

/// An organisation's own keys to the models of many providers, behind one OpenAI-compatible endpoint.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help", "help"),
    example = "Try it, with nothing configured:\n    {command_name} serve --demo",
    example = "Run it, put a provider's key in, and give a person access and a key of their own:\n    \
    {command_name} serve --config /etc/gateway/config.toml\n    \
    {command_name} admin provider create main --type openai --base-url https://api.openai.com/v1 --api-key-file key.txt\n    \
    {command_name} admin model add main/gpt-4o --model-id gpt-4o\n    \
    {command_name} admin user create ada@example.com\n    \
    {command_name} admin grant user:ada@example.com provider-account-access main\n    \
    {command_name} admin token create --user ada@example.com --name laptop",
    note = "Every command has its own --help: '{command_name} admin --help', '{command_name} admin user create --help'.",
    note = "Exit codes: 0 done, 1 refused or failed, 2 the command line was wrong."
)]
struct Gateway {
    /// print the version and exit
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
enum Command {
    Serve(serve::Serve),
    CheckConfig(check_config::CheckConfig),
    Admin(admin::Admin),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let mut given = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.into_string() {
            Ok(text) => given.push(text),
            Err(bytes) => {
                let message = format!("the argument {} is not UTF-8", bytes.to_string_lossy());
                return Output::new(Format::Table).fail(&Failure::Usage(message));
            }
        }
    }
    let arguments = match arguments::arrange(given) {
        Ok(arguments) => arguments,
        Err(message) => return Output::new(Format::Table).fail(&Failure::Usage(message)),
    };
    // Usage errors too are JSON when JSON was asked for, and then there is no parsed command to ask.
    let output = Output::new(arguments::format_of(&arguments));
    let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let gateway = match Gateway::from_args(&["gateway"], &borrowed) {
        Ok(gateway) => gateway,
        Err(exit) if exit.status.is_ok() => return output.finish(output.print(&exit.output)),
        Err(exit) => return output.fail(&usage_failure(&exit.output, &borrowed)),
    };
    if gateway.version {
        return output.finish(output.print(concat!("gateway ", env!("CARGO_PKG_VERSION"), "\n")));
    }
    match gateway.command {
        Some(Command::Serve(command)) => command.run(&output),
        Some(Command::CheckConfig(command)) => output.finish(command.run(&output)),
        Some(Command::Admin(command)) => {
            let result = command.run(&output).map_err(|failure| match failure {
                Failure::Usage(message) => usage_failure(&message, &borrowed),
                other => other,
            });
            output.finish(result)
        }
        None => output.fail(&usage_failure("No command was given: serve, check-config or admin.", &borrowed)),
    }
}

/// What was wrong, and which `--help` says how it is right.
fn usage_failure(message: &str, arguments: &[&str]) -> Failure {
    Failure::Usage(format!(
        "{}\nRun '{} --help' to see how it is used.",
        message.trim_end(),
        command_path(arguments)
    ))
}

/// The deepest command that the arguments name, as its own help calls it.
fn command_path(arguments: &[&str]) -> String {
    let words = arguments::command_words(arguments);
    for length in (0..=words.len()).rev() {
        let mut attempt: Vec<&str> = words.iter().take(length).copied().collect();
        attempt.push("--help");
        let Err(exit) = Gateway::from_args(&["gateway"], &attempt) else { continue };
        if exit.status.is_ok() {
            let usage = exit.output.strip_prefix("Usage: ").unwrap_or_default();
            let is_word = |word: &&str| {
                word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-')
            };
            return usage
                .split([' ', '\n'])
                .take_while(is_word)
                .collect::<Vec<_>>()
                .join(" ")
                .trim_end()
                .to_owned();
        }
    }
    "gateway".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_errors_name_the_right_help() {
        for (arguments, path) in [
            (&["admin", "user", "create"][..], "gateway admin user create"),
            (&["admin", "--output", "json", "user", "create", "--wrong"], "gateway admin user create"),
            (&["admin", "user", "frobnicate"], "gateway admin user"),
            (&["admin", "grant", "user:a@b"], "gateway admin grant"),
            (&["serve", "--wrong"], "gateway serve"),
            (&["wrong"], "gateway"),
            (&[], "gateway"),
        ] {
            assert_eq!(command_path(arguments), path, "{arguments:?}");
        }
    }

    #[test]
    fn a_lone_hyphen_is_a_value() {
        let line = ["admin", "provider", "set-key", "main", "--api-key-file", "-"];
        assert!(Gateway::from_args(&["gateway"], &line).is_ok());
    }
}
