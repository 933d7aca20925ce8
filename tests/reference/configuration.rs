//! The reference of the configuration, from the example that a test keeps equal to the defaults.

use std::fmt::Write as _;

/// The page: the prose of the example as prose, its keys with their defaults as TOML.
pub fn page(example: &str) -> String {
    let mut page = String::from(
        "# The configuration file\n\n\
         Made from `config.example.toml`, which tests keep equal to what the binary reads and defaults to.\n",
    );
    let (mut prose, mut keys) = (Vec::new(), Vec::new());
    for line in example.lines().chain([""]) {
        if let Some(section) = line.strip_prefix('[') {
            flush(&mut page, &mut prose, &mut keys);
            write!(page, "\n## `[{}]`\n", section.trim_end_matches(']')).unwrap();
        } else if is_key(line) {
            keys.push(&line[1..]);
        } else if let Some(text) = line.strip_prefix('#') {
            if !keys.is_empty() {
                flush(&mut page, &mut prose, &mut keys);
            }
            prose.push(text.trim());
        } else {
            flush(&mut page, &mut prose, &mut keys);
        }
    }
    page
}

/// `#key = value`, without a space after the sign.
fn is_key(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|text| {
        text.starts_with(|first: char| first.is_ascii_lowercase()) && text.contains(" = ")
    })
}

fn flush(page: &mut String, prose: &mut Vec<&str>, keys: &mut Vec<&str>) {
    if !prose.is_empty() {
        for paragraph in prose.split(|line| line.is_empty()) {
            write!(page, "\n{}\n", wrapped(&paragraph.join(" "))).unwrap();
        }
    }
    if !keys.is_empty() {
        write!(page, "\n```toml\n{}\n```\n", keys.join("\n")).unwrap();
    }
    prose.clear();
    keys.clear();
}

/// Lines of at most 118 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if line.chars().count() + word.chars().count() >= 118 {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
