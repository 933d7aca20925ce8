//! Whatever is sent: JSON or a refusal, and neither a panic nor a loop.

use std::fmt::Write as _;

use super::*;
use crate::translate::conversation::{CacheMark, Effort, Format, Reasoning, Source, ToolChoice};

/// Numbers that are the same in every run. xorshift64, Marsaglia 2003.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()].clone()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.roll(3) == 0).then(|| value(self))
    }
}

const TEXTS: [&str; 9] = ["", " ", "a", "b", "x y", "\u{0}\"\\\n", "é🦀", "json_answer", "{\"a\":[1.0]}"];
const JSON: [&str; 7] = [
    "{}",
    "{\"type\":\"object\",\"additionalProperties\":false}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":[\"object\"]}}}",
    "[]",
    "null",
    " { \"b\" : 1 } ",
    "3",
];
const MARKS: [CacheMark; 3] = [CacheMark::Default, CacheMark::FiveMinutes, CacheMark::OneHour];

fn source(dice: &mut Dice) -> Source {
    let text = dice.pick(&TEXTS).to_owned();
    match dice.roll(4) {
        0 => Source::Base64 {
            media_type: dice.pick(&["image/png", "application/pdf", ""]).to_owned(),
            data: text,
        },
        1 => Source::Text(text),
        2 => Source::Url(text),
        _ => Source::FileId(text),
    }
}

fn part(dice: &mut Dice, depth: u32) -> Part {
    let words = dice.pick(&TEXTS).to_owned();
    let cache = dice.maybe(|dice| dice.pick(&MARKS));
    match dice.roll(if depth == 0 { 12 } else { 5 }) {
        0 | 1 => Part::Text { text: words, cache },
        2 => Part::Image { source: source(dice), detail: Some(words), cache },
        3 => Part::Document { source: source(dice), name: Some(words), cache },
        4 => Part::Audio { data: words.clone(), format: words },
        5 | 6 => call(dice.pick(&TEXTS), &words, dice.pick(&["", "{}", "{\"a\":1}", "["])),
        7 | 8 => Part::ToolResult(ToolResult {
            call_id: words,
            parts: (0..dice.roll(3)).map(|_| part(dice, 1)).collect(),
            is_error: dice.roll(2) == 0,
            cache,
        }),
        9 => Part::Thinking { text: words, signature: dice.maybe(|dice| dice.pick(&TEXTS).to_owned()) },
        10 => Part::RedactedThinking { data: words },
        _ => Part::Refusal { text: words },
    }
}

fn conversation(dice: &mut Dice) -> Conversation {
    let mut turns = Vec::new();
    for _ in 0..dice.roll(6) {
        // Mostly what belongs together, or nearly everything would be refused.
        match dice.roll(4) {
            0 => turns.push((dice.pick(&[Role::System, Role::User, Role::Assistant]), vec![part(dice, 0)])),
            1 => {
                let ids = [dice.pick(&TEXTS), dice.pick(&TEXTS)];
                turns.push((
                    Role::Assistant,
                    ids.iter().map(|id| call(id, dice.pick(&TEXTS), "{}")).collect(),
                ));
                turns.push((Role::User, ids.iter().rev().map(|id| result(id, "r")).collect()));
            }
            2 => turns.push((Role::System, vec![text(dice.pick(&TEXTS))])),
            _ => turns.push((Role::User, vec![text("u"), part(dice, 1)])),
        }
    }
    let names = |dice: &mut Dice| (0..dice.roll(3)).map(|_| dice.pick(&TEXTS).to_owned()).collect();
    let mut asked = said(turns);
    for _ in 0..dice.roll(3) {
        let mut one = tool(dice.pick(&TEXTS), None);
        one.parameters = dice.maybe(|dice| raw(dice.pick(&JSON)));
        one.strict = dice.maybe(|dice| dice.roll(2) == 0);
        asked.tools.push(one);
    }
    asked.tool_choice = dice.maybe(|dice| match dice.roll(5) {
        0 => ToolChoice::Auto,
        1 => ToolChoice::None,
        2 => ToolChoice::Required,
        3 => ToolChoice::Tool(dice.pick(&TEXTS).to_owned()),
        _ => ToolChoice::Allowed { names: names(dice), required: dice.roll(2) == 0 },
    });
    asked.parallel_tool_calls = dice.maybe(|dice| dice.roll(2) == 0);
    asked.max_output_tokens = dice.maybe(|dice| dice.pick(&[0, 1, 2_000, u64::MAX]));
    asked.temperature = dice.maybe(|dice| dice.pick(&[0.0, -1.0, 2.0, 1e300, f64::NAN]));
    asked.top_p = dice.maybe(|dice| dice.pick(&[0.0, 0.97, f64::INFINITY]));
    asked.reasoning = dice.maybe(|dice| Reasoning {
        effort: dice.maybe(|dice| dice.pick(&[Effort::None, Effort::Minimal, Effort::High, Effort::Max])),
        budget_tokens: dice.maybe(|dice| dice.pick(&[0, 1_024, 40_000, u64::MAX])),
        enabled: dice.maybe(|dice| dice.roll(2) == 0),
        visible: dice.maybe(|dice| dice.roll(2) == 0),
    });
    asked.format = dice.maybe(|dice| match dice.roll(3) {
        0 => Format::Text,
        1 => Format::JsonObject,
        _ => {
            Format::JsonSchema { name: None, description: None, schema: raw(dice.pick(&JSON)), strict: None }
        }
    });
    asked.stop = names(dice);
    asked.user = dice.maybe(|dice| dice.pick(&TEXTS).to_owned());
    for name in ["metadata", "x\"y", "thinking"] {
        if let Some(value) = dice.maybe(|dice| raw(dice.pick(&JSON))) {
            asked.provider_options.push((name.to_owned(), value));
        }
    }
    asked
}

/// What the provider wants of every request, as far as it can be told from outside.
fn check(sent: &Value) {
    let messages = sent["messages"].as_array().unwrap();
    assert!(!messages.is_empty());
    let mut ids = std::collections::BTreeSet::new();
    for (number, message) in messages.iter().enumerate() {
        let blocks = message["content"].as_array().unwrap();
        assert!(!blocks.is_empty());
        assert_ne!(Some(&message["role"]), messages.get(number + 1).map(|next| &next["role"]));
        let of = |role: &str, kind: &str, key: &str| -> Vec<String> {
            let next = if role == "user" { messages.get(number + 1) } else { Some(message) };
            let blocks = next.and_then(|next| next["content"].as_array()).into_iter().flatten();
            let found = blocks.filter(|block| block["type"] == kind);
            found.map(|block| block[key].as_str().unwrap().to_owned()).collect()
        };
        if message["role"] == "assistant" {
            let calls = of("assistant", "tool_use", "id");
            assert_eq!(calls, of("user", "tool_result", "tool_use_id"));
            for id in calls {
                assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{id}");
                assert!(ids.insert(id));
            }
        }
        for block in blocks {
            let is_blank = block["text"].as_str().is_some_and(|text| text.trim().is_empty());
            assert!(block["type"] != "text" || !is_blank, "{sent}");
        }
    }
    for tool in sent["tools"].as_array().into_iter().flatten() {
        assert_eq!(tool["input_schema"]["type"], "object");
    }
}

#[test]
fn any_conversation_is_built_or_refused() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut built, mut refused) = (0, 0);
    for round in 0..6_000 {
        let asked = conversation(&mut dice);
        let model = dice.pick(&["claude-3-haiku", "claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-4-8"]);
        match build(&asked, &target(model, round % 4 != 0)) {
            Ok(request) => {
                built += 1;
                check(&body(&request));
            }
            Err(invalid) => {
                refused += 1;
                assert!(!invalid.field.is_empty() && !invalid.message.is_empty());
            }
        }
    }
    assert!(built > 300 && refused > 300, "{built} built, {refused} refused");
}

#[test]
fn huge_and_deep_requests() {
    let mut asked = hello();
    asked.tools = vec![tool(
        "a",
        Some(&format!("{{\"type\":\"object\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000))),
    )];
    let deep = asked.tools[0].parameters.take().unwrap();
    let format = |schema| Format::JsonSchema { name: None, description: None, schema, strict: None };
    let formed = Conversation { format: Some(format(deep.clone())), ..hello() };
    assert!(build(&formed, &target("claude-sonnet-4-5", false)).is_ok());
    asked.tools[0].parameters = Some(deep);
    // The provider's parser decides about depth; here nothing follows it down.
    assert!(build(&asked, &target("claude-sonnet-4-5", false)).is_ok());
    let many: Vec<Part> = (0..20_000).map(|_| call("same", "same name", "{}")).collect();
    let results = (0..20_000).map(|_| result("same", "")).collect();
    let wide = said(vec![(Role::User, vec![text("x")]), (Role::Assistant, many), (Role::User, results)]);
    let began = std::time::Instant::now();
    check(&build_for("claude-sonnet-4-5", &wide).unwrap());
    assert!(began.elapsed().as_secs() < 10, "not linear");
}

#[test]
fn any_bytes_are_read() {
    let stream = framed(&[
        r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":5}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let answer = br#"{"id":"m","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],"stop_reason":"end_turn","usage":{"input_tokens":1}}"#;
    let mut dice = Dice(88_172_645_463_325_252);
    for _ in 0..3_000 {
        let mut mutate = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for _ in 0..=dice.roll(6) {
                let at = usize::try_from(dice.roll(bytes.len() as u64)).unwrap();
                match dice.roll(4) {
                    0 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
                    1 => drop(bytes.drain(at..)),
                    2 => bytes.insert(at, dice.pick(b"\"{}[],:\\\n\r0")),
                    _ => bytes.extend_from_within(at..),
                }
                if bytes.is_empty() {
                    bytes.push(b'x');
                }
            }
            bytes
        };
        let bytes = mutate(stream.as_bytes());
        let seen = events(&ReplyContext::default(), &[&bytes]);
        let last_words = seen.iter().position(|event| event == "End" || event.starts_with("Error("));
        assert!(last_words.is_none_or(|at| at + 1 == seen.len()), "{seen:#?}");
        let bytes = mutate(answer);
        let _ = read(&bytes, &ReplyContext::default());
        let _ = error(500, &|_| None, &bytes);
    }
}

#[test]
fn streams_that_never_close_their_blocks() {
    let mut stream = framed(&[r#"{"type":"message_start","message":{"id":"m"}}"#]);
    for index in 0..1_000 {
        let block = format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"text","text":"x"}}}}"#
        );
        let _ = write!(stream, "{}", framed(&[&block]));
    }
    let seen = events(&ReplyContext::default(), &[stream.as_bytes()]);
    assert!(seen.len() < 100 && seen.last().unwrap().starts_with("Error("), "{}", seen.len());
    // Depth is the parser's to refuse.
    let deep = format!(
        "data: {{\"type\":\"content_block_start\",\"content_block\":{{\"type\":\"tool_use\",\"input\":{}}}}}\n\n",
        "[".repeat(100_000)
    );
    assert_eq!(events(&ReplyContext::default(), &[deep.as_bytes()]).len(), 1);
    let huge = format!(
        "{{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{}\"}}}}",
        "x".repeat(900_000)
    );
    let seen = events(
        &ReplyContext::default(),
        &[framed(&[r#"{"type":"message_start","message":{}}"#, &huge]).as_bytes()],
    );
    assert_eq!(seen.len(), 2);
    assert!(seen[1].len() > 900_000);
}
