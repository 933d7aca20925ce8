//! What `--help` prints, of the command and of all below it.

use std::process::Command;

/// One command.
pub struct Help {
    /// The words that call it, from `gateway` on.
    pub words: Vec<String>,
    /// All that it prints.
    pub text: String,
    /// The line after `Usage: `.
    pub usage: String,
    /// What it is for.
    pub description: String,
    /// What stands in the line without a hyphen, and what it means.
    pub positionals: Vec<(String, String)>,
    /// Options and what they mean.
    pub options: Vec<(String, String)>,
    /// Verbs and what they do.
    pub commands: Vec<(String, String)>,
    /// As it stands there, without its indentation.
    pub examples: String,
    /// Likewise.
    pub notes: String,
    /// The commands below it.
    pub below: Vec<Help>,
}

/// All commands of the binary.
pub fn tree() -> Help {
    read(vec!["gateway".to_owned()])
}

impl Help {
    /// The command below this one that is called by further words.
    pub fn find(&self, words: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = words.split_first() else { return Some(self) };
        self.below.iter().find(|below| below.words.last().is_some_and(|word| word == first))?.find(rest)
    }

    /// This command and all below it, each before its own.
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        for below in &self.below {
            all.extend(below.all());
        }
        all
    }

    /// Whether a value follows an option.
    pub fn takes_value(&self, option: &str) -> bool {
        self.usage.contains(&format!("{option} <")) || self.usage.contains(&format!("{option} ["))
    }

    /// The names of its options, without help.
    pub fn option_names(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("--"))
    }
}

fn read(words: Vec<String>) -> Help {
    let output =
        Command::new(env!("CARGO_BIN_EXE_gateway")).args(&words[1..]).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut help = parse(words, &text);
    help.below = help
        .commands
        .iter()
        .map(|(name, _)| read(help.words.iter().cloned().chain([name.clone()]).collect()))
        .collect();
    help
}

fn parse(words: Vec<String>, text: &str) -> Help {
    let mut section = "";
    let mut parts: Vec<(&str, Vec<&str>)> = vec![("", Vec::new())];
    for line in text.lines() {
        if matches!(line, "Options:" | "Commands:" | "Positional Arguments:" | "Examples:" | "Notes:") {
            section = line;
            parts.push((section, Vec::new()));
        } else if let Some((_, lines)) = parts.last_mut() {
            lines.push(line);
        }
    }
    assert!(!section.is_empty(), "{words:?} prints no sections:\n{text}");
    let lines = |name: &str| {
        parts.iter().find(|(section, _)| *section == name).map(|(_, lines)| lines.clone()).unwrap_or_default()
    };
    let opening = lines("").join("\n");
    let (usage, description) = opening.split_once('\n').unwrap();
    Help {
        usage: usage.strip_prefix("Usage: ").unwrap().to_owned(),
        description: description.trim().to_owned(),
        positionals: entries(&lines("Positional Arguments:")),
        options: entries(&lines("Options:")),
        commands: entries(&lines("Commands:")),
        examples: block(&lines("Examples:")),
        notes: block(&lines("Notes:")),
        text: text.trim_end().to_owned(),
        below: Vec::new(),
        words,
    }
}

/// Names in the third column, what they mean from the twenty-first on or after a long name.
fn entries(lines: &[&str]) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in lines {
        let Some(rest) = line.strip_prefix("  ") else { continue };
        if let (true, Some((_, meaning))) = (rest.starts_with("    "), entries.last_mut()) {
            if !meaning.is_empty() {
                meaning.push(' ');
            }
            meaning.push_str(rest.trim());
        } else {
            let name = match rest {
                // The one name with spaces in it.
                rest if rest.starts_with("-h, --help, help") => "-h, --help, help",
                rest if rest.starts_with("-h, --help") => "-h, --help",
                rest => rest.split(' ').next().unwrap_or(rest),
            };
            entries.push((name.to_owned(), rest[name.len()..].trim().to_owned()));
        }
    }
    entries
}

fn block(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}
