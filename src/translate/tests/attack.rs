//! What a caller or a provider may send to hurt the gateway: deep, many, huge. On a stack as small as a connection's,
//! and with an eye on time and memory.

use std::time::Duration;

use serde_json::{Value, json};

use crate::translate::front::responses::Echo;
use crate::translate::{Back, Front, Identity, ReplyContext, Target, Translation, capability};

const BACKS: [(Back, &str, &str, &str); 6] = [
    (Back::OpenAi, "groq", "openai", "llama-3.3-70b"),
    (Back::Anthropic, "anthropic", "anthropic", "claude-opus-4-8"),
    (Back::Converse, "aws-bedrock", "converse", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
    (Back::Converse, "aws-bedrock", "converse", "amazon.nova-pro-v1:0"),
    (Back::Gemini, "google-gemini", "gemini", "gemini-2.0-flash"),
    (Back::Gemini, "google-vertex", "gemini", "gemini-3-pro"),
];
const FRONTS: [Front; 3] = [Front::Chat, Front::Messages, Front::Responses];
const IDENTITY: Identity<'_> = Identity { unique: "0", model: "a/m", created_s: 1 };

/// What a request becomes, where it becomes something.
fn through(front: Front, back: (Back, &'static str, &str, &str), body: &str) -> Result<Vec<u8>, String> {
    let (back, provider, protocol, model_id) = back;
    let known = capability::of(protocol, model_id, None);
    let target = Target { provider, model_id, capability: known, drop_unsupported: true };
    let built = front.read(body.as_bytes()).and_then(|conversation| back.build(&conversation, &target));
    built.map(|built| built.body).map_err(|refused| refused.to_string())
}

/// Runs on the stack that a connection has left when it translates.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(96 * 1024).spawn(test).unwrap().join().unwrap();
}

/// The most memory that this process had, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn nested(depth: usize) -> String {
    let half = depth / 2;
    format!("{}1{}", "[{\"a\":".repeat(half), "}]".repeat(half))
}

#[test]
fn deep_requests_need_no_stack() {
    on_a_small_stack(|| {
        for depth in [60, 96, 126, 130, 5_000] {
            let deep = nested(depth);
            let schema = format!(r#"{{"type":"object","properties":{{"x":{deep}}}}}"#);
            let arguments = Value::from(format!("{{\"x\":{deep}}}"));
            let bodies = [
                (
                    Front::Chat,
                    format!(
                        r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema},"strict":true}}}}]}}"#
                    ),
                ),
                (
                    Front::Chat,
                    format!(
                        r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"f","schema":{schema},"strict":true}}}}}}"#
                    ),
                ),
                (
                    Front::Chat,
                    format!(
                        r#"{{"model":"a","messages":[{{"role":"user","content":"x"}},{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}},{{"role":"tool","tool_call_id":"1","content":{arguments}}}]}}"#
                    ),
                ),
                (
                    Front::Chat,
                    format!(
                        r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],"provider_options":{{"metadata":{{"a":{deep}}},"generationConfig":{{"a":{deep}}},"output_config":{{"a":{deep}}}}},"user":"u","response_format":{{"type":"json_object"}}}}"#
                    ),
                ),
                (Front::Chat, format!(r#"{{"model":"a","messages":{deep}}}"#)),
                (
                    Front::Messages,
                    format!(
                        r#"{{"model":"a","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],"tools":[{{"name":"f","input_schema":{schema},"strict":true}}]}}"#
                    ),
                ),
                (
                    Front::Messages,
                    format!(
                        r#"{{"model":"a","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],"output_config":{{"format":{{"type":"json_schema","schema":{schema}}}}}}}"#
                    ),
                ),
                (
                    Front::Messages,
                    format!(
                        r#"{{"model":"a","max_tokens":9,"messages":[{{"role":"user","content":"x"}},{{"role":"assistant","content":[{{"type":"tool_use","id":"1","name":"f","input":{{"x":{deep}}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"1","content":{arguments}}}]}}]}}"#
                    ),
                ),
                (
                    Front::Messages,
                    format!(
                        r#"{{"model":"a","max_tokens":9,"messages":[{{"role":"user","content":{deep}}}]}}"#
                    ),
                ),
                (
                    Front::Responses,
                    format!(
                        r#"{{"model":"a","input":"x","tools":[{{"type":"function","name":"f","parameters":{schema},"strict":true}}]}}"#
                    ),
                ),
                (
                    Front::Responses,
                    format!(
                        r#"{{"model":"a","input":"x","text":{{"format":{{"type":"json_schema","name":"f","schema":{schema},"strict":true}}}}}}"#
                    ),
                ),
                (
                    Front::Responses,
                    format!(
                        r#"{{"model":"a","input":[{{"role":"user","content":"x"}},{{"type":"function_call","call_id":"1","name":"f","arguments":{arguments}}},{{"type":"function_call_output","call_id":"1","output":{arguments}}}]}}"#
                    ),
                ),
                (Front::Responses, format!(r#"{{"model":"a","input":{deep}}}"#)),
            ];
            for (front, body) in &bodies {
                for back in BACKS {
                    let built = through(*front, back, body);
                    if let Ok(body) = &built {
                        crate::translate::back::gemini::claude::vertex_body(body).unwrap_or_else(|_| {
                            panic!("{depth} {front:?} {back:?}: what was built is not read for Vertex")
                        });
                    }
                }
            }
        }
    });
}

#[test]
fn deep_answers_need_no_stack() {
    on_a_small_stack(|| {
        for depth in [60, 126, 130, 5_000] {
            let deep = nested(depth);
            let bodies = [
                deep.clone(),
                format!(r#"{{"error":{deep}}}"#),
                format!(r#"{{"error":{{"message":{deep},"type":{deep},"details":{deep}}}}}"#),
                format!(r#"{{"message":{deep},"__type":{deep}}}"#),
                format!(
                    r#"{{"type":"message","content":[{{"type":"tool_use","id":"1","name":"f","input":{{"a":{deep}}}}}],"stop_reason":"tool_use","usage":{deep}}}"#
                ),
                format!(r#"{{"type":"message","content":{deep},"stop_reason":"tool_use"}}"#),
                format!(
                    r#"{{"output":{{"message":{{"content":[{{"toolUse":{{"toolUseId":"1","name":"f","input":{{"a":{deep}}}}}}}]}}}},"stopReason":"tool_use","additionalModelResponseFields":{deep}}}"#
                ),
                format!(
                    r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{{"a":{deep}}}}}}}]}},"finishReason":"STOP"}}],"x":{deep}}}"#
                ),
                format!(
                    r#"{{"choices":[{{"index":0,"message":{{"tool_calls":[{{"id":"1","function":{{"name":"f","arguments":{{"a":{deep}}}}}}}]}},"logprobs":{deep},"finish_reason":"stop"}}]}}"#
                ),
                format!(
                    r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"logprobs":{deep},"finish_reason":"stop"}}]}}"#
                ),
                format!(
                    r#"{{"choices":[{{"index":0,"delta":{{"content":{deep}}},"finish_reason":"stop"}}]}}"#
                ),
                format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"new","x":{deep}}}}}"#),
                format!(r#"{{"type":"content_block_delta","index":"x","delta":{deep}}}"#),
                format!(r#"{{"type":"new","index":"x","delta":{deep}}}"#),
            ];
            for body in &bodies {
                for (back, ..) in BACKS {
                    let _ = back.error(400, &|_| None, body.as_bytes());
                    for front in FRONTS {
                        if let Ok(answer) = back.read(body.as_bytes(), &ReplyContext::default()) {
                            front.write(&answer, &IDENTITY, &Echo::default());
                        }
                        let mut out = Vec::new();
                        let mut stream = Translation::new(
                            front,
                            back,
                            &IDENTITY,
                            (true, Echo::default()),
                            ReplyContext::default(),
                            1 << 20,
                        );
                        stream.push(format!("data: {body}\n\n").as_bytes(), &mut out);
                        stream.body_ended(&mut out);
                    }
                }
            }
        }
    });
}

/// What this thread has worked, whatever else the machine does.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Work for so many and for six times as many.
fn grows_evenly(what: &str, run: impl Fn(usize)) {
    let time = |count| {
        let before = cpu_time();
        run(count);
        cpu_time() - before
    };
    let (once, six) = (time(1_500), time(9_000));
    let limit = once * 12 + Duration::from_millis(200);
    assert!(six < limit, "{what}: {once:?} for so many, {six:?} for six times as many");
}

#[test]
fn many_turns_cost_no_more_than_they_are() {
    for back in [BACKS[0], BACKS[1], BACKS[2], BACKS[4]] {
        grows_evenly(&format!("results and words, messages, {back:?}"), |count| {
            let calls: Vec<Value> = (0..count)
                .map(|n| json!({"type": "tool_use", "id": format!("c{n}"), "name": "f", "input": {}}))
                .collect();
            let mut messages =
                vec![json!({"role": "user", "content": "x"}), json!({"role": "assistant", "content": calls})];
            for n in 0..count {
                messages.push(json!({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": format!("c{n}"), "content": "r"},
                    {"type": "text", "text": "t"}]}));
            }
            let _ = through(
                Front::Messages,
                back,
                &json!({"model": "a", "max_tokens": 9, "messages": messages}).to_string(),
            );
        });
        grows_evenly(&format!("instructions between results, {back:?}"), |count| {
            let calls: Vec<Value> = (0..count)
                .map(|n| json!({"type": "tool_use", "id": format!("c{n}"), "name": "f", "input": {}}))
                .collect();
            let mut messages =
                vec![json!({"role": "user", "content": "x"}), json!({"role": "assistant", "content": calls})];
            let results: Vec<Value> = (0..count - 1)
                .map(|n| json!({"type": "tool_result", "tool_use_id": format!("c{n}"), "content": "r"}))
                .collect();
            messages.push(json!({"role": "user", "content": results}));
            for _ in 0..count {
                messages.push(json!({"role": "system", "content": "s"}));
            }
            let _ = through(
                Front::Messages,
                back,
                &json!({"model": "a", "max_tokens": 9, "messages": messages}).to_string(),
            );
        });
        grows_evenly(&format!("calls of one id, {back:?}"), |count| {
            let mut messages = vec![json!({"role": "user", "content": "x"})];
            for _ in 0..count {
                messages.push(json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}));
                messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}));
            }
            let _ = through(
                Front::Messages,
                back,
                &json!({"model": "a", "max_tokens": 9, "messages": messages}).to_string(),
            );
        });
        grows_evenly(&format!("tools, {back:?}"), |count| {
            let tools: Vec<Value> = (0..count)
                .map(|n| json!({"name": format!("tool {n}"), "input_schema": {"type": "object"}}))
                .collect();
            let _ = through(
                Front::Messages,
                back,
                &json!({"model": "a", "max_tokens": 9, "tools": tools, "messages": [{"role": "user", "content": "x"}]}).to_string(),
            );
        });
        grows_evenly(&format!("items, {back:?}"), |count| {
            let mut input = vec![json!({"role": "user", "content": "x"})];
            for n in 0..count {
                input.push(json!({"type": "function_call", "call_id": format!("c{n}"), "name": "f", "arguments": "{}"}));
            }
            for n in (0..count).rev() {
                input
                    .push(json!({"type": "function_call_output", "call_id": format!("c{n}"), "output": "r"}));
            }
            let _ = through(Front::Responses, back, &json!({"model": "a", "input": input}).to_string());
        });
    }
}

#[test]
fn calls_without_ids_cost_no_more_than_they_are() {
    grows_evenly("calls without ids", |count| {
        let calls = vec![json!({"function": {"name": "f", "arguments": "{}"}}); count];
        let body =
            json!({"choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "stop"}]})
                .to_string();
        let _ = Back::OpenAi.read(body.as_bytes(), &ReplyContext::default());
    });
}

#[test]
fn a_large_schema_is_not_held_many_times() {
    let filler = format!("[{}[0]]", "[0],".repeat(300_000));
    let before = peak_mib();
    for back in BACKS {
        let body = format!(
            r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"type":"object","x":{filler}}}}}}}]}}"#
        );
        let _ = through(Front::Chat, back, &body);
        let body = format!(
            r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"f","schema":{{"type":"object","x":{filler}}}}}}}}}"#
        );
        let _ = through(Front::Chat, back, &body);
        let body = format!(
            r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],"user":"u","reasoning_effort":"high","provider_options":{{"metadata":{{"a":{filler}}},"output_config":{{"a":{filler}}},"generationConfig":{{"a":{filler}}}}}}}"#
        );
        let _ = through(Front::Chat, back, &body);
        let grown = peak_mib() - before;
        assert!(grown < 45, "{back:?}: {grown} MiB for 3 times 1 MiB");
    }
}

#[test]
fn a_hostile_answer_is_not_held_many_times() {
    let small = "{},".repeat(300_000);
    let numbers = "[0],".repeat(300_000);
    let bodies = [
        format!(r#"{{"choices":[{small}{{}}]}}"#),
        format!(r#"{{"choices":[{{"message":{{"content":[{small}{{}}]}}}}]}}"#),
        format!(r#"{{"choices":[{{"message":{{"tool_calls":[{small}{{}}]}}}}]}}"#),
        format!(r#"{{"choices":[{{"message":{{"thinking_blocks":[{small}{{}}]}}}}]}}"#),
        format!(r#"{{"candidates":[{small}{{}}]}}"#),
        format!(r#"{{"candidates":[{{"content":{{"parts":[{small}{{}}]}}}}]}}"#),
        format!(
            r#"{{"candidates":[{{"logprobsResult":{{"chosenCandidates":[{small}{{}}],"topCandidates":[{small}{{}}]}}}}]}}"#
        ),
        format!(
            r#"{{"output":{{"message":{{"content":[{small}{{}}]}}}},"stopReason":"x","usage":{{"cacheDetails":[{small}{{}}]}}}}"#
        ),
        format!(r#"{{"type":"message","content":[{small}{{}}]}}"#),
        format!(r#"{{"error":[{numbers}0]}}"#),
        format!(r#"[{small}{{}}]"#),
        format!(r#"{{"error":{{"code":400,"message":"x","details":[{small}{{}}]}}}}"#),
        format!(r#"{{"type":"new","index":"x","delta":[{numbers}0]}}"#),
    ];
    let before = peak_mib();
    for (number, body) in bodies.iter().enumerate() {
        for (back, ..) in BACKS {
            let _ = back.read(body.as_bytes(), &ReplyContext::default());
            let mut out = Vec::new();
            let mut stream = Translation::new(
                Front::Chat,
                back,
                &IDENTITY,
                (true, Echo::default()),
                ReplyContext::default(),
                32 << 20,
            );
            stream.push(format!("data: {body}\n\n").as_bytes(), &mut out);
            let grown = peak_mib() - before;
            assert!(grown < 45, "{number} {back:?}: {grown} MiB for 1 MiB");
        }
    }
}

#[test]
fn names_of_a_provider_are_not_repeated_without_end() {
    for front in FRONTS {
        let mut stream = Translation::new(
            front,
            Back::OpenAi,
            &IDENTITY,
            (true, Echo::default()),
            ReplyContext::default(),
            32 << 20,
        );
        let id = "i".repeat(1_000_000);
        let mut out = Vec::new();
        stream.push(format!("data: {{\"id\":\"{id}\",\"model\":\"{id}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a\"}}}}]}}\n\n").as_bytes(), &mut out);
        out.clear();
        let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n".repeat(100);
        stream.push(piece.as_bytes(), &mut out);
        assert!(out.len() < 100_000, "{front:?}: {} bytes for {}", out.len(), piece.len());
    }
}

#[test]
fn a_refused_credential_is_not_told_in_the_middle_of_a_stream() {
    let secret = "sk-ant-api03-SECRET";
    let anthropic = format!(
        "data: {{\"type\":\"message_start\",\"message\":{{\"id\":\"m\",\"usage\":{{}}}}}}\n\ndata: {{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{{\"type\":\"text\",\"text\":\"hi\"}}}}\n\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key {secret}\"}}}}\n\n"
    );
    let permission = anthropic.replace("authentication_error", "permission_error");
    let gemini = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"hi\"}}]}}}}]}}\n\ndata: {{\"error\":{{\"code\":401,\"message\":\"key {secret}\",\"status\":\"UNAUTHENTICATED\"}}}}\n\n"
    );
    let openai = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"hi\"}}}}]}}\n\ndata: {{\"error\":{{\"code\":\"invalid_api_key\",\"type\":\"authentication_error\",\"message\":\"Incorrect API key provided: {secret}\"}}}}\n\n"
    );
    for (back, events) in [
        (Back::Anthropic, anthropic),
        (Back::Anthropic, permission),
        (Back::Gemini, gemini),
        (Back::OpenAi, openai),
    ] {
        for front in FRONTS {
            let mut out = Vec::new();
            let mut stream = Translation::new(
                front,
                back,
                &IDENTITY,
                (true, Echo::default()),
                ReplyContext::default(),
                1 << 20,
            );
            stream.push(events.as_bytes(), &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(stream.has_errored() && text.contains("hi"), "{text}");
            assert!(!text.contains("SECRET"), "{back:?} {front:?}: {text}");
        }
    }
}

#[test]
fn no_option_of_a_caller_names_another_model() {
    for front in FRONTS {
        for back in BACKS {
            for name in ["model", "mod\\u0065l"] {
                let options = format!("\"provider_options\":{{\"{name}\":\"other\"}}");
                let body = match front {
                    Front::Chat => {
                        format!(r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],{options}}}"#)
                    }
                    Front::Messages => format!(
                        r#"{{"model":"a","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],{options}}}"#
                    ),
                    Front::Responses => format!(r#"{{"model":"a","input":"x",{options}}}"#),
                };
                if let Ok(body) = through(front, back, &body) {
                    let text = String::from_utf8(body).unwrap();
                    assert!(!text.contains("other"), "{front:?} {back:?} {name}: {text}");
                }
            }
        }
    }
}

#[test]
fn what_is_refused_is_named_in_few_words() {
    let name = format!("n\\n{}", "x".repeat(100_000));
    for front in FRONTS {
        for (back, provider, protocol, model_id) in BACKS {
            let known = capability::of(protocol, model_id, None);
            for (drop_unsupported, place) in [(false, ""), (true, "")] {
                let _ = place;
                let target = Target { provider, model_id, capability: known, drop_unsupported };
                let rest = match front {
                    Front::Chat => r#""messages":[{"role":"user","content":"x"}]"#,
                    Front::Messages => r#""max_tokens":9,"messages":[{"role":"user","content":"x"}]"#,
                    Front::Responses => r#""input":"x""#,
                };
                for body in [
                    format!(r#"{{"model":"a",{rest},"{name}":1}}"#),
                    format!(
                        r#"{{"model":"a",{rest},"provider_options":{{"{name}":1,"metadata":{{"{name}":1,"user_id":"x"}},"{name}":2}}}}"#
                    ),
                    format!(
                        r#"{{"model":"a",{rest},"tool_choice":{{"type":"{name}"}},"tools":[{{"type":"{name}"}}]}}"#
                    ),
                ] {
                    let refused = front.read(body.as_bytes()).and_then(|conversation| {
                        back.build(&conversation, &target).map(|built| built.dropped)
                    });
                    match refused {
                        Err(refused) => {
                            let told = refused.to_string();
                            assert!(
                                told.len() < 2_000 && !told.contains('\n'),
                                "{front:?} {back:?}: {} bytes",
                                told.len()
                            );
                        }
                        Ok(dropped) => {
                            let line = dropped.join(", ");
                            assert!(line.len() < 4_000 && !line.contains('\n'), "{front:?} {back:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_key_that_a_provider_repeats_is_not_told() {
    let key = "sk-SECRET-0123456789";
    let secrets = [crate::secret::Secret::new(key.to_owned())];
    for (back, ..) in BACKS {
        for body in [
            json!({"error": {"type": "invalid_request_error", "code": key, "message": format!("bad header x-api-key: {key}")}}),
            json!({"message": format!("headers: {key}, {key}")}),
            json!({"error": {"code": 400, "status": key, "message": format!("header {key}")}}),
        ] {
            let mut error = back.error(
                400,
                &|name| (name != "x-amzn-errortype").then(|| key.to_owned()),
                body.to_string().as_bytes(),
            );
            error.hide(&secrets);
            for front in FRONTS {
                let told = String::from_utf8(front.error(&error)).unwrap();
                assert!(!told.contains("SECRET"), "{told}");
            }
            if back == Back::Converse {
                continue;
            }
            let mut stream = Translation::new(
                Front::Chat,
                back,
                &IDENTITY,
                (true, Echo::default()),
                ReplyContext::default(),
                1 << 20,
            )
            .hiding(&secrets);
            stream.push(format!("data: {body}\n\n").as_bytes(), &mut Vec::new());
            let told = format!("{:?}", stream.first_error());
            assert!(!told.contains("SECRET"), "{told}");
        }
    }
}
