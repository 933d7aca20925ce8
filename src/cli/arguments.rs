//! Puts a command line as people write it in the order that argh wants: options before subcommands.

use super::output::Format;

/// Options of `admin` itself, each with a value; people write them anywhere after `admin`.
const ADMIN_OPTIONS: [&str; 4] = ["--config", "--data-dir", "--url", "--output"];

/// Moves the options of `admin` in front of its noun, and a request for help behind the command that it is
/// about. `--name=value` becomes two arguments. Nothing behind `--` is touched.
///
/// # Errors
/// A sentence, when one of these options has no value.
pub fn arrange(given: Vec<String>) -> Result<Vec<String>, String> {
    let mut arguments = given.into_iter().peekable();
    let mut help = false;
    while arguments.next_if(|argument| argument == "help").is_some() {
        help = true;
    }
    let is_admin = arguments.peek().is_some_and(|argument| argument == "admin");
    let mut front: Vec<String> = Vec::new();
    if is_admin {
        front.extend(arguments.next());
    }
    let mut split = Vec::new();
    while let Some(argument) = arguments.next_if(|argument| argument != "--") {
        match argument.split_once('=') {
            Some((name, value)) if is_long_option(name) => split.extend([name.to_owned(), value.to_owned()]),
            _ => split.push(argument),
        }
    }
    let mut rest = Vec::new();
    let mut words = 0;
    let mut split = split.into_iter();
    while let Some(argument) = split.next() {
        if is_admin && ADMIN_OPTIONS.contains(&argument.as_str()) {
            let value = split.next().ok_or_else(|| {
                format!(
                    "The option {argument} needs a value.\nRun 'gateway admin --help' to see how it is used."
                )
            })?;
            front.extend([argument, value]);
        } else if is_admin && (argument == "--help" || argument == "-h" || (argument == "help" && words < 2))
        {
            help = true;
        } else {
            words += usize::from(!argument.starts_with('-'));
            rest.push(argument);
        }
    }
    front.append(&mut rest);
    if help {
        front.push("--help".to_owned());
    }
    front.extend(arguments);
    Ok(front)
}

fn is_long_option(name: &str) -> bool {
    name.strip_prefix("--")
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
}

/// The output format that arranged arguments ask for; a wrong one is for the parser to refuse.
pub fn format_of(arranged: &[String]) -> Format {
    let is_admin = arranged.first().is_some_and(|argument| argument == "admin");
    let mut options = arranged.iter().skip(1).take_while(|argument| *argument != "--");
    while let Some(argument) = options.next() {
        if is_admin && argument == "--output" {
            return match options.next().map(String::as_str) {
                Some("json") => Format::Json,
                Some("csv") => Format::Csv,
                _ => Format::Table,
            };
        }
    }
    Format::Table
}

/// The words of arranged arguments that may name a command: `admin`, a noun, a verb.
pub fn command_words<'a>(arranged: &[&'a str]) -> Vec<&'a str> {
    let mut words = Vec::new();
    let mut arguments = arranged.iter().copied();
    while let Some(argument) = arguments.next() {
        if ADMIN_OPTIONS.contains(&argument) {
            arguments.next();
        } else if argument.starts_with('-') || words.len() == 3 {
            break;
        } else {
            words.push(argument);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(line: &str) -> String {
        arrange(line.split_whitespace().map(str::to_owned).collect()).unwrap().join(" ")
    }

    #[test]
    fn options_of_admin_may_stand_anywhere() {
        for (written, wanted) in [
            ("admin user list --output json", "admin --output json user list"),
            ("admin user list --output=json", "admin --output json user list"),
            (
                "admin user create a@b --name Ada --url https://x/?a=b",
                "admin --url https://x/?a=b user create a@b --name Ada",
            ),
            ("admin --config f user --data-dir d list", "admin --config f --data-dir d user list"),
            ("admin user show -- --output", "admin user show -- --output"),
            ("admin provider create x --header=A:b=c", "admin provider create x --header A:b=c"),
            ("admin provider set-key x --api-key-file -", "admin provider set-key x --api-key-file -"),
            ("admin", "admin"),
            ("serve --config f", "serve --config f"),
            ("serve --config=f", "serve --config f"),
            ("", ""),
        ] {
            assert_eq!(arranged(written), wanted, "{written}");
        }
        assert!(arrange(vec!["admin".into(), "user".into(), "--output".into()]).is_err());
    }

    #[test]
    fn help_is_asked_for_in_every_way() {
        for (written, wanted) in [
            ("help", "--help"),
            ("help admin user", "admin user --help"),
            ("admin help user", "admin user --help"),
            ("admin user help", "admin user --help"),
            ("admin --help user create", "admin user create --help"),
            ("admin user create --help --role admin", "admin user create --role admin --help"),
            // A team may be called help.
            ("admin team show help", "admin team show help"),
            ("admin team show -- --help", "admin team show -- --help"),
        ] {
            assert_eq!(arranged(written), wanted, "{written}");
        }
    }

    #[test]
    fn the_format_is_known_before_parsing() {
        let of = |line: &str| format_of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("admin --output json user lost"), Format::Json);
        assert_eq!(of("admin --output csv usage report"), Format::Csv);
        assert_eq!(of("admin --output yaml user lost"), Format::Table);
        assert_eq!(of("admin user show -- --output json"), Format::Table);
        assert_eq!(of("serve --output json"), Format::Table);
    }
}
