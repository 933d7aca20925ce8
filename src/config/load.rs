//! From a file to a checked `Config`, and every complaint with its line, its key and what to write instead.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    Config, Console, Egress, Log, Ops, Relay, RequestLog, Server, Store, Tenant, Upstream, Usage, check,
};

/// Where the file is when nobody says otherwise.
const DEFAULT_FILE: &str = "/etc/gateway/config.toml";
/// The environment variable that names the file.
const FILE_VARIABLE: &str = "GATEWAY_CONFIG";
/// No sane file is larger; a wrong path to something huge is refused instead of read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1; `None` when no line is to blame.
    pub line: Option<usize>,
    /// What is wrong and what to write.
    pub text: String,
}

/// Why there is no configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can not be read.
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file says something that can not be.
    Invalid {
        /// Which file.
        file: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => write!(f, "{}: {error}", file.display()),
            Self::Invalid { file, problems } => {
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(f, "{separator}{}", file.display())?;
                    match problem.line {
                        Some(line) => write!(f, ":{line}: {}", problem.text)?,
                        None => write!(f, ": {}", problem.text)?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// The file that [`Config::locate`] would read: the one named, else `$GATEWAY_CONFIG`, else
    /// `/etc/gateway/config.toml` if there is one, else none.
    pub fn source(explicit: Option<&Path>) -> Option<PathBuf> {
        let variable = std::env::var_os(FILE_VARIABLE).filter(|value| !value.is_empty());
        match (explicit, variable) {
            (Some(file), _) => Some(file.to_owned()),
            (None, Some(file)) => Some(PathBuf::from(file)),
            // A file that is there and can not be looked at is an error to report, not a reason for defaults.
            (None, None) => {
                Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.try_exists().unwrap_or(true))
            }
        }
    }

    /// Reads the configuration from the file of [`Config::source`], or takes the defaults when there is none.
    ///
    /// # Errors
    /// The file can not be read or says something that can not be.
    pub fn locate(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        Self::source(explicit).map_or_else(|| Ok(Self::default()), |file| Self::from_file(&file))
    }

    /// Reads and checks one file.
    ///
    /// # Errors
    /// The file can not be read or says something that can not be.
    pub fn from_file(file: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { file: file.to_owned(), error };
        let mut bytes = Vec::new();
        File::open(file)
            .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(unreadable(io::Error::other("larger than 1 MiB, so not a configuration file")));
        }
        Self::from_bytes(&bytes).map_err(|problems| ConfigError::Invalid { file: file.to_owned(), problems })
    }

    /// Reads and checks the content of a file.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            vec![Problem { line: Some(line), text: "not UTF-8 text".to_owned() }]
        })?;
        let document = Document { text, root: parse(text)? };
        let unknown = document.unknown_keys();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let config: Self = toml::from_str(text).map_err(|error| vec![document.type_problem(&error)])?;
        let problems: Vec<_> =
            check::faults(&config).into_iter().map(|fault| document.fault_problem(&fault)).collect();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

fn parse(text: &str) -> Result<DeTable<'_>, Vec<Problem>> {
    DeTable::parse(text).map(Spanned::into_inner).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        vec![Problem { line, text: format!("not TOML: {}", error.message().replace('\n', "; ")) }]
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// A parsed file with the places of its keys.
struct Document<'a> {
    text: &'a str,
    root: DeTable<'a>,
}

impl Document<'_> {
    fn problem(&self, span: Range<usize>, text: String) -> Problem {
        Problem { line: Some(line_of(self.text, span.start)), text }
    }

    fn unknown_keys(&self) -> Vec<Problem> {
        let sections = sections();
        let mut problems = Vec::new();
        for (name, value) in &self.root {
            let known = sections.iter().find(|(section, _)| *section == name.get_ref().as_ref());
            let text = match (known, value.get_ref()) {
                (Some((section, keys)), DeValue::Table(table)) => {
                    for (key, _) in table {
                        if !keys.contains(&key.get_ref().as_ref()) {
                            let text = unknown_key(key.get_ref(), section, keys, &sections);
                            problems.push(self.problem(key.span(), text));
                        }
                    }
                    continue;
                }
                (Some((section, _)), _) => {
                    format!("'{section}' is a section; write [{section}] and its keys below")
                }
                (None, _) => unknown_section(name.get_ref(), &sections),
            };
            problems.push(self.problem(name.span(), text));
        }
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    /// A value of the wrong type. Only the span says which key it belongs to.
    fn type_problem(&self, error: &toml::de::Error) -> Problem {
        let text = plain_words(error.message());
        let Some(span) = error.span() else { return Problem { line: None, text } };
        for (section, value) in &self.root {
            let DeValue::Table(table) = value.get_ref() else { continue };
            for (key, value) in table {
                let place = value.span();
                if place.start <= span.start && span.end <= place.end {
                    let text = format!("'{}' in [{}]: {text}", key.get_ref(), section.get_ref());
                    return self.problem(key.span(), text);
                }
            }
        }
        self.problem(span, text)
    }

    fn fault_problem(&self, fault: &check::Fault) -> Problem {
        let text = format!("'{}' in [{}]: {}", fault.key, fault.section, fault.text);
        let table = self.root.get(fault.section).map(Spanned::get_ref).and_then(DeValue::as_table);
        let place = table.and_then(|table| table.get_key_value(fault.key)).map(|(key, _)| key.span());
        match place {
            Some(span) => self.problem(span, text),
            // A default that does not go with what the file says, such as the other file of a pair.
            None => Problem { line: None, text },
        }
    }
}

fn unknown_section(name: &str, sections: &Sections) -> String {
    let homes = homes_of(name, sections);
    if !homes.is_empty() {
        return format!("'{name}' stands outside of its section; write it under {homes}");
    }
    match nearest(name, sections.iter().map(|(section, _)| *section)) {
        Some(section) => format!("unknown section [{name}]; did you mean [{section}]?"),
        None => {
            let all: Vec<_> = sections.iter().map(|(section, _)| format!("[{section}]")).collect();
            format!("unknown section [{name}]; there are {}", all.join(", "))
        }
    }
}

fn unknown_key(name: &str, section: &str, keys: &[&'static str], sections: &Sections) -> String {
    let homes = homes_of(name, sections);
    if !homes.is_empty() {
        return format!("unknown key '{name}' in [{section}]; it belongs under {homes}");
    }
    match nearest(name, keys.iter().copied()) {
        Some(key) => format!("unknown key '{name}' in [{section}]; did you mean '{key}'?"),
        None => format!("unknown key '{name}' in [{section}]; its keys are {}", keys.join(", ")),
    }
}

/// The sections that have a key of this name, as text.
fn homes_of(key: &str, sections: &Sections) -> String {
    let homes: Vec<_> = sections
        .iter()
        .filter(|(_, keys)| keys.contains(&key))
        .map(|(section, _)| format!("[{section}]"))
        .collect();
    homes.join(" or ")
}

/// The name that somebody who wrote `wrong` most likely meant.
fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: String = wrong.chars().take(64).collect::<String>().to_ascii_lowercase().replace('-', "_");
    names
        .map(|name| (strsim::damerau_levenshtein(&wrong, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// serde's words for types, in the words of somebody who does not write Rust.
fn plain_words(message: &str) -> String {
    [
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected a sequence", "expected a list, such as [\"a\", \"b\"]"),
        ("expected a borrowed string", "expected text in quotes"),
        ("expected a string", "expected text in quotes"),
        ("expected path string", "expected a path in quotes"),
        (
            "expected socket address",
            "expected an IP address and a port in quotes, such as \"127.0.0.1:8080\"",
        ),
        ("invalid socket address syntax", "write an IP address and a port, such as \"127.0.0.1:8080\""),
        ("\n", "; "),
    ]
    .iter()
    .fold(message.trim_end().to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// Every section and the keys that it has.
pub(super) type Sections = [(&'static str, &'static [&'static str]); 11];

/// The sections and keys, taken from the structs themselves so that no second list can go stale.
pub(super) fn sections() -> Sections {
    [
        ("server", fields_of::<Server>()),
        ("ops", fields_of::<Ops>()),
        ("store", fields_of::<Store>()),
        ("egress", fields_of::<Egress>()),
        ("relay", fields_of::<Relay>()),
        ("upstream", fields_of::<Upstream>()),
        ("tenant", fields_of::<Tenant>()),
        ("usage", fields_of::<Usage>()),
        ("request_log", fields_of::<RequestLog>()),
        ("console", fields_of::<Console>()),
        ("log", fields_of::<Log>()),
    ]
}

/// The field names of a struct: what its derived `Deserialize` asks a deserializer for.
pub(super) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // It always ends with an error: the names are wanted, not a value.
    drop(T::deserialize(FieldNames(&mut fields)));
    fields
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only the names of the fields are wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
