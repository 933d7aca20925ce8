//! Golden tables of the dialect, and what it refuses.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{StreamWriter, error, read, write};
use crate::translate::conversation::{
    CacheMark, Effort, Format, Part, Role, Source, ToolCall, ToolChoice, ToolResult,
};
use crate::translate::{
    Answer, Choice, Conversation, Event, Finish, FinishReason, Identity, ProviderError, Tokens,
};

const IDENTITY: Identity<'static> = Identity { unique: "abc", model: "acct/model", created_s: 1_700_000_000 };

fn conversation(body: Value) -> Conversation {
    read(body.to_string().as_bytes()).unwrap()
}

fn with(name: &str, value: Value) -> Value {
    let mut body = json!({"model": "a/b", "messages": [{"role": "user", "content": "hi"}]});
    body[name] = value;
    body
}

fn messages(list: Value) -> Value {
    json!({"model": "a/b", "messages": list})
}

#[test]
fn a_request_with_everything_is_read() {
    let body = br#"{"model":"a/b","messages":[
        {"role":"developer","content":"be brief","cache_control":{"type":"ephemeral","ttl":"1h"}},
        {"role":"user","content":[{"type":"text","text":"what is this?"},
            {"type":"image_url","image_url":{"url":"data:image/PNG;name=x;base64,aGk=","detail":"low"}},
            {"type":"image_url","image_url":{"url":"https://example.com/a.png"}},
            {"type":"input_audio","input_audio":{"data":"aGk=","format":"wav"}},
            {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,aGk="},"cache_control":{"type":"ephemeral"}},
            {"type":"file","file":{"file_id":"file-1"}}]},
        {"role":"assistant","content":null,"refusal":null,"annotations":[],
            "thinking_blocks":[{"type":"thinking","thinking":"","signature":"sig"},{"type":"redacted_thinking","data":"opaque"}],
            "reasoning_content":"left out beside whole blocks",
            "tool_calls":[{"id":"c1","type":"function","index":0,"function":{"name":"f","arguments":"{\"n\":1.0}"},
                "extra_content":{"google":{"thought_signature":"ts"}}},
                {"id":"c2","type":"function","function":{"name":"g","arguments":""}}]},
        {"role":"tool","tool_call_id":"c1","name":"f","content":"one"},
        {"role":"tool","tool_call_id":"c2","content":[{"type":"text","text":"two"}]},
        {"role":"user","content":"go on"}],
        "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"z":1.0,"a":12345678901234567890},"strict":true},
            "cache_control":{"type":"ephemeral","ttl":"5m"}}],
        "tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,
        "max_tokens":100,"temperature":0.5,"top_p":0.9,"top_k":40,"frequency_penalty":-1,"presence_penalty":1,
        "stop":["a","b"],"seed":-7,"n":2,"logprobs":true,"top_logprobs":3,"user":"u","service_tier":"flex",
        "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object"},"strict":true}},
        "reasoning_effort":"high","thinking":{"type":"enabled","budget_tokens":2048},
        "stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},
        "provider_options":{"safety_settings":[1.0],"b":null},"store":false,"verbosity":"low","new_field":{"x":1.0}}"#;
    let read = read(body).unwrap();
    let roles: Vec<_> = read.turns.iter().map(|turn| (turn.role, turn.place.as_str())).collect();
    let expected = [
        (Role::System, "messages[0]"),
        (Role::User, "messages[1]"),
        (Role::Assistant, "messages[2]"),
        (Role::User, "messages[3]"),
        (Role::User, "messages[5]"),
    ];
    assert_eq!(roles, expected);
    assert!(
        matches!(&read.turns[0].parts[..], [Part::Text { text, cache: Some(CacheMark::OneHour) }] if text == "be brief")
    );
    let base64 = |media_type: &str| Source::Base64 { media_type: media_type.into(), data: "aGk=".into() };
    assert!(matches!(&read.turns[1].parts[..], [
        Part::Text { .. },
        Part::Image { source: png, detail: Some(low), .. },
        Part::Image { source: Source::Url(url), detail: None, .. },
        Part::Audio { format, .. },
        Part::Document { source: pdf, name: Some(name), cache: Some(CacheMark::Default) },
        Part::Document { source: Source::FileId(id), .. },
    ] if *png == base64("image/png") && low == "low" && url.ends_with("a.png") && format == "wav"
        && *pdf == base64("application/pdf") && name == "a.pdf" && id == "file-1"));
    assert!(matches!(&read.turns[2].parts[..], [
        Part::Thinking { text, signature: Some(signature) },
        Part::RedactedThinking { data },
        Part::ToolCall(ToolCall { id, name, arguments, signature: Some(thought), .. }),
        Part::ToolCall(ToolCall { arguments: empty, .. }),
    ] if text.is_empty() && signature == "sig" && data == "opaque" && id == "c1" && name == "f"
        && arguments == "{\"n\":1.0}" && thought == "ts" && empty.is_empty()));
    assert!(matches!(&read.turns[3].parts[..], [
        Part::ToolResult(ToolResult { call_id: one, .. }),
        Part::ToolResult(ToolResult { call_id: two, .. }),
    ] if one == "c1" && two == "c2"));
    let tool = &read.tools[0];
    assert_eq!(tool.parameters.as_ref().unwrap().get(), r#"{"z":1.0,"a":12345678901234567890}"#);
    assert_eq!((tool.strict, tool.cache), (Some(true), Some(CacheMark::FiveMinutes)));
    assert_eq!(read.tool_choice, Some(ToolChoice::Tool("f".into())));
    assert_eq!(read.parallel_tool_calls, Some(false));
    assert_eq!(read.max_output_tokens, Some(100));
    assert_eq!((read.temperature, read.top_p, read.top_k), (Some(0.5), Some(0.9), Some(40)));
    assert_eq!((read.frequency_penalty, read.presence_penalty), (Some(-1.0), Some(1.0)));
    assert_eq!(read.stop, ["a", "b"]);
    assert_eq!(
        (read.seed, read.count, read.logprobs, read.top_logprobs),
        (Some(-7), Some(2), Some(true), Some(3))
    );
    assert_eq!((read.user.as_deref(), read.service_tier.as_deref()), (Some("u"), Some("flex")));
    assert!(
        matches!(&read.format, Some(Format::JsonSchema { name: Some(name), strict: Some(true), .. }) if name == "s")
    );
    let reasoning = read.reasoning.unwrap();
    assert_eq!(
        (reasoning.effort, reasoning.budget_tokens, reasoning.enabled),
        (Some(Effort::High), Some(2_048), Some(true))
    );
    assert!(read.stream && read.include_usage);
    let options: Vec<_> =
        read.provider_options.iter().map(|(name, raw)| (name.as_str(), raw.get())).collect();
    assert_eq!(options, [("safety_settings", "[1.0]")]);
    let others: Vec<_> = read.others.iter().map(|(name, raw)| (name.as_str(), raw.get())).collect();
    assert_eq!(others, [("verbosity", "\"low\""), ("new_field", "{\"x\":1.0}")]);
}

#[test]
fn what_has_no_place_is_named_once() {
    let read = conversation(json!({
        "messages": [{"role": "user", "content": "a", "name": "x"}, {"role": "user", "content": "b", "name": "y"},
            {"role": "assistant", "content": "c", "prefix": true, "audio": {"id": "1"}}],
        "tools": [{"type": "web_search"}, {"type": "custom", "custom": {"name": "c"}}],
        "logit_bias": {"1": 2}, "metadata": {"a": "b"}, "prediction": {"type": "content"}, "store": true,
        "stream_options": {"include_obfuscation": true, "continuous_usage_stats": true},
        "modalities": ["text", "audio"], "tool_choice": {"type": "custom", "custom": {"name": "c"}}, "functions": [{}],
    }));
    let mut names: Vec<_> = read.others.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "functions",
            "logit_bias",
            "messages[].audio",
            "messages[].name",
            "messages[].prefix",
            "metadata",
            "modalities",
            "prediction",
            "store",
            "stream_options.continuous_usage_stats",
            "stream_options.include_obfuscation",
            "tool_choice.custom",
            "tools[].custom",
            "tools[].web_search",
        ]
    );
    assert!(read.tools.is_empty());
}

#[test]
fn what_says_nothing_is_not_named() {
    let read = conversation(json!({
        "messages": [{"role": "assistant", "content": "c", "refusal": null, "annotations": [], "function_call": null, "audio": null}],
        "store": false, "modalities": ["text"], "logit_bias": {}, "metadata": {}, "n": null, "stop": null, "unknown": null,
    }));
    assert!(read.others.is_empty(), "{:?}", read.others);
    assert_eq!(read.count, None);
}

#[test]
fn thinking_comes_back_in_each_form() {
    let parts = |message: Value| {
        let mut turns = conversation(messages(json!([message]))).turns;
        turns.remove(0).parts
    };
    let text = json!({"role": "assistant", "content": "x", "reasoning_content": "t"});
    assert!(
        matches!(&parts(text)[..], [Part::Thinking { text, signature: None }, Part::Text { .. }] if text == "t")
    );
    let details = json!({"role": "assistant", "content": "", "reasoning": "t", "reasoning_details": [
        {"type": "reasoning.text", "text": "t", "signature": "s", "index": 0, "format": "f"},
        {"type": "reasoning.encrypted", "data": "d"}]});
    assert!(
        matches!(&parts(details)[..], [Part::Thinking { signature: Some(s), .. }, Part::RedactedThinking { data }]
        if s == "s" && data == "d")
    );
    let inline = json!({"role": "assistant", "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "closed": true},
        {"type": "text", "text": "x"}]});
    assert!(matches!(&parts(inline)[..], [Part::Thinking { text, .. }, Part::Text { .. }] if text == "ab"));
}

#[test]
fn wrong_fields_are_refused_by_their_path() {
    let part = |part: Value| messages(json!([{"role": "user", "content": [part]}]));
    let call = |call: Value| messages(json!([{"role": "assistant", "tool_calls": [call]}]));
    let many = |count: usize| Value::Array(vec![json!({"role": "user", "content": "x"}); count]);
    let table = [
        (json!([]), "body"),
        (json!("x"), "body"),
        (json!({}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": {}}), "messages"),
        (messages(many(16_385)), "messages"),
        (json!({"messages": [1]}), "messages[0]"),
        (with("model", json!(1)), "model"),
        (messages(json!([{"content": "x"}])), "messages[0].role"),
        (messages(json!([{"role": 1, "content": "x"}])), "messages[0].role"),
        (messages(json!([{"role": "robot", "content": "x"}])), "messages[0].role"),
        (messages(json!([{"role": "function", "content": "x"}])), "messages[0].role"),
        (messages(json!([{"role": "user"}])), "messages[0].content"),
        (messages(json!([{"role": "user", "content": 5}])), "messages[0].content"),
        (messages(json!([{"role": "user", "content": null}])), "messages[0].content"),
        (messages(json!([{"role": "tool", "content": "x"}])), "messages[0].tool_call_id"),
        (messages(json!([{"role": "tool", "tool_call_id": "x"}])), "messages[0].content"),
        (part(json!("x")), "messages[0].content[0]"),
        (part(json!({"text": "x"})), "messages[0].content[0].type"),
        (part(json!({"type": "video"})), "messages[0].content[0].type"),
        (part(json!({"type": "text", "text": 1})), "messages[0].content[0].text"),
        (part(json!({"type": "image_url"})), "messages[0].content[0].image_url"),
        (part(json!({"type": "image_url", "image_url": {}})), "messages[0].content[0].image_url.url"),
        (
            part(json!({"type": "image_url", "image_url": "file:///etc/passwd"})),
            "messages[0].content[0].image_url",
        ),
        (
            part(json!({"type": "image_url", "image_url": "data:image/png,raw"})),
            "messages[0].content[0].image_url",
        ),
        (
            part(json!({"type": "image_url", "image_url": "data:image/png;base64,\""})),
            "messages[0].content[0].image_url",
        ),
        (
            part(json!({"type": "image_url", "image_url": "data:;base64,aGk="})),
            "messages[0].content[0].image_url",
        ),
        (part(json!({"type": "image_url", "image_url": "data:éé"})), "messages[0].content[0].image_url"),
        (
            part(json!({"type": "input_audio", "input_audio": {"data": "a b", "format": "wav"}})),
            "messages[0].content[0].input_audio",
        ),
        (part(json!({"type": "file", "file": {}})), "messages[0].content[0].file"),
        (
            part(json!({"type": "file", "file": {"file_id": "a", "file_data": "b"}})),
            "messages[0].content[0].file",
        ),
        (
            part(json!({"type": "text", "text": "x", "cache_control": {"type": "x"}})),
            "messages[0].content[0].cache_control.type",
        ),
        (call(json!({"id": "a"})), "messages[0].tool_calls[0].function"),
        (call(json!({"function": {"name": "f"}})), "messages[0].tool_calls[0].id"),
        (call(json!({"id": "a", "function": {}})), "messages[0].tool_calls[0].function.name"),
        (
            call(json!({"id": "a", "function": {"name": "f", "arguments": {}}})),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (call(json!({"id": "a", "type": "custom"})), "messages[0].tool_calls[0].type"),
        (with("temperature", json!("hot")), "temperature"),
        (with("temperature", json!(2.1)), "temperature"),
        (with("temperature", json!(-0.1)), "temperature"),
        (with("top_p", json!(1.5)), "top_p"),
        (with("presence_penalty", json!(3)), "presence_penalty"),
        (with("max_tokens", json!(-1)), "max_tokens"),
        (with("max_tokens", json!(1.5)), "max_tokens"),
        (with("max_completion_tokens", json!(0)), "max_completion_tokens"),
        (with("seed", json!(1e30)), "seed"),
        (with("n", json!(0)), "n"),
        (with("n", json!(129)), "n"),
        (with("stop", json!(5)), "stop"),
        (with("stop", json!(["a", 1])), "stop[1]"),
        (with("stream", json!("yes")), "stream"),
        (with("stream_options", json!([])), "stream_options"),
        (with("stream_options", json!({"include_usage": 1})), "stream_options.include_usage"),
        (with("tools", json!({})), "tools"),
        (with("tools", json!([{"type": "function"}])), "tools[0].function"),
        (with("tools", json!([{"type": "function", "function": {"name": ""}}])), "tools[0].function.name"),
        (
            with("tools", json!([{"function": {"name": "f", "parameters": "x"}}])),
            "tools[0].function.parameters",
        ),
        (with("tool_choice", json!("maybe")), "tool_choice"),
        (with("tool_choice", json!(1)), "tool_choice"),
        (with("tool_choice", json!({"type": "x"})), "tool_choice.type"),
        (
            with(
                "tool_choice",
                json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}}),
            ),
            "tool_choice.allowed_tools.tools[0].function",
        ),
        (with("response_format", json!({"type": "xml"})), "response_format.type"),
        (with("response_format", json!({"type": "json_schema"})), "response_format.json_schema"),
        (
            with("response_format", json!({"type": "json_schema", "json_schema": {"schema": "x"}})),
            "response_format.json_schema.schema",
        ),
        (with("reasoning_effort", json!("much")), "reasoning_effort"),
        (with("thinking", json!({})), "thinking.type"),
        (with("provider_options", json!([])), "provider_options"),
    ];
    for (body, path) in table {
        let refusal = read(body.to_string().as_bytes()).expect_err(path);
        assert_eq!(refusal.field, path, "{refusal}");
        assert!(!refusal.message.is_empty());
    }
}

#[test]
fn hostile_bodies_are_refused() {
    for body in
        [&b""[..], b"{", b"null", b"\xff\xfe", b"{\"messages\":[}", b"{\"a\":1,\"a\":2,\"messages\":[]}"]
    {
        assert!(read(body).is_err());
    }
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"messages":[{{"role":"user","content":"[[[ \" ["}}],"x":{open}{close}}}"#)
    };
    assert!(read(deep(90).as_bytes()).is_ok());
    assert_eq!(read(deep(100_000).as_bytes()).unwrap_err().field, "body");
    let members: Vec<_> = (0..300).map(|n| format!("\"k{n}\":1")).collect();
    let wide = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],{}}}", members.join(","));
    assert!(read(wide.as_bytes()).is_err());
    assert!(read(with(&"k".repeat(300), json!(1)).to_string().as_bytes()).is_err());
    let prompt = "a secret of the prompt";
    for body in
        [format!("{{\"messages\":\"{prompt}\"}}"), format!("{{\"messages\":[{{\"role\":\"{prompt}\"}}]}}")]
    {
        let refusal = read(body.as_bytes()).unwrap_err();
        assert!(!refusal.to_string().contains(prompt));
    }
}

#[test]
fn every_cut_of_a_request_is_refused() {
    let body = with(
        "tools",
        json!([{"type": "function", "function": {"name": "f", "parameters": {"a": ["\u{e9}"]}}}]),
    );
    let body = body.to_string();
    assert!(read(body.as_bytes()).is_ok());
    for end in 0..body.len() {
        assert!(read(&body.as_bytes()[..end]).is_err(), "{end}");
    }
}

fn tokens() -> Tokens {
    Tokens { fresh_input: 5, cache_read: 3, cache_write_5m: 1, cache_write_1h: 1, output: 7, reasoning: 2 }
}

fn usage_json() -> Value {
    json!({"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 2}})
}

#[test]
fn an_answer_is_written() {
    let call = |signature: Option<&str>| {
        Part::ToolCall(ToolCall {
            id: "c1".into(),
            name: "f".into(),
            arguments: String::new(),
            signature: signature.map(str::to_owned),
            cache: None,
        })
    };
    let answer = Answer {
        id: None,
        model: Some("m-1".into()),
        created_s: Some(5),
        choices: vec![
            Choice {
                parts: vec![
                    Part::Thinking { text: "hm".into(), signature: Some("sig".into()) },
                    Part::RedactedThinking { data: "d".into() },
                    Part::Text { text: "a\"\n".into(), cache: None },
                    Part::Text { text: "é".into(), cache: None },
                ],
                ..Choice::default()
            },
            Choice {
                parts: vec![call(Some("ts"))],
                finish: Finish { reason: FinishReason::ToolCalls, ..Finish::default() },
                logprobs: None,
            },
            Choice {
                parts: vec![],
                finish: Finish {
                    reason: FinishReason::ContentFilter,
                    explanation: Some("no".into()),
                    ..Finish::default()
                },
                logprobs: None,
            },
        ],
        tokens: Some(tokens()),
    };
    let written: Value = serde_json::from_slice(&write(&answer, &IDENTITY)).unwrap();
    let expected = json!({"id": "chatcmpl-abc", "object": "chat.completion", "created": 5, "model": "m-1", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a\"\né", "refusal": null, "reasoning_content": "hm",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "redacted_thinking", "data": "d"}]},
            "logprobs": null, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "ts"}}}]},
            "logprobs": null, "finish_reason": "tool_calls"},
        {"index": 2, "message": {"role": "assistant", "content": null, "refusal": "no"},
            "logprobs": null, "finish_reason": "content_filter"}],
        "usage": usage_json()});
    assert_eq!(written, expected);
    let empty: Value = serde_json::from_slice(&write(&Answer::default(), &IDENTITY)).unwrap();
    assert_eq!(
        empty,
        json!({"id": "chatcmpl-abc", "object": "chat.completion", "created": 1_700_000_000u64,
        "model": "acct/model", "choices": []})
    );
}

fn stream(events: Vec<Event<'_>>, include_usage: bool) -> Vec<String> {
    let mut writer = StreamWriter::new(&IDENTITY, include_usage);
    let mut out = Vec::new();
    for event in events {
        writer.write(event, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with("\n\n"));
    text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
}

fn start() -> Event<'static> {
    Event::Start { id: Some("id-1".into()), model: None, tokens: None }
}

fn text(choice: u32, text: &str) -> Event<'_> {
    Event::Text { choice, text: Cow::Borrowed(text), logprobs: None }
}

fn finish(choice: u32, reason: FinishReason) -> Event<'static> {
    Event::Finish { choice, finish: Finish { reason, ..Finish::default() } }
}

#[test]
fn a_stream_is_written_to_the_letter() {
    let head = r#"{"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"acct/model","choices":["#;
    let chunk = |delta: &str, finish: &str| {
        format!(
            r#"{head}{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}],"usage":null}}"#
        )
    };
    let events = vec![
        start(),
        text(0, "a\"\u{1}é"),
        Event::Ping,
        finish(0, FinishReason::Stop),
        Event::Tokens(tokens()),
        Event::End,
        text(0, "late"),
    ];
    assert_eq!(
        stream(events, true),
        [
            chunk(r#"{"role":"assistant","content":""}"#, "null"),
            chunk(r#"{"content":"a\"\u0001é"}"#, "null"),
            chunk("{}", "\"stop\""),
            format!(
                r#"{head}],"usage":{{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"prompt_tokens_details":{{"cached_tokens":3,"cache_write_tokens":2}},"completion_tokens_details":{{"reasoning_tokens":2}}}}}}"#
            ),
            "[DONE]".to_owned(),
        ]
    );
}

fn deltas(written: &[String]) -> Vec<(u64, Value)> {
    written
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .map(|chunk| {
            assert!(chunk.get("usage").is_none(), "usage that nobody asked for");
            (chunk["choices"][0]["index"].as_u64().unwrap(), chunk["choices"][0]["delta"].clone())
        })
        .collect()
}

#[test]
fn tool_calls_and_thinking_are_streamed() {
    let written = stream(
        vec![
            Event::Thinking { choice: 0, text: "h".into() },
            Event::Thinking { choice: 0, text: "m".into() },
            Event::ThinkingSignature { choice: 0, signature: "sig".into() },
            Event::RedactedThinking { choice: 0, data: "d".into() },
            Event::Thinking { choice: 0, text: "unsigned".into() },
            Event::ToolStart {
                choice: 0,
                index: 0,
                id: "c".into(),
                name: "f".into(),
                signature: Some("ts".into()),
            },
            Event::ThinkingSignature { choice: 0, signature: "alone".into() },
            Event::ToolArguments { choice: 0, index: 0, fragment: "{\"a\":".into() },
            Event::ToolArguments { choice: 0, index: 0, fragment: "1}".into() },
            Event::ToolEnd { choice: 0, index: 0 },
            Event::Refusal { choice: 1, text: "no".into() },
            finish(0, FinishReason::ToolCalls),
            text(0, "after its end"),
            finish(0, FinishReason::Stop),
            Event::Tokens(tokens()),
            Event::End,
        ],
        false,
    );
    let role = json!({"role": "assistant", "content": ""});
    let signed = |text: &str, signature: &str| json!({"thinking_blocks": [{"type": "thinking", "thinking": text, "signature": signature}]});
    let arguments = |text: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]});
    assert_eq!(
        deltas(&written),
        [
            (0, role.clone()),
            (0, json!({"reasoning_content": "h"})),
            (0, json!({"reasoning_content": "m"})),
            (0, signed("hm", "sig")),
            (0, json!({"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]})),
            (0, json!({"reasoning_content": "unsigned"})),
            (
                0,
                json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""},
            "extra_content": {"google": {"thought_signature": "ts"}}}]})
            ),
            (0, signed("", "alone")),
            (0, arguments("{\"a\":")),
            (0, arguments("1}")),
            (1, role),
            (1, json!({"refusal": "no"})),
            (0, json!({})),
        ]
    );
    assert_eq!(written.last().unwrap(), "[DONE]");
    assert_eq!(written.iter().filter(|event| event.contains("\"finish_reason\":\"tool_calls\"")).count(), 1);
}

#[test]
fn an_error_ends_a_stream() {
    let failure = ProviderError {
        status: 429,
        kind: "rate_limit_error".into(),
        code: Some("slow_down".into()),
        message: "wait\nplease".into(),
        ..ProviderError::default()
    };
    let expected = json!({"status": "failure", "message": "wait\nplease", "error_origin_level": "api_error",
        "error": {"message": "wait\nplease", "type": "rate_limit_error", "param": null, "code": "slow_down"}});
    let written =
        stream(vec![start(), text(0, "a"), Event::Error(failure.clone()), Event::End, start()], true);
    assert_eq!(written.len(), 4);
    assert_eq!(serde_json::from_str::<Value>(&written[2]).unwrap(), expected);
    assert_eq!(written[3], "[DONE]");
    assert_eq!(serde_json::from_slice::<Value>(&error(&failure)).unwrap(), expected);
    let bare = ProviderError { status: 502, ..ProviderError::default() };
    let bare: Value = serde_json::from_slice(&error(&bare)).unwrap();
    assert_eq!(
        (bare["error"]["code"].as_str(), bare["error"]["type"].as_str()),
        (Some("502"), Some("APIError"))
    );
}

#[test]
fn a_stream_keeps_to_lines_and_bounds() {
    let logprobs =
        Event::Text { choice: 0, text: "a\r\nb".into(), logprobs: Some("{\"content\":\r\n[]}".into()) };
    let mut events = vec![logprobs];
    for choice in 0..1_000 {
        events.push(text(choice, "x"));
    }
    let written = stream(events, false);
    assert!(written.iter().all(|event| !event.contains(['\n', '\r'])));
    let highest = deltas(&written).into_iter().map(|(choice, _)| choice).max();
    assert_eq!(highest, Some(127));
    let mut events = vec![Event::Thinking { choice: 0, text: "x".repeat(3 * 1024 * 1024).into() }];
    events.push(Event::ThinkingSignature { choice: 0, signature: "s".into() });
    let written = stream(events, false);
    assert!(!written.iter().any(|event| event.contains("thinking_blocks")), "a block that is not whole");
}
