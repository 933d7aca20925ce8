//! Conversations and the requests that they become.

use serde_json::json;

use super::*;
use crate::translate::conversation::{CacheMark, Effort, Format, Reasoning, Source, ToolChoice};

const OLD: &str = "claude-3-5-sonnet-20240620";
const BUDGET: &str = "claude-haiku-4-5";
const NEW: &str = "claude-opus-4-7";
const NEWER: &str = "claude-opus-4-8";

#[test]
fn a_whole_conversation() {
    let mut conversation = said(vec![
        (Role::System, vec![text("be brief"), text("  ")]),
        (Role::System, vec![Part::Text { text: "rules".to_owned(), cache: Some(CacheMark::OneHour) }]),
        (
            Role::User,
            vec![
                text("look"),
                text(""),
                Part::Image {
                    source: Source::Base64 { media_type: "image/png".to_owned(), data: "aGk=".to_owned() },
                    detail: Some("high".to_owned()),
                    cache: None,
                },
                Part::Image { source: Source::Url("https://e/x.png".to_owned()), detail: None, cache: None },
                Part::Document {
                    source: Source::Base64 {
                        media_type: "application/pdf".to_owned(),
                        data: "eA==".to_owned(),
                    },
                    name: Some("a.pdf".to_owned()),
                    cache: Some(CacheMark::Default),
                },
            ],
        ),
        (
            Role::Assistant,
            vec![
                Part::Thinking { text: "hm".to_owned(), signature: Some("s1".to_owned()) },
                Part::Thinking { text: String::new(), signature: Some("s2".to_owned()) },
                Part::Thinking { text: "of another".to_owned(), signature: None },
                Part::RedactedThinking { data: "r".to_owned() },
                text("calling"),
                call("a", "weather", "{\"z\": 1.0, \"a\": 2}"),
                call("b", "time", " "),
            ],
        ),
        // The results in the other order, with words in between.
        (Role::User, vec![result("b", ""), text("and?")]),
        (Role::User, vec![result("a", "sunny")]),
    ]);
    conversation.tools = vec![
        tool("weather", Some("{\"type\":\"object\",\"properties\":{\"z\":{},\"a\":{}}}")),
        tool("time", None),
        tool("any", Some("{ }")),
    ];
    conversation.tool_choice = Some(ToolChoice::Auto);
    conversation.parallel_tool_calls = Some(false);
    conversation.max_output_tokens = Some(100);
    conversation.temperature = Some(0.5);
    conversation.top_k = Some(3);
    conversation.stop = vec!["END".to_owned()];
    conversation.user = Some("u-1".to_owned());
    conversation.service_tier = Some("default".to_owned());
    conversation.stream = true;
    conversation.provider_options =
        vec![("metadata".to_owned(), raw("{\"x\":1}")), ("container".to_owned(), raw("\"c\""))];
    let built = build(&conversation, &target("claude-sonnet-4-20250514", false)).unwrap();
    assert!(built.dropped.is_empty() && built.context.json_tool.is_none());
    assert_eq!(
        body(&built),
        json!({
            "model": "claude-sonnet-4-20250514", "max_tokens": 100, "stream": true,
            "system": [
                {"type": "text", "text": "be brief"},
                {"type": "text", "text": "rules", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "image", "source": {"type": "url", "url": "https://e/x.png"}},
                    {"type": "document", "title": "a.pdf", "cache_control": {"type": "ephemeral"},
                     "source": {"type": "base64", "media_type": "application/pdf", "data": "eA=="}}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s1"},
                    {"type": "thinking", "thinking": "", "signature": "s2"},
                    {"type": "redacted_thinking", "data": "r"},
                    {"type": "text", "text": "calling"},
                    {"type": "tool_use", "id": "a", "name": "weather", "input": {"z": 1.0, "a": 2}},
                    {"type": "tool_use", "id": "b", "name": "time", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "b", "content": ""},
                    {"type": "text", "text": "and?"}]}],
            "tools": [
                {"name": "weather", "description": "d",
                 "input_schema": {"type": "object", "properties": {"z": {}, "a": {}}}},
                {"name": "time", "description": "d", "input_schema": {"type": "object", "properties": {}}},
                {"name": "any", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
            "temperature": 0.5, "top_k": 3, "stop_sequences": ["END"],
            "metadata": {"user_id": "u-1", "x": 1}, "service_tier": "standard_only", "container": "c",
        })
    );
    // What is only carried keeps its order and its digits.
    let text = String::from_utf8(built.body).unwrap();
    assert!(text.contains("{\"z\": 1.0, \"a\": 2}") && text.contains("{\"z\":{},\"a\":{}}"), "{text}");
}

#[test]
fn system_turns_among_the_others() {
    let conversation = || {
        said(vec![
            (Role::User, vec![text("one")]),
            (Role::System, vec![text("rule")]),
            (Role::Assistant, vec![text("two"), call("a", "f", "{}")]),
            (Role::System, vec![text("late")]),
            (Role::User, vec![result("a", "r")]),
        ])
    };
    let late = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "a", "content": "r"}, {"type": "text", "text": "late"}]});
    let joined = build_for(NEW, &conversation()).unwrap();
    assert_eq!(joined["messages"][0]["content"][1], json!({"type": "text", "text": "rule"}));
    assert_eq!(joined["messages"][2], late);
    let kept = build_for(NEWER, &conversation()).unwrap();
    assert_eq!(kept["messages"][1], json!({"role": "system", "content": [{"type": "text", "text": "rule"}]}));
    assert_eq!(kept["messages"][3], late);
}

#[test]
fn what_is_refused_by_its_place() {
    let refused = |turns, field: &str| {
        assert_eq!(build_for(OLD, &said(turns)).unwrap_err().field, field);
    };
    let image = |media_type: &str| Part::Image {
        source: Source::Base64 { media_type: media_type.to_owned(), data: String::new() },
        detail: None,
        cache: None,
    };
    let user = || (Role::User, vec![text("x")]);
    refused(vec![], "messages");
    refused(vec![(Role::System, vec![text("x")])], "messages");
    refused(vec![(Role::User, vec![])], "messages[0]");
    refused(vec![(Role::User, vec![text("  \n")])], "messages[0]");
    refused(vec![(Role::User, vec![text("x"), image("image/tiff")])], "messages[0].content[1]");
    let sound = Part::Audio { data: String::new(), format: "wav".to_owned() };
    refused(vec![(Role::User, vec![sound])], "messages[0].content[0]");
    refused(vec![user(), (Role::System, vec![image("image/png")])], "messages[1]");
    refused(vec![user(), (Role::Assistant, vec![image("image/png")])], "messages[1].content[0]");
    refused(vec![user(), (Role::Assistant, vec![call("a", "f", "{}")])], "messages[1]");
    refused(vec![user(), (Role::Assistant, vec![call("a", "f", "{}")]), user()], "messages[2]");
    for broken in ["[]", "\"x\"", "{", "{}{}", "null", "nonsense"] {
        let turns = vec![
            user(),
            (Role::Assistant, vec![text("x"), call("a", "f", "{}"), call("b", "f", broken)]),
            (Role::User, vec![result("a", ""), result("b", "")]),
        ];
        refused(turns, "messages[1].tool_calls[1]");
    }
    let calls = || (Role::Assistant, vec![call("a", "f", "{}")]);
    refused(vec![user(), calls(), (Role::User, vec![result("b", "")])], "messages[2]");
    refused(vec![user(), calls(), (Role::User, vec![result("a", ""), result("a", "")])], "messages[2]");
    refused(vec![(Role::User, vec![result("a", "")])], "messages[0]");
    // A result may not wait for a later turn.
    let late = vec![user(), calls(), (Role::Assistant, vec![text("x")]), (Role::User, vec![result("a", "")])];
    assert!(build_for(OLD, &said(late)).is_ok(), "neighbours of one role are one message");
    refused(vec![user(), calls(), user(), calls(), (Role::User, vec![result("a", "")])], "messages[2]");
}

#[test]
fn the_beginning_of_an_answer() {
    let turns = || said(vec![(Role::User, vec![text("x")]), (Role::Assistant, vec![text("It is \n")])]);
    let sent = build_for(OLD, &turns()).unwrap();
    assert_eq!(sent["messages"][1]["content"][0]["text"], "It is");
    assert_eq!(build_for(NEW, &turns()).unwrap_err().field, "messages[1]");
    let empty = said(vec![(Role::User, vec![text("x")]), (Role::Assistant, vec![text(" ")])]);
    assert_eq!(build_for(NEW, &empty).unwrap()["messages"].as_array().unwrap().len(), 1);
}

#[test]
fn ids_and_names_that_have_to_be_rewritten() {
    let long = "n".repeat(200);
    let mut conversation = said(vec![
        (Role::User, vec![text("x")]),
        (Role::Assistant, vec![call("", "do it", "{}"), call("", "do.it", "{}"), call("é:1", &long, "{}")]),
        (Role::User, vec![result("", "1"), result("", "2"), result("é:1", "3")]),
        (Role::Assistant, vec![call("a", "do_it", "{}"), call("a", "", "{}")]),
        (Role::User, vec![result("a", "4"), result("a", "5")]),
    ]);
    conversation.tools = vec![tool("do it", None), tool("do_it", None)];
    conversation.tool_choice = Some(ToolChoice::Tool("do it".to_owned()));
    let built = build(&conversation, &target(OLD, false)).unwrap();
    let sent = body(&built);
    let mut ids = Vec::new();
    for (asked, answered) in [(1, 2), (3, 4)] {
        let calls = sent["messages"][asked]["content"].as_array().unwrap();
        let results = sent["messages"][answered]["content"].as_array().unwrap();
        for (call, result) in calls.iter().zip(results) {
            let id = call["id"].as_str().unwrap();
            assert_eq!(result["tool_use_id"], id);
            assert!(!id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{id}");
            let name = call["name"].as_str().unwrap();
            assert!((1..=128).contains(&name.len()) && !name.contains([' ', '.']), "{name}");
            ids.push(id.to_owned());
        }
        let texts: Vec<_> = results.iter().map(|result| result["content"].as_str().unwrap()).collect();
        assert!(texts.is_sorted(), "{texts:?}");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let names: std::collections::BTreeSet<_> = built.context.tool_names.iter().map(|(a, _)| a).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let chosen = sent["tool_choice"]["name"].as_str().unwrap();
    assert_eq!(built.context.callers_tool_name(chosen), "do it");
    assert_eq!(sent["tools"][1]["name"], "do_it");
    assert_eq!(body(&build(&conversation, &target(OLD, false)).unwrap()), sent, "not the same twice");
}

#[test]
fn the_choice_of_tools() {
    let names = |of: &Value| -> Vec<String> {
        let tools = of["tools"].as_array().into_iter().flatten();
        tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let asked = |choice: ToolChoice, parallel: Option<bool>| {
        let mut conversation = hello();
        conversation.tools = vec![tool("a", None), tool("b", None)];
        conversation.tool_choice = Some(choice);
        conversation.parallel_tool_calls = parallel;
        build_for(OLD, &conversation)
    };
    let allowed = |names: &[&str], required| ToolChoice::Allowed {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        required,
    };
    for (choice, parallel, sent, tools) in [
        (ToolChoice::Auto, None, json!({"type": "auto"}), "ab"),
        (ToolChoice::Required, Some(true), json!({"type": "any"}), "ab"),
        (ToolChoice::None, Some(false), json!({"type": "none"}), "ab"),
        (
            ToolChoice::Tool("b".to_owned()),
            Some(false),
            json!({"type": "tool", "name": "b", "disable_parallel_tool_use": true}),
            "ab",
        ),
        (allowed(&["b"], true), None, json!({"type": "any"}), "b"),
        (allowed(&["b", "a"], false), None, json!({"type": "auto"}), "ab"),
    ] {
        let request = asked(choice, parallel).unwrap();
        assert_eq!((&request["tool_choice"], names(&request).concat().as_str()), (&sent, tools));
    }
    for wrong in [ToolChoice::Tool("c".to_owned()), allowed(&[], false), allowed(&["a", "c"], true)] {
        assert_eq!(asked(wrong, None).unwrap_err().field, "tool_choice");
    }
    let mut none = hello();
    none.tool_choice = Some(ToolChoice::Auto);
    none.parallel_tool_calls = Some(false);
    assert!(build_for(OLD, &none).unwrap().get("tool_choice").is_none());
    none.tool_choice = Some(ToolChoice::Required);
    assert_eq!(build_for(OLD, &none).unwrap_err().field, "tool_choice");
    for schema in ["[]", "3", "null", "\"x\"", "{\"type\":\"array\"}", "{\"type\":[\"object\"]}"] {
        let mut conversation = hello();
        conversation.tools = vec![tool("a", Some(schema))];
        assert_eq!(build_for(OLD, &conversation).unwrap_err().field, "tools[0].function.parameters");
    }
    let mut twice = hello();
    twice.tools = vec![tool("a", None), tool("a", None)];
    assert_eq!(build_for(OLD, &twice).unwrap_err().field, "tools[1]");
}

#[test]
fn what_no_model_or_not_this_one_takes() {
    type Change = fn(&mut Conversation);
    let table: &[(&str, &str, Change)] = &[
        (OLD, "n", |c| c.count = Some(2)),
        (OLD, "seed", |c| c.seed = Some(1)),
        (OLD, "frequency_penalty", |c| c.frequency_penalty = Some(0.1)),
        (OLD, "presence_penalty", |c| c.presence_penalty = Some(-0.1)),
        (OLD, "logprobs", |c| c.logprobs = Some(true)),
        (OLD, "top_logprobs", |c| c.top_logprobs = Some(3)),
        (OLD, "temperature", |c| c.temperature = Some(1.5)),
        (OLD, "stop", |c| c.stop = vec![" ".to_owned()]),
        (OLD, "service_tier", |c| c.service_tier = Some("flex".to_owned())),
        (OLD, "logit_bias", |c| c.others = vec![("logit_bias".to_owned(), raw("{}"))]),
        (OLD, "reasoning_effort", |c| c.reasoning = effort(Effort::Low)),
        (NEW, "temperature", |c| c.temperature = Some(0.7)),
        (NEW, "top_p", |c| c.top_p = Some(0.7)),
        (NEW, "top_k", |c| c.top_k = Some(7)),
        (BUDGET, "top_p", |c| (c.temperature, c.top_p) = (Some(0.1), Some(0.1))),
        (BUDGET, "temperature", |c| {
            c.temperature = Some(0.1);
            c.reasoning = effort(Effort::Low);
        }),
        (BUDGET, "reasoning_effort", |c| {
            c.reasoning = effort(Effort::High);
            c.tools = vec![tool("a", None)];
            c.tool_choice = Some(ToolChoice::Required);
        }),
    ];
    for (model, field, change) in table {
        let mut conversation = hello();
        change(&mut conversation);
        let refusal = build(&conversation, &target(model, false)).unwrap_err();
        assert_eq!(refusal.field, *field);
        assert!(refusal.message.contains("anthropic"), "{refusal}");
        let built = build(&conversation, &target(model, true)).unwrap();
        assert_eq!(built.dropped, [*field]);
        let sent = body(&built);
        assert!(sent.get(field).is_none(), "{sent}");
    }
    // What every model does by itself is no wish.
    let mut plain = hello();
    (plain.temperature, plain.top_p, plain.count) = (Some(1.0), Some(1.0), Some(1));
    (plain.frequency_penalty, plain.logprobs, plain.top_logprobs) = (Some(0.0), Some(false), Some(0));
    let sent = build_for(NEW, &plain).unwrap();
    assert_eq!(sent.as_object().unwrap().len(), 3, "{sent}");
    assert_eq!(sent["max_tokens"], 128_000);
    plain.temperature = Some(f64::NAN);
    assert_eq!(build_for(OLD, &plain).unwrap_err().field, "temperature");
}

#[allow(clippy::unnecessary_wraps, reason = "as the field has it")]
fn effort(effort: Effort) -> Option<Reasoning> {
    Some(Reasoning { effort: Some(effort), ..Reasoning::default() })
}

#[test]
fn how_much_to_think() {
    let told = |model: &str, reasoning: Option<Reasoning>, max: Option<u64>| {
        let mut conversation = hello();
        (conversation.reasoning, conversation.max_output_tokens) = (reasoning, max);
        let sent = build_for(model, &conversation).unwrap();
        (sent["thinking"].clone(), sent["output_config"]["effort"].clone())
    };
    let tokens = |n: u64| Some(Reasoning { budget_tokens: Some(n), ..Reasoning::default() });
    let enabled = |n: u64| (json!({"type": "enabled", "budget_tokens": n}), Value::Null);
    let adaptive = |effort: Value| (json!({"type": "adaptive"}), effort);
    let off = (json!({"type": "disabled"}), Value::Null);
    let nothing = (Value::Null, Value::Null);
    assert_eq!(told(BUDGET, effort(Effort::Low), None), enabled(4_096));
    assert_eq!(told(BUDGET, effort(Effort::High), None), enabled(24_576));
    assert_eq!(told(BUDGET, effort(Effort::High), Some(8_000)), enabled(6_000));
    assert_eq!(told(BUDGET, effort(Effort::High), Some(1_000)), nothing);
    assert_eq!(told(BUDGET, tokens(2_000), Some(4_000)), enabled(2_000));
    assert_eq!(told(BUDGET, effort(Effort::None), None), off);
    assert_eq!(told(OLD, effort(Effort::None), None), nothing);
    assert_eq!(told(NEW, effort(Effort::XHigh), None), adaptive(json!("xhigh")));
    assert_eq!(told("claude-opus-4-6", effort(Effort::XHigh), None), adaptive(json!("high")));
    assert_eq!(told("claude-opus-4-6", tokens(2_000), None), enabled(2_000));
    assert_eq!(told(NEW, tokens(2_000), None), adaptive(json!("low")));
    assert_eq!(told(NEW, tokens(1_000_000), None), adaptive(json!("max")));
    assert_eq!(told(NEW, effort(Effort::Minimal), None), off);
    let seen = Reasoning { enabled: Some(true), visible: Some(true), ..Reasoning::default() };
    let summarized = (json!({"type": "adaptive", "display": "summarized"}), Value::Null);
    assert_eq!(told(NEW, Some(seen), None), summarized);
    assert_eq!(told(NEW, Some(Reasoning::default()), None), nothing);
    assert_eq!(told(NEW, None, None), nothing);
    for (budget, max) in [(1_023, 5_000), (5_000, 5_000), (u64::MAX, u64::MAX)] {
        let mut conversation = hello();
        (conversation.reasoning, conversation.max_output_tokens) = (tokens(budget), Some(max));
        assert_eq!(build_for(BUDGET, &conversation).unwrap_err().field, "thinking.budget_tokens");
    }
    // A tool loop whose thoughts did not come back goes on without.
    let looped = |first: Option<Part>| {
        let calls = first.into_iter().chain([call("a", "f", "{}")]).collect();
        let mut conversation = said(vec![
            (Role::User, vec![text("x")]),
            (Role::Assistant, calls),
            (Role::User, vec![result("a", "1")]),
        ]);
        conversation.reasoning = effort(Effort::Low);
        let built = build(&conversation, &target(BUDGET, false)).unwrap();
        (body(&built)["thinking"]["type"].clone(), built.dropped)
    };
    assert_eq!(looped(None), (Value::Null, vec!["reasoning_effort".to_owned()]));
    let thought = Part::Thinking { text: "t".to_owned(), signature: Some("s".to_owned()) };
    assert_eq!(looped(Some(thought)), (json!("enabled"), vec![]));
}

#[test]
fn answers_as_json() {
    let closed = "{\"type\":\"object\",\"properties\":{\"b\":{},\"a\":{}},\"additionalProperties\":false}";
    let open = "{\"type\":\"object\",\"properties\":{\"b\":{}}}";
    let schema = |schema: &str| {
        Some(Format::JsonSchema {
            name: Some("n".to_owned()),
            description: Some("why".to_owned()),
            schema: raw(schema),
            strict: None,
        })
    };
    let ask = |model: &str, format: Option<Format>, tools: Vec<Tool>, choice: Option<ToolChoice>| {
        let mut conversation = hello();
        (conversation.format, conversation.tools, conversation.tool_choice) = (format, tools, choice);
        let built = build(&conversation, &target(model, false)).unwrap();
        (body(&built), built.context.json_tool)
    };
    let (native, none) = ask(BUDGET, schema(closed), vec![], None);
    let (kind, it) = ("json_schema", serde_json::from_str::<Value>(closed).unwrap());
    assert_eq!(native["output_config"], json!({"format": {"type": kind, "schema": it}}));
    assert_eq!((none, native.get("tools")), (None, None));
    for (model, format) in [(OLD, schema(closed)), (BUDGET, schema(open)), (BUDGET, Some(Format::JsonObject))]
    {
        let (sent, name) = ask(model, format, vec![], None);
        let name = name.unwrap();
        let forced = json!({"type": "tool", "name": name, "disable_parallel_tool_use": true});
        assert_eq!((&sent["tool_choice"], &sent["tools"][0]["name"]), (&forced, &json!(name)));
        assert_eq!(sent["tools"][0]["input_schema"]["type"], "object");
        assert!(sent.get("output_config").is_none());
    }
    // Beside other tools it is one more to choose from; calls that are forced are the answer.
    let (sent, name) = ask(OLD, schema(open), vec![tool("json_answer", None)], None);
    assert_eq!((name.unwrap().as_str(), &sent["tool_choice"]), ("json_answer_", &json!({"type": "any"})));
    let (sent, name) = ask(OLD, schema(open), vec![tool("a", None)], Some(ToolChoice::Required));
    assert_eq!((name, sent["tools"].as_array().unwrap().len()), (None, 1));
    let (sent, name) = ask(OLD, schema(open), vec![tool("a", None)], Some(ToolChoice::None));
    assert_eq!((name.is_some(), sent["tools"].as_array().unwrap().len()), (true, 1));
    let (sent, name) = ask(OLD, Some(Format::Text), vec![], None);
    assert_eq!((name, sent.get("tools")), (None, None));
}

#[test]
fn options_for_the_provider() {
    let ask = |name: &str, value: &str| {
        let mut conversation = hello();
        conversation.user = Some("u".to_owned());
        conversation.reasoning = effort(Effort::High);
        conversation.provider_options = vec![(name.to_owned(), raw(value))];
        build_for(NEW, &conversation)
    };
    assert_eq!(ask("betas", "[\"x\"]").unwrap()["betas"], json!(["x"]));
    assert_eq!(ask("metadata", "{}").unwrap()["metadata"], json!({"user_id": "u"}));
    assert_eq!(ask("metadata", " { \"b\" : 1 } ").unwrap()["metadata"], json!({"user_id": "u", "b": 1}));
    assert_eq!(
        ask("output_config", "{\"x\":2}").unwrap()["output_config"],
        json!({"effort": "high", "x": 2})
    );
    for (name, value, field) in [
        ("model", "\"x\"", "provider_options.model"),
        ("stream", "true", "provider_options.stream"),
        ("messages", "[]", "provider_options.messages"),
        ("thinking", "{}", "provider_options.thinking"),
        ("metadata", "3", "provider_options.metadata"),
        ("metadata", "{\"user_id\":\"v\"}", "provider_options.metadata.user_id"),
    ] {
        assert_eq!(ask(name, value).unwrap_err().field, field);
    }
}

#[test]
fn cache_marks() {
    let mut conversation = hello();
    conversation.cache = Some(CacheMark::FiveMinutes);
    let mut marked = tool("a", None);
    marked.cache = Some(CacheMark::Default);
    conversation.tools = vec![marked];
    let sent = build_for(OLD, &conversation).unwrap();
    assert_eq!(sent["cache_control"], json!({"type": "ephemeral", "ttl": "5m"}));
    assert_eq!(sent["tools"][0]["cache_control"], json!({"type": "ephemeral"}));
    let plain = capability::Capability::default();
    let elsewhere = Target { capability: &plain, ..target(OLD, false) };
    assert_eq!(build(&conversation, &elsewhere).unwrap_err().field, "cache_control");
}
