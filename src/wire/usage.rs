//! Token counts out of a provider's answer, taken as it passes.

use serde::Deserialize;

use crate::domain::{TokenCounts, TokenOrigin};

/// Every usage object that OpenAI-compatible servers send, in one shape.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawUsage {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
    total_tokens: Option<f64>,
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    prompt_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    output_tokens_details: Option<Details>,
    prompt_cache_hit_tokens: Option<f64>,
    cache_creation_input_tokens: Option<f64>,
    cache_read_input_tokens: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<f64>,
    reasoning_tokens: Option<f64>,
    thinking_tokens: Option<f64>,
}

fn count(value: Option<f64>) -> Option<u64> {
    let value = value?;
    // Counts far beyond any context are a server's mistake, not usage.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (value.is_finite() && (0.0..1e12).contains(&value)).then_some(value as u64)
}

/// Reads a usage object.
pub fn parse(json: &[u8]) -> Option<TokenCounts> {
    let raw: RawUsage = serde_json::from_slice(json).ok()?;
    // Anthropic's input counts leave out what caches read and wrote; where there are prompt tokens they have it all.
    let written = count(raw.cache_creation_input_tokens).unwrap_or(0);
    let read = count(raw.cache_read_input_tokens).unwrap_or(0);
    let beside = |input: u64| input.saturating_add(written).saturating_add(read);
    let input = count(raw.prompt_tokens).or_else(|| count(raw.input_tokens).map(beside));
    let output = count(raw.completion_tokens).or_else(|| count(raw.output_tokens));
    let total = count(raw.total_tokens);
    let (input, output) = match (input, output, total) {
        (None, None, None) => return None,
        // Rerank servers of some kinds give a total alone.
        (None, None, Some(total)) => (total, 0),
        (input, output, _) => (input.unwrap_or(0), output.unwrap_or(0)),
    };
    let details = |a: &Option<Details>, b: &Option<Details>, pick: fn(&Details) -> Option<f64>| {
        a.as_ref().and_then(pick).or_else(|| b.as_ref().and_then(pick))
    };
    let cached = count(details(&raw.prompt_tokens_details, &raw.input_tokens_details, |d| d.cached_tokens))
        .or_else(|| count(raw.prompt_cache_hit_tokens))
        .unwrap_or(read);
    let reasoning = count(details(&raw.completion_tokens_details, &raw.output_tokens_details, |d| {
        d.reasoning_tokens.or(d.thinking_tokens)
    }))
    .unwrap_or(0);
    // Servers were seen that report more cached than prompt tokens.
    let cached = cached.min(input);
    Some(TokenCounts {
        input,
        output,
        cached,
        cache_write: written.min(input.saturating_sub(cached)),
        reasoning: reasoning.min(output),
        origin: TokenOrigin::Reported,
    })
}

/// The usage of one answer of the Messages API, as far as it was told: a stream tells the input at its beginning and
/// the final numbers at its end, where a count that is missing is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagesUsage {
    /// Input that no cache held.
    pub fresh_input: Option<u64>,
    /// Input read from a cache.
    pub cache_read: Option<u64>,
    /// Input written to a cache, however long it lasts.
    pub cache_write: Option<u64>,
    /// The part of it that lasts an hour.
    pub cache_write_1h: Option<u64>,
    /// Output, thinking included.
    pub output: Option<u64>,
    /// Thinking, a part of the output.
    pub thinking: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawMessagesUsage {
    input_tokens: Option<f64>,
    cache_read_input_tokens: Option<f64>,
    cache_creation_input_tokens: Option<f64>,
    cache_creation: Option<RawCacheCreation>,
    output_tokens: Option<f64>,
    output_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawCacheCreation {
    ephemeral_5m_input_tokens: Option<f64>,
    ephemeral_1h_input_tokens: Option<f64>,
}

impl MessagesUsage {
    /// Takes in a usage object; says whether it was one with a count in it. Later counts replace earlier ones and
    /// are never added to them.
    pub fn update(&mut self, json: &[u8]) -> bool {
        let Ok(raw) = serde_json::from_slice::<RawMessagesUsage>(json) else { return false };
        let by_time = raw.cache_creation.unwrap_or_default();
        let (short, long) =
            (count(by_time.ephemeral_5m_input_tokens), count(by_time.ephemeral_1h_input_tokens));
        let both =
            (short.is_some() || long.is_some()).then(|| short.unwrap_or(0).saturating_add(long.unwrap_or(0)));
        let told = Self {
            fresh_input: count(raw.input_tokens),
            cache_read: count(raw.cache_read_input_tokens),
            cache_write: count(raw.cache_creation_input_tokens).or(both),
            cache_write_1h: long,
            output: count(raw.output_tokens),
            thinking: count(raw.output_tokens_details.and_then(|details| details.thinking_tokens)),
        };
        *self = Self {
            fresh_input: told.fresh_input.or(self.fresh_input),
            cache_read: told.cache_read.or(self.cache_read),
            cache_write: told.cache_write.or(self.cache_write),
            cache_write_1h: told.cache_write_1h.or(self.cache_write_1h),
            output: told.output.or(self.output),
            thinking: told.thinking.or(self.thinking),
        };
        told != Self::default()
    }

    /// For the usage record.
    pub fn counts(&self) -> TokenCounts {
        let output = self.output.unwrap_or(0);
        let read = self.cache_read.unwrap_or(0);
        TokenCounts {
            input: self
                .fresh_input
                .unwrap_or(0)
                .saturating_add(read)
                .saturating_add(self.cache_write.unwrap_or(0)),
            output,
            cached: read,
            cache_write: self.cache_write.unwrap_or(0),
            reasoning: self.thinking.unwrap_or(0).min(output),
            origin: TokenOrigin::Reported,
        }
    }
}

/// The value of a member that is looked for is seldom larger.
const EXPECTED_BYTES: usize = 512;

/// Finds the value of one top-level member of a JSON object that passes in pieces, and keeps only that value.
#[derive(Debug)]
pub struct MemberScanner {
    name: &'static [u8],
    max_bytes: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The string that is being read is a top-level key; its bytes so far (bounded by the name's length + 1).
    key: Option<Vec<u8>>,
    /// A top-level key that matches was read; its value follows.
    matched: bool,
    expecting_key: bool,
    capturing: bool,
    captured: Vec<u8>,
    found: bool,
    failed: bool,
}

impl MemberScanner {
    /// Looks for a member of this name whose value has at most `max_bytes`.
    pub fn new(name: &'static str, max_bytes: usize) -> Self {
        Self {
            name: name.as_bytes(),
            max_bytes,
            depth: 0,
            in_string: false,
            escaped: false,
            key: None,
            matched: false,
            expecting_key: false,
            capturing: false,
            captured: Vec::new(),
            found: false,
            failed: false,
        }
    }

    /// The value, once it has passed whole.
    pub fn value(&self) -> Option<&[u8]> {
        self.found.then_some(self.captured.as_slice())
    }

    /// Takes the next bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while !self.failed
            && !self.found
            && let Some(&byte) = bytes.get(at)
        {
            if self.in_string {
                let rest = bytes.get(at..).unwrap_or_default();
                let skip =
                    if self.escaped { 0 } else { memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len()) };
                let text = rest.get(..skip).unwrap_or_default();
                self.keep(text);
                self.key_part(text);
                at += skip;
                let Some(&byte) = bytes.get(at) else { return };
                self.keep(&[byte]);
                if self.escaped {
                    self.escaped = false;
                    self.key_part(&[byte]);
                } else if byte == b'\\' {
                    self.escaped = true;
                    // A key with escapes is none that is looked for.
                    self.key_part(b"\\");
                } else {
                    self.in_string = false;
                    if let Some(key) = self.key.take() {
                        self.matched = key == self.name;
                        self.expecting_key = false;
                    }
                }
                at += 1;
                continue;
            }
            self.keep(&[byte]);
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.depth == 1 && self.expecting_key {
                        self.key = Some(Vec::with_capacity(self.name.len() + 1));
                    }
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth == 1 {
                        self.expecting_key = byte == b'{';
                        self.failed = byte == b'[';
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.capturing && self.depth == 1 {
                        self.capturing = false;
                        self.found = true;
                    } else if self.depth == 0 {
                        self.end_capture();
                    }
                }
                b',' if self.depth == 1 => {
                    self.end_capture();
                    self.expecting_key = true;
                }
                b':' if self.depth == 1 && self.matched => {
                    self.matched = false;
                    self.capturing = true;
                    self.captured.clear();
                    self.captured.reserve(self.max_bytes.min(EXPECTED_BYTES));
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// A scalar value ends at the comma or brace behind it.
    fn end_capture(&mut self) {
        if self.capturing {
            self.capturing = false;
            self.captured.pop();
            self.found = true;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.capturing {
            if self.captured.len() + bytes.len() > self.max_bytes {
                self.failed = true;
                self.captured.clear();
            } else {
                self.captured.extend_from_slice(bytes);
            }
        }
    }

    fn key_part(&mut self, bytes: &[u8]) {
        if let Some(key) = &mut self.key {
            let room = (self.name.len() + 1).saturating_sub(key.len());
            key.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_the_messages_api() {
        let plain = parse(br#"{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":3,"output_tokens":4,"output_tokens_details":{"thinking_tokens":2}}"#).unwrap();
        assert_eq!((plain.input, plain.cached, plain.output, plain.reasoning), (18, 3, 4, 2));
        // Proxies write Anthropic's names beside OpenAI's, whose prompt tokens have all of it already.
        let both = parse(br#"{"prompt_tokens":18,"completion_tokens":4,"cache_creation_input_tokens":5,"cache_read_input_tokens":3}"#).unwrap();
        assert_eq!((both.input, both.cached), (18, 3));
        let mut usage = MessagesUsage::default();
        assert!(usage.update(br#"{"input_tokens":10,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":4,"ephemeral_5m_input_tokens":1},"output_tokens":1}"#));
        for nothing in [
            &b"{}"[..],
            b"[]",
            b"",
            b"null",
            br#"{"input_tokens":"x"}"#,
            br#"{"input_tokens":-1}"#,
            br#"{"output_tokens":1e300}"#,
        ] {
            let before = usage;
            assert!(!usage.update(nothing), "{}", String::from_utf8_lossy(nothing));
            assert_eq!(usage, before);
        }
        assert!(usage.update(br#"{"output_tokens":9}"#));
        assert_eq!((usage.counts().input, usage.counts().output), (15, 9));
        assert_eq!((usage.cache_write_1h, usage.output), (Some(4), Some(9)));
    }

    #[test]
    fn usage_objects() {
        for (json, expected) in [
            (r#"{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}"#, (9, 12, 0, 0)),
            (
                r#"{"prompt_tokens":7,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":161}}"#,
                (7, 1, 7, 0),
            ),
            (
                r#"{"input_tokens":3,"output_tokens":4,"output_tokens_details":{"reasoning_tokens":2},"input_tokens_details":{"cached_tokens":1}}"#,
                (3, 4, 1, 2),
            ),
            (r#"{"total_tokens":5}"#, (5, 0, 0, 0)),
            (r#"{"prompt_tokens":5,"total_tokens":5,"prompt_tokens_details":null}"#, (5, 0, 0, 0)),
            (r#"{"prompt_tokens":5.0,"completion_tokens":null}"#, (5, 0, 0, 0)),
        ] {
            let counts = parse(json.as_bytes()).unwrap();
            assert_eq!((counts.input, counts.output, counts.cached, counts.reasoning), expected, "{json}");
        }
        for none in ["", "null", "{}", "[]", r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":"9"}"#] {
            assert!(parse(none.as_bytes()).is_none(), "{none}");
        }
    }

    fn scan(body: &str, step: usize) -> Option<String> {
        let mut scanner = MemberScanner::new("usage", 200);
        for part in body.as_bytes().chunks(step) {
            scanner.feed(part);
        }
        scanner.value().map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn a_member_however_it_arrives() {
        for (body, expected) in [
            (r#"{"usage":{"a":1}}"#, Some(r#"{"a":1}"#)),
            (r#"{"x":"\"usage\":{}","usage": {"a":"}"} ,"y":2}"#, Some(r#" {"a":"}"}"#)),
            (r#"{"x":{"usage":{"no":1}},"y":["usage",{"usage":3}],"usage":null}"#, Some("null")),
            (r#"{"usage":7}"#, Some("7")),
            (r#"{"usages":7,"usag":1,"e":"usage"}"#, None),
            (r#"[{"usage":1}]"#, None),
            ("", None),
            (r#"{"us\u0061ge":1}"#, None),
            (
                r#"{"data":[{"embedding":[1.5,-2e3]}],"usage":{"t":{"u":[1,{}]}}}"#,
                Some(r#"{"t":{"u":[1,{}]}}"#),
            ),
        ] {
            for step in 1..=body.len().max(1) {
                assert_eq!(scan(body, step).as_deref(), expected, "{body} by {step}");
            }
        }
        assert_eq!(scan(&format!(r#"{{"usage":"{}"}}"#, "x".repeat(300)), 50), None);
    }
}
