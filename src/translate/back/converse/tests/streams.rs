use serde_json::{Value, json};

use super::{Heard, exchanges, files, hear, unbase64};
use crate::http::eventstream::encode;
use crate::translate::{FinishReason, ReplyContext};

fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    encode(&headers, payload.to_string().as_bytes())
}

fn stream(events: &[(&str, Value)]) -> Vec<u8> {
    events.iter().flat_map(|(kind, payload)| event(kind, payload)).collect()
}

fn heard(body: &[u8]) -> Heard {
    hear(body, body.len().max(1), &ReplyContext::default()).0
}

fn hear_json(body: &[u8]) -> Heard {
    hear(body, 7, &ReplyContext { json_tool: Some("json".to_owned()), tool_names: vec![] }).0
}

fn text(index: u64, text: &str) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": {"text": text}, "p": "abc"}))
}

fn tool(index: u64, name: &str) -> (&'static str, Value) {
    (
        "contentBlockStart",
        json!({"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": format!("t{index}"), "name": name}}}),
    )
}

fn input(index: u64, input: &str) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": {"toolUse": {"input": input}}}))
}

fn reasoning(index: u64, content: Value) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": {"reasoningContent": content}}))
}

fn block_stop(index: u64) -> (&'static str, Value) {
    ("contentBlockStop", json!({"contentBlockIndex": index}))
}

fn stop(reason: &str) -> (&'static str, Value) {
    ("messageStop", json!({"stopReason": reason}))
}

fn begin() -> (&'static str, Value) {
    ("messageStart", json!({"role": "assistant"}))
}

fn metadata() -> (&'static str, Value) {
    (
        "metadata",
        json!({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {"latencyMs": 1}}),
    )
}

/// The outcomes that the vectors expect, each read at once, byte by byte and cut at every byte.
#[test]
fn made_streams() {
    let Some((_, bytes)) = files_made() else { return };
    let cases: Value = serde_json::from_slice(&bytes).unwrap();
    let mut count = 0;
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let hex = case["hex"].as_str().unwrap().as_bytes();
        let body: Vec<u8> = hex
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let context = ReplyContext::default();
        let (heard, is_whole) = hear(&body, body.len(), &context);
        for piece in [1, 2, 3, 5, 100] {
            assert_eq!(hear(&body, piece, &context).0, heard, "{name}");
        }
        let expect = &case["expect"];
        if !name.starts_with("converse") {
            continue;
        }
        count += 1;
        if let Some(text) = expect["text"].as_str() {
            assert_eq!(heard.text, text, "{name}");
        }
        if let Some(thinking) = expect["reasoning"].as_str() {
            assert_eq!(
                (heard.thinking.as_str(), &heard.signatures[..]),
                (thinking, &[expect["signature"].as_str().unwrap().to_owned()][..])
            );
        }
        if let Some(tool) = expect["tool"].as_str() {
            let [(_, called, arguments, true)] = &heard.calls[..] else { panic!("{name}: {heard:?}") };
            assert_eq!((called.as_str(), arguments.as_str()), (tool, expect["arguments"].as_str().unwrap()));
        }
        if let Some(usage) = expect["usage"].as_array() {
            let tokens = heard.tokens.unwrap();
            let prompt = usage[0].as_u64().unwrap();
            assert!(tokens.input() == prompt || tokens.fresh_input == prompt, "{name}: {tokens:?} {expect}");
            assert_eq!(tokens.output, usage[1].as_u64().unwrap());
            assert_eq!(tokens.cache_read, expect["cached"].as_u64().unwrap_or(0));
        }
        match expect["error"].as_str() {
            None => {
                assert!(heard.ended && heard.error.is_none(), "{name}: {heard:?}");
                let reason = heard.finish.unwrap().reason;
                let expected = match expect["finish_reason"].as_str() {
                    Some("tool_calls") => FinishReason::ToolCalls,
                    _ => FinishReason::Stop,
                };
                assert_eq!(reason, expected, "{name}");
            }
            // Broken off: neither an end nor a reason, so that the relay writes the error.
            Some("truncated") => assert!(!is_whole && !heard.ended, "{name}: {heard:?}"),
            Some("ended without messageStop") => {
                assert!(
                    is_whole && !heard.ended && heard.error.is_none() && heard.finish.is_none(),
                    "{name}"
                );
            }
            Some(kind) => {
                let error = heard.error.unwrap();
                assert!(error.code.unwrap().eq_ignore_ascii_case(kind), "{name}");
                let shown = match expect["http_equivalent"].as_u64() {
                    Some(424) => 502,
                    Some(status) => u16::try_from(status).unwrap(),
                    None => 500,
                };
                assert_eq!(error.status, shown, "{name}");
                assert!(heard.finish.is_none() && !heard.ended, "{name}");
            }
        }
    }
    assert!(count >= 9, "{count}");
}

fn files_made() -> Option<(String, Vec<u8>)> {
    files("eventstream", "bedrock_streams_made", ".json").into_iter().next()
}

/// What the events of a recording say, by another way than the code under test.
fn check(name: &str, events: &[(String, Value)], heard: &Heard) {
    let deltas = |kind: &str, field: &str| -> String {
        events
            .iter()
            .filter_map(|(_, payload)| {
                let delta = &payload["delta"];
                if kind.is_empty() { delta[field].as_str() } else { delta[kind][field].as_str() }
            })
            .collect()
    };
    assert!(heard.ended && heard.error.is_none(), "{name}: {heard:?}");
    assert_eq!(heard.text, deltas("", "text"), "{name}");
    assert_eq!(heard.thinking, deltas("reasoningContent", "text"), "{name}");
    assert_eq!(heard.signatures.concat(), deltas("reasoningContent", "signature"), "{name}");
    assert_eq!(heard.redacted.concat(), deltas("reasoningContent", "redactedContent"), "{name}");
    let expected: Vec<&str> =
        events.iter().filter_map(|(_, p)| p["start"]["toolUse"]["toolUseId"].as_str()).collect();
    assert_eq!(heard.calls.iter().map(|call| call.0.as_str()).collect::<Vec<_>>(), expected, "{name}");
    for (_, _, arguments, ended) in &heard.calls {
        assert!(*ended && serde_json::from_str::<Value>(arguments).unwrap().is_object(), "{name}");
    }
    let finish = heard.finish.as_ref().unwrap();
    assert_eq!(finish.reason == FinishReason::ToolCalls, !expected.is_empty(), "{name}");
    if let Some((_, metadata)) = events.iter().find(|(kind, _)| kind == "metadata") {
        let tokens = heard.tokens.unwrap();
        assert_eq!(
            tokens.input() + tokens.output,
            metadata["usage"]["totalTokens"].as_u64().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn recorded_streams() {
    let mut count = 0;
    for (name, exchange) in exchanges("bedrock.converse_stream") {
        let response = &exchange["response"];
        let Some(body) = response["body_base64"].as_str().map(unbase64) else { continue };
        let events: Vec<(String, Value)> = response["decoded_events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                let kind = event["headers"][":event-type"].as_str().unwrap().to_owned();
                (kind, serde_json::from_str(event["payload"].as_str().unwrap()).unwrap())
            })
            .collect();
        let context = ReplyContext::default();
        let (whole, _) = hear(&body, body.len(), &context);
        check(&name, &events, &whole);
        for piece in [1, 3, 64] {
            assert_eq!(hear(&body, piece, &context).0, whole, "{name}");
        }
        // Cut off anywhere before the reason it never looks whole.
        for cut in (0..body.len()).step_by(13) {
            let (part, _) = hear(&body[..cut], body.len(), &context);
            assert!(!part.ended || part.finish.is_some(), "{name} {cut}");
        }
        count += 1;
    }
    for (name, bytes) in files("sse/vercel_ai_amazon-bedrock", "", ".chunks.txt") {
        let text = String::from_utf8(bytes).unwrap();
        let events: Vec<(String, Value)> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
                object.into_iter().next().unwrap()
            })
            .collect();
        let body: Vec<u8> = events.iter().flat_map(|(kind, payload)| event(kind, payload)).collect();
        check(&name, &events, &heard(&body));
        count += 1;
    }
    assert!(count == 0 || count >= 15, "{count}");
}

#[test]
fn a_whole_answer_cut_at_every_byte() {
    let body = stream(&[
        begin(),
        reasoning(0, json!({"text": "hm"})),
        reasoning(0, json!({"signature": "c2"})),
        reasoning(0, json!({"signature": "ln"})),
        block_stop(0),
        reasoning(1, json!({"redactedContent": "AAAA"})),
        block_stop(1),
        text(2, "Hello "),
        text(2, ""),
        text(2, "☃"),
        block_stop(2),
        tool(3, "x"),
        input(3, "{\"a\":"),
        input(3, "1}"),
        block_stop(3),
        tool(4, "y"),
        input(4, ""),
        block_stop(4),
        stop("tool_use"),
        metadata(),
    ]);
    let context = ReplyContext { json_tool: None, tool_names: vec![("y".to_owned(), "Y.y".to_owned())] };
    let (whole, _) = hear(&body, body.len(), &context);
    assert_eq!(whole.text, "Hello ☃");
    assert_eq!((whole.thinking.as_str(), &whole.signatures[..]), ("hm", &["c2ln".to_owned()][..]));
    assert_eq!(whole.redacted, ["AAAA"]);
    let call =
        |id: &str, name: &str, arguments: &str| (id.to_owned(), name.to_owned(), arguments.to_owned(), true);
    assert_eq!(whole.calls, [call("t3", "x", "{\"a\":1}"), call("t4", "Y.y", "{}")]);
    assert!(whole.ended && whole.finish.as_ref().unwrap().reason == FinishReason::ToolCalls);
    for piece in 1..200 {
        assert_eq!(hear(&body, piece, &context).0, whole);
    }
    for cut in 0..body.len() {
        let (part, is_whole) = hear(&body[..cut], 50, &context);
        // The reason is the end mark: usage may be missing behind it.
        assert_eq!(part.ended, is_whole && part.finish.is_some(), "{cut}");
        assert!(part.error.is_none());
    }
}

#[test]
fn ends_of_all_kinds() {
    let usage_first = heard(&stream(&[begin(), text(0, "a"), metadata(), stop("end_turn")]));
    assert!(usage_first.ended && usage_first.tokens.is_some());
    let no_usage = heard(&stream(&[begin(), text(0, "a"), stop("end_turn")]));
    assert!(no_usage.ended && no_usage.tokens.is_none());
    let no_start = heard(&stream(&[text(0, "a"), stop("end_turn"), metadata()]));
    assert!(no_start.ended && no_start.starts == 1);
    let twice = heard(&stream(&[
        begin(),
        begin(),
        stop("end_turn"),
        stop("max_tokens"),
        metadata(),
        metadata(),
        text(0, "x"),
    ]));
    assert!(twice.ended && twice.text.is_empty() && twice.finish.unwrap().reason == FinishReason::Stop);
    let open = heard(&stream(&[begin(), tool(0, "x"), input(0, "{}"), stop("tool_use")]));
    assert!(open.ended && open.calls[0].3, "a call that is open at the end ends there");
    for reason in ["malformed_model_output", "malformed_tool_use"] {
        let bad = heard(&stream(&[begin(), text(0, "a"), stop(reason), metadata()]));
        assert!(bad.error.unwrap().status == 502 && bad.finish.is_none() && !bad.ended);
    }
    for body in [stream(&[begin(), text(0, "a"), block_stop(0)]), stream(&[begin(), metadata()]), Vec::new()]
    {
        let cut = heard(&body);
        assert!(!cut.ended && cut.error.is_none() && cut.finish.is_none());
    }
    let mut filtered = stop("guardrail_intervened");
    filtered.1["additionalModelResponseFields"] = json!({"delta": {"stop_sequence": "x"}});
    let finish = heard(&stream(&[begin(), filtered, metadata()])).finish.unwrap();
    assert_eq!((finish.reason, finish.stop_sequence), (FinishReason::ContentFilter, None));
    let mut met = stop("stop_sequence");
    met.1["additionalModelResponseFields"] = json!({"delta": {"stop_sequence": "END"}});
    assert_eq!(heard(&stream(&[begin(), met])).finish.unwrap().stop_sequence.as_deref(), Some("END"));
}

#[test]
fn exceptions() {
    for (kind, status) in [
        ("internalServerException", 500),
        ("modelStreamErrorException", 502),
        ("validationException", 400),
        ("throttlingException", 429),
        ("serviceUnavailableException", 503),
        ("modelTimeoutException", 504),
        ("", 502),
    ] {
        let headers = [(":message-type", "exception"), (":exception-type", kind)];
        let mut body = stream(&[begin(), text(0, "a")]);
        body.extend(encode(&headers, br#"{"message":"why"}"#));
        body.extend(stream(&[text(0, "b"), stop("end_turn")]));
        let heard = heard(&body);
        let error = heard.error.unwrap();
        assert_eq!(
            (error.status, error.message.as_str(), heard.text.as_str()),
            (status, "why", "a"),
            "{kind}"
        );
        assert!(!heard.ended);
    }
    let original = encode(
        &[(":message-type", "exception"), (":exception-type", "modelStreamErrorException")],
        br#"{"originalMessage":"y","originalStatusCode":500}"#,
    );
    assert_eq!(heard(&original).error.unwrap().message, "y");
    for payload in [&b""[..], b"\xff", b"[]"] {
        let body =
            encode(&[(":message-type", "exception"), (":exception-type", "throttlingException")], payload);
        assert_eq!(heard(&body).error.unwrap().status, 429);
    }
    let body = encode(
        &[(":message-type", "error"), (":error-code", "InternalServerError"), (":error-message", "boom")],
        b"",
    );
    assert_eq!(heard(&body).error.unwrap().message, "boom");
}

#[test]
fn json_through_a_tool() {
    let json = hear_json(&stream(&[
        begin(),
        text(0, "Here: "),
        tool(1, "json"),
        input(1, "{\"a\":"),
        input(1, "1}"),
        block_stop(1),
        tool(2, "json"),
        input(2, "{}"),
        block_stop(2),
        stop("tool_use"),
        metadata(),
    ]));
    assert_eq!((json.text.as_str(), json.calls.len()), ("{\"a\":1}", 0));
    assert_eq!(json.finish.unwrap().reason, FinishReason::Stop);
    let empty = hear_json(&stream(&[begin(), tool(0, "json"), block_stop(0), stop("tool_use")]));
    assert_eq!(empty.text, "{}");
    let other = hear_json(&stream(&[begin(), tool(0, "x"), block_stop(0), stop("tool_use")]));
    assert_eq!((other.calls.len(), other.finish.unwrap().reason), (1, FinishReason::ToolCalls));
    let words = hear_json(&stream(&[begin(), text(0, "I "), text(0, "refuse"), stop("end_turn")]));
    assert_eq!(words.text, "I refuse");
}

#[test]
fn hostile_streams() {
    let many: Vec<_> = (0..65).map(|index| tool(index, "x")).collect();
    let long: Vec<_> = (0..1100).map(|_| reasoning(0, json!({"signature": "s".repeat(1000)}))).collect();
    for body in [
        stream(&[begin(), input(0, "{}")]),
        stream(&[begin(), text(0, "a"), input(0, "{}")]),
        stream(&[begin(), tool(0, "x"), reasoning(0, json!({"signature": "s"}))]),
        stream(&[begin(), stop("end_turn"), text(0, "a")]),
        stream(&[begin(), stop("end_turn"), tool(0, "a")]),
        stream(&many),
        stream(&long),
        event("contentBlockDelta", &json!({"contentBlockIndex": -1, "delta": {}})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0})),
        event("contentBlockStart", &json!([])),
        event("messageStop", &json!({})),
        event("metadata", &json!({"usage": {"inputTokens": "1"}})),
        encode(&[(":message-type", "event"), (":event-type", "contentBlockDelta")], b"\xff\xff"),
        encode(&[(":message-type", "event"), (":event-type", "messageStop")], &b"[".repeat(100_000)),
    ] {
        let heard = heard(&body);
        assert_eq!(heard.error.map(|error| error.status), Some(502));
        assert!(!heard.ended);
    }
    let ignored = [
        event("somethingNew", &json!({"text": 1})),
        encode(&[(":message-type", "somethingNew")], b"x"),
        encode(&[], b""),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"citation": {}, "image": {}}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 77})),
        event("contentBlockStart", &json!({"contentBlockIndex": u64::MAX, "start": {}})),
    ]
    .concat();
    let mut body = ignored;
    body.extend(stream(&[text(0, "a"), stop("end_turn"), metadata()]));
    let heard = heard(&body);
    assert!(heard.ended && heard.text == "a");
    let held: Vec<_> = (0..1100).map(|_| text(0, &"t".repeat(1000))).collect();
    assert_eq!(hear_json(&stream(&held)).error.unwrap().status, 502);
}
