//! A conversation as a chat request.

use serde_json::value::RawValue;

use super::messages::Writer;
use crate::translate::capability::{Sampling, Thinking};
use crate::translate::conversation::{Effort, Format, Reasoning, Tool, ToolChoice};
use crate::translate::json_text::{Object, array, string, unsigned};
use crate::translate::{Built, Conversation, Invalid, ReplyContext, Target, Unsupported};

/// OpenAI takes so many stop texts.
const MAX_STOPS: usize = 4;
/// What no caller writes past the gateway, whether it writes it in this request or not: who answers (`models`,
/// `fallbacks`, `preset` and `route` name or choose others at routers) and whether the answer is a stream.
const RESERVED: [&str; 8] =
    ["model", "models", "fallbacks", "preset", "route", "messages", "stream", "stream_options"];

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
    writer.messages(&conversation.turns, object.name("messages"))?;
    writer.options(conversation, &mut object, &mut unsupported)?;
    writer.tools(conversation, &mut object)?;
    writer.reasoning(conversation.reasoning.as_ref(), &mut object, &mut unsupported)?;
    if conversation.cache.is_some() {
        writer.leave_out("cache_control");
    }
    let Members { mut object, names } = object;
    for (name, value) in &conversation.provider_options {
        if names.contains(&name.as_str()) || RESERVED.contains(&name.as_str()) {
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

impl Writer<'_> {
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
        if conversation.tools.is_empty() {
            // OpenAI refuses the other fields without tools; only a demand says something then.
            return match conversation.tool_choice {
                None | Some(ToolChoice::Auto | ToolChoice::None) => Ok(()),
                Some(_) => Err(Invalid::new("tool_choice", "there are no tools to choose from")),
            };
        }
        array(&conversation.tools, object.name("tools"), |tool, out| self.tool(tool, out));
        if let Some(choice) = &conversation.tool_choice {
            write_choice(choice, object.name("tool_choice"));
        }
        if let Some(parallel) = conversation.parallel_tool_calls {
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
