//! The content blocks of a request, and how pieces of a turn become them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Vendor;
use super::names::{Names, call_id};
use crate::translate::conversation::{CacheMark, Part, Source, ToolCall, ToolResult};
use crate::translate::{Invalid, Target, Unsupported};

/// The longest name of a document, in characters.
const MAX_DOCUMENT_NAME_CHARS: usize = 200;
/// What a tool's result says that says nothing: some models refuse blank text.
const EMPTY_RESULT: &str = "(empty)";

/// One block: an object with one member.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(Cow<'a, str>),
    Image {
        format: &'static str,
        source: Bytes<'a>,
    },
    Document {
        format: &'static str,
        name: String,
        source: Bytes<'a>,
    },
    Audio {
        format: &'a str,
        source: Bytes<'a>,
    },
    ToolUse {
        #[serde(rename = "toolUseId")]
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: &'a RawValue,
    },
    ToolResult {
        #[serde(rename = "toolUseId")]
        id: Cow<'a, str>,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    ReasoningContent(Reasoning<'a>),
    CachePoint(CachePoint),
}

/// Base64.
#[derive(Debug, Serialize)]
pub(super) struct Bytes<'a> {
    bytes: Cow<'a, str>,
}

/// A thought of the model's that comes back to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reasoning<'a> {
    ReasoningText { text: &'a str, signature: &'a str },
    RedactedContent(&'a str),
}

/// A cache mark.
#[derive(Debug, Serialize)]
pub(super) struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// What the pieces of all turns have in common.
#[derive(Debug)]
pub(super) struct Writer<'t, 'u> {
    pub(super) target: Target<'t>,
    pub(super) vendor: Vendor,
    pub(super) names: &'u mut Names,
    pub(super) unsupported: &'u mut Unsupported<'t>,
    /// Names of documents so far: no two may be the same.
    pub(super) document_names: BTreeSet<String>,
}

impl Writer<'_, '_> {
    /// A refusal of what can not be left out.
    pub(super) fn refusal(&self, place: &str, what: &str) -> Invalid {
        Invalid::new(place, format!("{what} ({}, {})", self.target.provider, self.target.model_id))
    }

    /// Appends a piece of a turn; `place` names the turn.
    pub(super) fn push<'a>(
        &mut self,
        part: &'a Part,
        place: &str,
        out: &mut Vec<Block<'a>>,
    ) -> Result<(), Invalid> {
        match part {
            Part::Text { text, cache } => self.text(text, *cache, out),
            Part::Refusal { text } => self.text(text, None, out),
            Part::Image { source, detail, cache } => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.unsupported.field("image_url.detail")?;
                }
                out.push(self.image(source, place)?);
                self.mark(*cache, out)
            }
            Part::Document { source, name, cache } => {
                out.push(self.document(source, name.as_deref(), place)?);
                self.mark(*cache, out)
            }
            Part::Audio { data, format } => {
                if format.is_empty()
                    || format.len() > 16
                    || !format.bytes().all(|byte| byte.is_ascii_alphanumeric())
                {
                    return Err(self.refusal(place, "sound of this format is not taken"));
                }
                out.push(Block::Audio { format, source: self.bytes(data, place)? });
                Ok(())
            }
            Part::ToolCall(call) => self.call(call, place, out),
            Part::ToolResult(result) => self.result(result, place, out),
            Part::Thinking { text, signature } => {
                // Claude takes thoughts only with their proof; those of other models are not asked for again.
                if let Some(signature) = signature.as_deref().filter(|signature| !signature.is_empty()) {
                    out.push(Block::ReasoningContent(Reasoning::ReasoningText { text, signature }));
                }
                Ok(())
            }
            Part::RedactedThinking { data } => {
                if !is_base64(data) {
                    return Err(
                        self.refusal(place, "redacted thinking has to be base64, as the model gave it")
                    );
                }
                out.push(Block::ReasoningContent(Reasoning::RedactedContent(data)));
                Ok(())
            }
        }
    }

    /// Blank text is refused by models, so it is left out.
    fn text<'a>(
        &mut self,
        text: &'a str,
        cache: Option<CacheMark>,
        out: &mut Vec<Block<'a>>,
    ) -> Result<(), Invalid> {
        if !text.trim().is_empty() {
            out.push(Block::Text(Cow::Borrowed(text)));
        }
        self.mark(cache, out)
    }

    /// A cache mark behind what is there; behind nothing it means nothing.
    pub(super) fn mark(&mut self, cache: Option<CacheMark>, out: &mut Vec<Block<'_>>) -> Result<(), Invalid> {
        let Some(point) = self.cache_point(cache)? else { return Ok(()) };
        if !out.is_empty() && !matches!(out.last(), Some(Block::CachePoint(_))) {
            out.push(Block::CachePoint(point));
        }
        Ok(())
    }

    /// The mark, where the model takes one.
    pub(super) fn cache_point(&mut self, cache: Option<CacheMark>) -> Result<Option<CachePoint>, Invalid> {
        let Some(cache) = cache else { return Ok(None) };
        if !self.target.capability.cache_marks {
            self.unsupported.field("cache_control")?;
            return Ok(None);
        }
        // Five minutes is what providers do by default.
        let ttl = (cache == CacheMark::OneHour).then_some("1h");
        Ok(Some(CachePoint { kind: "default", ttl }))
    }

    fn bytes<'a>(&self, data: &'a str, place: &str) -> Result<Bytes<'a>, Invalid> {
        if data.is_empty() || !is_base64(data) {
            return Err(self.refusal(place, "the data is not base64"));
        }
        Ok(Bytes { bytes: Cow::Borrowed(data) })
    }

    fn image<'a>(&self, source: &'a Source, place: &str) -> Result<Block<'a>, Invalid> {
        let Source::Base64 { media_type, data } = source else {
            return Err(self.refusal(place, "pictures are taken as data only, not by address or file"));
        };
        let format = match media_type.as_str() {
            "image/png" => "png",
            "image/jpeg" | "image/jpg" => "jpeg",
            "image/gif" => "gif",
            "image/webp" => "webp",
            _ => return Err(self.refusal(place, "pictures have to be png, jpeg, gif or webp")),
        };
        Ok(Block::Image { format, source: self.bytes(data, place)? })
    }

    fn document<'a>(
        &mut self,
        source: &'a Source,
        name: Option<&str>,
        place: &str,
    ) -> Result<Block<'a>, Invalid> {
        let (format, source) = match source {
            Source::Text(text) if text.is_empty() => return Err(self.refusal(place, "the document is empty")),
            Source::Text(text) => ("txt", Bytes { bytes: Cow::Owned(base64(text.as_bytes())) }),
            Source::Base64 { media_type, data } => {
                let format = document_format(media_type)
                    .ok_or_else(|| self.refusal(place, "documents of this media type are not taken"))?;
                (format, self.bytes(data, place)?)
            }
            Source::Url(_) | Source::FileId(_) => {
                return Err(self.refusal(place, "documents are taken as data only, not by address or file"));
            }
        };
        Ok(Block::Document { format, name: self.document_name(name), source })
    }

    /// A name of letters, digits, single spaces, hyphens and brackets, that no other document has.
    fn document_name(&mut self, name: Option<&str>) -> String {
        let mut clean = String::new();
        for c in name.unwrap_or_default().chars().take(4 * MAX_DOCUMENT_NAME_CHARS) {
            let c =
                if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') { c } else { ' ' };
            if c != ' ' || !(clean.is_empty() || clean.ends_with(' ')) {
                clean.push(c);
            }
        }
        let clean: String = clean.trim_end().chars().take(MAX_DOCUMENT_NAME_CHARS - 12).collect();
        let clean = if clean.trim_end().is_empty() { "document" } else { clean.trim_end() };
        let mut name = clean.to_owned();
        for more in 1..=8 {
            if !self.document_names.contains(&name) {
                break;
            }
            name = format!("{clean} {}", self.document_names.len() + more);
        }
        self.document_names.insert(name.clone());
        name
    }

    fn call<'a>(&mut self, call: &'a ToolCall, place: &str, out: &mut Vec<Block<'a>>) -> Result<(), Invalid> {
        let text = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
        let input: &RawValue = match serde_json::from_str::<&RawValue>(text) {
            Ok(input) if input.get().starts_with('{') => input,
            _ => return Err(self.refusal(place, "the arguments of a tool call have to be a JSON object")),
        };
        out.push(Block::ToolUse { id: call_id(&call.id), name: self.names.theirs(&call.name), input });
        self.mark(call.cache, out)
    }

    fn result<'a>(
        &mut self,
        result: &'a ToolResult,
        place: &str,
        out: &mut Vec<Block<'a>>,
    ) -> Result<(), Invalid> {
        let mut content = Vec::new();
        for part in &result.parts {
            // One level only: a result in a result has no meaning.
            match part {
                Part::Text { text, .. } if !text.trim().is_empty() => {
                    content.push(Block::Text(Cow::Borrowed(text)))
                }
                Part::Text { .. } => {}
                Part::Image { source, .. } => content.push(self.image(source, place)?),
                Part::Document { source, name, .. } => {
                    content.push(self.document(source, name.as_deref(), place)?)
                }
                _ => {
                    return Err(
                        self.refusal(place, "a tool's result holds text, pictures and documents only")
                    );
                }
            }
        }
        if content.is_empty() {
            content.push(Block::Text(Cow::Borrowed(EMPTY_RESULT)));
        }
        let status = result.is_error.then_some("error");
        out.push(Block::ToolResult { id: call_id(&result.call_id), content, status });
        self.mark(result.cache, out)
    }
}

fn document_format(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        _ => return None,
    })
}

/// Standard base64, padded.
fn is_base64(data: &str) -> bool {
    let body = data.trim_end_matches('=');
    data.len().is_multiple_of(4)
        && data.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Standard base64, padded.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_usize, |group, byte| (group << 8) | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS.get((group >> (18 - 6 * place)) & 63).copied().unwrap_or(b'=');
            out.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    out
}
