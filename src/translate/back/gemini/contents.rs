//! Turns as `contents`: roles, parts, and the results of tools paired with their calls.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{VERTEX, names};
use crate::translate::capability::Thinking;
use crate::translate::conversation::{Part, Role, Source, ToolCall, ToolResult, Turn};
use crate::translate::{Invalid, Target, Unsupported};

/// What stands in place of the signature of a call that another provider's model made (Google's documentation of
/// thought signatures names it).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// What one of the two said.
#[derive(Debug, Serialize)]
pub struct Content<'a> {
    /// `user`, `model`; none for instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Never empty.
    pub parts: Vec<WirePart<'a>>,
    /// It holds the results of calls and nothing else.
    #[serde(skip)]
    is_results: bool,
}

/// A part: one of its members, and flags.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WirePart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<FunctionResponse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: Cow<'a, str>,
    data: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
}

#[derive(Debug, Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: Cow<'a, str>,
    args: Cow<'a, RawValue>,
}

#[derive(Debug, Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: Cow<'a, str>,
    response: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<WirePart<'a>>,
}

/// A call that waits for its result.
struct Pending<'a> {
    id: &'a str,
    name: &'a str,
    response: Option<FunctionResponse<'a>>,
}

/// Collects turns.
pub struct Contents<'a> {
    is_vertex: bool,
    is_gemini_3: bool,
    /// Instructions.
    pub system: Vec<WirePart<'a>>,
    /// What was said.
    pub list: Vec<Content<'a>>,
    pending: Vec<Pending<'a>>,
    /// What the user said beside the results, and pictures in results: after all of them.
    after_results: Vec<WirePart<'a>>,
}

impl<'a> Contents<'a> {
    /// Of all turns.
    pub fn of(
        turns: &'a [Turn],
        target: &Target<'_>,
        unsupported: &mut Unsupported<'_>,
    ) -> Result<Self, Invalid> {
        let mut contents = Self {
            is_vertex: target.provider == VERTEX,
            is_gemini_3: target.capability.thinking == Thinking::Level,
            system: Vec::new(),
            list: Vec::new(),
            pending: Vec::new(),
            after_results: Vec::new(),
        };
        for turn in turns {
            match turn.role {
                Role::System => contents.instructions(turn)?,
                Role::User => contents.user(turn, unsupported)?,
                Role::Assistant => contents.model(turn, unsupported)?,
            }
        }
        if contents.pending.iter().any(|call| call.response.is_some()) || !contents.after_results.is_empty() {
            contents.refuse_pending("messages")?;
        }
        if contents.list.is_empty() {
            return Err(Invalid::new(
                "messages",
                "There has to be a message that is not empty from the user.",
            ));
        }
        Ok(contents)
    }

    fn instructions(&mut self, turn: &'a Turn) -> Result<(), Invalid> {
        for part in &turn.parts {
            match part {
                Part::Text { text, .. } if text.is_empty() => {}
                Part::Text { text, .. } => self.system.push(text_part(text)),
                _ => return Err(Invalid::new(&turn.place, "Instructions can only be text.")),
            }
        }
        Ok(())
    }

    fn user(&mut self, turn: &'a Turn, unsupported: &mut Unsupported<'_>) -> Result<(), Invalid> {
        let mut parts = Vec::new();
        for part in &turn.parts {
            match part {
                Part::ToolResult(result) => self.result(result, &turn.place, &mut parts, unsupported)?,
                _ => parts.extend(self.medium(part, &turn.place, unsupported)?),
            }
        }
        if self.pending.is_empty() {
            self.push("user", parts);
            return Ok(());
        }
        self.after_results.append(&mut parts);
        if self.pending.iter().all(|call| call.response.is_some()) {
            let responses = std::mem::take(&mut self.pending).into_iter().filter_map(|call| call.response);
            let parts = responses
                .map(|response| WirePart { function_response: Some(response), ..WirePart::default() })
                .collect();
            self.list.push(Content { role: Some("user"), parts, is_results: true });
            let after = std::mem::take(&mut self.after_results);
            self.push("user", after);
        }
        Ok(())
    }

    fn push(&mut self, role: &'static str, mut parts: Vec<WirePart<'a>>) {
        if parts.is_empty() {
            return;
        }
        match self.list.last_mut() {
            Some(last) if last.role == Some(role) && !last.is_results => last.parts.append(&mut parts),
            _ => self.list.push(Content { role: Some(role), parts, is_results: false }),
        }
    }

    fn refuse_pending(&self, place: &str) -> Result<(), Invalid> {
        if self.pending.is_empty() && self.after_results.is_empty() {
            return Ok(());
        }
        Err(Invalid::new(place, "Every tool call has to be followed by its result, before anything else."))
    }

    fn model(&mut self, turn: &'a Turn, unsupported: &mut Unsupported<'_>) -> Result<(), Invalid> {
        self.refuse_pending(&turn.place)?;
        let mut parts: Vec<WirePart<'a>> = Vec::new();
        let mut has_call = false;
        // A signature that came before a call and is not on a part yet.
        let mut carried: Option<&'a str> = None;
        let mut turn_parts = turn.parts.iter().peekable();
        while let Some(part) = turn_parts.next() {
            match part {
                Part::ToolCall(call) => {
                    let signature = call.signature.as_deref().or(carried.take());
                    let is_unsigned_first = self.is_gemini_3 && !has_call && signature.is_none();
                    let signature = if is_unsigned_first { Some(NO_SIGNATURE) } else { signature };
                    has_call = true;
                    parts.push(self.call(call, signature, &turn.place)?);
                }
                Part::Thinking { text, signature } => {
                    let before_call =
                        matches!(turn_parts.peek(), Some(Part::ToolCall(ToolCall { signature: None, .. })));
                    let own = if before_call { None } else { signature.as_deref() };
                    carried = if before_call { signature.as_deref() } else { None };
                    if !text.is_empty() || own.is_some() {
                        let mut part = text_part(text);
                        part.thought = (!text.is_empty()).then_some(true);
                        part.thought_signature = own;
                        parts.push(part);
                    }
                }
                Part::RedactedThinking { .. } => unsupported.field("thinking_blocks")?,
                Part::ToolResult(_) => {
                    return Err(Invalid::new(
                        &turn.place,
                        "Results of tools do not come from the assistant.",
                    ));
                }
                _ => parts.extend(self.medium(part, &turn.place, unsupported)?),
            }
        }
        self.push("model", parts);
        Ok(())
    }

    fn call(
        &mut self,
        call: &'a ToolCall,
        signature: Option<&'a str>,
        place: &str,
    ) -> Result<WirePart<'a>, Invalid> {
        if call.name.is_empty() {
            return Err(Invalid::new(place, "A tool call needs the name of its tool."));
        }
        self.pending.push(Pending { id: &call.id, name: &call.name, response: None });
        Ok(WirePart {
            function_call: Some(FunctionCall {
                id: self.id(&call.id),
                name: names::for_provider(&call.name),
                args: object(&call.arguments).ok_or_else(|| {
                    Invalid::new(place, "A tool call's arguments have to be a JSON object.")
                })?,
            }),
            thought_signature: signature,
            ..WirePart::default()
        })
    }

    /// Vertex pairs by place and does not take ids in every version.
    fn id(&self, id: &'a str) -> Option<&'a str> {
        (!self.is_vertex && !id.is_empty()).then_some(id)
    }

    fn result(
        &mut self,
        result: &'a ToolResult,
        place: &str,
        after: &mut Vec<WirePart<'a>>,
        unsupported: &mut Unsupported<'_>,
    ) -> Result<(), Invalid> {
        let mut texts: Vec<&'a str> = Vec::new();
        let mut media = Vec::new();
        for part in &result.parts {
            match part {
                Part::Text { text, .. } => texts.push(text),
                Part::Document { source: Source::Text(text), .. } => texts.push(text),
                Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } => {
                    media.extend(self.medium(part, place, unsupported)?);
                }
                _ => return Err(Invalid::new(place, "A tool's result is text, pictures or documents.")),
            }
        }
        let mut response = FunctionResponse {
            id: self.id(&result.call_id),
            name: Cow::Borrowed(""),
            response: response(&texts, result.is_error),
            parts: Vec::new(),
        };
        // Models before Gemini 3 take no pictures in a result: they follow it.
        if self.is_gemini_3 {
            response.parts = media;
        } else {
            after.append(&mut media);
        }
        let waiting =
            self.pending.iter_mut().find(|call| call.id == result.call_id && call.response.is_none());
        let Some(call) = waiting else {
            return Err(Invalid::new(place, "A tool's result names no call of the message before it."));
        };
        response.name = names::for_provider(call.name);
        call.response = Some(response);
        Ok(())
    }

    /// Text, pictures, documents and sound, in either role; `None` for empty text.
    fn medium(
        &self,
        part: &'a Part,
        place: &str,
        unsupported: &mut Unsupported<'_>,
    ) -> Result<Option<WirePart<'a>>, Invalid> {
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => {
                Ok((!text.is_empty()).then(|| text_part(text)))
            }
            Part::Image { source, detail, .. } => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    unsupported.field("image_url.detail")?;
                }
                self.source(source, place).map(Some)
            }
            Part::Document { source, .. } => self.source(source, place).map(Some),
            Part::Audio { data, format } => {
                let mime_type = match format.as_str() {
                    "wav" => "audio/wav",
                    "mp3" => "audio/mp3",
                    "aac" => "audio/aac",
                    "ogg" => "audio/ogg",
                    "flac" => "audio/flac",
                    "aiff" => "audio/aiff",
                    _ => return Err(Invalid::new(place, "Audio can be wav, mp3, aac, ogg, flac or aiff.")),
                };
                let blob = Blob { mime_type: Cow::Borrowed(mime_type), data };
                Ok(Some(WirePart { inline_data: Some(blob), ..WirePart::default() }))
            }
            _ => Err(Invalid::new(place, "This part can not stand in a message of this role.")),
        }
    }

    fn source(&self, source: &'a Source, place: &str) -> Result<WirePart<'a>, Invalid> {
        match source {
            Source::Base64 { media_type, data } => Ok(WirePart {
                inline_data: Some(Blob { mime_type: Cow::Borrowed(media_type), data }),
                ..WirePart::default()
            }),
            Source::Text(text) if text.is_empty() => Err(Invalid::new(place, "A document may not be empty.")),
            Source::Text(text) => Ok(text_part(text)),
            Source::Url(address) | Source::FileId(address) => {
                let is_fetchable = ["https://", "http://", "gs://"].iter().any(|scheme| {
                    address.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                });
                if !is_fetchable {
                    return Err(Invalid::new(
                        place,
                        "Google takes data, an https:// or gs:// address, or the full address of a file.",
                    ));
                }
                Ok(WirePart {
                    file_data: Some(FileData { mime_type: media_type_of(address), file_uri: address }),
                    ..WirePart::default()
                })
            }
        }
    }
}

fn text_part(text: &str) -> WirePart<'_> {
    WirePart { text: Some(Cow::Borrowed(text)), ..WirePart::default() }
}

/// JSON text that is an object; nothing at all is an empty one.
fn object(text: &str) -> Option<Cow<'_, RawValue>> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let value: &RawValue = serde_json::from_str(text).ok()?;
    value.get().starts_with('{').then_some(Cow::Borrowed(value))
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Wrapped {
    Result(String),
    Error(String),
}

/// A result as the object that Google wants: itself where it is one, else wrapped.
fn response<'a>(texts: &[&'a str], is_error: bool) -> Cow<'a, RawValue> {
    if let ([one], false) = (texts, is_error)
        && one.trim_start().starts_with('{')
        && let Some(object) = object(one)
    {
        return object;
    }
    let text = texts.join("\n");
    let wrapped = if is_error { Wrapped::Error(text) } else { Wrapped::Result(text) };
    serde_json::value::to_raw_value(&wrapped).map_or(Cow::Borrowed(RawValue::NULL), Cow::Owned)
}

/// By the ending of the address; Vertex wants it told.
fn media_type_of(address: &str) -> Option<&'static str> {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let ending = file.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase())?;
    Some(match ending.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        _ => return None,
    })
}
