//! Recorded answers of Google's servers: all are understood, and those whose outcome is known have it.

use std::path::Path;

use serde_json::Value;

use super::super::{error, read};
use super::{events, told};
use crate::translate::tests::vectors;
use crate::translate::{Event, ReplyContext};

const FOLDERS: [&str; 5] = [
    "cassettes/gemini",
    "cassettes/vertex",
    "sse/gemini_googleai",
    "sse/gemini_vertexai",
    "sse/vercel_ai_google",
];

/// One recorded body.
struct Recording {
    name: String,
    status: u16,
    is_stream: bool,
    body: Vec<u8>,
}

fn recordings() -> Vec<Recording> {
    let Some(root) = vectors::folder() else { return Vec::new() };
    let mut found = Vec::new();
    for folder in FOLDERS {
        let mut paths: Vec<_> =
            std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{folder}");
        for path in paths {
            if folder.starts_with("cassettes") {
                cassette(&path, &mut found)
            } else {
                fixture(&path, &mut found)
            }
        }
    }
    found
}

fn cassette(path: &Path, found: &mut Vec<Recording>) {
    let cassette: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    for exchange in cassette["exchanges"].as_array().unwrap() {
        let target = exchange["request"]["path"].as_str().unwrap();
        if !target.ends_with(":generateContent") && !target.ends_with(":streamGenerateContent") {
            continue;
        }
        found.push(Recording {
            name: name.clone(),
            status: u16::try_from(exchange["response"]["status"].as_u64().unwrap()).unwrap(),
            is_stream: target.ends_with(":streamGenerateContent"),
            body: exchange["response"]["body_text"].as_str().unwrap().as_bytes().to_vec(),
        });
    }
}

fn fixture(path: &Path, found: &mut Vec<Recording>) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut body = std::fs::read(path).unwrap();
    if name.ends_with(".chunks.txt") {
        let text = String::from_utf8(body).unwrap();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        body = lines.map(|line| format!("data: {line}\n\n")).collect::<String>().into_bytes();
        found.push(Recording { name, status: 200, is_stream: true, body });
        return;
    }
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let is_stream = name.ends_with(".txt");
    let status = value["error"]["code"].as_u64().unwrap_or(if name.ends_with(".html") { 404 } else { 200 });
    found.push(Recording { name, status: u16::try_from(status).unwrap(), is_stream, body });
}

/// Answers of `countTokens` stand among the fixtures.
fn counts_tokens(body: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    value["candidates"].is_null() && value["totalTokens"].is_u64()
}

#[test]
fn whole_answers_and_errors() {
    let mut seen = 0;
    for recording in recordings().iter().filter(|recording| !recording.is_stream || recording.status != 200) {
        let name = &recording.name;
        seen += 1;
        if recording.status != 200 {
            let error = error(recording.status, &|_| None, &recording.body);
            assert!((400..600).contains(&error.status) && !error.message.is_empty(), "{name}");
            if name.contains("api-key") || name.contains("raises_appropriate_auth") {
                assert!(error.credential_refused, "{name}: {error:?}");
            }
            if name.contains("retry-info") {
                assert_eq!(error.retry_after_s, Some(35));
            }
            continue;
        }
        let answer = read(&recording.body, &ReplyContext::default());
        let is_none = ["invalid-response", "empty-content", "malformed-content", "with-message-no-content"]
            .iter()
            .any(|word| name.contains(word))
            || counts_tokens(&recording.body);
        match answer {
            Ok(answer) => {
                assert!(!answer.choices.is_empty(), "{name}");
                assert!(!is_none, "{name}: {answer:?}");
            }
            Err(_) => assert!(is_none, "{name}"),
        }
    }
    eprintln!("{seen} recorded answers");
}

#[test]
fn streams_cut_at_every_byte() {
    let mut seen = 0;
    for recording in recordings().iter().filter(|recording| recording.is_stream && recording.status == 200) {
        let (name, body) = (&recording.name, recording.body.as_slice());
        seen += 1;
        let whole = events(body, body.len(), ReplyContext::default());
        for step in [1, 2, 3, 7, 64, 1_000] {
            assert_eq!(events(body, step, ReplyContext::default()), whole, "{name} step {step}");
        }
        let lines = told(&whole);
        let has_ended = matches!(whole.last(), Some(Event::End));
        let has_failed = matches!(whole.last(), Some(Event::Error(_)));
        // An invented end would be worse than none: these recordings break off or hold nothing.
        let is_cut = ["quotes-escaped", "empty-content", "invalid-json", "malformed-content"]
            .iter()
            .any(|word| name.contains(word));
        let is_error = ["error-mid-stream", "image-rejected"].iter().any(|word| name.contains(word));
        assert_eq!((has_ended, has_failed), (!is_cut && !is_error, is_error), "{name}: {lines:?}");
        check_order(name, &whole);
    }
    eprintln!("{seen} recorded streams");
}

/// Numbers of calls run without gaps, each has its arguments once and its end, and nothing follows the end.
fn check_order(name: &str, events: &[Event<'_>]) {
    let mut next = 0;
    let mut open = None;
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::Start { .. } => assert_eq!(place, 0, "{name}"),
            Event::ToolStart { index, id, .. } => {
                assert_eq!((*index, open), (next, None), "{name}");
                assert!(!id.is_empty());
                next += 1;
                open = Some(String::new());
            }
            Event::ToolArguments { fragment, .. } => open.as_mut().unwrap().push_str(fragment),
            Event::ToolEnd { .. } => {
                let arguments = open.take().unwrap();
                let arguments: Value = serde_json::from_str(&arguments).unwrap();
                assert!(arguments.is_object(), "{name}");
            }
            Event::End | Event::Error(_) => assert_eq!(place + 1, events.len(), "{name}"),
            _ => {}
        }
    }
    assert_eq!(open, None, "{name}");
}

#[test]
fn outcomes() {
    let recordings = recordings();
    let stream = |name: &str| {
        let found = recordings.iter().find(|recording| recording.name == name)?;
        Some(told(&events(&found.body, found.body.len(), ReplyContext::default())))
    };
    let Some(lines) = stream("google-stream-tool-call-arguments.chunks.txt") else { return };
    assert_eq!(lines[2..4], [r#"0 arguments 0 {"location":"Boston"}"#, "0 called 0"]);
    assert_eq!(
        lines[5..],
        [
            r#"0 arguments 1 {"location":"San Francisco"}"#.to_owned(),
            "0 called 1".into(),
            "tokens 26 155".into(),
            "0 finish ToolCalls -".into(),
            "end".into(),
        ]
    );
    let lines = stream("streaming-success-code-execution.txt").unwrap();
    assert!(!lines.is_empty());
    let lines = stream("streaming-failure-error-mid-stream.txt").unwrap();
    assert_eq!(lines, ["start - -", "0 text First ", "0 text Second ", "error 502 CANCELLED"]);
    let lines = stream("streaming-failure-prompt-blocked-safety-with-message.txt").unwrap();
    assert_eq!(lines, ["start - -", "0 finish ContentFilter SAFETY", "end"]);
    let lines = stream("streaming-failure-unknown-finish-enum.txt").unwrap();
    assert_eq!(lines[lines.len() - 2..], ["0 finish Stop FAKE_ENUM", "end"]);
}
