use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::super::*;
use crate::translate::capability::{self, Capability};
use crate::translate::conversation::*;
use crate::translate::{Built, Invalid, Target};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const CLAUDE_3: &str = "anthropic.claude-3-haiku-20240307-v1:0";
const CLAUDE_NEW: &str = "us.anthropic.claude-opus-4-8";
const NOVA: &str = "us.amazon.nova-2-lite-v1:0";
const LLAMA: &str = "meta.llama3-70b-instruct-v1:0";
const GPT_OSS: &str = "openai.gpt-oss-120b-1:0";

fn target(model_id: &str, drop_unsupported: bool) -> Target<'_> {
    Target {
        provider: "aws-bedrock",
        model_id,
        capability: capability::of("converse", model_id, None),
        drop_unsupported,
    }
}

fn built(model: &str, conversation: &Conversation) -> Built {
    build(conversation, &target(model, false)).unwrap()
}

fn body(model: &str, conversation: &Conversation) -> Value {
    serde_json::from_slice(&built(model, conversation).body).unwrap()
}

fn refused(model: &str, conversation: &Conversation) -> Invalid {
    build(conversation, &target(model, false)).unwrap_err()
}

/// What is dropped where that is allowed, and the body.
fn dropped(model: &str, conversation: &Conversation) -> (Vec<String>, Value) {
    let built = build(conversation, &target(model, true)).unwrap();
    (built.dropped, serde_json::from_slice(&built.body).unwrap())
}

fn raw(value: Value) -> Box<RawValue> {
    to_raw_value(&value).unwrap()
}

fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned(), cache: None }
}

fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, parts, place: "messages[0]".to_owned() }
}

fn saying(turns: Vec<Turn>) -> Conversation {
    let mut turns = turns;
    for (number, turn) in turns.iter_mut().enumerate() {
        turn.place = format!("messages[{number}]");
    }
    Conversation { turns, ..Conversation::default() }
}

fn hello() -> Conversation {
    saying(vec![turn(Role::User, vec![text("hello")])])
}

fn with(parts: Vec<Part>) -> Conversation {
    saying(vec![turn(Role::User, parts)])
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall(ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        ..ToolCall::default()
    })
}

fn result(id: &str, parts: Vec<Part>) -> Part {
    Part::ToolResult(ToolResult { call_id: id.to_owned(), parts, ..ToolResult::default() })
}

fn tool(name: &str) -> Tool {
    let parameters = Some(raw(json!({"type": "object", "properties": {"city": {"type": "string"}}})));
    Tool { name: name.to_owned(), description: Some("d".to_owned()), parameters, strict: None, cache: None }
}

fn spec(name: &str) -> Value {
    json!({"toolSpec": {"name": name, "description": "d",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}}}}})
}

fn image(media_type: &str, data: &str) -> Part {
    let source = Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() };
    Part::Image { source, detail: None, cache: None }
}

fn document(media_type: &str, data: &str, name: Option<&str>) -> Part {
    let source = Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() };
    Part::Document { source, name: name.map(str::to_owned), cache: None }
}

fn thought(text: &str, signature: Option<&str>) -> Part {
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
fn sampling_by_what_the_model_takes() {
    let asks = |temperature, top_p, top_k| Conversation { temperature, top_p, top_k, ..hello() };
    for (model, conversation, field, config) in [
        (CLAUDE_3, asks(Some(1.5), None, None), "temperature", json!({"temperature": 1.0})),
        (CLAUDE, asks(Some(0.1), Some(0.5), None), "top_p", json!({"temperature": 0.1})),
        (CLAUDE_NEW, asks(Some(0.1), None, None), "temperature", Value::Null),
        (CLAUDE_NEW, asks(None, Some(0.1), None), "top_p", Value::Null),
        (CLAUDE_NEW, asks(None, None, Some(5)), "top_k", Value::Null),
        (LLAMA, asks(None, None, Some(5)), "top_k", Value::Null),
        (GPT_OSS, asks(None, None, Some(5)), "top_k", Value::Null),
    ] {
        assert_eq!(refused(model, &conversation).field, field);
        let (names, value) = dropped(model, &conversation);
        assert_eq!((names, &value["inferenceConfig"]), (vec![field.to_owned()], &config));
    }
    assert_eq!(body(CLAUDE_NEW, &asks(Some(1.0), Some(1.0), None)), body(CLAUDE_NEW, &hello()));
    let value = body(CLAUDE_3, &asks(Some(0.0), Some(0.5), Some(5)));
    assert_eq!(value["inferenceConfig"], json!({"temperature": 0.0, "topP": 0.5}));
    assert_eq!(value["additionalModelRequestFields"], json!({"top_k": 5}));
    let value = body(NOVA, &asks(None, None, Some(5)));
    assert_eq!(value["additionalModelRequestFields"], json!({"inferenceConfig": {"topK": 5}}));
    let value = body("cohere.command-r-plus-v1:0", &asks(None, None, Some(5)));
    assert_eq!(value["additionalModelRequestFields"], json!({"k": 5}));
}

#[test]
fn thinking_by_what_the_model_takes() {
    let thinks = |effort, budget_tokens, enabled| Conversation {
        reasoning: Some(Reasoning { effort, budget_tokens, enabled, visible: None }),
        ..hello()
    };
    let additional = |model: &str, conversation: &Conversation| {
        body(model, conversation)["additionalModelRequestFields"].clone()
    };
    for (model, conversation, expected) in [
        (
            CLAUDE,
            thinks(Some(Effort::Low), None, None),
            json!({"thinking": {"type": "enabled", "budget_tokens": 4096}}),
        ),
        (
            CLAUDE,
            thinks(None, Some(2000), None),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ),
        (
            CLAUDE,
            thinks(None, None, Some(true)),
            json!({"thinking": {"type": "enabled", "budget_tokens": 8192}}),
        ),
        (CLAUDE, thinks(Some(Effort::None), None, None), Value::Null),
        (CLAUDE, thinks(None, Some(2000), Some(false)), Value::Null),
        (CLAUDE, thinks(None, None, None), Value::Null),
        (
            CLAUDE_NEW,
            thinks(Some(Effort::High), None, None),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ),
        (
            CLAUDE_NEW,
            thinks(None, Some(2000), None),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ),
        (CLAUDE_NEW, thinks(None, None, Some(true)), json!({"thinking": {"type": "adaptive"}})),
        (
            NOVA,
            thinks(Some(Effort::XHigh), None, None),
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        ),
        (GPT_OSS, thinks(Some(Effort::Medium), None, None), json!({"reasoning_effort": "medium"})),
        (LLAMA, thinks(Some(Effort::None), None, None), Value::Null),
    ] {
        assert_eq!(additional(model, &conversation), expected, "{model} {:?}", conversation.reasoning);
    }
    assert_eq!(
        body(CLAUDE, &thinks(Some(Effort::Low), None, None))["inferenceConfig"],
        json!({"maxTokens": 64000})
    );
    assert_eq!(refused(LLAMA, &thinks(Some(Effort::Low), None, None)).field, "reasoning_effort");
    assert_eq!(refused(GPT_OSS, &thinks(Some(Effort::None), None, None)).field, "reasoning_effort");
    assert_eq!(refused(CLAUDE, &thinks(None, Some(100), None)).field, "thinking.budget_tokens");
    let small = Conversation { max_output_tokens: Some(2000), ..thinks(None, Some(2000), None) };
    assert_eq!(refused(CLAUDE, &small).field, "thinking.budget_tokens");
    let small = Conversation { max_output_tokens: Some(1000), ..thinks(Some(Effort::Low), None, None) };
    assert_eq!(built(CLAUDE, &small).dropped, ["reasoning_effort"]);
    let forced = Conversation {
        tools: vec![tool("a")],
        tool_choice: Some(ToolChoice::Required),
        ..thinks(Some(Effort::Low), None, None)
    };
    assert_eq!(refused(CLAUDE, &forced).field, "reasoning_effort");
    let warm = Conversation { temperature: Some(0.5), ..thinks(Some(Effort::Low), None, None) };
    assert_eq!(refused(CLAUDE, &warm).field, "temperature");
    // A tool loop whose thoughts did not come back goes on without.
    let mut going_on = thinks(Some(Effort::Low), None, None);
    going_on.turns.push(turn(Role::Assistant, vec![call("1", "a", "")]));
    going_on.turns.push(turn(Role::User, vec![result("1", vec![])]));
    assert_eq!(built(CLAUDE, &going_on).dropped, ["reasoning_effort"]);
    going_on.turns[1].parts.insert(0, thought("", Some("c2ln")));
    assert!(built(CLAUDE, &going_on).dropped.is_empty());
}

#[test]
fn answers_in_json() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "number"}}});
    let by_schema = |tools: Vec<Tool>| Conversation {
        tools,
        format: Some(Format::JsonSchema {
            name: Some("n".to_owned()),
            description: None,
            schema: raw(schema.clone()),
            strict: Some(true),
        }),
        ..hello()
    };
    assert_eq!(
        body(CLAUDE, &by_schema(vec![]))["outputConfig"],
        json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "n", "schema": schema.to_string()}}}})
    );
    let json_tool = json!({"toolSpec": {"name": "json_answer", "description": "The answer.", "inputSchema": {"json": schema}}});
    let forced = built(CLAUDE_3, &by_schema(vec![]));
    let value: Value = serde_json::from_slice(&forced.body).unwrap();
    assert_eq!(
        value["toolConfig"],
        json!({"tools": [json_tool], "toolChoice": {"tool": {"name": "json_answer"}}})
    );
    assert_eq!(forced.context.json_tool.as_deref(), Some("json_answer"));
    let beside = built(CLAUDE_3, &by_schema(vec![tool("json_answer")]));
    let value: Value = serde_json::from_slice(&beside.body).unwrap();
    assert_eq!(value["toolConfig"]["toolChoice"], json!({"any": {}}));
    assert_eq!(beside.context.json_tool.as_deref(), Some("json_answer_"));
    let called = Conversation { tool_choice: Some(ToolChoice::Required), ..by_schema(vec![tool("a")]) };
    assert_eq!(built(CLAUDE_3, &called).context.json_tool, None);
    assert_eq!(refused(LLAMA, &by_schema(vec![])).field, "response_format");
    assert_eq!(dropped(LLAMA, &by_schema(vec![])).0, ["response_format"]);
    let some = Conversation { format: Some(Format::JsonObject), ..hello() };
    assert_eq!(body(LLAMA, &some)["system"].as_array().unwrap().len(), 1);
}

#[test]
fn what_has_no_equal_is_refused_by_name() {
    let others = || vec![("logit_bias".to_owned(), raw(json!({})))];
    for (field, conversation) in [
        ("n", Conversation { count: Some(2), ..hello() }),
        ("seed", Conversation { seed: Some(0), ..hello() }),
        ("logprobs", Conversation { logprobs: Some(true), ..hello() }),
        ("top_logprobs", Conversation { top_logprobs: Some(1), ..hello() }),
        ("frequency_penalty", Conversation { frequency_penalty: Some(0.1), ..hello() }),
        ("presence_penalty", Conversation { presence_penalty: Some(-0.1), ..hello() }),
        ("user", Conversation { user: Some("é".to_owned()), ..hello() }),
        ("service_tier", Conversation { service_tier: Some("scale".to_owned()), ..hello() }),
        ("logit_bias", Conversation { others: others(), ..hello() }),
    ] {
        assert_eq!(refused(CLAUDE, &conversation).field, field);
        let (names, value) = dropped(CLAUDE, &conversation);
        assert_eq!((names, value), (vec![field.to_owned()], body(CLAUDE, &hello())));
    }
    let harmless = Conversation {
        count: Some(1),
        logprobs: Some(false),
        frequency_penalty: Some(0.0),
        parallel_tool_calls: Some(false),
        service_tier: Some("auto".to_owned()),
        format: Some(Format::Text),
        ..hello()
    };
    assert_eq!(body(CLAUDE, &harmless), body(CLAUDE, &hello()));
    let value = body(
        CLAUDE,
        &Conversation { user: Some("u-1".to_owned()), service_tier: Some("flex".to_owned()), ..hello() },
    );
    assert_eq!(
        (&value["requestMetadata"], &value["serviceTier"]),
        (&json!({"user": "u-1"}), &json!({"type": "flex"}))
    );
    assert_eq!(
        refused(CLAUDE, &Conversation { max_output_tokens: Some(0), ..hello() }).field,
        "max_completion_tokens"
    );
}

#[test]
fn provider_options_are_merged_and_take_nothing_over() {
    let options = |options: Vec<(&str, Value)>| Conversation {
        provider_options: options.into_iter().map(|(name, value)| (name.to_owned(), raw(value))).collect(),
        top_k: Some(5),
        max_output_tokens: Some(10),
        ..hello()
    };
    let value = body(
        CLAUDE,
        &options(vec![
            ("guardrailConfig", json!({"guardrailIdentifier": "g"})),
            ("additionalModelRequestFields", json!({"anthropic_beta": ["x"]})),
            ("inferenceConfig", json!({"topP": 0.5})),
            ("requestMetadata", json!({"team": "t"})),
        ]),
    );
    assert_eq!(value["guardrailConfig"], json!({"guardrailIdentifier": "g"}));
    assert_eq!(value["additionalModelRequestFields"], json!({"top_k": 5, "anthropic_beta": ["x"]}));
    assert_eq!(value["inferenceConfig"], json!({"maxTokens": 10, "topP": 0.5}));
    assert_eq!(value["requestMetadata"], json!({"team": "t"}));
    let many: Value =
        (0..100).map(|number| (number.to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into();
    for (name, given, field) in [
        ("messages", json!([]), "provider_options.messages"),
        ("inferenceConfig", json!({"maxTokens": 1}), "provider_options.inferenceConfig.maxTokens"),
        (
            "additionalModelRequestFields",
            json!({"top_k": 1}),
            "provider_options.additionalModelRequestFields.top_k",
        ),
        ("additionalModelRequestFields", json!([]), "provider_options.additionalModelRequestFields"),
        ("additionalModelRequestFields", many, "provider_options.additionalModelRequestFields"),
    ] {
        assert_eq!(refused(CLAUDE, &options(vec![(name, given)])).field, field);
    }
    let twice = options(vec![("x", json!(1)), ("x", json!(2))]);
    assert_eq!(refused(CLAUDE, &twice).field, "provider_options.x");
    let many = options(vec![("x", json!(1)); 65]);
    assert_eq!(refused(CLAUDE, &many).field, "provider_options");
}

/// Whatever is asked, the body is JSON with the members that have to be there, or there is a refusal.
#[test]
fn any_conversation_is_written_or_refused() {
    let mut state = 1_u64;
    let mut next = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let texts = ["", " ", "a", "\u{0}\"\\", "☃", "{}", "AAAA"];
    let models = [CLAUDE, CLAUDE_3, CLAUDE_NEW, NOVA, LLAMA, GPT_OSS];
    let mut written = 0;
    for round in 0..3000 {
        let mut turns = vec![turn(Role::User, vec![text("a")])];
        for _ in 0..next(5) {
            let role = [Role::System, Role::User, Role::Assistant][next(3) as usize];
            let mut parts = Vec::new();
            for _ in 0..next(4) {
                let word = texts[next(7) as usize];
                parts.push(match next(9) {
                    0 => image("image/png", word),
                    1 => document("text/plain", word, Some(word)),
                    2 => call(word, word, word),
                    3 => result(word, vec![text(word)]),
                    4 => thought(word, Some(word)),
                    5 => Part::RedactedThinking { data: word.to_owned() },
                    _ => Part::Text {
                        text: word.to_owned(),
                        cache: (next(2) == 0).then_some(CacheMark::OneHour),
                    },
                });
            }
            turns.push(turn(role, parts));
        }
        let conversation = Conversation {
            tools: (0..next(3)).map(|number| tool(texts[(number + next(3)) as usize])).collect(),
            tool_choice: [None, Some(ToolChoice::None), Some(ToolChoice::Required)][next(3) as usize].clone(),
            temperature: [None, Some(0.5), Some(f64::MAX)][next(3) as usize],
            max_output_tokens: [None, Some(1), Some(u64::MAX)][next(3) as usize],
            reasoning: (next(2) == 0).then(|| Reasoning {
                effort: Some(Effort::High),
                budget_tokens: [None, Some(0), Some(u64::MAX)][next(3) as usize],
                ..Reasoning::default()
            }),
            ..saying(turns)
        };
        let target = target(models[next(6) as usize], next(4) > 0);
        if let Ok(built) = build(&conversation, &target) {
            let value: Value = serde_json::from_slice(&built.body).unwrap();
            assert!(!value["messages"].as_array().unwrap().is_empty(), "{round}");
            written += 1;
        }
    }
    assert!(written > 300, "{written} of them");
}

#[test]
fn a_family_that_the_configuration_names_decides() {
    let arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc";
    let named: &Capability = capability::of("converse", arn, Some("claude-4.5"));
    let conversation = Conversation { top_k: Some(5), ..hello() };
    let target =
        Target { provider: "aws-bedrock", model_id: arn, capability: named, drop_unsupported: false };
    let value: Value = serde_json::from_slice(&build(&conversation, &target).unwrap().body).unwrap();
    assert_eq!(value["additionalModelRequestFields"], json!({"top_k": 5}));
    assert_eq!(refused(arn, &conversation).field, "top_k");
}
