//! Which model takes which parameters: a table of data, with a default for each family of models.
//!
//! The table is `capabilities.json`. A row names models by patterns: a name, or the beginning of one up to a separator
//! (`claude-opus-4-6*`). What providers put around the names of models (regions, vendors, dates, versions) is taken
//! off before, by lists in the same file. The longest pattern that fits decides.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::conversation::Effort;

/// What a model takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capability {
    /// The family, such as `claude-opus-4.7`.
    pub family: String,
    /// `temperature`, `top_p` and `top_k`.
    pub sampling: Sampling,
    /// How it is told to think.
    pub thinking: Thinking,
    /// The longest answer in tokens; what is sent where the provider needs a limit and the caller gave none.
    pub max_output_tokens: u64,
    /// JSON by a schema is a feature of the provider; else it is asked for through a forced tool.
    pub structured_output: bool,
    /// System turns may stand among the others; else they are joined to the first or the nearest turn.
    pub system_among_turns: bool,
    /// The last turn may be the beginning of the answer.
    pub prefill: bool,
    /// JSON Schema of tools passes as it is; else it is reduced to the provider's subset.
    pub full_json_schema: bool,
    /// Cache marks are taken.
    pub cache_marks: bool,
    /// The words for effort that it takes, where its thinking is told by a word.
    pub efforts: Vec<Effort>,
    /// The least and the largest number of thinking tokens, where it takes a number; models between two forms of
    /// thinking take one beside [`Thinking::Adaptive`].
    pub thinking_tokens: Option<(u64, u64)>,
    /// Its thinking can not be switched off.
    pub always_thinks: bool,
    /// It can be made to call a tool (any one, or a certain one).
    pub forced_tool_choice: bool,
}

/// Which sampling parameters a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// All of them.
    Any,
    /// `temperature` or `top_p`, not both.
    One,
    /// None of them.
    None,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    /// It does not, or not on request.
    None,
    /// By a number of tokens.
    Budget,
    /// As it sees fit, with a word for the effort.
    Adaptive,
    /// By a level (Gemini 3).
    Level,
}

impl Default for Capability {
    fn default() -> Self {
        Self {
            family: String::new(),
            sampling: Sampling::Any,
            thinking: Thinking::None,
            max_output_tokens: 8_192,
            structured_output: true,
            system_among_turns: false,
            prefill: false,
            full_json_schema: true,
            cache_marks: false,
            efforts: Vec::new(),
            thinking_tokens: None,
            always_thinks: false,
            forced_tool_choice: true,
        }
    }
}

/// The longest model id that is looked at; what is longer is told by its protocol only.
const MAX_ID_BYTES: usize = 512;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Groups of beginnings; of each group at most one is taken off, in this order.
    prefixes: Vec<Vec<String>>,
    /// What begins with one of these is cut off: dates of snapshots, versions, tags.
    cut_from: Vec<String>,
    /// The family for a protocol whose model is not in the table.
    defaults: BTreeMap<String, String>,
    families: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    models: Vec<String>,
    /// Only for these protocols; empty: for all.
    #[serde(default)]
    protocols: Vec<String>,
    takes: Capability,
}

/// The file is a part of the program and a test reads it; should it not parse, every model has the defaults.
static TABLE: LazyLock<Table> =
    LazyLock::new(|| serde_json::from_str(include_str!("capabilities.json")).unwrap_or_default());

static PLAIN: LazyLock<Capability> = LazyLock::new(Capability::default);

/// What a model takes: by the family that the configuration names for it, else by its id, else by the protocol
/// (`openai`, `anthropic`, `converse`, `gemini`).
pub fn of(protocol_word: &str, model_id: &str, family_override: Option<&str>) -> &'static Capability {
    family_override
        .and_then(family)
        .or_else(|| by_id(protocol_word, model_id))
        .or_else(|| TABLE.defaults.get(protocol_word).and_then(|name| family(name)))
        .unwrap_or(&PLAIN)
}

fn family(name: &str) -> Option<&'static Capability> {
    TABLE.families.iter().map(|row| &row.takes).find(|takes| takes.family == name)
}

fn by_id(protocol_word: &str, model_id: &str) -> Option<&'static Capability> {
    if model_id.len() > MAX_ID_BYTES {
        return None;
    }
    let name = bare_name(&TABLE, model_id);
    TABLE
        .families
        .iter()
        .filter(|row| row.protocols.is_empty() || row.protocols.iter().any(|word| word == protocol_word))
        .flat_map(|row| row.models.iter().map(move |pattern| (pattern, &row.takes)))
        .filter(|(pattern, _)| fits(pattern, &name))
        .max_by_key(|(pattern, _)| pattern.len())
        .map(|(_, takes)| takes)
}

/// The name of the model in what a provider calls it, in lower case with `-` as its only separator.
fn bare_name(table: &Table, model_id: &str) -> String {
    let lower = model_id.to_ascii_lowercase();
    // Paths and ARNs end in the model: `publishers/google/models/NAME`, `arn:..:inference-profile/NAME`.
    let mut name = lower.rsplit('/').next().unwrap_or_default();
    for group in &table.prefixes {
        name = group.iter().find_map(|prefix| name.strip_prefix(prefix.as_str())).unwrap_or(name);
    }
    for mark in &table.cut_from {
        name = name.split(mark.as_str()).next().unwrap_or(name);
    }
    name = without_ending(name, "-v", 1..=2);
    name = without_ending(name, "-", 8..=8);
    name.replace(['.', '_'], "-")
}

/// Without a last part that is a marker and so many digits: `-v1`, `-20250514`.
fn without_ending<'a>(name: &'a str, marker: &str, digits: std::ops::RangeInclusive<usize>) -> &'a str {
    match name.rsplit_once(marker) {
        Some((before, number))
            if digits.contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            before
        }
        _ => name,
    }
}

/// A pattern is a whole name, or with `*` the beginning of one that ends there or before a separator.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => {
            name.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        }
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family_of(protocol: &str, id: &str) -> &'static str {
        &of(protocol, id, None).family
    }

    #[test]
    fn the_table_is_readable_and_means_what_it_says() {
        let table: Table = serde_json::from_str(include_str!("capabilities.json")).unwrap();
        assert!(table.families.len() > 30);
        let mut names = std::collections::BTreeSet::new();
        let mut patterns = std::collections::BTreeSet::new();
        for row in &table.families {
            let takes = &row.takes;
            assert!(names.insert(&takes.family), "{} stands there twice", takes.family);
            assert!(takes.max_output_tokens >= 1024, "{}", takes.family);
            assert!(takes.thinking_tokens.is_none_or(|(least, most)| least > 0 && least < most));
            let by_word = matches!(takes.thinking, Thinking::Level | Thinking::Adaptive);
            assert_eq!(by_word, !takes.efforts.is_empty(), "{}", takes.family);
            assert_eq!(
                takes.thinking == Thinking::Budget,
                takes.thinking_tokens.is_some() && takes.thinking != Thinking::Adaptive,
                "{}",
                takes.family
            );
            for pattern in &row.models {
                assert!(patterns.insert(pattern), "{pattern} stands there twice");
                let name = pattern.trim_end_matches('*');
                assert_eq!(bare_name(&table, name), name, "no model can have this name");
            }
        }
        for name in table.defaults.values() {
            assert!(family(name).is_some(), "{name}");
        }
        assert!(
            family("").is_none() && family("claude-opus").is_none() && family("claude-opus-4.6").is_some()
        );
    }

    #[test]
    fn models_by_the_names_that_providers_give_them() {
        for (protocol, id, family) in [
            ("anthropic", "claude-3-haiku-20240307", "claude-3"),
            ("anthropic", "claude-3-5-sonnet-latest", "claude-3.5"),
            ("anthropic", "claude-3-7-sonnet-20250219", "claude-3.7"),
            ("anthropic", "claude-opus-4-20250514", "claude-opus-4"),
            ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4.1"),
            ("anthropic", "claude-haiku-4-5-20251001", "claude-4.5"),
            ("anthropic", "claude-sonnet-4-5@20250929", "claude-4.5"),
            ("openai", "anthropic/claude-sonnet-4.6", "claude-sonnet-4.6"),
            ("anthropic", "Claude-Opus-4-8", "claude-opus-4.8"),
            ("anthropic", "claude-opus-4-9", "claude"),
            ("anthropic", "claude-opus-4-10-20271001", "claude"),
            ("anthropic", "something-else", "claude"),
            ("converse", "anthropic.claude-3-haiku-20240307-v1:0", "claude-3"),
            ("converse", "us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4"),
            ("converse", "us-gov.anthropic.claude-3-7-sonnet-20250219-v1:0", "claude-3.7"),
            ("converse", "us.anthropic.claude-opus-4-8", "claude-opus-4.8"),
            (
                "converse",
                "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "claude-4.5",
            ),
            (
                "converse",
                "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef012345",
                "bedrock",
            ),
            ("converse", "us.amazon.nova-micro-v1:0", "nova"),
            ("converse", "us.amazon.nova-2-lite-v1:0", "nova-2"),
            ("converse", "amazon.titan-text-express-v1", "titan-text"),
            ("converse", "meta.llama3-70b-instruct-v1:0", "llama"),
            ("converse", "mistral.mistral-large-2402-v1:0", "mistral"),
            ("converse", "openai.gpt-oss-120b-1:0", "gpt-oss"),
            ("converse", "moonshot.kimi-k2-thinking", "bedrock"),
            ("gemini", "models/gemini-1.5-pro-002", "gemini-1.5"),
            ("gemini", "gemini-2.0-flash", "gemini-2.0"),
            ("gemini", "gemini-2.5-flash", "gemini-2.5-flash"),
            ("gemini", "gemini-2.5-flash-lite-preview-06-17", "gemini-2.5-flash-lite"),
            ("gemini", "publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("gemini", "gemini-3.1-pro-preview", "gemini-3.1-pro"),
            ("gemini", "gemini-9", "gemini"),
            ("gemini", "publishers/anthropic/models/claude-opus-4-6", "claude-opus-4.6"),
            ("openai", "o3-mini", "openai-o"),
            ("openai", "gpt-5-mini-2025-08-07", "gpt-5"),
            ("openai", "gpt-5.1", "gpt-5.1"),
            ("openai", "gpt-5-chat-latest", "gpt-5-chat"),
            ("openai", "gpt-4.1-mini", "gpt-4.1"),
            ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
            ("openai", "llama3", "openai"),
            ("openai", "o", "openai"),
            ("openai", "o10", "openai"),
            ("openai", "my-claude-opus-4-6", "openai"),
            ("openai", "", "openai"),
            ("nothing", "", ""),
        ] {
            assert_eq!(family_of(protocol, id), family, "{protocol} {id}");
        }
    }

    #[test]
    fn odd_ids_and_overrides() {
        for id in
            ["/", ".", "us.", "us.us.", "@", ":", "-v1", "-20250514", "claude-\u{1F980}", "anthropic.", "***"]
        {
            let _ = of("converse", id, None);
        }
        let long = format!("claude-3-{}", "x".repeat(1_000_000));
        assert_eq!(family_of("openai", &long), "openai");
        let named = of("converse", "arn:aws:bedrock:x:1:application-inference-profile/a", Some("claude-4.5"));
        assert_eq!(named.sampling, Sampling::One);
        assert_eq!(of("anthropic", "claude-3-opus", Some("no such family")).family, "claude-3");
        let newest = of("anthropic", "claude-opus-5", None);
        assert_eq!((newest.sampling, newest.thinking), (Sampling::None, Thinking::Adaptive));
        assert!(!newest.prefill && newest.thinking_tokens.is_none() && newest.cache_marks);
    }
}
