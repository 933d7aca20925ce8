use serde_json::{Value, json};

use super::{StreamWriter, error, estimate_tokens, read, read_to_count, write, write_count};
use crate::translate::answer::{Event, ProviderError};
use crate::translate::conversation::{
    CacheMark, Conversation, Effort, Format, Part, Reasoning, Role, Source, ToolChoice,
};
use crate::translate::front::tests::{
    IDENTITY, answers, check_blocks, compare, disorder, events, hostile, mutate, recorded_requests, streams,
};

fn written(steps: Vec<Event<'_>>) -> Vec<u8> {
    let mut writer = StreamWriter::new(&IDENTITY, false);
    let mut out = Vec::new();
    steps.into_iter().for_each(|step| writer.write(step, &mut out));
    out
}

fn conversation(body: &Value) -> Conversation {
    read(body.to_string().as_bytes()).unwrap()
}

fn minimal(more: &Value) -> Value {
    let mut body = json!({"model": "a/m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn refused(more: &Value) -> String {
    read(minimal(more).to_string().as_bytes()).unwrap_err().field
}

fn others(conversation: &Conversation) -> Vec<&str> {
    conversation.others.iter().map(|(name, _)| name.as_str()).collect()
}

fn full() -> Value {
    json!({
        "model": "a/m",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/PNG;x=y", "data": "aGk="}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {"type": "document", "title": "T", "citations": {"enabled": false},
                 "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"},
                                                                              {"type": "text", "text": "b"}]}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "b3Bh"},
                {"type": "redacted_thinking", "data": "gateway1:{\"call\":{\"id\":\"t2\",\"signature\":\"cHJm\"}}"},
                {"type": "text", "text": "Looking.", "citations": null},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"b": 1.0, "a": [ 1 ]},
                 "caller": {"type": "direct"}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "", "is_error": true},
                {"type": "tool_result", "tool_use_id": "t2", "content": [
                    {"type": "text", "text": "r"},
                    {"type": "image", "source": {"type": "file", "file_id": "f_1"}}]},
                {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}},
            ]},
            {"role": "system", "content": "New rule."},
        ],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object", "z": 1, "a": 2}, "strict": true,
             "cache_control": {"type": "ephemeral", "ttl": "5m"}},
            {"type": "custom", "name": "g", "input_schema": {"type": "object"}, "eager_input_streaming": true},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
        "output_config": {"effort": "xhigh", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_p": 1,
        "top_k": 3,
        "service_tier": "standard_only",
        "stream": true,
        "container": "c",
        "provider_options": {"seed": 7},
    })
}

#[test]
fn a_full_request_is_read() {
    // The order of keys and the digits of numbers are kept, so this is text and no `Value`.
    let body = full().to_string().replace(r#"{"a":[1],"b":1.0}"#, r#"{"b":1.0, "a":[ 1 ]}"#);
    let c = read(body.as_bytes()).unwrap();
    let roles: Vec<(Role, &str)> = c.turns.iter().map(|turn| (turn.role, turn.place.as_str())).collect();
    assert_eq!(
        roles,
        [
            (Role::System, "system"),
            (Role::User, "messages[0]"),
            (Role::Assistant, "messages[1]"),
            (Role::User, "messages[2]"),
            (Role::System, "messages[3]"),
        ]
    );
    assert!(matches!(&c.turns[0].parts[..], [Part::Text { cache: Some(CacheMark::OneHour), .. }]));
    let [
        Part::Text { .. },
        Part::Image { source: png, .. },
        Part::Image { source: url, .. },
        Part::Document { source: pdf, name: Some(title), .. },
        Part::Document { source: words, .. },
        Part::Document { source: joined, .. },
    ] = &c.turns[1].parts[..]
    else {
        panic!("{:?}", c.turns[1]);
    };
    assert_eq!(png, &Source::Base64 { media_type: "image/png".to_owned(), data: "aGk=".to_owned() });
    assert_eq!(url, &Source::Url("https://x/y.png".to_owned()));
    assert!(matches!(pdf, Source::Base64 { media_type, .. } if media_type == "application/pdf"));
    assert_eq!(title, "T");
    assert_eq!((words, joined), (&Source::Text("words".to_owned()), &Source::Text("a\nb".to_owned())));
    let [
        Part::Thinking { text, signature: Some(signature) },
        Part::RedactedThinking { data },
        Part::Text { .. },
        Part::ToolCall(first),
        Part::ToolCall(second),
    ] = &c.turns[2].parts[..]
    else {
        panic!("{:?}", c.turns[2]);
    };
    assert_eq!((text.as_str(), signature.as_str(), data.as_str()), ("Hm", "c2ln", "b3Bh"));
    assert_eq!((first.arguments.as_str(), &first.signature), (r#"{"b":1.0,"a":[1]}"#, &None));
    assert_eq!((second.arguments.as_str(), second.signature.as_deref()), ("{}", Some("cHJm")));
    let [
        Part::ToolResult(empty),
        Part::ToolResult(result),
        Part::Text { cache: Some(CacheMark::Default), .. },
    ] = &c.turns[3].parts[..]
    else {
        panic!("{:?}", c.turns[3]);
    };
    assert!(empty.is_error && empty.parts.is_empty() && empty.call_id == "t1");
    assert!(matches!(&result.parts[..], [Part::Text { .. }, Part::Image { source: Source::FileId(_), .. }]));
    assert_eq!(c.tools.len(), 2);
    assert_eq!((c.tools[0].strict, c.tools[0].cache), (Some(true), Some(CacheMark::FiveMinutes)));
    assert_eq!(c.tool_choice, Some(ToolChoice::Tool("f".to_owned())));
    assert_eq!(c.parallel_tool_calls, Some(false));
    let thinking = Reasoning {
        effort: Some(Effort::XHigh),
        budget_tokens: Some(2000),
        enabled: Some(true),
        visible: Some(false),
    };
    assert_eq!(c.reasoning, Some(thinking));
    assert!(matches!(&c.format, Some(Format::JsonSchema { strict: Some(true), .. })));
    assert_eq!((c.user.as_deref(), c.service_tier.as_deref()), (Some("u"), Some("default")));
    assert_eq!(
        (c.max_output_tokens, c.temperature, c.top_p, c.top_k),
        (Some(100), Some(0.5), Some(1.0), Some(3))
    );
    assert_eq!((c.stop.as_slice(), c.stream), (&["END".to_owned()][..], true));
    assert_eq!(c.provider_options[0].0, "seed");
    assert_eq!(others(&c), ["tools[2]:web_search_20250305", "container"]);
}

#[test]
fn thinking_comes_in_several_words() {
    for (thinking, enabled) in [("adaptive", Some(true)), ("disabled", Some(false))] {
        let c = conversation(&minimal(&json!({"thinking": {"type": thinking}})));
        assert_eq!(c.reasoning.unwrap().enabled, enabled);
    }
    let c = conversation(&minimal(&json!({"thinking": {"type": "between_tools"}})));
    assert_eq!((others(&c), c.reasoning.is_none()), (vec!["thinking:between_tools"], true));
    let c = conversation(&minimal(&json!({"output_config": {"effort": "low"}})));
    assert_eq!(c.reasoning, Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() }));
}

#[test]
fn what_has_no_place_is_named() {
    let c = conversation(&minimal(&json!({
        "mcp_servers": [], "speed": "fast", "unheard_of": 1, "nothing": null,
        "messages": [
            {"role": "user", "x": 1, "content": [
                {"type": "text", "text": "a", "citations": [{"y": 1}]},
                {"type": "search_result", "source": "s", "title": "t", "content": []}]},
            {"role": "assistant", "content": [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "text", "text": "b", "citations": []}]}],
    })));
    assert_eq!(
        others(&c),
        [
            "messages[0].content[0].citations",
            "messages[0].content[1]:search_result",
            "messages[0].x",
            "messages[1].content[0]:server_tool_use",
            "mcp_servers",
            "speed",
            "unheard_of",
        ]
    );
}

#[test]
fn wrong_fields_are_refused_by_name() {
    let messages = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let said = |content: Value| json!({"messages": [{"role": "assistant", "content": content}]});
    for (more, field) in [
        (json!({"model": null}), "model"),
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": [1]}), "messages[0]"),
        (json!({"messages": [{"role": "tool", "content": ""}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"system": [{"type": "image"}]}), "system[0].type"),
        (json!({"temperature": 1.5}), "temperature"),
        (json!({"top_p": "1"}), "top_p"),
        (json!({"stop_sequences": "END"}), "stop_sequences"),
        (json!({"stop_sequences": [1]}), "stop_sequences"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"service_tier": "flex"}), "service_tier"),
        (json!({"tool_choice": "auto"}), "tool_choice"),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice.name"),
        (json!({"tool_choice": {"type": "some"}}), "tool_choice.type"),
        (json!({"tools": [{"input_schema": {}}]}), "tools[0].name"),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "adaptive", "display": "x"}}), "thinking.display"),
        (json!({"output_config": {"effort": "huge"}}), "output_config.effort"),
        (json!({"output_config": {"format": {"type": "json"}}}), "output_config.format.type"),
        (json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema"),
        (json!({"cache_control": {"type": "forever"}}), "cache_control.type"),
        (json!({"cache_control": {"type": "ephemeral", "ttl": "2h"}}), "cache_control.ttl"),
        (messages(json!([{"text": "a"}])), "messages[0].content[0].type"),
        (messages(json!([{"type": "text"}])), "messages[0].content[0].text"),
        (
            messages(json!([{"type": "tool_use", "id": "a", "name": "b", "input": {}}])),
            "messages[0].content[0].type",
        ),
        (messages(json!([{"type": "image"}])), "messages[0].content[0].source"),
        (
            messages(json!([{"type": "image", "source": {"type": "text"}}])),
            "messages[0].content[0].source.type",
        ),
        (
            messages(
                json!([{"type": "image", "source": {"type": "base64", "media_type": "png", "data": ""}}]),
            ),
            "messages[0].content[0].source.media_type",
        ),
        (
            messages(
                json!([{"type": "document", "source": {"type": "text", "media_type": "text/html", "data": ""}}]),
            ),
            "messages[0].content[0].source.media_type",
        ),
        (messages(json!([{"type": "tool_result"}])), "messages[0].content[0].tool_use_id"),
        (
            messages(
                json!([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "tool_result"}]}]),
            ),
            "messages[0].content[0].content[0].type",
        ),
        (said(json!([{"type": "tool_result", "tool_use_id": "a"}])), "messages[0].content[0].type"),
        (
            said(json!([{"type": "tool_use", "id": "a", "name": "b", "input": "{}"}])),
            "messages[0].content[0].input",
        ),
        (said(json!([{"type": "thinking", "signature": "s"}])), "messages[0].content[0].thinking"),
    ] {
        assert_eq!(refused(&more), field, "{more}");
    }
    let twice =
        br#"{"model":"a","max_tokens":1,"messages":[{"role":"user","role":"assistant","content":"x"}]}"#;
    assert_eq!(read(twice).unwrap_err().field, "messages[0]");
}

#[test]
fn refusals_hold_nothing_of_the_prompt() {
    let secret = "SECRET-WORDS";
    for body in [
        json!({"messages": [{"role": secret, "content": secret}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": [secret]}]}]}),
        json!({"system": {"a": secret}}),
        json!({"temperature": secret}),
    ] {
        let refusal = read(minimal(&body).to_string().as_bytes()).unwrap_err().to_string();
        assert!(!refusal.contains(secret), "{refusal}");
    }
}

#[test]
fn hostile_bodies_are_refused() {
    for body in hostile() {
        assert!(read(&body).is_err() && read_to_count(&body).is_err());
    }
    let many = "{\"role\":\"user\",\"content\":\"\"},".repeat(100_001);
    let body = format!("{{\"model\":\"a\",\"max_tokens\":1,\"messages\":[{}]}}", many.trim_end_matches(','));
    assert_eq!(read(body.as_bytes()).unwrap_err().field, "messages");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(
        "{{\"model\":\"a\",\"max_tokens\":1,\"messages\":[{{\"role\":\"user\",\"content\":{deep}}}]}}"
    );
    assert!(read(body.as_bytes()).is_err());
    let strange: Vec<Value> = (0..200).map(|n| json!({"type": format!("new_{n}")})).collect();
    assert!(read(minimal(&json!({"tools": strange})).to_string().as_bytes()).is_err());
    mutate(&full(), &|body| drop(read(body)));
}

#[test]
fn recorded_requests_are_read() {
    let mut count = 0;
    for (name, body) in recorded_requests("cassettes/anthropic", "/v1/messages") {
        let counted = name.starts_with("count_tokens");
        let conversation = if counted { read_to_count(&body) } else { read(&body) };
        let conversation = conversation.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert!(estimate_tokens(&conversation) > 0, "{name}");
        // Only what Anthropic's own tools need is left over.
        for (other, _) in &conversation.others {
            assert!(other.contains(':') || other.ends_with("defer_loading"), "{name}: {other}");
        }
        count += 1;
    }
    assert!(count == 0 || count > 25, "{count}");
}

#[test]
fn answers_are_as_in_the_golden_files() {
    for (name, answer) in answers() {
        let body = write(&answer, &IDENTITY);
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
        compare("messages", &format!("{name}.json"), &body);
    }
}

#[test]
fn streams_are_as_in_the_golden_files() {
    for (name, steps) in streams() {
        let bytes = written(steps);
        check_blocks(name, &bytes);
        compare("messages", &format!("{name}.sse"), &bytes);
    }
}

#[test]
fn disorder_gives_a_stream_all_the_same() {
    let mut ended = 0;
    for seed in 1..400 {
        let bytes = written(disorder(seed, 40).into_iter().chain([Event::End]).collect());
        check_blocks(&format!("seed {seed}"), &bytes);
        let starts = events(&bytes).iter().filter(|event| event["type"] == "message_start").count();
        assert_eq!(starts, 1, "seed {seed}");
        ended += usize::from(bytes.ends_with(b"data: {\"type\":\"message_stop\"}\n\n"));
    }
    assert!(ended > 100, "{ended} of them are no failures");
}

#[test]
fn nothing_comes_after_the_end() {
    for (name, steps) in streams() {
        let twice: Vec<Event<'_>> = steps.iter().cloned().chain(steps.iter().cloned()).collect();
        assert_eq!(written(twice), written(steps), "{name}");
    }
}

#[test]
fn a_stream_that_breaks_off_has_no_end() {
    let (_, steps) = streams().remove(0);
    let events = events(&written(steps.into_iter().take(4).collect()));
    assert!(events.iter().all(|event| event["type"] != "message_delta" && event["type"] != "message_stop"));
}

#[test]
fn other_answers_than_the_first_are_left_out() {
    let bytes = written(vec![Event::Text { choice: 1, text: "no".into(), logprobs: None }]);
    assert!(bytes.is_empty());
}

#[test]
fn what_can_not_be_put_in_order_ends_the_stream() {
    let tool =
        |index| Event::ToolStart { choice: 0, index, id: "i".into(), name: "n".into(), signature: None };
    let fragment = "x".repeat(1 << 20);
    let mut steps = vec![tool(0), tool(1)];
    for _ in 0..6 {
        steps.push(Event::ToolArguments { choice: 0, index: 1, fragment: fragment.as_str().into() });
    }
    let bytes = written(steps);
    assert_eq!(events(&bytes).last().unwrap()["error"]["type"], "api_error");
    assert!(bytes.len() < 1 << 20);
    let many = events(&written((0..200).map(tool).collect()));
    assert_eq!(many.last().unwrap()["type"], "error");
}

#[test]
fn what_was_answered_is_read_again() {
    let (_, answer) = answers().remove(1);
    let message: Value = serde_json::from_slice(&write(&answer, &IDENTITY)).unwrap();
    let body = minimal(&json!({"messages": [{"role": "assistant", "content": message["content"]}]}));
    let c = conversation(&body);
    assert!(c.others.is_empty());
    let calls: Vec<(&str, Option<&str>)> = c.turns[0]
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::ToolCall(call) => Some((call.id.as_str(), call.signature.as_deref())),
            _ => None,
        })
        .collect();
    assert_eq!(calls, [("call_a", None), ("call_b", Some("Z2VtaW5p")), ("call_c", None), ("call_d", None)]);
    let thoughts = c.turns[0].parts.iter().filter_map(|part| match part {
        Part::Thinking { text, signature } => Some((text.as_str(), signature.as_deref())),
        _ => None,
    });
    assert_eq!(
        thoughts.collect::<Vec<_>>(),
        [("Let me see.", Some("c2ln")), ("", Some("b25seQ==")), ("Unproven.", None)]
    );
}

#[test]
fn errors_have_the_words_of_the_dialect() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
        (0, "invalid_request_error"),
    ] {
        let failure = ProviderError { status, message: "m".to_owned(), ..ProviderError::default() };
        let body: Value = serde_json::from_slice(&error(&failure)).unwrap();
        assert_eq!(
            body,
            json!({"type": "error", "error": {"type": kind, "message": "m"}, "request_id": null})
        );
    }
    let overlong = ProviderError {
        status: 400,
        code: Some("context_length_exceeded".to_owned()),
        message: "8 > 7".to_owned(),
        ..ProviderError::default()
    };
    let body: Value = serde_json::from_slice(&error(&overlong)).unwrap();
    assert_eq!(body["error"]["message"], "prompt is too long: 8 > 7");
}

#[test]
fn estimates_grow_with_the_request() {
    let of = |body: Value| estimate_tokens(&read_to_count(minimal(&body).to_string().as_bytes()).unwrap());
    let text = |text: &str| of(json!({"max_tokens": null, "messages": [{"role": "user", "content": text}]}));
    assert_eq!(text("12345678"), 6);
    assert_eq!(text("日本語"), 7);
    assert!(text(&"word ".repeat(1000)) > 1000);
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    assert!(of(json!({"tools": [tool]})) > text("Hi") + 300);
    let picture = json!({"type": "image", "source": {"type": "url", "url": "https://x"}});
    assert!(of(json!({"messages": [{"role": "user", "content": [picture]}]})) > 1000);
    assert_eq!(write_count(7), b"{\"input_tokens\":7}");
}
