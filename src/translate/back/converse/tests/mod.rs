//! Golden tables of our own, and the recordings of the provider where they are.

mod answers;
mod errors;
mod requests;
mod streams;

use std::path::PathBuf;

use serde_json::Value;

use crate::http::eventstream::Decoder;
use crate::translate::{Event, Finish, ProviderError, ReplyContext, Tokens};

use super::StreamReader;

/// The folder of the recordings: `GATEWAY_TEST_VECTORS`, else `../shared/wire/vectors`. Says so when it is absent.
fn vectors() -> Option<PathBuf> {
    let path = std::env::var_os("GATEWAY_TEST_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/wire/vectors"),
        PathBuf::from,
    );
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("not run: vectors absent");
    None
}

/// Files of a folder of the recordings whose names begin and end so.
fn files(folder: &str, begin: &str, end: &str) -> Vec<(String, Vec<u8>)> {
    let Some(root) = vectors() else { return Vec::new() };
    let mut files: Vec<_> = std::fs::read_dir(root.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.starts_with(begin) && name.ends_with(end))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

/// Exchanges of a recorded api.
fn exchanges(api: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, bytes) in files("cassettes/bedrock", "", ".json") {
        let cassette: Value = serde_json::from_slice(&bytes).unwrap();
        for exchange in cassette["exchanges"].as_array().unwrap() {
            if exchange["api"] == api {
                all.push((name.clone(), exchange.clone()));
            }
        }
    }
    all
}

/// Standard base64, for the recordings.
fn unbase64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let letter = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            .iter()
            .position(|l| *l == byte);
        bits = (bits << 6) | u32::try_from(letter.unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    out
}

/// What a stream said.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    starts: usize,
    text: String,
    thinking: String,
    signatures: Vec<String>,
    redacted: Vec<String>,
    /// Id, name, arguments, ended.
    calls: Vec<(String, String, String, bool)>,
    finish: Option<Finish>,
    tokens: Option<Tokens>,
    error: Option<ProviderError>,
    ended: bool,
}

impl Heard {
    fn hear(&mut self, event: Event<'_>) {
        assert!(!self.ended && self.error.is_none(), "nothing comes behind the end: {event:?}");
        assert_eq!(
            self.starts,
            usize::from(!matches!(event, Event::Start { .. } | Event::Error(_)) || self.starts > 0)
        );
        match event {
            Event::Start { .. } => self.starts += 1,
            Event::Text { text, .. } => {
                assert!(!text.is_empty());
                self.text.push_str(&text);
            }
            Event::Thinking { text, .. } => {
                assert!(!text.is_empty());
                self.thinking.push_str(&text);
            }
            Event::ThinkingSignature { signature, .. } => self.signatures.push(signature.into_owned()),
            Event::RedactedThinking { data, .. } => self.redacted.push(data.into_owned()),
            Event::ToolStart { index, id, name, .. } => {
                assert_eq!(index as usize, self.calls.len(), "indexes run without gaps");
                assert!(!id.is_empty());
                self.calls.push((id.into_owned(), name.into_owned(), String::new(), false));
            }
            Event::ToolArguments { index, fragment, .. } => {
                assert!(!fragment.is_empty());
                self.calls[index as usize].2.push_str(&fragment);
            }
            Event::ToolEnd { index, .. } => self.calls[index as usize].3 = true,
            Event::Finish { finish, .. } => {
                assert!(self.finish.is_none());
                self.finish = Some(finish);
            }
            Event::Tokens(tokens) => self.tokens = Some(tokens),
            Event::End => self.ended = true,
            Event::Error(error) => self.error = Some(error),
            Event::Ping | Event::Refusal { .. } => panic!("not from this provider"),
        }
    }
}

/// Reads a body in pieces; the second value says that it ended where a message ends.
fn hear(body: &[u8], piece: usize, context: &ReplyContext) -> (Heard, bool) {
    let mut heard = Heard::default();
    let mut decoder = Decoder::new(1024 * 1024);
    let mut reader = StreamReader::new(context.clone());
    for part in body.chunks(piece) {
        decoder.push(part);
        while let Ok(Some(message)) = decoder.next() {
            reader.read(&message, &mut |event| heard.hear(event));
        }
    }
    let is_whole = decoder.rest_bytes() == 0;
    if is_whole {
        reader.end(&mut |event| heard.hear(event));
    }
    (heard, is_whole)
}
