//! The input: a string, or items. Items of the model that follow each other are one turn, and so are results of tools.

use serde_json::value::RawValue;

use crate::translate::Invalid;
use crate::translate::conversation::{Part, Role, Source, ToolCall, ToolResult, Turn};
use crate::translate::front::carried::Carried;
use crate::translate::front::fields::{self, Fields, Others, printable};

/// Proofs of calls whose calls did not come yet.
const MAX_PROOFS: usize = 256;

/// Reads the input and appends its turns.
///
/// # Errors
/// When it is neither a string nor a list of items, or an item is wrong.
pub fn read(input: &RawValue, turns: &mut Vec<Turn>, others: &mut Others) -> Result<(), Invalid> {
    if fields::is_string(input) {
        let text = string(input, "input")?;
        let parts = vec![Part::Text { text, cache: None }];
        turns.push(Turn { role: Role::User, parts, place: "input".to_owned() });
        return Ok(());
    }
    let items = fields::list(input, "input")?;
    if items.is_empty() {
        return Err(Invalid::new("input", "has to hold at least one item"));
    }
    let mut proofs: Vec<(String, String)> = Vec::new();
    for (number, raw) in items.into_iter().enumerate() {
        let mut item = Fields::read(raw.get(), format!("input[{number}]"))?;
        let kind = item.text("type")?.unwrap_or_else(|| "message".to_owned());
        match kind.as_str() {
            "message" => message(&mut item, turns, others)?,
            "function_call" => {
                let part = function_call(&mut item, &mut proofs)?;
                push_said(turns, item.here(), vec![part]);
            }
            "function_call_output" => {
                let part = function_call_output(&mut item, others)?;
                push_result(turns, item.here(), part);
            }
            "reasoning" => reasoning(&mut item, &mut proofs, turns, others)?,
            "item_reference" => {
                return Err(item.invalid(
                    "type",
                    "refers to something that is kept, and nothing is kept for this model; send the item itself",
                ));
            }
            _ => {
                others.push(format!("{}:{}", item.here(), printable(&kind)), raw)?;
                continue;
            }
        }
        // What an answer has, and says nothing in a request.
        item.text("id")?;
        item.text("status")?;
        item.leave_to(others)?;
    }
    Ok(())
}

/// Adds to the model's turn that goes on, or begins one.
fn push_said(turns: &mut Vec<Turn>, place: &str, mut parts: Vec<Part>) {
    match turns.last_mut() {
        Some(turn) if turn.role == Role::Assistant => turn.parts.append(&mut parts),
        _ => turns.push(Turn { role: Role::Assistant, parts, place: place.to_owned() }),
    }
}

/// Adds to the turn of results that goes on, or begins one.
fn push_result(turns: &mut Vec<Turn>, place: &str, result: Part) {
    match turns.last_mut() {
        Some(Turn { role: Role::User, parts, .. }) if matches!(parts.last(), Some(Part::ToolResult(_))) => {
            parts.push(result);
        }
        _ => turns.push(Turn { role: Role::User, parts: vec![result], place: place.to_owned() }),
    }
}

fn message(item: &mut Fields<'_>, turns: &mut Vec<Turn>, others: &mut Others) -> Result<(), Invalid> {
    let role = match item.needed_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => return Err(item.invalid("role", "has to be 'user', 'assistant', 'system' or 'developer'")),
    };
    let content = item.take("content").ok_or_else(|| item.invalid("content", "is needed"))?;
    let parts = content_parts(content, &item.place("content"), others)?;
    if role == Role::Assistant {
        push_said(turns, item.here(), parts);
    } else {
        turns.push(Turn { role, parts, place: item.here().to_owned() });
    }
    Ok(())
}

fn content_parts(content: &RawValue, place: &str, others: &mut Others) -> Result<Vec<Part>, Invalid> {
    if fields::is_string(content) {
        return Ok(vec![Part::Text { text: string(content, place)?, cache: None }]);
    }
    let mut parts = Vec::new();
    for (number, raw) in fields::list(content, place)?.into_iter().enumerate() {
        let mut part = Fields::read(raw.get(), format!("{place}[{number}]"))?;
        let kind = part.needed_text("type")?;
        let read = match kind.as_str() {
            "input_text" | "output_text" | "text" => {
                // What an answer has, and says nothing in a request.
                part.take("logprobs");
                part.take_if("annotations", &["[]"]);
                Part::Text { text: part.needed_text("text")?, cache: None }
            }
            "refusal" => Part::Refusal { text: part.needed_text("refusal")? },
            "input_image" => image(&mut part)?,
            "input_file" => file(&mut part)?,
            "input_audio" => audio(&mut part, others)?,
            _ => {
                others.push(format!("{}:{}", part.here(), printable(&kind)), raw)?;
                continue;
            }
        };
        part.leave_to(others)?;
        parts.push(read);
    }
    Ok(parts)
}

fn image(part: &mut Fields<'_>) -> Result<Part, Invalid> {
    let detail = part.text("detail")?;
    let source = match (part.text("image_url")?, part.text("file_id")?) {
        (Some(url), None) => address(&url).ok_or_else(|| {
            part.invalid("image_url", "has to be an http(s) URL or a data URL with a media type and base64")
        })?,
        (None, Some(id)) => Source::FileId(id),
        _ => return Err(part.invalid("image_url", "is needed, or file_id, and not both")),
    };
    Ok(Part::Image { source, detail, cache: None })
}

fn file(part: &mut Fields<'_>) -> Result<Part, Invalid> {
    let name = part.text("filename")?;
    part.take_if("detail", &["\"auto\""]);
    let (data, url, id) = (part.text("file_data")?, part.text("file_url")?, part.text("file_id")?);
    let source = match (data, url, id) {
        (Some(data), None, None) if data.starts_with("data:") => address(&data)
            .ok_or_else(|| part.invalid("file_data", "has to be a data URL with a media type and base64"))?,
        (Some(data), None, None) => {
            // Base64 alone: the name has to say what it is.
            let is_pdf = name.as_deref().is_some_and(|name| name.to_ascii_lowercase().ends_with(".pdf"));
            if !is_pdf {
                return Err(part.invalid("file_data", "has to be a data URL, unless filename ends in .pdf"));
            }
            Source::Base64 { media_type: "application/pdf".to_owned(), data }
        }
        (None, Some(url), None) => {
            address(&url).ok_or_else(|| part.invalid("file_url", "has to be an http(s) URL"))?
        }
        (None, None, Some(id)) => Source::FileId(id),
        _ => {
            return Err(part.invalid("file_data", "is needed, or file_url, or file_id, and only one of them"));
        }
    };
    Ok(Part::Document { source, name, cache: None })
}

fn audio(part: &mut Fields<'_>, others: &mut Others) -> Result<Part, Invalid> {
    let mut audio =
        part.object("input_audio")?.ok_or_else(|| part.invalid("input_audio", "is needed, an object"))?;
    let read = Part::Audio { data: audio.needed_text("data")?, format: audio.needed_text("format")? };
    audio.leave_to(others)?;
    Ok(read)
}

/// An address on the web, or a data URL with base64.
fn address(url: &str) -> Option<Source> {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if scheme == "http" || scheme == "https" {
        return Some(Source::Url(url.to_owned()));
    }
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let (media_type, parameters) = head.split_once(';')?;
    if !parameters.split(';').any(|parameter| parameter.trim().eq_ignore_ascii_case("base64")) {
        return None;
    }
    let media_type = media_type.trim().to_ascii_lowercase();
    let named = media_type.contains('/') && media_type.bytes().all(|byte| byte.is_ascii_graphic());
    named.then(|| Source::Base64 { media_type, data: data.to_owned() })
}

fn function_call(item: &mut Fields<'_>, proofs: &mut Vec<(String, String)>) -> Result<Part, Invalid> {
    direct_caller(item)?;
    let id = item.needed_text("call_id")?;
    let place = proofs.iter().rposition(|(call, _)| *call == id);
    let signature = place.map(|place| proofs.swap_remove(place).1);
    let name = item.needed_text("name")?;
    let arguments = item.needed_text("arguments")?;
    Ok(Part::ToolCall(ToolCall { id, name, arguments, signature, cache: None }))
}

fn function_call_output(item: &mut Fields<'_>, others: &mut Others) -> Result<Part, Invalid> {
    direct_caller(item)?;
    let call_id = item.needed_text("call_id")?;
    let output = item.take("output").ok_or_else(|| item.invalid("output", "is needed"))?;
    let mut parts = content_parts(output, &item.place("output"), others)?;
    // An empty string is no text: the result itself stays.
    parts.retain(|part| !matches!(part, Part::Text { text, .. } if text.is_empty()));
    Ok(Part::ToolResult(ToolResult { call_id, parts, is_error: false, cache: None }))
}

/// Called by the model itself, which is what every provider means.
fn direct_caller(item: &mut Fields<'_>) -> Result<(), Invalid> {
    if let Some(mut caller) = item.object("caller")?
        && caller.needed_text("type")? != "direct"
    {
        return Err(item.invalid("caller", "has to be 'direct' for this model"));
    }
    Ok(())
}

fn reasoning(
    item: &mut Fields<'_>,
    proofs: &mut Vec<(String, String)>,
    turns: &mut Vec<Turn>,
    others: &mut Others,
) -> Result<(), Invalid> {
    let content = texts(item, "content")?;
    let summary = texts(item, "summary")?;
    let text = if content.is_empty() { summary } else { content };
    let part = match item.take("encrypted_content") {
        None => (!text.is_empty()).then_some(Part::Thinking { text, signature: None }),
        Some(raw) => match Carried::read(&string(raw, &item.place("encrypted_content"))?) {
            Some(Carried::Thinking { text, signature }) => Some(Part::Thinking { text, signature }),
            Some(Carried::Redacted { data }) => Some(Part::RedactedThinking { data }),
            Some(Carried::Call { id, signature }) => {
                if proofs.len() >= MAX_PROOFS {
                    return Err(
                        item.invalid("encrypted_content", "is one of too many without a function call")
                    );
                }
                proofs.push((id, signature));
                None
            }
            None => {
                // Only who wrote it can read it; what can be read of it goes on.
                others.push(item.place("encrypted_content"), raw)?;
                (!text.is_empty()).then_some(Part::Thinking { text, signature: None })
            }
        },
    };
    if let Some(part) = part {
        push_said(turns, item.here(), vec![part]);
    }
    Ok(())
}

/// The texts of a list of parts, as one.
fn texts(item: &mut Fields<'_>, name: &str) -> Result<String, Invalid> {
    let mut texts = Vec::new();
    for mut part in item.objects(name)?.unwrap_or_default() {
        part.text("type")?;
        texts.push(part.needed_text("text")?);
    }
    Ok(texts.join("\n\n"))
}

fn string(raw: &RawValue, place: &str) -> Result<String, Invalid> {
    serde_json::from_str(raw.get()).map_err(|_| Invalid::new(place, "has to be a string"))
}
