//! A table of (fixture, targets): what each request becomes for each provider, and what each provider's answer becomes
//! for each caller. `tests/golden/translate/` is read like prose; `BLESS=1` writes it anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::translate::front::responses::Echo;
use crate::translate::{Back, Front, Identity, ReplyContext, Target, Translation, capability};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The providers' protocols, with models of families that differ.
const TARGETS: [(Back, &str, &str, &str); 7] = [
    (Back::OpenAi, "groq", "openai", "llama-3.3-70b"),
    (Back::Anthropic, "anthropic", "anthropic", "claude-sonnet-4-5"),
    (Back::Anthropic, "anthropic", "anthropic", "claude-opus-4-8"),
    (Back::Converse, "aws-bedrock", "converse", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
    (Back::Converse, "aws-bedrock", "converse", "amazon.nova-pro-v1:0"),
    (Back::Gemini, "google-gemini", "gemini", "gemini-2.5-flash"),
    (Back::Gemini, "google-vertex", "gemini", "gemini-3-pro"),
];

const FRONTS: [Front; 3] = [Front::Chat, Front::Messages, Front::Responses];
const IDENTITY: Identity<'_> =
    Identity { unique: "0000000000", model: "account/model", created_s: 1_700_000_000 };

fn fixtures(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(ROOT).join("tests/fixtures/translate").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// JSON with a line for each member, and one for each element of a list.
fn pretty(json: &[u8]) -> String {
    let value: Value = serde_json::from_slice(json).unwrap();
    let Value::Object(members) = value else { return value.to_string() };
    let mut text = String::new();
    for (name, value) in members {
        match value {
            Value::Array(elements) if elements.len() > 1 || value_is_long(&elements) => {
                writeln!(text, "  {name}:").unwrap();
                elements.iter().for_each(|element| writeln!(text, "    {element}").unwrap());
            }
            value => writeln!(text, "  {name}: {value}").unwrap(),
        }
    }
    text.trim_end().to_owned()
}

fn value_is_long(elements: &[Value]) -> bool {
    elements.iter().any(|element| element.to_string().len() > 60)
}

/// Compares with the golden file, or writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(ROOT).join("tests/golden/translate").join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (ours, wanted)) in text.lines().zip(known.lines()).enumerate() {
        assert_eq!(ours, wanted, "{} line {}", path.display(), number + 1);
    }
    assert_eq!(text.lines().count(), known.lines().count(), "{}", path.display());
}

#[test]
fn requests() {
    for (name, body) in fixtures("requests") {
        let front = match name.split('-').next() {
            Some("chat") => Front::Chat,
            Some("messages") => Front::Messages,
            _ => Front::Responses,
        };
        let mut text = String::new();
        for (back, provider, protocol, model_id) in TARGETS {
            for drop_unsupported in [false, true] {
                let capability = capability::of(protocol, model_id, None);
                let target = Target { provider, model_id, capability, drop_unsupported };
                let built = front.read(&body).and_then(|conversation| back.build(&conversation, &target));
                match built {
                    Ok(built) if !drop_unsupported || !built.dropped.is_empty() => {
                        let dropped = if drop_unsupported { " dropping" } else { "" };
                        writeln!(text, "== {provider} {model_id}{dropped}").unwrap();
                        for field in &built.dropped {
                            writeln!(text, "dropped: {field}").unwrap();
                        }
                        writeln!(text, "{}", pretty(&built.body)).unwrap();
                        if let Some(tool) = &built.context.json_tool {
                            writeln!(text, "(the arguments of {tool} are the content)").unwrap();
                        }
                    }
                    Ok(_) => {}
                    Err(invalid) if !drop_unsupported => {
                        writeln!(text, "== {provider} {model_id}").unwrap();
                        writeln!(text, "refused: {invalid}").unwrap();
                    }
                    Err(invalid) => writeln!(text, "refused all the same: {invalid}").unwrap(),
                }
            }
        }
        golden(name.trim_end_matches(".json"), &text);
    }
}

fn back_of(name: &str) -> Back {
    match name.split('.').next() {
        Some("anthropic") => Back::Anthropic,
        Some("gemini") => Back::Gemini,
        Some("converse") => Back::Converse,
        _ => Back::OpenAi,
    }
}

/// Binary messages of a stream whose fixture has one event a line.
fn framed(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line).unwrap();
        let (name, payload) = event.as_object().unwrap().iter().next().unwrap();
        out.extend_from_slice(&crate::http::eventstream::encode(
            &[(":event-type", name), (":content-type", "application/json"), (":message-type", "event")],
            payload.to_string().as_bytes(),
        ));
    }
    out
}

/// The whole stream, given in pieces of a size, and what is said of it.
fn translated(front: Front, back: Back, bytes: &[u8], step: usize) -> String {
    let context = ReplyContext::default();
    let mut translation = Translation::new(front, back, &IDENTITY, (true, Echo::default()), context, 1 << 20);
    let mut out = Vec::new();
    let mut tokens = None;
    for piece in bytes.chunks(step) {
        translation.push(piece, &mut out);
        tokens = translation.take_tokens().or(tokens);
    }
    translation.body_ended(&mut out);
    tokens = translation.take_tokens().or(tokens);
    if !translation.is_finished() {
        out.extend_from_slice(b"(broken off)\n");
    }
    format!("{}tokens: {:?}\n", String::from_utf8(out).unwrap(), tokens.map(|tokens| tokens.counts()))
}

#[test]
fn answers() {
    for (name, body) in fixtures("answers") {
        let back = back_of(&name);
        let mut text = String::new();
        for front in FRONTS {
            writeln!(text, "== {front:?}").unwrap();
            if name.ends_with(".json") {
                let answer = back.read(&body, &ReplyContext::default()).unwrap();
                writeln!(text, "{}", pretty(&front.write(&answer, &IDENTITY, &Echo::default()))).unwrap();
                writeln!(text, "tokens: {:?}", answer.tokens.map(|tokens| tokens.counts())).unwrap();
            } else {
                let bytes = if back == Back::Converse { framed(&body) } else { body.clone() };
                let whole = translated(front, back, &bytes, usize::MAX);
                for step in 1..=bytes.len() {
                    assert_eq!(translated(front, back, &bytes, step), whole, "{name} by {step}");
                }
                text.push_str(&whole);
            }
        }
        golden(&name, &text);
    }
}
