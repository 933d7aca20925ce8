//! How many tokens a text has, about, where no provider says. Characters and their runs are counted by class, and the
//! counts weighted; the weights were fitted to a real tokenizer by `benches/tokens/fit.py`, whose results are in
//! docs/usage.md.

use memchr::memmem;
use std::sync::LazyLock;

use super::events::Kind;

/// What a character is to the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Line,
    Space,
    Punctuation,
    /// Latin letters beyond ASCII; they are parts of words.
    Latin,
    /// Greek, Cyrillic, Arabic, Devanagari and others that are written with spaces between words.
    Other,
    /// Chinese, Japanese, Korean.
    Wide,
    /// Beyond 16 bits: emoji, rare characters.
    Rare,
}

/// The fitted weights, in thousandths of a token.
const WORD: u64 = 546;
const LETTER: u64 = 105;
const HUMP: u64 = 591;
const DIGIT: u64 = 667;
const PUNCTUATION: u64 = 102;
const MARK: u64 = 861;
const LINE: u64 = 744;
const LATIN: u64 = 741;
const OTHER: u64 = 247;
const WIDE: u64 = 733;
/// Not fitted: the texts had none. One to three tokens each.
const RARE: u64 = 2_000;

/// Bytes of an event in which the text of a piece of output is looked for.
const MAX_PIECE_BYTES: usize = 64 * 1024;
/// Text members that one event may have: choices and parts.
const MAX_PIECES_OF_EVENT: usize = 64;

/// A running estimate. Text may come in pieces, cut anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    thousandths: u64,
    before: Class,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { thousandths: 0, before: Class::Space }
    }
}

impl Estimate {
    /// Tokens so far, rounded up.
    pub fn tokens(&self) -> u64 {
        self.thousandths.div_ceil(1_000)
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str) {
        for char in text.chars() {
            self.take(char);
        }
    }

    /// Takes more text in UTF-8; what is not is read as some rare character.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        for part in bytes.utf8_chunks() {
            self.push(part.valid());
            if !part.invalid().is_empty() {
                self.take(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    fn take(&mut self, char: char) {
        use Class::{Digit, Latin, Line, Lower, Other, Punctuation, Rare, Space, Upper, Wide};
        let (before, in_word) = (self.before, matches!(self.before, Lower | Upper | Latin));
        let (class, weight) = match char {
            'a'..='z' => (Lower, if in_word { LETTER } else { WORD + LETTER }),
            'A'..='Z' if !in_word => (Upper, WORD + LETTER),
            'A'..='Z' => (Upper, if before == Upper { LETTER } else { HUMP + LETTER }),
            '0'..='9' => (Digit, DIGIT),
            '\n' | '\r' => (Line, if before == Line { 0 } else { LINE }),
            // A space belongs to the word behind it, and a run of them to the next line.
            ' ' | '\t' => (Space, 0),
            '\0'..='\x7f' => {
                (Punctuation, if before == Punctuation { PUNCTUATION } else { MARK + PUNCTUATION })
            }
            '\u{80}'..='\u{24f}' => (Latin, if in_word { LATIN } else { WORD + LATIN }),
            '\u{250}'..='\u{2e7f}' => (Other, OTHER),
            '\u{2e80}'..='\u{ffff}' => (Wide, WIDE),
            _ => (Rare, RARE),
        };
        self.before = class;
        self.thousandths = self.thousandths.saturating_add(weight);
    }

    /// Takes the text of an event of a relayed stream: the string members that carry output in its dialect. Says
    /// whether there was any.
    pub fn push_event(&mut self, kind: Kind, event: &[u8]) -> bool {
        let event = event.get(..MAX_PIECE_BYTES).unwrap_or(event);
        let members = match kind {
            // Also `reasoning_content`. The others are looked for where there is none of it.
            Kind::Chat => &CHAT[..],
            Kind::Messages => &MESSAGES[..],
            Kind::Responses => &RESPONSES[..],
            Kind::Other => return false,
        };
        members.iter().any(|member| {
            let mut found = false;
            for at in member.find_iter(event).take(MAX_PIECES_OF_EVENT) {
                let value = event.get(at + member.needle().len()..).unwrap_or_default();
                // JSON may have spaces behind the colon.
                if let Some(text) = value.trim_ascii_start().strip_prefix(b"\"")
                    && !text.starts_with(b"\"")
                {
                    self.push_json_string(text);
                    found = true;
                }
            }
            found
        })
    }

    /// Takes a JSON string up to its closing quote or the end; gives what is behind it.
    fn push_json_string<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        loop {
            let Some(at) = memchr::memchr2(b'"', b'\\', rest) else {
                self.push_bytes(rest);
                return &[];
            };
            let (text, behind) = rest.split_at(at);
            self.push_bytes(text);
            if behind.first() == Some(&b'"') {
                return behind.get(1..).unwrap_or_default();
            }
            let (char, length) = match behind.get(1) {
                Some(b'n' | b'r') => ('\n', 2),
                Some(b't') => ('\t', 2),
                Some(b'u') => {
                    let digits = behind.get(2..6).and_then(|digits| std::str::from_utf8(digits).ok());
                    let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    // The second half of a pair adds nothing.
                    match code {
                        Some(0xdc00..=0xdfff) => (' ', 6),
                        Some(0xd800..=0xdbff) => ('\u{10000}', 6),
                        code => (code.and_then(char::from_u32).unwrap_or(' '), 6),
                    }
                }
                Some(other) => (char::from(*other), 2),
                None => return &[],
            };
            self.take(char);
            rest = behind.get(length..).unwrap_or_default();
        }
    }
}

static CHAT: LazyLock<[memmem::Finder<'static>; 3]> =
    LazyLock::new(|| [b"content\":" as &[u8], b"\"arguments\":", b"\"text\":"].map(memmem::Finder::new));
static MESSAGES: LazyLock<[memmem::Finder<'static>; 3]> = LazyLock::new(|| {
    [b"\"text\":" as &[u8], b"\"partial_json\":", b"\"thinking\":"].map(memmem::Finder::new)
});
static RESPONSES: LazyLock<[memmem::Finder<'static>; 1]> =
    LazyLock::new(|| [b"\"delta\":" as &[u8]].map(memmem::Finder::new));

/// Bytes kept of the beginning of a body, to estimate its tokens by.
pub const SAMPLE_BYTES: usize = 4 * 1024;

/// The tokens of a JSON body of this many bytes, about, by the text in its beginning: the strings that are values.
/// Names of members, numbers and brackets are not counted; a server makes other things of them.
pub fn of_json(beginning: &[u8], bytes: u64) -> u64 {
    let mut estimate = Estimate::default();
    let mut rest = beginning;
    while let Some(at) = memchr::memchr(b'"', rest) {
        let mut with = estimate;
        with.before = Class::Line;
        let behind = with.push_json_string(rest.get(at + 1..).unwrap_or_default());
        if !behind.trim_ascii_start().starts_with(b":") {
            estimate = with;
        }
        rest = behind;
    }
    let sampled = u128::try_from(beginning.len()).unwrap_or(0);
    if sampled == 0 {
        return bytes / 4;
    }
    let all = u128::from(estimate.tokens()).saturating_mul(u128::from(bytes).max(sampled)) / sampled;
    u64::try_from(all).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> u64 {
        let mut estimate = Estimate::default();
        estimate.push(text);
        estimate.tokens()
    }

    /// Counts of o200k_base for texts that are in no fitted file.
    #[test]
    fn near_a_real_tokenizer() {
        for (text, real) in REAL {
            let got = of(text);
            let (low, high) = (real * 75 / 100, real * 130 / 100 + 1);
            assert!((low..=high).contains(&got), "{got} for {real}: {text}");
        }
    }

    const REAL: [(&str, u64); 6] = [
        (
            "The committee met on Tuesday to talk about the budget for next year. Nobody was happy with the figures, but after two hours they agreed on a plan that leaves most of the money where it is.",
            40,
        ),
        (
            "Der Ausschuss hat am Dienstag getagt und über den Haushalt des nächsten Jahres gesprochen. Niemand war mit den Zahlen zufrieden, aber nach zwei Stunden einigte man sich auf einen Plan.",
            36,
        ),
        (
            "委员会星期二开会讨论明年的预算。没有人对这些数字感到满意,但两个小时后,他们同意了一项计划,大部分资金保持不变。",
            38,
        ),
        (
            "fn main() {\n    let total: u64 = (0..100).filter(|n| n % 3 == 0).sum();\n    println!(\"the total is {total}\");\n    std::process::exit(if total > 10 { 0 } else { 1 });\n}\n",
            60,
        ),
        (
            "{\"name\": \"gateway\", \"limits\": {\"max_connections\": 4096, \"timeout_ms\": 30000}, \"tags\": [\"a\", \"b\"], \"active\": true}",
            39,
        ),
        (
            "Комитет собрался во вторник, чтобы обсудить бюджет на следующий год. Никто не был доволен цифрами.",
            27,
        ),
    ];

    #[test]
    fn it_does_not_matter_where_text_is_cut() {
        for (text, _) in REAL {
            let mut bytes = 0;
            for cut in 1..12 {
                let mut estimate = Estimate::default();
                let chars: Vec<char> = text.chars().collect();
                for piece in chars.chunks(cut) {
                    estimate.push(&piece.iter().collect::<String>());
                }
                assert_eq!(estimate.tokens(), of(text), "{text} by {cut}");
                bytes += text.len();
            }
            assert!(bytes > 0);
        }
    }

    #[test]
    fn the_text_of_events() {
        for (kind, event, text) in [
            (Kind::Chat, r#"data: {"id":"x","choices":[{"delta":{"content":"Hello you"}}]}"#, "Hello you"),
            (Kind::Chat, r#"data: {"choices":[{"delta": {"content" : "no"}}]}"#, ""),
            (Kind::Chat, r#"data: {"choices":[{"delta":{"content": "yes"}}]}"#, "yes"),
            (
                Kind::Chat,
                r#"data: {"choices":[{"delta":{"content":null,"reasoning_content":"Hm so"}}]}"#,
                "Hm so",
            ),
            (
                Kind::Chat,
                r#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"a\":1}"}}]}}]}"#,
                r#"{"a":1}"#,
            ),
            (Kind::Chat, r#"data: {"choices":[{"text":"old"}]}"#, "old"),
            (
                Kind::Messages,
                r#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a\nb"}}"#,
                "a\nb",
            ),
            (
                Kind::Messages,
                r#"data: {"delta":{"type":"input_json_delta","partial_json":"{\"x\""}}"#,
                r#"{"x""#,
            ),
            (Kind::Responses, r#"data: {"type":"response.output_text.delta","delta":"\u00fcber"}"#, "über"),
            (Kind::Responses, r#"data: {"delta":{"no":"text"}}"#, ""),
            (Kind::Other, r#"data: {"content":"x"}"#, ""),
            (Kind::Chat, "", ""),
            (Kind::Chat, r#"{"content":""#, ""),
            (Kind::Chat, r#"{"content":"\"#, ""),
            (Kind::Chat, r#"{"content":"a\u12"#, "a"),
        ] {
            let mut estimate = Estimate::default();
            estimate.push_event(kind, event.as_bytes());
            assert_eq!(estimate.tokens(), of(text), "{event}");
        }
        let mut estimate = Estimate::default();
        assert!(!estimate.push_event(Kind::Chat, br#"{"delta":{"role":"assistant","content":""}}"#));
    }

    #[test]
    fn bodies_by_their_beginning() {
        let body =
            br#"{"model":"m","messages":[{"role":"user","content":"Say something about the weather"}]}"#;
        let whole = of_json(body, u64::try_from(body.len()).unwrap());
        assert!((7..=12).contains(&whole), "{whole}");
        let ten_times = of_json(body, u64::try_from(body.len()).unwrap() * 10);
        assert_eq!(ten_times, whole * 10);
        for odd in
            [&b""[..], b"\"", b"\\", b"\"\\", b"{\"a", b"\xff\xfe\"\xff", b"[[[[[[", b"\"\\ud83d\\ude00\""]
        {
            assert!(of_json(odd, 0) < 10, "{odd:?}");
            of_json(odd, u64::MAX);
        }
    }
}
