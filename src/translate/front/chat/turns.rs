//! Messages as turns.

use serde_json::value::RawValue;

use super::fields::{self, Fields};
use super::request::{Others, cache_mark};
use crate::translate::Invalid;
use crate::translate::conversation::{CacheMark, Part, Role, Source, ToolCall, ToolResult, Turn};

const MAX_PARTS: usize = 4_096;
const MAX_CALLS: usize = 1_024;

/// Reads all messages. Results of tools that follow each other become the parts of one turn.
pub fn read(messages: &[&RawValue], others: &mut Others) -> Result<Vec<Turn>, Invalid> {
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len());
    let mut after_result = false;
    for (number, message) in messages.iter().enumerate() {
        let place = format!("messages[{number}]");
        let mut fields = Fields::of(message.get(), &place)?;
        let role =
            fields.take("role").ok_or_else(|| Invalid::new(format!("{place}.role"), "a role is needed"))?;
        let role = fields::string(role, &format!("{place}.role"))?;
        let (role, parts) = match role.as_str() {
            "system" | "developer" => (Role::System, content(&mut fields, &place, true, others)?),
            "user" => (Role::User, content(&mut fields, &place, true, others)?),
            "assistant" => (Role::Assistant, assistant(&mut fields, &place, others)?),
            "tool" => (Role::User, vec![Part::ToolResult(tool_result(&mut fields, &place, others)?)]),
            "function" => {
                return Err(Invalid::new(
                    format!("{place}.role"),
                    "functions are the old form of tools; send tools and the role tool",
                ));
            }
            _ => {
                return Err(Invalid::new(
                    format!("{place}.role"),
                    "system, developer, user, assistant or tool is expected",
                ));
            }
        };
        others.keep_rest("messages[].", fields)?;
        let is_result = matches!(parts.as_slice(), [Part::ToolResult(_)]);
        match turns.last_mut() {
            Some(last) if is_result && after_result => last.parts.extend(parts),
            _ => turns.push(Turn { role, parts, place }),
        }
        after_result = is_result;
    }
    Ok(turns)
}

/// The content of a message; a mark on the message itself stands behind its last part.
fn content(
    fields: &mut Fields<'_>,
    place: &str,
    is_needed: bool,
    others: &mut Others,
) -> Result<Vec<Part>, Invalid> {
    let mark = mark(fields, place)?;
    let place = format!("{place}.content");
    let mut parts = Vec::new();
    match fields.take("content") {
        Some(raw) if raw.get().starts_with('[') => {
            for (number, part) in fields::list(raw, &place, MAX_PARTS)?.into_iter().enumerate() {
                parts.push(read_part(part, &format!("{place}[{number}]"), others)?);
            }
        }
        Some(raw) if raw.get().starts_with('"') => {
            parts.push(Part::Text { text: fields::string(raw, &place)?, cache: None });
        }
        Some(_) => return Err(Invalid::new(place, "a string or a list of parts is expected")),
        None if is_needed => return Err(Invalid::new(place, "content is needed")),
        None => {}
    }
    if let Some(mark) = mark {
        match parts.last_mut() {
            Some(Part::Text { cache, .. } | Part::Image { cache, .. } | Part::Document { cache, .. }) => {
                *cache = cache.or(Some(mark));
            }
            _ => return Err(Invalid::new(place, "a cache mark needs a text, picture or document before it")),
        }
    }
    Ok(parts)
}

fn mark(fields: &mut Fields<'_>, place: &str) -> Result<Option<CacheMark>, Invalid> {
    fields.take("cache_control").map(|raw| cache_mark(raw, &format!("{place}.cache_control"))).transpose()
}

fn read_part(raw: &RawValue, place: &str, others: &mut Others) -> Result<Part, Invalid> {
    let mut fields = Fields::of(raw.get(), place)?;
    let kind = required(&mut fields, "type", place)?;
    let part = match kind.as_str() {
        "text" => {
            let text = required(&mut fields, "text", place)?;
            Part::Text { text, cache: mark(&mut fields, place)? }
        }
        "refusal" => Part::Refusal { text: required(&mut fields, "refusal", place)? },
        "image_url" => {
            let place = format!("{place}.image_url");
            let raw = fields.take("image_url").ok_or_else(|| Invalid::new(&place, "an object is needed"))?;
            let (url, detail) = if raw.get().starts_with('"') {
                (fields::string(raw, &place)?, None)
            } else {
                let mut image = Fields::of(raw.get(), &place)?;
                let url = required(&mut image, "url", &place)?;
                let detail = optional(&mut image, "detail", &place)?;
                others.keep_rest("messages[].content[].image_url.", image)?;
                (url, detail)
            };
            let source = source(url, &place)?;
            Part::Image { source, detail, cache: mark(&mut fields, &place)? }
        }
        "input_audio" => {
            let place = format!("{place}.input_audio");
            let raw =
                fields.take("input_audio").ok_or_else(|| Invalid::new(&place, "an object is needed"))?;
            let mut audio = Fields::of(raw.get(), &place)?;
            let data = required(&mut audio, "data", &place)?;
            check_base64(&data, &place)?;
            let format = required(&mut audio, "format", &place)?;
            others.keep_rest("messages[].content[].input_audio.", audio)?;
            Part::Audio { data, format }
        }
        "file" => document(&mut fields, place, others)?,
        // Thoughts as parts, as Mistral's and Anthropic's clients bring them back.
        "thinking" | "redacted_thinking" => return thinking_block(raw, place, others),
        _ => {
            return Err(Invalid::new(
                format!("{place}.type"),
                "text, image_url, input_audio, file or refusal is expected",
            ));
        }
    };
    others.keep_rest("messages[].content[].", fields)?;
    Ok(part)
}

fn document(fields: &mut Fields<'_>, place: &str, others: &mut Others) -> Result<Part, Invalid> {
    let cache = mark(fields, place)?;
    let place = format!("{place}.file");
    let raw = fields.take("file").ok_or_else(|| Invalid::new(&place, "an object is needed"))?;
    let mut file = Fields::of(raw.get(), &place)?;
    let name = optional(&mut file, "filename", &place)?;
    let source = match (optional(&mut file, "file_id", &place)?, optional(&mut file, "file_data", &place)?) {
        (Some(id), None) => Source::FileId(id),
        (None, Some(data)) => source(data, &format!("{place}.file_data"))?,
        _ => return Err(Invalid::new(place, "file_id or file_data is expected, not both")),
    };
    others.keep_rest("messages[].content[].file.", file)?;
    Ok(Part::Document { source, name, cache })
}

/// A `data:` URL taken apart (RFC 2397), or an address.
fn source(url: String, place: &str) -> Result<Source, Invalid> {
    let scheme = url.get(..8).unwrap_or(&url).to_ascii_lowercase();
    if scheme.starts_with("https://") || scheme.starts_with("http://") {
        return Ok(Source::Url(url));
    }
    let refusal = || Invalid::new(place, "an http or https address or a data: URL with base64 is expected");
    if !scheme.starts_with("data:") {
        return Err(refusal());
    }
    let (head, data) = url.get(5..).and_then(|rest| rest.split_once(',')).ok_or_else(refusal)?;
    let mut words = head.split(';');
    let media_type = words.next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_named =
        media_type.split_once('/').is_some_and(|(kind, form)| !kind.is_empty() && !form.is_empty());
    let is_plain = media_type.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_named || !is_plain || !words.any(|word| word.trim().eq_ignore_ascii_case("base64")) {
        return Err(refusal());
    }
    check_base64(data, place)?;
    Ok(Source::Base64 { media_type, data: data.to_owned() })
}

/// Only the alphabet is looked at; whether it decodes is the provider's to say.
fn check_base64(data: &str, place: &str) -> Result<(), Invalid> {
    let is_base64 =
        data.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    if is_base64 && !data.is_empty() { Ok(()) } else { Err(Invalid::new(place, "base64 is expected")) }
}

fn assistant(fields: &mut Fields<'_>, place: &str, others: &mut Others) -> Result<Vec<Part>, Invalid> {
    let mut parts = thoughts(fields, place, others)?;
    let written = content(fields, place, false, others)?;
    let is_marked = |part: &Part| matches!(part, Part::Text { cache: Some(_), .. });
    // Beside calls, `content: ""` is how clients write no content.
    parts.extend(
        written
            .into_iter()
            .filter(|part| is_marked(part) || !matches!(part, Part::Text { text, .. } if text.is_empty())),
    );
    if let Some(refusal) = optional(fields, "refusal", place)? {
        parts.push(Part::Refusal { text: refusal });
    }
    if let Some(calls) = fields.take("tool_calls") {
        let place = format!("{place}.tool_calls");
        for (number, call) in fields::list(calls, &place, MAX_CALLS)?.into_iter().enumerate() {
            parts.push(Part::ToolCall(tool_call(call, &format!("{place}[{number}]"), others)?));
        }
    }
    // What an answer had and nobody reads when it comes back.
    if fields.peek("annotations").is_some_and(|list| list.get() == "[]") {
        fields.take("annotations");
    }
    Ok(parts)
}

/// Thinking that is brought back: whole blocks before plain text, since only they can be checked by the provider.
fn thoughts(fields: &mut Fields<'_>, place: &str, others: &mut Others) -> Result<Vec<Part>, Invalid> {
    let blocks = fields.take("thinking_blocks");
    let details = fields.take("reasoning_details");
    let text = optional(fields, "reasoning_content", place)?;
    let text = text.or(optional(fields, "reasoning", place)?);
    let mut parts = Vec::new();
    if let Some(blocks) = blocks {
        let place = format!("{place}.thinking_blocks");
        for (number, block) in fields::list(blocks, &place, MAX_PARTS)?.into_iter().enumerate() {
            parts.push(thinking_block(block, &format!("{place}[{number}]"), others)?);
        }
    }
    if let Some(details) = details.filter(|_| parts.is_empty()) {
        let place = format!("{place}.reasoning_details");
        for (number, detail) in fields::list(details, &place, MAX_PARTS)?.into_iter().enumerate() {
            parts.extend(reasoning_detail(detail, &format!("{place}[{number}]"))?);
        }
    }
    if let Some(text) = text.filter(|text| parts.is_empty() && !text.is_empty()) {
        parts.push(Part::Thinking { text, signature: None });
    }
    Ok(parts)
}

/// `{"type":"thinking","thinking","signature"}` (Mistral: `thinking` is a list of text parts) or
/// `{"type":"redacted_thinking","data"}`.
fn thinking_block(raw: &RawValue, place: &str, others: &mut Others) -> Result<Part, Invalid> {
    let mut block = Fields::of(raw.get(), place)?;
    let part = match required(&mut block, "type", place)?.as_str() {
        "thinking" => {
            let inner = format!("{place}.thinking");
            let mut text = String::new();
            match block.take("thinking") {
                Some(list) if list.get().starts_with('[') => {
                    for piece in fields::list(list, &inner, MAX_PARTS)? {
                        let mut piece = Fields::of(piece.get(), &inner)?;
                        text.push_str(&required(&mut piece, "text", &inner)?);
                    }
                }
                Some(raw) => text = fields::string(raw, &inner)?,
                None => {}
            }
            block.take("closed");
            Part::Thinking { text, signature: optional(&mut block, "signature", place)? }
        }
        "redacted_thinking" => Part::RedactedThinking { data: required(&mut block, "data", place)? },
        _ => {
            return Err(Invalid::new(format!("{place}.type"), "thinking or redacted_thinking is expected"));
        }
    };
    block.take("cache_control");
    others.keep_rest("messages[].thinking_blocks[].", block)?;
    Ok(part)
}

/// OpenRouter's form. A summary is no thought of which a provider has the proof.
fn reasoning_detail(raw: &RawValue, place: &str) -> Result<Option<Part>, Invalid> {
    let mut detail = Fields::of(raw.get(), place)?;
    Ok(match required(&mut detail, "type", place)?.as_str() {
        "reasoning.text" => Some(Part::Thinking {
            text: optional(&mut detail, "text", place)?.unwrap_or_default(),
            signature: optional(&mut detail, "signature", place)?,
        }),
        "reasoning.summary" => Some(Part::Thinking {
            text: optional(&mut detail, "summary", place)?.unwrap_or_default(),
            signature: None,
        }),
        "reasoning.encrypted" => Some(Part::RedactedThinking { data: required(&mut detail, "data", place)? }),
        _ => {
            return Err(Invalid::new(
                format!("{place}.type"),
                "reasoning.text, reasoning.summary or reasoning.encrypted is expected",
            ));
        }
    })
}

fn tool_call(raw: &RawValue, place: &str, others: &mut Others) -> Result<ToolCall, Invalid> {
    let mut call = Fields::of(raw.get(), place)?;
    let kind = optional(&mut call, "type", place)?;
    if kind.is_some_and(|kind| kind != "function") {
        return Err(Invalid::new(format!("{place}.type"), "function is expected"));
    }
    let id = required(&mut call, "id", place)?;
    let inner = format!("{place}.function");
    let function = call.take("function").ok_or_else(|| Invalid::new(&inner, "a function is needed"))?;
    let mut function = Fields::of(function.get(), &inner)?;
    let name = required(&mut function, "name", &inner)?;
    let arguments = optional(&mut function, "arguments", &inner)?.unwrap_or_default();
    let signature = match call.take("extra_content") {
        Some(extra) => {
            let inner = format!("{place}.extra_content");
            let mut extra = Fields::of(extra.get(), &inner)?;
            let google = extra.take("google").map(|google| Fields::of(google.get(), &inner)).transpose()?;
            google.map(|mut google| optional(&mut google, "thought_signature", &inner)).transpose()?.flatten()
        }
        None => None,
    };
    let cache = mark(&mut call, place)?;
    // Its place in a stream, which some clients keep.
    call.take("index");
    others.keep_rest("messages[].tool_calls[].function.", function)?;
    others.keep_rest("messages[].tool_calls[].", call)?;
    Ok(ToolCall { id, name, arguments, signature, cache })
}

fn tool_result(fields: &mut Fields<'_>, place: &str, others: &mut Others) -> Result<ToolResult, Invalid> {
    let call_id = required(fields, "tool_call_id", place)?;
    let cache = mark(fields, place)?;
    // The call has the name already.
    fields.take("name");
    Ok(ToolResult { call_id, parts: content(fields, place, true, others)?, is_error: false, cache })
}

fn required(fields: &mut Fields<'_>, name: &str, place: &str) -> Result<String, Invalid> {
    let path = format!("{place}.{name}");
    match fields.take(name) {
        Some(raw) => fields::string(raw, &path),
        None => Err(Invalid::new(path, "a string is needed")),
    }
}

fn optional(fields: &mut Fields<'_>, name: &str, place: &str) -> Result<Option<String>, Invalid> {
    fields.take(name).map(|raw| fields::string(raw, &format!("{place}.{name}"))).transpose()
}
