//! A conversation as a chat request.

use serde_json::value::RawValue;

use crate::translate::capability::{Sampling, Thinking};
use crate::translate::conversation::{
    CacheMark, Effort, Format, Part, Reasoning, Role, Source, Tool, ToolCall, ToolChoice, ToolResult, Turn,
};
use crate::translate::json_text::{Object, array, string, unsigned};
use crate::translate::{Built, Conversation, Invalid, ReplyContext, Target, Unsupported};

/// OpenAI takes so many stop texts.
const MAX_STOPS: usize = 4;

/// Writes a request for `chat/completions`.
///
/// What of the model's earlier thoughts and of cache marks the server has no place for is left out, since neither
/// changes what is asked, and is listed in [`Built::dropped`].
///
/// # Errors
/// If the conversation holds what the protocol has no place for; the error names the caller's field.
pub fn build(conversation: &Conversation, target: &Target<'_>) -> Result<Built, Invalid> {
    let mut unsupported = Unsupported::new(*target);
    for (name, _) in &conversation.others {
        unsupported.field(name)?;
    }
    let mut body = Vec::with_capacity(4_096);
    let mut names: Vec<&str> = Vec::new();
    let mut writer = Writer { target, left_out: Vec::new() };
    let mut object = Members { object: Object::open(&mut body), names: &mut names };
    string(target.model_id, object.name("model"));
    let mut result = Ok(());
    array_of_messages(&conversation.turns, object.name("messages"), &mut writer, &mut result);
    result?;
    writer.options(conversation, &mut object, &mut unsupported)?;
    writer.tools(conversation, &mut object)?;
    writer.reasoning(conversation.reasoning.as_ref(), &mut object, &mut unsupported)?;
    if conversation.cache.is_some() {
        writer.leave_out("cache_control");
    }
    let Members { mut object, names } = object;
    for (name, value) in &conversation.provider_options {
        if names.contains(&name.as_str()) {
            return Err(Invalid::new(
                format!("provider_options.{name}"),
                "the gateway writes this field itself; use the field of the request that says it",
            ));
        }
        object.json(name, value.get());
    }
    object.close();
    let mut dropped = unsupported.into_dropped();
    dropped.extend(writer.left_out.into_iter().map(str::to_owned));
    Ok(Built { body, dropped, context: ReplyContext::default() })
}

/// The top level of the request, which knows what it wrote.
struct Members<'a, 'n> {
    object: Object<'a>,
    names: &'n mut Vec<&'static str>,
}

impl Members<'_, '_> {
    fn name(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.names.push(name);
        self.object.name(name)
    }

    fn json(&mut self, name: &'static str, value: &str) {
        self.name(name).extend_from_slice(value.as_bytes());
    }

    fn number(&mut self, name: &'static str, value: f64) {
        // Finite by the fronts; JSON has no other.
        let text = if value.is_finite() { value.to_string() } else { "0".to_owned() };
        self.json(name, &text);
    }
}

struct Writer<'a> {
    target: &'a Target<'a>,
    left_out: Vec<&'static str>,
}

fn array_of_messages(
    turns: &[Turn],
    out: &mut Vec<u8>,
    writer: &mut Writer<'_>,
    result: &mut Result<(), Invalid>,
) {
    out.push(b'[');
    let start = out.len();
    for turn in turns {
        if result.is_ok() {
            *result = writer.turn(turn, start, out);
        }
    }
    out.push(b']');
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
    fn leave_out(&mut self, name: &'static str) {
        if !self.left_out.contains(&name) {
            self.left_out.push(name);
        }
    }

    /// OpenAI's own reasoning models: they keep their thoughts to themselves and take the newer names of fields.
    fn is_reasoning_model(&self) -> bool {
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

    fn cache(&mut self, cache: Option<CacheMark>, object: &mut Object<'_>) {
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

    fn options(
        &self,
        conversation: &Conversation,
        object: &mut Members<'_, '_>,
        unsupported: &mut Unsupported<'_>,
    ) -> Result<(), Invalid> {
        if let Some(most) = conversation.max_output_tokens {
            // Reasoning models refuse the old name, and many other servers do not know the new one.
            let is_new = self.is_reasoning_model() || self.target.provider.contains("azure");
            unsigned(most, object.name(if is_new { "max_completion_tokens" } else { "max_tokens" }));
        }
        self.sampling(conversation, object, unsupported)?;
        if let Some(penalty) = conversation.frequency_penalty {
            object.number("frequency_penalty", penalty);
        }
        if let Some(penalty) = conversation.presence_penalty {
            object.number("presence_penalty", penalty);
        }
        if conversation.stop.len() > MAX_STOPS {
            return Err(Invalid::new("stop", "this provider takes at most 4 stop texts"));
        }
        if !conversation.stop.is_empty() {
            array(&conversation.stop, object.name("stop"), |text, out| string(text, out));
        }
        if let Some(seed) = conversation.seed {
            object.json("seed", &seed.to_string());
        }
        if let Some(count) = conversation.count {
            unsigned(u64::from(count), object.name("n"));
        }
        if let Some(wanted) = conversation.logprobs {
            object.json("logprobs", if wanted { "true" } else { "false" });
        }
        if let Some(top) = conversation.top_logprobs {
            unsigned(u64::from(top), object.name("top_logprobs"));
        }
        if let Some(user) = &conversation.user {
            string(user, object.name("user"));
        }
        if let Some(tier) = &conversation.service_tier {
            string(tier, object.name("service_tier"));
        }
        if let Some(format) = &conversation.format {
            write_format(format, object.name("response_format"));
        }
        if conversation.stream {
            object.json("stream", "true");
            // Always: the gateway counts, whether the caller asked or not.
            object.json("stream_options", r#"{"include_usage":true}"#);
        }
        Ok(())
    }

    fn sampling(
        &self,
        conversation: &Conversation,
        object: &mut Members<'_, '_>,
        unsupported: &mut Unsupported<'_>,
    ) -> Result<(), Invalid> {
        let sampling = self.target.capability.sampling;
        if let Some(temperature) = conversation.temperature {
            // 1 is what a model without the parameter does.
            if sampling == Sampling::None && (temperature - 1.0).abs() > f64::EPSILON {
                unsupported.field("temperature")?;
            } else if sampling != Sampling::None {
                object.number("temperature", temperature);
            }
        }
        if let Some(top_p) = conversation.top_p {
            match sampling {
                Sampling::None if (top_p - 1.0).abs() <= f64::EPSILON => {}
                Sampling::None => unsupported.field("top_p")?,
                Sampling::One if conversation.temperature.is_some() => unsupported.field("top_p")?,
                Sampling::One | Sampling::Any => object.number("top_p", top_p),
            }
        }
        // OpenAI has no such field. A server that has it takes it by the same name from `provider_options`.
        if conversation.top_k.is_some() {
            unsupported.field("top_k")?;
        }
        Ok(())
    }

    fn tools(&mut self, conversation: &Conversation, object: &mut Members<'_, '_>) -> Result<(), Invalid> {
        if !conversation.tools.is_empty() {
            array(&conversation.tools, object.name("tools"), |tool, out| self.tool(tool, out));
        }
        if let Some(choice) = &conversation.tool_choice
            && !conversation.tools.is_empty()
        {
            write_choice(choice, object.name("tool_choice"));
        }
        if let Some(parallel) = conversation.parallel_tool_calls
            && !conversation.tools.is_empty()
        {
            object.json("parallel_tool_calls", if parallel { "true" } else { "false" });
        }
        Ok(())
    }

    fn tool(&mut self, tool: &Tool, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.string("type", "function");
        let mut function = Object::open(object.name("function"));
        function.string("name", &tool.name);
        if let Some(description) = &tool.description {
            function.string("description", description);
        }
        if let Some(parameters) = &tool.parameters {
            function.json("parameters", parameters.get());
        }
        if let Some(strict) = tool.strict {
            function.json("strict", if strict { "true" } else { "false" });
        }
        function.close();
        self.cache(tool.cache, &mut object);
        object.close();
    }

    /// OpenAI knows words only; a number of tokens becomes the nearest one. A model that is known not to think on
    /// request is not asked to; of one that nothing is known of, the server decides.
    fn reasoning(
        &self,
        reasoning: Option<&Reasoning>,
        object: &mut Members<'_, '_>,
        unsupported: &mut Unsupported<'_>,
    ) -> Result<(), Invalid> {
        let Some(reasoning) = reasoning else { return Ok(()) };
        let capability = self.target.capability;
        let by_budget = reasoning.budget_tokens.map(|budget| match budget {
            0 => Effort::None,
            1..=2_048 => Effort::Low,
            2_049..=8_192 => Effort::Medium,
            _ => Effort::High,
        });
        let effort = match (reasoning.enabled, reasoning.effort.or(by_budget)) {
            (Some(false), _) | (_, Some(Effort::None)) => Effort::None,
            (_, Some(effort)) => effort,
            // As it sees fit is what it does unasked.
            (_, None) => return Ok(()),
        };
        if capability.thinking == Thinking::None {
            if effort == Effort::None {
                return Ok(());
            }
            if !capability.family.is_empty() && !self.is_reasoning_model() {
                return unsupported.field("reasoning_effort");
            }
        }
        let word = match effort {
            Effort::None => "none",
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            // OpenAI's scale ends here.
            Effort::XHigh | Effort::Max => "xhigh",
        };
        string(word, object.name("reasoning_effort"));
        Ok(())
    }
}

fn write_choice(choice: &ToolChoice, out: &mut Vec<u8>) {
    let function = |name: &str, out: &mut Vec<u8>| {
        out.extend_from_slice(br#"{"type":"function","function":{"name":"#);
        string(name, out);
        out.extend_from_slice(b"}}");
    };
    match choice {
        ToolChoice::Auto => out.extend_from_slice(b"\"auto\""),
        ToolChoice::None => out.extend_from_slice(b"\"none\""),
        ToolChoice::Required => out.extend_from_slice(b"\"required\""),
        ToolChoice::Tool(name) => function(name, out),
        ToolChoice::Allowed { names, required } => {
            let mut object = Object::open(out);
            object.string("type", "allowed_tools");
            let mut allowed = Object::open(object.name("allowed_tools"));
            allowed.string("mode", if *required { "required" } else { "auto" });
            array(names, allowed.name("tools"), |name, out| function(name, out));
            allowed.close();
            object.close();
        }
    }
}

fn write_format(format: &Format, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    match format {
        Format::Text => object.string("type", "text"),
        Format::JsonObject => object.string("type", "json_object"),
        Format::JsonSchema { name, description, schema, strict } => {
            object.string("type", "json_schema");
            let mut form = Object::open(object.name("json_schema"));
            // OpenAI needs one.
            form.string("name", name.as_deref().unwrap_or("answer"));
            if let Some(description) = description {
                form.string("description", description);
            }
            form.json("schema", RawValue::get(schema));
            if let Some(strict) = strict {
                form.json("strict", if *strict { "true" } else { "false" });
            }
            form.close();
        }
    }
    object.close();
}
