use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::super::*;
use crate::translate::capability;
use crate::translate::conversation::*;
use crate::translate::{Built, Invalid, Target};

pub(super) const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
pub(super) const CLAUDE_3: &str = "anthropic.claude-3-haiku-20240307-v1:0";
pub(super) const CLAUDE_NEW: &str = "us.anthropic.claude-opus-4-8";
pub(super) const NOVA: &str = "us.amazon.nova-2-lite-v1:0";
pub(super) const LLAMA: &str = "meta.llama3-70b-instruct-v1:0";
pub(super) const GPT_OSS: &str = "openai.gpt-oss-120b-1:0";

pub(super) fn target(model_id: &str, drop_unsupported: bool) -> Target<'_> {
    Target {
        provider: "aws-bedrock",
        model_id,
        capability: capability::of("converse", model_id, None),
        drop_unsupported,
    }
}

pub(super) fn built(model: &str, conversation: &Conversation) -> Built {
    build(conversation, &target(model, false)).unwrap()
}

pub(super) fn body(model: &str, conversation: &Conversation) -> Value {
    serde_json::from_slice(&built(model, conversation).body).unwrap()
}

pub(super) fn refused(model: &str, conversation: &Conversation) -> Invalid {
    build(conversation, &target(model, false)).unwrap_err()
}

/// What is dropped where that is allowed, and the body.
pub(super) fn dropped(model: &str, conversation: &Conversation) -> (Vec<String>, Value) {
    let built = build(conversation, &target(model, true)).unwrap();
    (built.dropped, serde_json::from_slice(&built.body).unwrap())
}

pub(super) fn raw(value: Value) -> Box<RawValue> {
    to_raw_value(&value).unwrap()
}

pub(super) fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned(), cache: None }
}

pub(super) fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, parts, place: "messages[0]".to_owned() }
}

pub(super) fn saying(turns: Vec<Turn>) -> Conversation {
    let mut turns = turns;
    for (number, turn) in turns.iter_mut().enumerate() {
        turn.place = format!("messages[{number}]");
    }
    Conversation { turns, ..Conversation::default() }
}

pub(super) fn hello() -> Conversation {
    saying(vec![turn(Role::User, vec![text("hello")])])
}

pub(super) fn with(parts: Vec<Part>) -> Conversation {
    saying(vec![turn(Role::User, parts)])
}

pub(super) fn call(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall(ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        ..ToolCall::default()
    })
}

pub(super) fn result(id: &str, parts: Vec<Part>) -> Part {
    Part::ToolResult(ToolResult { call_id: id.to_owned(), parts, ..ToolResult::default() })
}

pub(super) fn tool(name: &str) -> Tool {
    let parameters = Some(raw(json!({"type": "object", "properties": {"city": {"type": "string"}}})));
    Tool { name: name.to_owned(), description: Some("d".to_owned()), parameters, strict: None, cache: None }
}

pub(super) fn spec(name: &str) -> Value {
    json!({"toolSpec": {"name": name, "description": "d",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}}}}})
}

pub(super) fn image(media_type: &str, data: &str) -> Part {
    let source = Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() };
    Part::Image { source, detail: None, cache: None }
}

pub(super) fn document(media_type: &str, data: &str, name: Option<&str>) -> Part {
    let source = Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() };
    Part::Document { source, name: name.map(str::to_owned), cache: None }
}

pub(super) fn thought(text: &str, signature: Option<&str>) -> Part {
    Part::Thinking { text: text.to_owned(), signature: signature.map(str::to_owned) }
}

#[test]
fn paths_encode_the_model_once() {
    for (id, operation, expected) in [
        (
            "anthropic.claude-3-haiku-20240307-v1:0",
            Operation::Converse,
            "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
        ),
        (
            "us.anthropic.claude-opus-4-8",
            Operation::ConverseStream,
            "/model/us.anthropic.claude-opus-4-8/converse-stream",
        ),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc",
            Operation::Invoke,
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fabc/invoke",
        ),
        (
            "us.anthropic.claude-opus-4-8",
            Operation::CountTokens,
            "/model/anthropic.claude-opus-4-8/count-tokens",
        ),
        ("us.", Operation::Invoke, "/model/us./invoke"),
        ("..", Operation::Invoke, "/model/%2E%2E/invoke"),
        ("a b?c#d%é", Operation::Converse, "/model/a%20b%3Fc%23d%25%C3%A9/converse"),
    ] {
        assert_eq!(path(id, operation), expected);
    }
}

#[test]
fn turns_become_messages() {
    let conversation = Conversation {
        max_output_tokens: Some(100),
        temperature: Some(0.5),
        stop: vec!["END".to_owned()],
        ..saying(vec![
            turn(Role::System, vec![text("be kind")]),
            turn(Role::System, vec![text(" "), text("be brief")]),
            turn(Role::User, vec![text("a"), text(""), text("b")]),
            turn(Role::User, vec![text("c")]),
            turn(Role::Assistant, vec![]),
            turn(Role::Assistant, vec![text("d"), Part::Refusal { text: "no".to_owned() }]),
            turn(Role::System, vec![text("now be rude")]),
            turn(Role::User, vec![text("e")]),
        ])
    };
    assert_eq!(
        body(CLAUDE, &conversation),
        json!({
            "messages": [
                {"role": "user", "content": [{"text": "a"}, {"text": "b"}, {"text": "c"}]},
                {"role": "assistant", "content": [{"text": "d"}, {"text": "no"}]},
                {"role": "user", "content": [{"text": "now be rude"}, {"text": "e"}]},
            ],
            "system": [{"text": "be kind"}, {"text": "be brief"}],
            "additionalModelResponseFieldPaths": ["/stop_sequence"],
            "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "stopSequences": ["END"]},
        })
    );
    assert_eq!(
        body(
            CLAUDE_NEW,
            &saying(vec![
                turn(Role::User, vec![text("a")]),
                turn(Role::System, vec![text("b")]),
                turn(Role::User, vec![text("c")]),
            ])
        )["messages"][1],
        json!({"role": "system", "content": [{"text": "b"}]})
    );
    assert_eq!(
        body(CLAUDE, &hello()),
        json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]})
    );
}

#[test]
fn a_tool_loop() {
    let long = "x".repeat(100);
    let conversation = Conversation {
        tools: vec![tool("weather"), tool("mcp.server/tool")],
        tool_choice: Some(ToolChoice::Required),
        ..saying(vec![
            turn(Role::User, vec![text("?")]),
            turn(
                Role::Assistant,
                vec![
                    thought("hm", Some("c2ln")),
                    thought("", Some("c2ln")),
                    thought("not signed", None),
                    Part::RedactedThinking { data: "AAAA".to_owned() },
                    text("I look"),
                    call("call_1", "weather", "{\"city\": \"Paris\", \"n\": 1.0}"),
                    call(&long, "mcp.server/tool", " "),
                ],
            ),
            turn(Role::User, vec![result("call_1", vec![text("sunny")])]),
            turn(Role::User, vec![text("and?"), result(&long, vec![])]),
        ])
    };
    let built = built(CLAUDE, &conversation);
    let written = String::from_utf8(built.body.clone()).unwrap();
    assert!(written.contains("{\"city\": \"Paris\", \"n\": 1.0}"), "arguments keep their digits and spaces");
    let value: Value = serde_json::from_slice(&built.body).unwrap();
    let renamed = value["toolConfig"]["tools"][1]["toolSpec"]["name"].as_str().unwrap();
    assert!(renamed.starts_with("mcp_server_tool_") && renamed.len() <= 64);
    assert_eq!(built.context.callers_tool_name(renamed), "mcp.server/tool");
    let id = value["messages"][1]["content"][5]["toolUse"]["toolUseId"].as_str().unwrap();
    assert!(id.len() <= 64);
    assert_eq!(
        value["messages"],
        json!([
            {"role": "user", "content": [{"text": "?"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
                {"reasoningContent": {"reasoningText": {"text": "", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "AAAA"}},
                {"text": "I look"},
                {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Paris", "n": 1.0}}},
                {"toolUse": {"toolUseId": id, "name": renamed, "input": {}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "call_1", "content": [{"text": "sunny"}]}},
                {"toolResult": {"toolUseId": id, "content": [{"text": "(empty)"}]}},
                {"text": "and?"},
            ]},
        ])
    );
    assert_eq!(value["toolConfig"]["toolChoice"], json!({"any": {}}));
    assert_eq!(value["toolConfig"]["tools"][0], spec("weather"));
}

#[test]
fn results_with_pictures_and_errors() {
    let failed = ToolResult { call_id: "1".to_owned(), parts: vec![text("no")], is_error: true, cache: None };
    let conversation = saying(vec![
        turn(Role::User, vec![text("?")]),
        turn(Role::Assistant, vec![call("1", "a", ""), call("2", "a", "{}")]),
        turn(
            Role::User,
            vec![
                Part::ToolResult(failed),
                result("2", vec![image("image/png", "AAAA"), document("application/pdf", "AAAA", None)]),
            ],
        ),
    ]);
    let value = body(CLAUDE, &conversation);
    assert_eq!(
        value["messages"][2]["content"],
        json!([
            {"toolResult": {"toolUseId": "1", "content": [{"text": "no"}], "status": "error"}},
            {"toolResult": {"toolUseId": "2", "content": [
                {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"document": {"format": "pdf", "name": "document", "source": {"bytes": "AAAA"}}},
            ]}},
        ])
    );
    // The calls need a list of tools, also when the caller gives none any more.
    assert_eq!(
        value["toolConfig"],
        json!({"tools": [{"toolSpec": {"name": "a", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]})
    );
}

#[test]
fn choices_of_tools() {
    let tools = || vec![tool("a"), tool("b")];
    let history = vec![
        turn(Role::User, vec![text("?")]),
        turn(Role::Assistant, vec![call("1", "a", "")]),
        turn(Role::User, vec![result("1", vec![])]),
    ];
    for (choice, expected) in [
        (None, json!({"tools": [spec("a"), spec("b")]})),
        (Some(ToolChoice::Auto), json!({"tools": [spec("a"), spec("b")]})),
        (Some(ToolChoice::None), Value::Null),
        (Some(ToolChoice::Required), json!({"tools": [spec("a"), spec("b")], "toolChoice": {"any": {}}})),
        (
            Some(ToolChoice::Tool("b".to_owned())),
            json!({"tools": [spec("a"), spec("b")], "toolChoice": {"tool": {"name": "b"}}}),
        ),
        (
            Some(ToolChoice::Allowed { names: vec!["b".to_owned()], required: true }),
            json!({"tools": [spec("b")], "toolChoice": {"any": {}}}),
        ),
    ] {
        let conversation = Conversation { tools: tools(), tool_choice: choice, ..hello() };
        assert_eq!(body(CLAUDE, &conversation)["toolConfig"], expected);
    }
    let conversation =
        Conversation { tools: tools(), tool_choice: Some(ToolChoice::None), ..saying(history) };
    let built = built(CLAUDE, &conversation);
    assert_eq!(built.dropped, ["tool_choice"], "there is no way to forbid calls beside calls that were made");
    let conversation = Conversation { tools: tools(), tool_choice: Some(ToolChoice::Required), ..hello() };
    assert_eq!(refused(LLAMA, &conversation).field, "tool_choice");
    assert_eq!(dropped(LLAMA, &conversation).0, ["tool_choice"]);
    for choice in [ToolChoice::Tool("c".to_owned()), ToolChoice::Allowed { names: vec![], required: false }] {
        let conversation = Conversation { tools: tools(), tool_choice: Some(choice), ..hello() };
        assert_eq!(refused(CLAUDE, &conversation).field, "tool_choice");
    }
    assert_eq!(
        refused(CLAUDE, &Conversation { tool_choice: Some(ToolChoice::Required), ..hello() }).field,
        "tool_choice"
    );
    let bad = Tool { parameters: Some(raw(json!([]))), ..tool("a") };
    assert_eq!(refused(CLAUDE, &Conversation { tools: vec![bad], ..hello() }).field, "tools");
    let conversation = Conversation { tools: tools(), parallel_tool_calls: Some(false), ..hello() };
    assert_eq!(refused(CLAUDE, &conversation).field, "parallel_tool_calls");
    let strict = Conversation { tools: vec![Tool { strict: Some(true), ..tool("a") }], ..hello() };
    assert_eq!(body(CLAUDE, &strict)["toolConfig"]["tools"][0]["toolSpec"]["strict"], true);
    assert_eq!(refused(CLAUDE_3, &strict).field, "tools.strict");
}

#[test]
fn pictures_documents_and_sound() {
    let conversation = with(vec![
        text("see"),
        image("image/jpg", "AAA="),
        document("text/csv", "AAAA", Some("a_b  (1).[x]-é.csv")),
        document("text/csv", "AAAA", Some("a b (1) [x]- csv")),
        Part::Document { source: Source::Text("hé".to_owned()), name: Some("///".to_owned()), cache: None },
        Part::Audio { data: "AAAA".to_owned(), format: "wav".to_owned() },
    ]);
    assert_eq!(
        body(CLAUDE, &conversation)["messages"][0]["content"],
        json!([
            {"text": "see"},
            {"image": {"format": "jpeg", "source": {"bytes": "AAA="}}},
            {"document": {"format": "csv", "name": "a b (1) [x]- csv", "source": {"bytes": "AAAA"}}},
            {"document": {"format": "csv", "name": "a b (1) [x]- csv 2", "source": {"bytes": "AAAA"}}},
            {"document": {"format": "txt", "name": "document", "source": {"bytes": "aMOp"}}},
            {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}},
        ])
    );
    let long = document("text/html", "AAAA", Some(&"n".repeat(100_000)));
    let value = body(CLAUDE, &with(vec![text("see"), long]));
    assert!(value["messages"][0]["content"][1]["document"]["name"].as_str().unwrap().len() <= 200);

    let url = Source::Url("https://example.com/a.png".to_owned());
    for part in [
        Part::Image { source: url.clone(), detail: None, cache: None },
        Part::Image { source: Source::FileId("f".to_owned()), detail: None, cache: None },
        Part::Document { source: url, name: None, cache: None },
        Part::Document { source: Source::Text(String::new()), name: None, cache: None },
        image("image/svg+xml", "AAAA"),
        image("image/png", "not base64"),
        image("image/png", ""),
        image("image/png", "AAA"),
        document("application/zip", "AAAA", None),
        Part::Audio { data: "AAAA".to_owned(), format: "x/y".to_owned() },
        Part::RedactedThinking { data: "{}".to_owned() },
        call("1", "a", "[]"),
        call("1", "a", "{\"a\":"),
        call("1", "a", "{} {}"),
        result("1", vec![result("2", vec![])]),
        result("1", vec![call("2", "a", "")]),
    ] {
        let shown = format!("{part:?}");
        let error = refused(CLAUDE, &with(vec![text("see"), part]));
        assert_eq!(error.field, "messages[0]", "{shown}");
        assert!(!error.message.contains("example.com"));
    }
    assert_eq!(refused(CLAUDE, &with(vec![document("text/csv", "AAAA", None)])).field, "messages[0]");
    let part = Part::Image {
        source: Source::Base64 { media_type: "image/png".to_owned(), data: "AAAA".to_owned() },
        detail: Some("high".to_owned()),
        cache: None,
    };
    assert_eq!(refused(CLAUDE, &with(vec![part])).field, "image_url.detail");
}

#[test]
fn what_can_not_begin_or_end_a_conversation() {
    for conversation in [
        Conversation::default(),
        saying(vec![turn(Role::System, vec![text("a")])]),
        saying(vec![turn(Role::Assistant, vec![text("a")])]),
        with(vec![]),
        with(vec![text(" \n")]),
        with(vec![text("a"), result("1", vec![])]),
        saying(vec![turn(Role::System, vec![image("image/png", "AAAA")])]),
        saying(vec![
            turn(Role::User, vec![text("a")]),
            turn(Role::Assistant, vec![call("1", "a", ""), call("1", "a", "")]),
        ]),
    ] {
        assert!(refused(CLAUDE, &conversation).field.starts_with("messages"));
    }
    let prefill = saying(vec![turn(Role::User, vec![text("a")]), turn(Role::Assistant, vec![text("b \n")])]);
    assert_eq!(body(CLAUDE, &prefill)["messages"][1]["content"], json!([{"text": "b"}]));
    assert_eq!(refused(CLAUDE_NEW, &prefill).field, "messages[1]");
    assert_eq!(body(LLAMA, &prefill)["messages"][1]["content"], json!([{"text": "b \n"}]));
}

#[test]
fn cache_marks() {
    let marked = |cache| Part::Text { text: "a".to_owned(), cache: Some(cache) };
    let conversation = Conversation {
        cache: Some(CacheMark::FiveMinutes),
        tools: vec![Tool { cache: Some(CacheMark::Default), ..tool("a") }],
        ..saying(vec![
            turn(Role::System, vec![marked(CacheMark::OneHour)]),
            turn(Role::User, vec![text("b")]),
        ])
    };
    let value = body(CLAUDE, &conversation);
    assert_eq!(value["system"], json!([{"text": "a"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]));
    assert_eq!(value["messages"][0]["content"], json!([{"text": "b"}, {"cachePoint": {"type": "default"}}]));
    assert_eq!(value["toolConfig"]["tools"], json!([spec("a"), {"cachePoint": {"type": "default"}}]));
    assert_eq!(refused(LLAMA, &conversation).field, "cache_control");
    let (names, value) = dropped(LLAMA, &conversation);
    assert_eq!(names, ["cache_control"]);
    assert_eq!(value["system"], json!([{"text": "a"}]));
}

#[test]
fn results_come_first_in_the_message_of_several_turns() {
    let conversation = saying(vec![
        turn(Role::User, vec![text("?")]),
        turn(Role::Assistant, vec![call("1", "a", ""), call("2", "a", ""), call("3", "a", "")]),
        turn(Role::User, vec![text("x"), result("1", vec![])]),
        turn(Role::User, vec![text("y"), result("2", vec![])]),
        turn(Role::User, vec![result("3", vec![]), text("z")]),
    ]);
    let value = body(CLAUDE, &conversation);
    let order: Vec<&str> = value["messages"][2]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["text"].as_str().or(block["toolResult"]["toolUseId"].as_str()).unwrap())
        .collect();
    assert_eq!(order, ["1", "2", "3", "x", "y", "z"]);
}
