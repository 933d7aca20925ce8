//! Turns as messages.

use crate::translate::capability::Sampling;
use crate::translate::conversation::{CacheMark, Part, Role, Source, ToolCall, ToolResult, Turn};
use crate::translate::json_text::{Object, array, string};
use crate::translate::{Invalid, Target};

/// Writes messages, and keeps what was left out of them.
pub struct Writer<'a> {
    /// Where the request goes.
    pub target: &'a Target<'a>,
    /// Names of what was left out, each once.
    pub left_out: Vec<&'static str>,
}

/// Begins another message behind those that stand from `start` on.
fn message<'o>(role: &str, start: usize, out: &'o mut Vec<u8>) -> Object<'o> {
    if out.len() > start {
        out.push(b',');
    }
    let mut object = Object::open(out);
    object.string("role", role);
    object
}

impl Writer<'_> {
    /// All turns as a list of messages.
    ///
    /// # Errors
    /// If a part has no place in a message of its role.
    pub fn messages(&mut self, turns: &[Turn], out: &mut Vec<u8>) -> Result<(), Invalid> {
        out.push(b'[');
        let start = out.len();
        turns.iter().try_for_each(|turn| self.turn(turn, start, out))?;
        out.push(b']');
        Ok(())
    }

    /// Notes what was left out.
    pub fn leave_out(&mut self, name: &'static str) {
        if !self.left_out.contains(&name) {
            self.left_out.push(name);
        }
    }

    /// OpenAI's own reasoning models: they keep their thoughts to themselves and take the newer names of fields.
    pub fn is_reasoning_model(&self) -> bool {
        self.target.capability.sampling == Sampling::None
    }

    fn turn(&mut self, turn: &Turn, start: usize, out: &mut Vec<u8>) -> Result<(), Invalid> {
        match turn.role {
            Role::System => {
                let mut object = message("system", start, out);
                self.content(&turn.parts, &turn.place, true, object.name("content"))?;
                object.close();
                Ok(())
            }
            Role::User => self.user(turn, start, out),
            Role::Assistant => self.assistant(turn, start, out),
        }
    }

    /// Results of tools are messages of their own and come first, as they follow the calls; then what a tool's message
    /// can not hold (pictures, documents) and the user's own words.
    fn user(&mut self, turn: &Turn, start: usize, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let mut rest: Vec<&Part> = Vec::new();
        let mut has_results = false;
        for part in &turn.parts {
            if let Part::ToolResult(result) = part {
                has_results = true;
                self.tool_result(result, &turn.place, start, out)?;
                rest.extend(result.parts.iter().filter(|part| !matches!(part, Part::Text { .. })));
            }
        }
        rest.extend(turn.parts.iter().filter(|part| !matches!(part, Part::ToolResult(_))));
        if rest.is_empty() && has_results {
            return Ok(());
        }
        let mut object = message("user", start, out);
        self.content(rest, &turn.place, false, object.name("content"))?;
        object.close();
        Ok(())
    }

    fn tool_result(
        &mut self,
        result: &ToolResult,
        place: &str,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Invalid> {
        if result.cache.is_some() && !self.target.capability.cache_marks {
            self.leave_out("cache_control");
        }
        let mut object = message("tool", start, out);
        object.string("tool_call_id", &result.call_id);
        let texts = result.parts.iter().filter(|part| matches!(part, Part::Text { .. }));
        self.content(texts, place, true, object.name("content"))?;
        object.close();
        Ok(())
    }

    /// A single text is a string, which every server takes; anything else is a list of parts.
    fn content<'p>(
        &mut self,
        parts: impl IntoIterator<Item = &'p Part>,
        place: &str,
        only_text: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Invalid> {
        let parts: Vec<&Part> = parts.into_iter().collect();
        let marks = self.target.capability.cache_marks;
        match parts.as_slice() {
            [] => {
                out.extend_from_slice(b"\"\"");
                return Ok(());
            }
            [Part::Text { text, cache }] if cache.is_none() || !marks => {
                if cache.is_some() {
                    self.leave_out("cache_control");
                }
                string(text, out);
                return Ok(());
            }
            _ => {}
        }
        out.push(b'[');
        for (number, part) in parts.into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            self.part(part, &format!("{place}.content[{number}]"), only_text, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn part(&mut self, part: &Part, place: &str, only_text: bool, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let mark = match part {
            Part::Text { text, cache } => {
                let mut object = Object::open(out);
                object.string("type", "text");
                object.string("text", text);
                (object, *cache)
            }
            _ if only_text => {
                return Err(Invalid::new(place, "only text can stand here at this provider"));
            }
            Part::Image { source, detail, cache } => {
                let url = match source {
                    Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
                    Source::Url(url) => url.clone(),
                    Source::Text(_) | Source::FileId(_) => {
                        return Err(Invalid::new(
                            place,
                            "a picture is given as base64 or by an address here",
                        ));
                    }
                };
                let mut object = Object::open(out);
                object.string("type", "image_url");
                let mut image = Object::open(object.name("image_url"));
                image.string("url", &url);
                if let Some(detail) = detail {
                    image.string("detail", detail);
                }
                image.close();
                (object, *cache)
            }
            Part::Document { source, name, cache } => {
                let mut object = Object::open(out);
                if let Source::Text(text) = source {
                    object.string("type", "text");
                    object.string("text", text);
                    (object, *cache)
                } else {
                    object.string("type", "file");
                    let mut file = Object::open(object.name("file"));
                    match source {
                        Source::Base64 { media_type, data } => {
                            file.string("filename", name.as_deref().unwrap_or("document"));
                            file.string("file_data", &format!("data:{media_type};base64,{data}"));
                        }
                        Source::FileId(id) => file.string("file_id", id),
                        Source::Url(_) | Source::Text(_) => {
                            return Err(Invalid::new(
                                place,
                                "a document by its address is not taken by this provider",
                            ));
                        }
                    }
                    file.close();
                    (object, *cache)
                }
            }
            Part::Audio { data, format } => {
                let mut object = Object::open(out);
                object.string("type", "input_audio");
                let mut audio = Object::open(object.name("input_audio"));
                audio.string("data", data);
                audio.string("format", format);
                audio.close();
                (object, None)
            }
            Part::ToolCall(_)
            | Part::ToolResult(_)
            | Part::Thinking { .. }
            | Part::RedactedThinking { .. }
            | Part::Refusal { .. } => {
                return Err(Invalid::new(place, "this part can not stand in a turn of that role"));
            }
        };
        let (mut object, cache) = mark;
        self.cache(cache, &mut object);
        object.close();
        Ok(())
    }

    /// Writes a cache mark where the provider takes them.
    pub fn cache(&mut self, cache: Option<CacheMark>, object: &mut Object<'_>) {
        let Some(cache) = cache else { return };
        if !self.target.capability.cache_marks {
            self.leave_out("cache_control");
            return;
        }
        object.json(
            "cache_control",
            match cache {
                CacheMark::Default => r#"{"type":"ephemeral"}"#,
                CacheMark::FiveMinutes => r#"{"type":"ephemeral","ttl":"5m"}"#,
                CacheMark::OneHour => r#"{"type":"ephemeral","ttl":"1h"}"#,
            },
        );
    }

    fn assistant(&mut self, turn: &Turn, start: usize, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let mut text: Option<String> = None;
        let mut refusal = String::new();
        let mut thoughts = String::new();
        let mut calls: Vec<&ToolCall> = Vec::new();
        for (number, part) in turn.parts.iter().enumerate() {
            match part {
                Part::Text { text: more, cache } => {
                    if cache.is_some() {
                        self.leave_out("cache_control");
                    }
                    text.get_or_insert_default().push_str(more);
                }
                Part::Refusal { text: more } => refusal.push_str(more),
                Part::Thinking { text: more, .. } => thoughts.push_str(more),
                Part::RedactedThinking { .. } => self.leave_out("thinking"),
                Part::ToolCall(call) => calls.push(call),
                Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult(_) => {
                    return Err(Invalid::new(
                        format!("{}.content[{number}]", turn.place),
                        "this part can not stand in a turn of the assistant at this provider",
                    ));
                }
            }
        }
        let mut object = message("assistant", start, out);
        match text {
            Some(text) => object.string("content", &text),
            None if calls.is_empty() && refusal.is_empty() => object.string("content", ""),
            None => object.json("content", "null"),
        }
        if !refusal.is_empty() {
            object.string("refusal", &refusal);
        }
        if !thoughts.is_empty() {
            if self.is_reasoning_model() {
                self.leave_out("thinking");
            } else {
                object.string("reasoning_content", &thoughts);
            }
        }
        if !calls.is_empty() {
            array(calls, object.name("tool_calls"), |call, out| {
                let mut object = Object::open(out);
                object.string("id", &call.id);
                object.string("type", "function");
                let mut function = Object::open(object.name("function"));
                function.string("name", &call.name);
                let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
                function.string("arguments", arguments);
                function.close();
                if let Some(signature) = &call.signature {
                    let mut extra = Object::open(object.name("extra_content"));
                    let mut google = Object::open(extra.name("google"));
                    google.string("thought_signature", signature);
                    google.close();
                    extra.close();
                }
                if call.cache.is_some() {
                    self.leave_out("cache_control");
                }
                object.close();
            });
        }
        object.close();
        Ok(())
    }
}
