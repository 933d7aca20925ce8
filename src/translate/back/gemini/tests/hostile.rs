//! Whatever comes: an answer or a refusal, in time, without a panic.

use super::super::{error, read};
use super::*;
use crate::translate::conversation::*;

/// Numbers that repeat from run to run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

const SEED_BODIES: [&str; 4] = [
    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hé","thought":true,"thoughtSignature":"s"},{"functionCall":{"id":"i","name":"f","args":{"a":[1,null]},"partialArgs":[{"jsonPath":"$.a[0]","stringValue":"x"}],"willContinue":true}},{"inlineData":{"mimeType":"image/png","data":"AA"}}]},"finishReason":"STOP","finishMessage":"m","index":1,"logprobsResult":{"chosenCandidates":[{"token":"a"}]}}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2},"modelVersion":"m","responseId":"r","createTime":"2026-01-01T00:00:00Z"}"#,
    r#"{"promptFeedback":{"blockReason":"SAFETY","blockReasonMessage":"m"}}"#,
    r#"[{"error":{"code":429,"message":"m","status":"S","details":[{"retryDelay":"1s","reason":"x","violations":[{"quotaId":"q"}]}]}}]"#,
    r#"{"error":{"code":503,"message":"m"}}"#,
];

#[test]
fn changed_answers_never_harm() {
    let mut numbers = Numbers(0x5eed);
    for round in 0..1_500 {
        let mut body = SEED_BODIES[numbers.below(SEED_BODIES.len())].as_bytes().to_vec();
        for _ in 0..=numbers.below(4) {
            let place = numbers.below(body.len());
            match numbers.below(4) {
                0 => body[place] = u8::try_from(numbers.below(256)).unwrap(),
                1 => body.truncate(place.max(1)),
                2 => {
                    let end = (place + numbers.below(40)).min(body.len());
                    let copied = body[place..end].to_vec();
                    body.splice(place..place, copied);
                }
                _ => body.insert(place, b"{}[]\",:0-e\\n\r\n\0\xff"[numbers.below(16)]),
            }
        }
        let _ = read(&body, &ReplyContext::default());
        let _ = error(u16::try_from(round % 1000).unwrap(), &|_| None, &body);
        let stream = [b"data: ", body.as_slice(), b"\n\n", &body].concat();
        let whole = events(&stream, stream.len(), ReplyContext::default());
        assert_eq!(events(&stream, 1 + numbers.below(9), ReplyContext::default()), whole);
        let ends = whole.iter().filter(|event| matches!(event, Event::End | Event::Error(_))).count();
        assert!(ends <= 1, "{whole:?}");
    }
}

#[test]
fn much_of_everything_on_the_stack_of_a_connection() {
    let check = || {
        let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
        let parts = vec![r#"{"functionCall":{"name":"f","id":"same"}}"#; 9_000].join(",");
        let candidates = vec![r#"{"finishReason":"STOP"}"#; 5_000].join(",");
        let text = "x".repeat(3_000_000);
        let bodies = [
            deep.clone(),
            format!(r#"{{"candidates":{deep}}}"#),
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{{"a":{deep}}}}}}}]}}}}]}}"#
            ),
            format!(r#"{{"error":{deep}}}"#),
            format!(r#"{{"unknown":{deep},"candidates":[{{"finishReason":"STOP"}}]}}"#),
            format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}]}},"finishReason":"STOP"}}]}}"#),
            format!(r#"{{"candidates":[{candidates}]}}"#),
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}},"finishReason":"STOP"}}]}}"#
            ),
        ];
        for body in &bodies {
            let _ = read(body.as_bytes(), &ReplyContext::default());
            let _ = error(400, &|_| None, body.as_bytes());
            let _ = events(format!("data: {body}\n\n").as_bytes(), 4096, ReplyContext::default());
        }
        // Calls beyond what an answer has are an error, in time.
        let calls =
            format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{parts}]}}}}]}}\n\n").repeat(2);
        let seen = events(calls.as_bytes(), 1 << 20, ReplyContext::default());
        assert!(matches!(seen.last(), Some(Event::Error(_))));
    };
    std::thread::Builder::new().stack_size(96 * 1024).spawn(check).unwrap().join().unwrap();
}

#[test]
fn a_request_of_many_small_things_costs_little() {
    let refused_by = |change: &dyn Fn(&mut Conversation)| {
        let mut conversation = says("x");
        change(&mut conversation);
        build_for(GEMINI, "gemini-2.0-flash", true, &conversation)
            .map(|_| ())
            .map_err(|refused| refused.field)
    };
    let many_calls = |conversation: &mut Conversation| {
        let calls = (0..50_000).map(|number| Part::ToolCall(call(&format!("c{number}"), "f", "{}")));
        conversation.turns.push(turn(Role::Assistant, calls.collect()));
    };
    assert_eq!(refused_by(&many_calls), Err("messages[7]".into()));
    let many_options = |conversation: &mut Conversation| {
        let options = (0..50_000).map(|number| (format!("o{number}"), raw("1")));
        conversation.provider_options = options.collect();
    };
    assert_eq!(refused_by(&many_options), Err("provider_options".into()));
    let much_config = |conversation: &mut Conversation| {
        let members: Vec<String> = (0..50_000).map(|number| format!("\"o{number}\":1")).collect();
        let config = format!("{{{}}}", members.join(","));
        conversation.provider_options = vec![("generationConfig".into(), raw(&config))];
    };
    assert_eq!(refused_by(&much_config), Err("provider_options.generationConfig".into()));
    let tool = |schema: &str| Tool {
        name: "f".into(),
        description: None,
        parameters: Some(raw(schema)),
        strict: None,
        cache: None,
    };
    let many_tools =
        |conversation: &mut Conversation| conversation.tools = (0..5_000).map(|_| tool("{}")).collect();
    assert_eq!(refused_by(&many_tools), Err("tools".into()));
    // A long list of which nothing is kept, named from many places; and one that names the same over and over.
    let empty = vec!["\"\""; 100_000].join(",");
    let uses: Vec<String> =
        (0..5_000).map(|place| format!(r##""p{place}":{{"$ref":"#/$defs/d"}}"##)).collect();
    let listed = format!(r#"{{"properties":{{{}}},"$defs":{{"d":{{"enum":[{empty}]}}}}}}"#, uses.join(","));
    assert_eq!(
        refused_by(&|conversation| conversation.tools = vec![tool(&listed)]),
        Err("tools[0].parameters".into())
    );
    let same = vec!["\"a\""; 50_000].join(",");
    let one = format!(r#"{{"properties":{{"a":{{}}}},"required":[{same}]}}"#);
    let both = format!(r#"{{"allOf":[{one},{one}]}}"#);
    assert_eq!(refused_by(&|conversation| conversation.tools = vec![tool(&both)]), Ok(()));
}

#[test]
fn any_conversation_is_built_or_refused() {
    let mut numbers = Numbers(0xc0ffee);
    let words = ["", "x", "{\"a\":1}", "[1]", "{", "null", "é\u{0}\"\\", "https://a/b.png", "c1", "c2", "f"];
    let (mut good, mut bad) = (0, 0);
    for round in 0..3_000 {
        let mut conversation = Conversation::default();
        for _ in 0..numbers.below(5) {
            let role = [Role::System, Role::User, Role::Assistant][numbers.below(3)];
            let parts = (0..numbers.below(4)).map(|_| part(&mut numbers, &words)).collect();
            conversation.turns.push(turn(role, parts));
        }
        let word = |numbers: &mut Numbers| words[numbers.below(words.len())].to_owned();
        for _ in 0..numbers.below(6) / 4 {
            let schema =
                ["{}", "null", "[]", "{\"type\":\"object\"}", "{\"$ref\":\"#\"}", "7"][numbers.below(6)];
            conversation.tools.push(Tool {
                name: word(&mut numbers),
                description: Some(word(&mut numbers)),
                parameters: Some(raw(schema)),
                strict: Some(round % 2 == 0),
                cache: None,
            });
        }
        conversation.tool_choice = match numbers.below(24) {
            0 => Some(ToolChoice::Auto),
            1 => Some(ToolChoice::Required),
            2 => Some(ToolChoice::Tool(word(&mut numbers))),
            3 => Some(ToolChoice::Allowed { names: vec![word(&mut numbers)], required: round % 2 == 0 }),
            _ => None,
        };
        conversation.temperature = [None, Some(f64::NAN), Some(1.0), None, Some(0.0), None][numbers.below(6)];
        if numbers.below(8) == 0 {
            conversation.provider_options.push((word(&mut numbers), raw(["{}", "1"][numbers.below(2)])));
        }
        let model = ["gemini-2.0-flash", "gemini-2.5-flash", "gemini-3-pro", "other"][numbers.below(4)];
        let provider = [GEMINI, VERTEX][numbers.below(2)];
        match build_for(provider, model, round % 3 == 0, &conversation) {
            Ok((body, dropped, _)) => {
                good += 1;
                let contents = body["contents"].as_array().unwrap();
                assert!(!contents.is_empty());
                assert!(contents.iter().all(|content| !content["parts"].as_array().unwrap().is_empty()));
                assert!(round % 3 == 0 || dropped.is_empty());
            }
            Err(refused) => {
                bad += 1;
                assert!(!refused.field.is_empty() && !refused.message.is_empty());
            }
        }
    }
    assert!(good > 200 && bad > 200, "{good} built, {bad} refused");
}

fn part(numbers: &mut Numbers, words: &[&str]) -> Part {
    let mut word = || words[numbers.below(words.len())].to_owned();
    let (one, two, three) = (word(), word(), word());
    match numbers.below(20) {
        0..=3 | 12..=19 => text(&one),
        4 => Part::ToolCall(call(&one, "f", &two)),
        5 => Part::ToolCall(call("c1", "f", "{}")),
        6 => result(&one, &two),
        7 => result("c1", &two),
        8 => Part::Thinking { text: one, signature: Some(two) },
        9 => Part::Image { source: Source::Url(one), detail: None, cache: None },
        10 => Part::Document {
            source: Source::Base64 { media_type: one, data: two },
            name: Some(three),
            cache: None,
        },
        _ => Part::Refusal { text: one },
    }
}
