//! Texts that are made from what the product says of itself, and must not fall behind it: the reference of the command
//! line, the man pages and the completions from `--help`, the reference of the configuration from
//! `config.example.toml`. With `GATEWAY_UPDATE_GOLDEN=1` they are written anew; read the difference.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of a test may panic like the test"
)]

mod completion;
mod configuration;
mod help;
mod man;
mod markdown;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use help::Help;

/// From the repository's root.
fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Compares a file with what it should be, or writes it.
fn check(relative: &str, wanted: &str) {
    let file = path(relative);
    if std::env::var_os("GATEWAY_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    if found != wanted {
        let line = found.lines().zip(wanted.lines()).position(|(old, new)| old != new);
        let line = line.unwrap_or(found.lines().count().min(wanted.lines().count()));
        panic!(
            "{relative} is not what the binary says, from line {}:\n  is     {:?}\n  should {:?}\n\
             GATEWAY_UPDATE_GOLDEN=1 cargo nextest run --test reference writes it",
            line + 1,
            found.lines().nth(line),
            wanted.lines().nth(line)
        );
    }
}

/// No file of a folder may be left from a command that is gone.
fn check_folder(relative: &str, wanted: &BTreeSet<String>) {
    for entry in std::fs::read_dir(path(relative)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(wanted.contains(&name), "{relative}/{name} is of no command; delete it");
    }
}

#[test]
fn the_reference_of_the_command_line_is_what_help_prints() {
    check("docs/cli.md", &markdown::page(&help::tree()));
}

#[test]
fn the_man_pages_are_what_help_prints() {
    let pages = man::pages(&help::tree());
    for (name, text) in &pages {
        check(&format!("packaging/man/{name}"), text);
    }
    check_folder("packaging/man", &pages.iter().map(|(name, _)| name.clone()).collect());
}

#[test]
fn the_man_pages_are_read_without_a_warning() {
    if Command::new("man").arg("--version").output().is_err() {
        println!("not run: man pages through man (it is not installed)");
        return;
    }
    for (name, _) in man::pages(&help::tree()) {
        let output = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(path(&format!("packaging/man/{name}")))
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
}

#[test]
fn the_completions_know_every_command_and_option() {
    let tree = help::tree();
    check("packaging/completions/gateway.bash", &completion::bash(&tree));
    check("packaging/completions/_gateway", &completion::zsh(&tree));
    check("packaging/completions/gateway.fish", &completion::fish(&tree));
}

/// What bash offers for a line that ends where the cursor is.
fn offered_by_bash(line: &str) -> Vec<String> {
    let script = format!(
        r#"source "$1"; read -ra COMP_WORDS <<<"{line}"; [[ "{line}" == *" " ]] && COMP_WORDS+=("")
           COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}
           _gateway gateway "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
           printf '%s\n' "${{COMPREPLY[@]}}""#
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &script, "bash"])
        .arg(path("packaging/completions/gateway.bash"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{line:?}: {said}");
    String::from_utf8(output.stdout).unwrap().lines().map(|offer| offer.trim().to_owned()).collect()
}

#[test]
fn bash_completes_commands_and_options_where_they_may_stand() {
    for (line, wanted, unwanted) in [
        ("gateway ", "serve", "--grace"),
        ("gateway ad", "admin", "serve"),
        ("gateway admin ", "token", "serve"),
        ("gateway admin tok", "token", "user"),
        ("gateway admin token ", "rotate", "token"),
        ("gateway admin token rotate --", "--grace", "--user"),
        ("gateway admin token rotate --", "--output", "--user"),
        ("gateway admin --output json token ro", "rotate", "show"),
        ("gateway admin --url https://x.example user ", "deactivate", "rotate"),
        ("gateway serve --c", "--config", "--demo"),
    ] {
        let offered = offered_by_bash(line);
        assert!(offered.iter().any(|offer| offer == wanted), "{line:?} offers {offered:?}");
        assert!(!offered.iter().any(|offer| offer == unwanted), "{line:?} offers {offered:?}");
    }
    // A value is the reader's own.
    assert_eq!(offered_by_bash("gateway admin token create --name "), [""]);
    assert_eq!(offered_by_bash("gateway nonsense "), [""]);
}

#[test]
fn zsh_and_fish_read_their_completions() {
    for (shell, arguments, file) in
        [("zsh", vec!["-n"], "_gateway"), ("fish", vec!["--no-execute"], "gateway.fish")]
    {
        let file = path(&format!("packaging/completions/{file}"));
        match Command::new(shell).args(&arguments).arg(file).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{shell}: {said}");
            }
            Err(_) => println!("not run: completions of {shell} (it is not installed)"),
        }
    }
    let Ok(output) = Command::new("fish")
        .args(["--no-config", "-c", "source $argv[1]; complete -C 'gateway admin --output json token ro'"])
        .arg(path("packaging/completions/gateway.fish"))
        .output()
    else {
        return;
    };
    let offered = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(offered.starts_with("rotate") && !offered.contains("show"), "{offered}");
}

#[test]
fn the_reference_of_the_configuration_is_the_example() {
    let example = std::fs::read_to_string(path("config.example.toml")).unwrap();
    check("docs/configuration.md", &configuration::page(&example));
}

#[test]
fn a_page_says_nothing_of_a_command_that_is_not_there() {
    // `gateway admin NOUN VERB` in every page of the documentation is a command of this binary.
    let tree = help::tree();
    let mut folders = vec![path("docs")];
    let mut pages = vec![path("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "md") {
                pages.push(entry);
            }
        }
    }
    let mut seen = 0;
    for page in pages {
        for line in std::fs::read_to_string(&page).unwrap().lines() {
            for command in line.split("gateway admin ").skip(1) {
                let mut words = command.split([' ', '`', ')', ',', ';', ':', '\'', '"']);
                let noun = words.next().unwrap_or_default();
                if !noun.starts_with(|first: char| first.is_ascii_lowercase()) {
                    continue;
                }
                let nouns: Vec<_> = noun.split('|').map(|noun| tree.find(&["admin", noun])).collect();
                assert!(nouns.iter().all(Option::is_some), "{}: {line}", page.display());
                seen += 1;
                let Some(Help { commands, .. }) = nouns[0].filter(|noun| !noun.commands.is_empty()) else {
                    continue;
                };
                let verb = words.next().unwrap_or_default();
                if nouns.len() > 1 || !verb.starts_with(|first: char| first.is_ascii_lowercase()) {
                    continue;
                }
                for verb in verb.trim_end_matches('.').split('|') {
                    assert!(commands.iter().any(|(name, _)| name == verb), "{}: {line}", page.display());
                }
            }
        }
    }
    assert!(seen > 50, "{seen}");
}
