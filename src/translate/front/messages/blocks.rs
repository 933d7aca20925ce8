//! Content of a turn: a string, or a list of blocks.

use serde_json::value::RawValue;

use crate::translate::Invalid;
use crate::translate::conversation::{CacheMark, Part, Source, ToolCall, ToolResult};
use crate::translate::front::carried::Carried;
use crate::translate::front::fields::{self, Fields, Others, compact, printable};

/// Proofs of calls in one turn whose calls did not come yet.
const MAX_PROOFS: usize = 256;

/// Whose content it is: not every block may stand everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Instructions: text only.
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
    /// A tool: what it gave.
    Tool,
}

/// Reads content. Blocks that have no place in a conversation go to `others`.
///
/// # Errors
/// When it is neither a string nor a list of blocks, or a block stands where it can not.
pub fn read(
    content: &RawValue,
    place: &str,
    speaker: Speaker,
    others: &mut Others,
) -> Result<Vec<Part>, Invalid> {
    if fields::is_string(content) {
        let text: String = serde_json::from_str(content.get())
            .map_err(|_| Invalid::new(place, "has to be a string or a list of blocks"))?;
        return Ok(vec![Part::Text { text, cache: None }]);
    }
    let mut parts = Vec::new();
    // Proofs of calls that stand before their call in blocks of the gateway's own.
    let mut proofs: Vec<(String, String)> = Vec::new();
    for (number, raw) in fields::list(content, place)?.into_iter().enumerate() {
        let mut block = Fields::read(raw.get(), format!("{place}[{number}]"))?;
        let kind = block.needed_text("type")?;
        let part = match (kind.as_str(), speaker) {
            ("text", _) => text(&mut block, others)?,
            ("image", Speaker::User | Speaker::Tool) => image(&mut block, others)?,
            ("document", Speaker::User | Speaker::Tool) => document(&mut block, others)?,
            ("tool_use", Speaker::Assistant) => tool_use(&mut block, &mut proofs, others)?,
            ("tool_result", Speaker::User) => tool_result(&mut block, others)?,
            ("thinking", Speaker::Assistant) => Some(Part::Thinking {
                text: block.needed_text("thinking")?,
                signature: block.text("signature")?.filter(|signature| !signature.is_empty()),
            }),
            ("redacted_thinking", Speaker::Assistant) => {
                let data = block.needed_text("data")?;
                match Carried::read(&data) {
                    Some(Carried::Call { .. }) if proofs.len() >= MAX_PROOFS => {
                        return Err(block.invalid("data", "is one of too many proofs without a tool call"));
                    }
                    Some(Carried::Call { id, signature }) => {
                        proofs.push((id, signature));
                        None
                    }
                    _ => Some(Part::RedactedThinking { data }),
                }
            }
            ("image" | "document" | "tool_use" | "tool_result" | "thinking" | "redacted_thinking", _) => {
                return Err(block.invalid("type", "is a kind of block that can not stand here"));
            }
            _ => {
                others.push(format!("{}:{}", block.here(), printable(&kind)), raw)?;
                continue;
            }
        };
        parts.extend(part);
        block.leave_to(others)?;
    }
    Ok(parts)
}

/// The cache mark of a block, a tool or the whole request.
///
/// # Errors
/// When it is none.
pub fn cache_mark(fields: &mut Fields<'_>, others: &mut Others) -> Result<Option<CacheMark>, Invalid> {
    let Some(mut mark) = fields.object("cache_control")? else { return Ok(None) };
    if mark.needed_text("type")? != "ephemeral" {
        return Err(mark.invalid("type", "has to be 'ephemeral'"));
    }
    let duration = match mark.text("ttl")?.as_deref() {
        None => CacheMark::Default,
        Some("5m") => CacheMark::FiveMinutes,
        Some("1h") => CacheMark::OneHour,
        Some(_) => return Err(mark.invalid("ttl", "has to be '5m' or '1h'")),
    };
    mark.leave_to(others)?;
    Ok(Some(duration))
}

fn text(block: &mut Fields<'_>, others: &mut Others) -> Result<Option<Part>, Invalid> {
    // No citations, as answers have it that are brought back.
    block.take_if("citations", &["[]"]);
    Ok(Some(Part::Text { text: block.needed_text("text")?, cache: cache_mark(block, others)? }))
}

fn image(block: &mut Fields<'_>, others: &mut Others) -> Result<Option<Part>, Invalid> {
    let mut source = needed_source(block)?;
    let read = match source.needed_text("type")?.as_str() {
        "base64" => base64(&mut source)?,
        "url" => Source::Url(source.needed_text("url")?),
        "file" => Source::FileId(source.needed_text("file_id")?),
        _ => return Err(source.invalid("type", "has to be 'base64', 'url' or 'file'")),
    };
    source.leave_to(others)?;
    Ok(Some(Part::Image { source: read, detail: None, cache: cache_mark(block, others)? }))
}

fn document(block: &mut Fields<'_>, others: &mut Others) -> Result<Option<Part>, Invalid> {
    let mut source = needed_source(block)?;
    let read = match source.needed_text("type")?.as_str() {
        "base64" => base64(&mut source)?,
        "url" => Source::Url(source.needed_text("url")?),
        "file" => Source::FileId(source.needed_text("file_id")?),
        "text" => {
            if source.text("media_type")?.is_some_and(|named| named != "text/plain") {
                return Err(source.invalid("media_type", "has to be 'text/plain'"));
            }
            Source::Text(source.needed_text("data")?)
        }
        "content" => {
            let content = source.take("content").ok_or_else(|| source.invalid("content", "is needed"))?;
            let parts = read_texts(content, &source.place("content"), others)?;
            Source::Text(parts.join("\n"))
        }
        _ => {
            return Err(source.invalid("type", "has to be 'base64', 'url', 'file', 'text' or 'content'"));
        }
    };
    source.leave_to(others)?;
    if let Some(mut citations) = block.object("citations")? {
        citations.take_if("enabled", &["false"]);
        citations.leave_to(others)?;
    }
    Ok(Some(Part::Document { source: read, name: block.text("title")?, cache: cache_mark(block, others)? }))
}

/// The texts of a document that is given as blocks; other blocks go to `others`.
fn read_texts(content: &RawValue, place: &str, others: &mut Others) -> Result<Vec<String>, Invalid> {
    if fields::is_string(content) {
        let text =
            serde_json::from_str(content.get()).map_err(|_| Invalid::new(place, "has to be a string"))?;
        return Ok(vec![text]);
    }
    let mut texts = Vec::new();
    for (number, raw) in fields::list(content, place)?.into_iter().enumerate() {
        let mut block = Fields::read(raw.get(), format!("{place}[{number}]"))?;
        let kind = block.needed_text("type")?;
        if kind == "text" {
            texts.push(block.needed_text("text")?);
            block.leave_to(others)?;
        } else {
            others.push(format!("{}:{}", block.here(), printable(&kind)), raw)?;
        }
    }
    Ok(texts)
}

fn needed_source<'a>(block: &mut Fields<'a>) -> Result<Fields<'a>, Invalid> {
    block.object("source")?.ok_or_else(|| block.invalid("source", "is needed, an object"))
}

fn base64(source: &mut Fields<'_>) -> Result<Source, Invalid> {
    let named = source.needed_text("media_type")?;
    let media_type = named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !media_type.contains('/') || !media_type.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(source.invalid("media_type", "has to be a media type such as 'image/png'"));
    }
    Ok(Source::Base64 { media_type, data: source.needed_text("data")? })
}

fn tool_use(
    block: &mut Fields<'_>,
    proofs: &mut Vec<(String, String)>,
    others: &mut Others,
) -> Result<Option<Part>, Invalid> {
    let id = block.needed_text("id")?;
    let input = block.take("input").filter(|raw| raw.get().starts_with('{'));
    let input = input.ok_or_else(|| block.invalid("input", "is needed, an object"))?;
    if let Some(mut caller) = block.object("caller")? {
        // Called by the model itself, which is what every provider means.
        caller.take_if("type", &["\"direct\""]);
        caller.leave_to(others)?;
    }
    // A proof belongs to one call; the search is short, since proofs stand right before their calls.
    let proof = proofs.iter().rposition(|(call, _)| *call == id).map(|place| proofs.swap_remove(place).1);
    Ok(Some(Part::ToolCall(ToolCall {
        id,
        name: block.needed_text("name")?,
        arguments: compact(input.get()),
        signature: proof,
        cache: cache_mark(block, others)?,
    })))
}

fn tool_result(block: &mut Fields<'_>, others: &mut Others) -> Result<Option<Part>, Invalid> {
    let call_id = block.needed_text("tool_use_id")?;
    let mut parts = match block.take("content") {
        None => Vec::new(),
        Some(content) => read(content, &block.place("content"), Speaker::Tool, others)?,
    };
    // An empty string is no text: the result itself stays.
    parts.retain(|part| !matches!(part, Part::Text { text, .. } if text.is_empty()));
    Ok(Some(Part::ToolResult(ToolResult {
        call_id,
        parts,
        is_error: block.flag("is_error")?.unwrap_or(false),
        cache: cache_mark(block, others)?,
    })))
}
