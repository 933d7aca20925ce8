//! Man pages, in the macros of man(7): one for the program, for each command, and for each noun with its verbs.

use std::fmt::Write as _;

use crate::help::Help;

/// File names and texts.
pub fn pages(tree: &Help) -> Vec<(String, String)> {
    let mut commands = vec![tree];
    commands.extend(&tree.below);
    let admin = tree.find(&["admin"]).unwrap();
    commands.extend(&admin.below);
    commands
        .iter()
        .map(|help| (format!("{}.1", help.words.join("-")), page(help, commands.as_slice())))
        .collect()
}

fn page(help: &Help, others: &[&Help]) -> String {
    let name = help.words.join("-");
    let mut page = format!(
        ".\\\" Made from --help; a test writes it.\n.TH {} 1 \"\" \"gateway {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        escaped(&name),
        escaped(summary(&help.description)),
    );
    page.push_str(".SH SYNOPSIS\n");
    synopsis(&mut page, help);
    write!(page, ".SH DESCRIPTION\n{}", paragraphs(&help.description)).unwrap();
    // A noun's verbs stand on its page; what has pages of its own is only named.
    let is_noun = help.words.len() == 3;
    if !is_noun {
        list(&mut page, "COMMANDS", &help.commands);
    }
    list(&mut page, "ARGUMENTS", &help.positionals);
    list(&mut page, "OPTIONS", &help.options);
    if is_noun && !help.below.is_empty() {
        page.push_str(".SH COMMANDS\n");
        for verb in &help.below {
            writeln!(page, ".SS {}", escaped(&verb.words.join(" "))).unwrap();
            page.push_str(&paragraphs(&verb.description));
            page.push_str(".PP\n");
            synopsis(&mut page, verb);
            entries(&mut page, &verb.positionals);
            let own: Vec<_> =
                verb.options.iter().filter(|(name, _)| !name.starts_with("-h")).cloned().collect();
            entries(&mut page, &own);
            literal(&mut page, &verb.examples);
            prose(&mut page, &verb.notes);
        }
    }
    if !help.examples.is_empty() {
        page.push_str(".SH EXAMPLES\n");
        literal(&mut page, &help.examples);
    }
    if !help.notes.is_empty() {
        page.push_str(".SH NOTES\n");
        prose(&mut page, &help.notes);
    }
    page.push_str(".SH SEE ALSO\n");
    let related = others.iter().filter(|other| is_related(help, other));
    let related: Vec<_> =
        related.map(|other| format!(".BR {} (1)", escaped(&other.words.join("-")))).collect();
    writeln!(page, "{}", related.join(",\n")).unwrap();
    page
}

/// The command above, and those right below that have pages.
fn is_related(help: &Help, other: &Help) -> bool {
    let (mine, its) = (&help.words, &other.words);
    (its.len() + 1 == mine.len() && mine.starts_with(its))
        || (its.len() == mine.len() + 1 && its.starts_with(mine))
}

/// The first clause, as it may stand on one line of an index.
fn summary(description: &str) -> &str {
    description.lines().next().unwrap_or_default().trim_end_matches('.')
}

fn synopsis(page: &mut String, help: &Help) {
    writeln!(page, ".B {}", escaped(&help.words.join(" "))).unwrap();
    let rest = help.usage.strip_prefix(&help.words.join(" ")).unwrap_or_default().trim();
    if !rest.is_empty() {
        writeln!(page, "{}", escaped(rest)).unwrap();
    }
}

fn list(page: &mut String, title: &str, all: &[(String, String)]) {
    if !all.is_empty() {
        writeln!(page, ".SH {title}").unwrap();
        entries(page, all);
    }
}

fn entries(page: &mut String, all: &[(String, String)]) {
    for (name, meaning) in all {
        write!(page, ".TP\n.B {}\n{}\n", escaped(name), escaped(meaning)).unwrap();
    }
}

fn literal(page: &mut String, text: &str) {
    if !text.is_empty() {
        page.push_str(".PP\n.nf\n");
        for line in text.lines() {
            writeln!(page, "{}", escaped(line)).unwrap();
        }
        page.push_str(".fi\n");
    }
}

/// Lines that go on are indented there.
fn prose(page: &mut String, text: &str) {
    for line in text.lines() {
        if !line.starts_with(' ') {
            page.push_str(".PP\n");
        }
        writeln!(page, "{}", escaped(line.trim())).unwrap();
    }
}

fn paragraphs(text: &str) -> String {
    text.split("\n\n").map(|paragraph| escaped(paragraph) + "\n").collect::<Vec<_>>().join(".PP\n")
}

/// Nothing of it is a request or an escape; hyphens can be copied.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() })
        .collect();
    lines.join("\n")
}
