//! Golden tables of the protocol's variants.

use serde_json::{Value, json};

use super::wire::made_id;
use super::{StreamReader, build, error, read};
use crate::http::sse::{Event as Split, EventSplitter};
use crate::translate::capability::{Capability, Sampling, Thinking};
use crate::translate::conversation::{Part, ToolCall};
use crate::translate::front::chat;
use crate::translate::{
    Event, Finish, FinishReason, Identity, Invalid, ProviderError, ReplyContext, Target, Tokens,
};

mod recorded;

/// Events of a stream, read as its bytes come in pieces of this size.
fn events(bytes: &[u8], piece: usize) -> Vec<Event<'static>> {
    let mut splitter = EventSplitter::new(1 << 20);
    let mut reader = StreamReader::new(ReplyContext::default());
    let mut found = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        splitter.push(piece);
        while let Some(event) = splitter.next() {
            let Split::Whole(range) = event else { panic!("a fragment") };
            reader.read(splitter.bytes(&range), &mut |event| found.push(owned(event)));
        }
    }
    let rest = splitter.rest().to_vec();
    if !rest.is_empty() {
        reader.read(&rest, &mut |event| found.push(owned(event)));
    }
    reader.end(&mut |event| found.push(owned(event)));
    found
}

fn owned(event: Event<'_>) -> Event<'static> {
    let own = |text: std::borrow::Cow<'_, str>| std::borrow::Cow::Owned(text.into_owned());
    match event {
        Event::Start { id, model, tokens } => Event::Start { id: id.map(own), model: model.map(own), tokens },
        Event::Text { choice, text, logprobs } => {
            Event::Text { choice, text: own(text), logprobs: logprobs.map(own) }
        }
        Event::Refusal { choice, text } => Event::Refusal { choice, text: own(text) },
        Event::Thinking { choice, text } => Event::Thinking { choice, text: own(text) },
        Event::ThinkingSignature { choice, signature } => {
            Event::ThinkingSignature { choice, signature: own(signature) }
        }
        Event::RedactedThinking { choice, data } => Event::RedactedThinking { choice, data: own(data) },
        Event::ToolStart { choice, index, id, name, signature } => {
            Event::ToolStart { choice, index, id: own(id), name: own(name), signature: signature.map(own) }
        }
        Event::ToolArguments { choice, index, fragment } => {
            Event::ToolArguments { choice, index, fragment: own(fragment) }
        }
        Event::ToolEnd { choice, index } => Event::ToolEnd { choice, index },
        Event::Finish { choice, finish } => Event::Finish { choice, finish },
        Event::Tokens(tokens) => Event::Tokens(tokens),
        Event::Ping => Event::Ping,
        Event::End => Event::End,
        Event::Error(error) => Event::Error(error),
    }
}

/// One word for each event, so that a stream reads as a line.
fn line(events: &[Event<'_>]) -> String {
    let words = events.iter().map(|event| match event {
        Event::Start { id, .. } => format!("start:{}", id.as_deref().unwrap_or("-")),
        Event::Text { choice, text, .. } => format!("text{choice}:{text}"),
        Event::Refusal { choice, text } => format!("refusal{choice}:{text}"),
        Event::Thinking { choice, text } => format!("think{choice}:{text}"),
        Event::ThinkingSignature { signature, .. } => format!("signed:{signature}"),
        Event::RedactedThinking { data, .. } => format!("redacted:{data}"),
        Event::ToolStart { index, id, name, signature, .. } => {
            format!("tool{index}:{id}:{name}{}", signature.as_deref().unwrap_or_default())
        }
        Event::ToolArguments { index, fragment, .. } => format!("args{index}:{fragment}"),
        Event::ToolEnd { index, .. } => format!("end{index}"),
        Event::Finish { choice, finish } => format!("finish{choice}:{:?}", finish.reason),
        Event::Tokens(tokens) => format!("tokens:{}+{}", tokens.input(), tokens.output),
        Event::Ping => "ping".to_owned(),
        Event::End => "end".to_owned(),
        Event::Error(error) => format!("error:{}", error.status),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn data(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

fn delta(delta: Value) -> Value {
    json!({"id": "i", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn done(reason: &str) -> Value {
    json!({"id": "i", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn call(call: Value) -> Value {
    delta(json!({"tool_calls": [call]}))
}

#[test]
fn streams_in_all_their_variants() {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    let named = |index: Value, id: &str, name: &str, arguments: &str| {
        call(
            json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}),
        )
    };
    let end = "data: [DONE]\n\n";
    let table: &[(&str, String, &str)] = &[
        (
            "plain",
            data(&[delta(json!({"role": "assistant", "content": ""})), delta(json!({"content": "a"})), done("stop")]) + end,
            "start:i text0:a finish0:Stop end",
        ),
        (
            "usage behind the end, without [DONE]",
            data(&[delta(json!({"content": "a"})), done("length"), json!({"id": "i", "choices": [], "usage": usage})]),
            "start:i text0:a finish0:Length tokens:3+2 end",
        ),
        (
            "usage in a chunk with an empty delta, twice",
            data(&[
                delta(json!({"content": "a"})),
                done("stop"),
                json!({"choices": [{"index": 0, "delta": {}}], "usage": usage}),
                json!({"choices": [], "usage": usage}),
            ]) + end,
            "start:i text0:a finish0:Stop tokens:3+2 end",
        ),
        (
            "usage of groq",
            data(&[done("stop"), json!({"choices": [], "x_groq": {"usage": usage}})]) + end,
            "start:i finish0:Stop tokens:3+2 end",
        ),
        (
            "azure's empty chunks",
            data(&[
                json!({"id": "", "object": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": []}),
                delta(json!({"content": "a"})),
                json!({"id": "", "choices": [{"index": 0, "content_filter_results": {}, "content_filter_offsets": {}}]}),
                json!({"id": "", "choices": [{"index": 7, "finish_reason": null, "content_filter_results": {}}]}),
                done("stop"),
            ]) + end,
            "start:i text0:a finish0:Stop end",
        ),
        ("comments", format!(": KEEP-ALIVE\n\n{}{end}", data(&[done("stop")])), "ping start:i finish0:Stop end"),
        ("cut off", data(&[delta(json!({"content": "a"}))]), "start:i text0:a"),
        ("[DONE] without a finish", data(&[delta(json!({"content": "a"}))]) + end, "start:i text0:a"),
        ("nothing but [DONE]", end.to_owned(), ""),
        ("nothing", String::new(), ""),
        (
            "one of two answers is not finished",
            data(&[
                json!({"id": "i", "choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]}),
                done("stop"),
            ]) + end,
            "start:i text0:a text1:b finish0:Stop",
        ),
        (
            "calls in fragments",
            data(&[
                named(json!(0), "x", "f", ""),
                call(json!({"index": 0, "function": {"arguments": "{\"a\":"}})),
                call(json!({"index": 0, "function": {"arguments": "\"}\"}"}})),
                named(json!(1), "y", "g", "{}"),
                done("tool_calls"),
            ]) + end,
            "start:i tool0:x:f args0:{\"a\": args0:\"}\"} end0 tool1:y:g args1:{} end1 finish0:ToolCalls end",
        ),
        (
            "calls that are interleaved",
            data(&[
                named(json!(0), "x", "f", "{"),
                named(json!(1), "y", "g", "{"),
                call(json!({"index": 0, "function": {"arguments": "}"}})),
                call(json!({"index": 1, "function": {"arguments": "}"}})),
                done("tool_calls"),
            ]) + end,
            "start:i tool0:x:f args0:{ tool1:y:g args1:{ args0:} args1:} end0 end1 finish0:ToolCalls end",
        ),
        (
            "calls that are all number 0, and stop after them",
            data(&[named(json!(0), "x", "f", "{}"), named(json!(0), "y", "f", "{}"), done("stop")]) + end,
            "start:i tool0:x:f args0:{} end0 tool1:y:f args1:{} end1 finish0:ToolCalls end",
        ),
        (
            "numbers with gaps",
            data(&[named(json!(3), "x", "f", "{}"), named(json!(9), "y", "g", "{}"), done("tool_calls")]) + end,
            "start:i tool0:x:f args0:{} end0 tool1:y:g args1:{} end1 finish0:ToolCalls end",
        ),
        (
            "without index, whole",
            data(&[
                delta(json!({"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "y", "function": {"name": "g", "arguments": {"n": 1}}}]})),
                done("tool_calls"),
            ]) + end,
            "start:i tool0:x:f args0:{} end0 tool1:y:g args1:{\"n\":1} end1 finish0:ToolCalls end",
        ),
        (
            "without index, in fragments",
            data(&[
                call(json!({"id": "x", "function": {"name": "f", "arguments": ""}})),
                call(json!({"function": {"name": "", "arguments": "{}"}})),
                done("tool_calls"),
            ]) + end,
            "start:i tool0:x:f args0:{} end0 finish0:ToolCalls end",
        ),
        (
            "id and name repeated",
            data(&[named(json!(0), "x", "f", "{"), named(json!(0), "x", "f", "}"), done("tool_calls")]) + end,
            "start:i tool0:x:f args0:{ args0:} end0 finish0:ToolCalls end",
        ),
        (
            "empty id and no arguments",
            data(&[named(json!(0), "", "f", ""), done("tool_calls")]) + end,
            "start:i tool0:call_made_SOME:f args0:{} end0 finish0:ToolCalls end",
        ),
        (
            "google's signature",
            data(&[
                call(json!({"index": 0, "id": "x", "function": {"name": "f", "arguments": "{}"},
                    "extra_content": {"google": {"thought_signature": "+ts"}}})),
                done("stop"),
            ]) + end,
            "start:i tool0:x:f+ts args0:{} end0 finish0:ToolCalls end",
        ),
        (
            "thoughts",
            data(&[
                delta(json!({"reasoning_content": "a", "content": null})),
                delta(json!({"reasoning": "b", "reasoning_details": [{"type": "reasoning.text", "text": "b"}]})),
                delta(json!({"reasoning_details": [{"type": "reasoning.text", "text": "c", "signature": "s"}]})),
                delta(json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "d"}]})),
                delta(json!({"thinking_blocks": [{"type": "thinking", "thinking": "abc", "signature": "t"}]})),
                delta(json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "e"}]}, {"type": "text", "text": "x"}]})),
                done("stop"),
            ]) + end,
            "start:i think0:a think0:b think0:c signed:s redacted:d signed:t think0:e text0:x finish0:Stop end",
        ),
        (
            "refusal",
            data(&[delta(json!({"refusal": "no"})), done("content_filter")]) + end,
            "start:i refusal0:no finish0:ContentFilter end",
        ),
        (
            "text behind the finish, finished twice",
            data(&[done("length"), delta(json!({"content": "late"})), done("stop")]) + end,
            "start:i finish0:Length end",
        ),
        (
            "an error in place of an event",
            data(&[delta(json!({"content": "a"})), json!({"error": {"message": "m", "type": "x", "code": 429}}), done("stop")]) + end,
            "start:i text0:a error:429",
        ),
        (
            "an error beside choices",
            data(&[json!({"id": "i", "error": {"code": 400, "message": "m"}, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]})]),
            "error:400",
        ),
        ("an error as finish", data(&[done("error")]) + end, "start:i error:502"),
        ("an error's own field", "error: {\"code\":503,\"message\":\"m\",\"type\":\"t\"}\n\n".to_owned(), "error:503"),
        ("an error of older vllm", data(&[json!({"object": "error", "message": "m", "code": 400})]), "error:400"),
        ("an error as text", data(&[json!({"error": "overloaded"})]), "error:502"),
        ("no json", "data: {\"choices\":[\n\n".to_owned(), "error:502"),
        ("no utf-8", String::from_utf8_lossy(b"data: \"x\"\n\n").into_owned(), "error:502"),
        ("something else", data(&[json!({"type": "ping"}), done("stop")]) + end, "ping start:i finish0:Stop end"),
        (
            "lines of every kind",
            "\u{feff}event: x\r\ndata:{\"id\":\"i\",\r\nid: 1\r\ndata: \"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]\r\n\r\n".to_owned(),
            "start:i finish0:Stop end",
        ),
        ("carriage returns", "data: {\"id\":\"i\",\"choices\":[{\"finish_reason\":\"stop\"}]}\r\rdata:[DONE]\r\r".to_owned(), "start:i finish0:Stop end"),
        ("last event without its empty line", data(&[done("stop")]) + "data: [DONE]", "start:i finish0:Stop end"),
    ];
    for (name, bytes, expected) in table {
        let whole = events(bytes.as_bytes(), usize::MAX);
        let expected = expected.replace("call_made_SOME", &made_id(b"i", 0));
        assert_eq!(line(&whole), expected, "{name}");
        assert_eq!(events(bytes.as_bytes(), 1), whole, "{name}, byte for byte");
    }
}

#[test]
fn any_bytes_are_survived() {
    let seed = data(&[
        delta(
            json!({"content": "aé", "tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{"}}]}),
        ),
        json!({"id": "i", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 9}}),
    ]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..4_000 {
        let mut bytes = seed.clone().into_bytes();
        for _ in 0..=round % 4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = usize::try_from(state >> 33).unwrap() % bytes.len();
            bytes[place] = state.to_le_bytes()[2];
        }
        let found = events(&bytes, 1 + round % 7);
        let ends = found.iter().filter(|event| matches!(event, Event::End | Event::Error(_))).count();
        assert!(ends <= 1);
        let json = seed.as_bytes();
        let _ = read(&bytes, &ReplyContext::default());
        let _ = error(500, &|_| None, &bytes);
        let _ = (json, chat::read(&bytes));
    }
    let deep = format!("data: {{\"choices\":{}\n\n", "[".repeat(200_000));
    assert_eq!(line(&events(deep.as_bytes(), usize::MAX)), "error:502");
    let many: String =
        (0..2_000).map(|n| data(&[json!({"choices": [{"index": n, "delta": {"content": "x"}}]})])).collect();
    assert_eq!(events(many.as_bytes(), usize::MAX).len(), 129);
}

#[test]
fn usage_is_disjoint_and_never_negative() {
    let read = |usage: Value| {
        let body = json!({"choices": [], "usage": usage}).to_string();
        read(body.as_bytes(), &ReplyContext::default()).unwrap().tokens.unwrap()
    };
    let full = read(json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3}}));
    let expected = Tokens {
        fresh_input: 4,
        cache_read: 4,
        cache_write_5m: 2,
        cache_write_1h: 0,
        output: 5,
        reasoning: 3,
    };
    assert_eq!(full, expected);
    let more_cached = read(
        json!({"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 161}}),
    );
    assert_eq!((more_cached.input(), more_cached.cache_read, more_cached.fresh_input), (7, 7, 0));
    let hidden = read(
        json!({"prompt_tokens": 10, "completion_tokens": 26, "total_tokens": 136, "completion_tokens_details": {"reasoning_tokens": 100}}),
    );
    assert_eq!((hidden.output, hidden.reasoning), (126, 100));
    let deepseek = read(json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}));
    assert_eq!((deepseek.cache_read, deepseek.fresh_input), (6, 4));
    let odd = read(
        json!({"prompt_tokens": 3.0, "completion_tokens": null, "total_tokens": "x", "prompt_tokens_details": null}),
    );
    assert_eq!((odd.input(), odd.output), (3, 0));
    let huge =
        read(json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": u64::MAX}));
    assert_eq!(huge.input(), u64::MAX);
}

#[test]
fn answers_that_are_none_are_unreadable() {
    for body in [
        &b""[..],
        b"null",
        b"[]",
        b"{}",
        b"{\"choices\":5}",
        b"{\"error\":{\"message\":\"m\"}}",
        b"{\"error\":{},\"choices\":[{\"index\":0}]}",
        b"\xff",
        b"<html>",
    ] {
        assert!(read(body, &ReplyContext::default()).is_err(), "{}", String::from_utf8_lossy(body));
    }
    let sparse = read(b"\n\n {\"choices\":[{}]}", &ReplyContext::default()).unwrap();
    assert_eq!((sparse.choices.len(), sparse.choices[0].parts.len()), (1, 0));
}

#[test]
fn errors_in_all_their_shapes() {
    let table = [
        (
            400,
            json!({"error": {"message": "m", "type": "invalid_request_error", "param": "x", "code": "context_length_exceeded"}}),
            (400, "invalid_request_error", Some("context_length_exceeded"), "m"),
        ),
        (
            429,
            json!({"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}}),
            (429, "insufficient_quota", Some("insufficient_quota"), "m"),
        ),
        (
            400,
            json!({"error": {"code": 400, "message": "m", "type": "exceed_context_size_error"}}),
            (400, "exceed_context_size_error", None, "m"),
        ),
        (
            400,
            json!({"object": "error", "message": "m", "type": "BadRequestError", "param": null, "code": 400}),
            (400, "BadRequestError", None, "m"),
        ),
        (
            422,
            json!({"detail": [{"loc": ["body"], "msg": "m", "type": "missing"}]}),
            (422, "invalid_request_error", None, "m"),
        ),
        (404, json!({"detail": "Not Found"}), (404, "invalid_request_error", None, "Not Found")),
        (
            400,
            json!([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}]),
            (400, "INVALID_ARGUMENT", None, "m"),
        ),
        (500, json!({"error": "boom"}), (500, "server_error", None, "boom")),
        (429, json!({"statusCode": 429, "message": "m"}), (429, "rate_limit_error", None, "m")),
        (529, json!({}), (503, "server_error", None, "The provider answered with an error (status 529)")),
        (
            424,
            json!(null),
            (502, "invalid_request_error", None, "The provider answered with an error (status 424)"),
        ),
        (
            401,
            json!({"error": {"message": "Incorrect API key provided: sk-secret", "code": "invalid_api_key"}}),
            (
                401,
                "authentication_error",
                Some("invalid_api_key"),
                "The provider refused the gateway's credential",
            ),
        ),
        // A 200 that holds an error.
        (
            200,
            json!({"error": {"code": 429, "message": "m", "metadata": {}}}),
            (429, "rate_limit_error", None, "m"),
        ),
    ];
    for (status, body, (fitting, kind, code, message)) in table {
        let headers = |name: &str| (name == "x-request-id").then(|| "r".to_owned());
        let read = error(status, &headers, body.to_string().as_bytes());
        let expected = ProviderError {
            status: fitting,
            kind: kind.into(),
            code: code.map(str::to_owned),
            message: message.into(),
            request_id: Some("r".into()),
            ..ProviderError::default()
        };
        assert_eq!(read, expected, "{body}");
    }
    let long = json!({"error": {"message": "é".repeat(100_000)}}).to_string();
    let read = error(500, &|_| None, long.as_bytes());
    assert!(read.message.len() <= 4_096 && read.request_id.is_none());
    assert_eq!(error(502, &|_| None, b"<html>").status, 502);
}

fn target(capability: &Capability, drop_unsupported: bool) -> Target<'_> {
    Target { provider: "openai", model_id: "m-1", capability, drop_unsupported }
}

fn built(request: Value, capability: &Capability, drop: bool) -> Result<(Value, Vec<String>), Invalid> {
    let mut request = request;
    if request.get("messages").is_none() {
        request["messages"] = json!([{"role": "user", "content": "x"}]);
    }
    let conversation = chat::read(request.to_string().as_bytes())?;
    let built = build(&conversation, &target(capability, drop))?;
    Ok((serde_json::from_slice(&built.body).unwrap(), built.dropped))
}

#[test]
fn requests_are_built_by_capability() {
    let any = Capability::default();
    let thinker = Capability {
        family: "gpt-5".into(),
        sampling: Sampling::None,
        thinking: Thinking::Adaptive,
        ..Capability::default()
    };
    let (body, dropped) =
        built(json!({"max_tokens": 5, "temperature": 0.3, "stream": true}), &any, false).unwrap();
    assert!(dropped.is_empty());
    assert_eq!(
        body,
        json!({"model": "m-1", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5,
        "temperature": 0.3, "stream": true, "stream_options": {"include_usage": true}})
    );
    let (body, _) =
        built(json!({"max_tokens": 5, "temperature": 1, "reasoning": {"max_tokens": 4096}}), &thinker, false)
            .unwrap();
    assert_eq!(
        body,
        json!({"model": "m-1", "messages": [{"role": "user", "content": "x"}],
        "max_completion_tokens": 5, "reasoning_effort": "medium"})
    );
    let refused = built(json!({"temperature": 0.5}), &thinker, false).unwrap_err();
    assert_eq!(refused.field, "temperature");
    let (body, dropped) =
        built(json!({"temperature": 0.5, "top_k": 3, "verbosity": "low"}), &thinker, true).unwrap();
    assert!(body.get("temperature").is_none() && body.get("verbosity").is_none());
    assert_eq!(dropped, ["verbosity", "temperature", "top_k"]);
    assert_eq!(built(json!({"prediction": {}}), &any, false).unwrap_err().field, "prediction");
    let known = Capability { family: "plain".into(), ..Capability::default() };
    assert_eq!(
        built(json!({"reasoning_effort": "low"}), &known, false).unwrap_err().field,
        "reasoning_effort"
    );
    assert_eq!(
        built(json!({"thinking": {"type": "disabled"}}), &known, false).unwrap().0.get("reasoning_effort"),
        None
    );
    assert_eq!(built(json!({"tool_choice": "required"}), &any, false).unwrap_err().field, "tool_choice");
    assert!(built(json!({"tool_choice": "none", "parallel_tool_calls": true}), &any, false).is_ok());
    assert_eq!(built(json!({"stop": ["a", "b", "c", "d", "e"]}), &any, false).unwrap_err().field, "stop");
    let (body, _) =
        built(json!({"provider_options": {"min_p": 0.10, "metadata": {"a": 1}}}), &any, false).unwrap();
    assert_eq!((body["min_p"].as_f64(), &body["metadata"]), (Some(0.1), &json!({"a": 1})));
    for name in ["model", "models", "messages", "stream"] {
        let refused = built(json!({"provider_options": {name: 1}}), &any, false).unwrap_err();
        assert_eq!(refused.field, format!("provider_options.{name}"));
    }
    assert!(built(json!({"provider_options": {"stream_options": {}}, "stream": true}), &any, false).is_err());
    let marked = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}]});
    let (body, dropped) = built(marked.clone(), &any, false).unwrap();
    assert_eq!(
        (&body["messages"][0]["content"], &dropped[..]),
        (&json!("x"), &["cache_control".to_owned()][..])
    );
    let marks = Capability { cache_marks: true, ..Capability::default() };
    let (body, dropped) = built(marked.clone(), &marks, false).unwrap();
    assert_eq!((&body["messages"], dropped.is_empty()), (&marked["messages"], true));
    let thoughts = json!({"messages": [{"role": "assistant", "content": "x", "reasoning_content": "t"}]});
    assert_eq!(built(thoughts.clone(), &any, false).unwrap().0["messages"], thoughts["messages"]);
    let (body, dropped) = built(thoughts, &thinker, false).unwrap();
    assert_eq!(
        (&body["messages"][0], &dropped[..]),
        (&json!({"role": "assistant", "content": "x"}), &["thinking".to_owned()][..])
    );
}

#[test]
fn pictures_in_results_of_tools_follow_them() {
    let request = json!({"messages": [
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "seen"}, {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "go"}]});
    let (body, _) = built(request, &Capability::default(), false).unwrap();
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    assert_eq!(
        body["messages"],
        json!([
        {"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "seen"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]},
        {"role": "user", "content": "go"}])
    );
}

#[test]
fn an_answer_is_read() {
    let body = json!({"id": "i", "model": "m", "created": 7, "choices": [
        {"index": 1, "message": {"content": null, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}, "finish_reason": "stop"},
        {"index": 0, "message": {"reasoning": "t", "reasoning_details": [{"type": "reasoning.text", "signature": "s"}], "content": "x", "refusal": "r"},
            "finish_reason": "eos", "stop_reason": "END", "logprobs": {"content": []}}]});
    let answer = read(body.to_string().as_bytes(), &ReplyContext::default()).unwrap();
    assert_eq!(
        (answer.id.as_deref(), answer.model.as_deref(), answer.created_s),
        (Some("i"), Some("m"), Some(7))
    );
    assert!(matches!(&answer.choices[0].parts[..], [
        Part::Thinking { text: thought, signature: Some(signature) }, Part::Text { text, .. }, Part::Refusal { text: refusal },
    ] if thought == "t" && signature == "s" && text == "x" && refusal == "r"));
    let finish =
        Finish { native: Some("eos".into()), stop_sequence: Some("END".into()), ..Finish::default() };
    assert_eq!(answer.choices[0].finish, finish);
    assert!(answer.choices[0].logprobs.is_some());
    assert!(
        matches!(&answer.choices[1].parts[..], [Part::ToolCall(ToolCall { arguments, .. })] if arguments == "{}")
    );
    assert_eq!(answer.choices[1].finish.reason, FinishReason::ToolCalls);
}
