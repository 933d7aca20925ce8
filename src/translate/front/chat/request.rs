//! A chat request as a conversation.

use serde_json::value::RawValue;

use super::fields::{self, Fields};
use super::turns;
use crate::translate::conversation::{CacheMark, Effort, Format, Reasoning, Tool, ToolChoice};
use crate::translate::{Conversation, Invalid};
use crate::wire::tree;

const MAX_MESSAGES: usize = 16_384;
const MAX_TOOLS: usize = 1_024;
const MAX_STOPS: usize = 64;
const MAX_COUNT: u64 = 128;
const MAX_OTHERS: usize = 256;

/// Fields that have no place in a [`Conversation`].
#[derive(Debug, Default)]
pub struct Others(Vec<(String, Box<RawValue>)>);

impl Others {
    /// Keeps a field once under its name.
    ///
    /// # Errors
    /// If there are too many.
    pub fn keep(&mut self, name: String, value: &RawValue) -> Result<(), Invalid> {
        if self.0.iter().any(|(known, _)| *known == name) {
            return Ok(());
        }
        if self.0.len() >= MAX_OTHERS {
            return Err(Invalid::new(name, "too many unknown fields"));
        }
        self.0.push((name, value.to_owned()));
        Ok(())
    }

    /// Keeps all that was not taken of an object.
    ///
    /// # Errors
    /// If there are too many.
    pub fn keep_rest(&mut self, prefix: &str, fields: Fields<'_>) -> Result<(), Invalid> {
        fields.rest().try_for_each(|(name, value)| self.keep(format!("{prefix}{name}"), value))
    }
}

/// Reads a body.
///
/// # Errors
/// If it is no chat request; the error names the field by its path.
pub fn read(body: &[u8]) -> Result<Conversation, Invalid> {
    let text = std::str::from_utf8(body).map_err(|_| Invalid::new("body", "not UTF-8"))?;
    if tree::nests_deeper_than(body, fields::MAX_DEPTH) {
        return Err(Invalid::new("body", format!("nested deeper than {} levels", fields::MAX_DEPTH)));
    }
    let mut body = Fields::of(text, "body")?;
    let mut others = Others::default();
    // The route is chosen by it already.
    if let Some(model) = body.take("model") {
        fields::string(model, "model")?;
    }
    let messages =
        body.take("messages").ok_or_else(|| Invalid::new("messages", "a list of messages is needed"))?;
    let messages = fields::list(messages, "messages", MAX_MESSAGES)?;
    if messages.is_empty() {
        return Err(Invalid::new("messages", "at least one message is needed"));
    }
    let mut conversation =
        Conversation { turns: turns::read(&messages, &mut others)?, ..Conversation::default() };
    numbers(&mut body, &mut conversation)?;
    words(&mut body, &mut conversation, &mut others)?;
    tools(&mut body, &mut conversation, &mut others)?;
    if let Some(format) = body.take("response_format") {
        conversation.format = Some(response_format(format, &mut others)?);
    }
    conversation.reasoning = reasoning(&mut body, &mut others)?;
    stream(&mut body, &mut conversation, &mut others)?;
    if let Some(mark) = body.take("cache_control") {
        conversation.cache = Some(cache_mark(mark, "cache_control")?);
    }
    if let Some(options) = body.take("provider_options") {
        let options = Fields::of(options.get(), "provider_options")?;
        conversation.provider_options =
            options.rest().map(|(name, value)| (name.into_owned(), value.to_owned())).collect();
    }
    without_meaning(&mut body);
    others.keep_rest("", body)?;
    conversation.others = others.0;
    Ok(conversation)
}

fn numbers(body: &mut Fields<'_>, conversation: &mut Conversation) -> Result<(), Invalid> {
    let mut unsigned = |name: &str| body.take(name).map(|value| fields::unsigned(value, name)).transpose();
    let longest = unsigned("max_tokens")?;
    conversation.max_output_tokens = unsigned("max_completion_tokens")?;
    match (longest, conversation.max_output_tokens) {
        (Some(old), Some(new)) if old != new => {
            return Err(Invalid::new("max_tokens", "differs from max_completion_tokens; send one of them"));
        }
        (Some(_), None) => conversation.max_output_tokens = longest,
        _ => {}
    }
    if conversation.max_output_tokens == Some(0) {
        return Err(Invalid::new("max_completion_tokens", "at least 1 is expected"));
    }
    conversation.top_k = unsigned("top_k")?;
    if let Some(count) = unsigned("n")? {
        let count = u32::try_from(count).ok().filter(|count| (1..=MAX_COUNT).contains(&u64::from(*count)));
        conversation.count =
            Some(count.ok_or_else(|| Invalid::new("n", "a number from 1 to 128 is expected"))?);
    }
    if let Some(top) = unsigned("top_logprobs")? {
        let top =
            u32::try_from(top).map_err(|_| Invalid::new("top_logprobs", "a smaller number is expected"))?;
        conversation.top_logprobs = Some(top);
    }
    let mut number = |name: &str, least: f64, most: f64| {
        body.take(name).map(|value| fields::number(value, name, least, most)).transpose()
    };
    conversation.temperature = number("temperature", 0.0, 2.0)?;
    conversation.top_p = number("top_p", 0.0, 1.0)?;
    conversation.frequency_penalty = number("frequency_penalty", -2.0, 2.0)?;
    conversation.presence_penalty = number("presence_penalty", -2.0, 2.0)?;
    if let Some(seed) = body.take("seed") {
        let seed = serde_json::from_str(seed.get());
        conversation.seed = Some(seed.map_err(|_| Invalid::new("seed", "a whole number is expected"))?);
    }
    Ok(())
}

fn words(body: &mut Fields<'_>, conversation: &mut Conversation, others: &mut Others) -> Result<(), Invalid> {
    if let Some(stop) = body.take("stop") {
        if stop.get().starts_with('[') {
            for (number, text) in fields::list(stop, "stop", MAX_STOPS)?.into_iter().enumerate() {
                conversation.stop.push(fields::string(text, &format!("stop[{number}]"))?);
            }
        } else {
            conversation.stop.push(fields::string(stop, "stop")?);
        }
    }
    let mut boolean = |name: &str| body.take(name).map(|value| fields::boolean(value, name)).transpose();
    conversation.logprobs = boolean("logprobs")?;
    conversation.parallel_tool_calls = boolean("parallel_tool_calls")?;
    let mut string = |name: &str| body.take(name).map(|value| fields::string(value, name)).transpose();
    conversation.service_tier = string("service_tier")?;
    conversation.user = string("user")?;
    if let Some(raw) = body.take("safety_identifier") {
        let identifier = fields::string(raw, "safety_identifier")?;
        match &conversation.user {
            Some(user) if *user != identifier => others.keep("safety_identifier".to_owned(), raw)?,
            _ => conversation.user = Some(identifier),
        }
    }
    Ok(())
}

fn stream(
    body: &mut Fields<'_>,
    conversation: &mut Conversation,
    others: &mut Others,
) -> Result<(), Invalid> {
    if let Some(value) = body.take("stream") {
        conversation.stream = fields::boolean(value, "stream")?;
    }
    let Some(options) = body.take("stream_options") else { return Ok(()) };
    let mut options = Fields::of(options.get(), "stream_options")?;
    if let Some(value) = options.take("include_usage") {
        conversation.include_usage = fields::boolean(value, "stream_options.include_usage")?;
    }
    // Padding against observers of sizes is a thing of OpenAI's own stream: switched off is what others do anyway.
    if let Some(value) = options.take("include_obfuscation")
        && fields::boolean(value, "stream_options.include_obfuscation")?
    {
        others.keep("stream_options.include_obfuscation".to_owned(), value)?;
    }
    others.keep_rest("stream_options.", options)
}

/// Takes out fields whose value says no more than their absence.
fn without_meaning(body: &mut Fields<'_>) {
    let defaults: [(&str, &[&str]); 8] = [
        ("store", &["false"]),
        ("modalities", &["[\"text\"]"]),
        ("logit_bias", &["{}"]),
        ("metadata", &["{}"]),
        ("functions", &["[]"]),
        ("function_call", &["\"auto\"", "\"none\""]),
        ("transforms", &["[]"]),
        ("models", &["[]"]),
    ];
    for (name, values) in defaults {
        if let Some(value) = body.peek(name)
            && values.contains(&value.get())
        {
            body.take(name);
        }
    }
}

fn tools(body: &mut Fields<'_>, conversation: &mut Conversation, others: &mut Others) -> Result<(), Invalid> {
    if let Some(tools) = body.take("tools") {
        for (number, tool) in fields::list(tools, "tools", MAX_TOOLS)?.into_iter().enumerate() {
            conversation.tools.extend(read_tool(tool, &format!("tools[{number}]"), others)?);
        }
    }
    if let Some(choice) = body.take("tool_choice") {
        conversation.tool_choice = tool_choice(choice, others)?;
    }
    Ok(())
}

fn read_tool(raw: &RawValue, path: &str, others: &mut Others) -> Result<Option<Tool>, Invalid> {
    let mut tool = Fields::of(raw.get(), path)?;
    let kind = tool.take("type").map(|kind| fields::string(kind, &format!("{path}.type"))).transpose()?;
    if let Some(kind) = kind.filter(|kind| kind != "function") {
        // A tool that runs at the provider, or takes free text: only a provider that has it by that name can serve it.
        let kind: String = kind.chars().filter(char::is_ascii_graphic).take(40).collect();
        others.keep(format!("tools[].{kind}"), raw)?;
        return Ok(None);
    }
    let path_of_function = format!("{path}.function");
    let function =
        tool.take("function").ok_or_else(|| Invalid::new(&path_of_function, "a function is needed"))?;
    let mut function = Fields::of(function.get(), &path_of_function)?;
    let path_of_name = format!("{path_of_function}.name");
    let name = function.take("name").ok_or_else(|| Invalid::new(&path_of_name, "a name is needed"))?;
    let name = fields::string(name, &path_of_name)?;
    if name.is_empty() {
        return Err(Invalid::new(path_of_name, "a name is needed"));
    }
    let description = function.take("description");
    let parameters = function.take("parameters");
    let strict = function.take("strict");
    let cache = tool.take("cache_control").or_else(|| function.take("cache_control"));
    others.keep_rest("tools[].function.", function)?;
    others.keep_rest("tools[].", tool)?;
    Ok(Some(Tool {
        name,
        description: description
            .map(|text| fields::string(text, &format!("{path_of_function}.description")))
            .transpose()?,
        parameters: parameters
            .map(|schema| fields::carried_object(schema, &format!("{path_of_function}.parameters")))
            .transpose()?,
        strict: strict
            .map(|strict| fields::boolean(strict, &format!("{path_of_function}.strict")))
            .transpose()?,
        cache: cache.map(|mark| cache_mark(mark, &format!("{path}.cache_control"))).transpose()?,
    }))
}

fn tool_choice(raw: &RawValue, others: &mut Others) -> Result<Option<ToolChoice>, Invalid> {
    const PATH: &str = "tool_choice";
    if raw.get().starts_with('"') {
        return match fields::string(raw, PATH)?.as_str() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            // The second is Mistral's word.
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            _ => Err(Invalid::new(PATH, "auto, none, required or an object is expected")),
        };
    }
    let mut choice = Fields::of(raw.get(), PATH)?;
    let kind = choice.take("type").ok_or_else(|| Invalid::new("tool_choice.type", "a type is needed"))?;
    match fields::string(kind, "tool_choice.type")?.as_str() {
        "function" => Ok(Some(ToolChoice::Tool(function_name(&mut choice, PATH)?))),
        "allowed_tools" => {
            let path = "tool_choice.allowed_tools";
            let allowed =
                choice.take("allowed_tools").ok_or_else(|| Invalid::new(path, "an object is needed"))?;
            let mut allowed = Fields::of(allowed.get(), path)?;
            let mode =
                allowed.take("mode").map(|mode| fields::string(mode, "tool_choice.allowed_tools.mode"));
            let required = match mode.transpose()?.as_deref() {
                None | Some("auto") => false,
                Some("required") => true,
                Some(_) => {
                    return Err(Invalid::new(
                        "tool_choice.allowed_tools.mode",
                        "auto or required is expected",
                    ));
                }
            };
            let path = "tool_choice.allowed_tools.tools";
            let tools = allowed.take("tools").ok_or_else(|| Invalid::new(path, "a list is needed"))?;
            let mut names = Vec::new();
            for (number, tool) in fields::list(tools, path, MAX_TOOLS)?.into_iter().enumerate() {
                let path = format!("{path}[{number}]");
                names.push(function_name(&mut Fields::of(tool.get(), &path)?, &path)?);
            }
            Ok(Some(ToolChoice::Allowed { names, required }))
        }
        "custom" => {
            others.keep("tool_choice.custom".to_owned(), raw)?;
            Ok(None)
        }
        _ => Err(Invalid::new("tool_choice.type", "function, allowed_tools or custom is expected")),
    }
}

/// The name in `{"function": {"name"}}`.
fn function_name(holder: &mut Fields<'_>, path: &str) -> Result<String, Invalid> {
    let path = format!("{path}.function");
    let function = holder.take("function").ok_or_else(|| Invalid::new(&path, "an object is needed"))?;
    let mut function = Fields::of(function.get(), &path)?;
    let path = format!("{path}.name");
    let name = function.take("name").ok_or_else(|| Invalid::new(&path, "a name is needed"))?;
    fields::string(name, &path)
}

fn response_format(raw: &RawValue, others: &mut Others) -> Result<Format, Invalid> {
    let mut format = Fields::of(raw.get(), "response_format")?;
    let path = "response_format.type";
    let kind = format.take("type").ok_or_else(|| Invalid::new(path, "a type is needed"))?;
    match fields::string(kind, path)?.as_str() {
        "text" => Ok(Format::Text),
        "json_object" => {
            others.keep_rest("response_format.", format)?;
            Ok(Format::JsonObject)
        }
        "json_schema" => {
            let path = "response_format.json_schema";
            let form = format.take("json_schema").ok_or_else(|| Invalid::new(path, "a schema is needed"))?;
            let mut form = Fields::of(form.get(), path)?;
            let path = "response_format.json_schema.schema";
            let schema = form.take("schema").ok_or_else(|| Invalid::new(path, "a schema is needed"))?;
            let schema = fields::carried_object(schema, path)?;
            let mut text = |name: &str| {
                let path = format!("response_format.json_schema.{name}");
                form.take(name).map(|value| fields::string(value, &path)).transpose()
            };
            let (name, description) = (text("name")?, text("description")?);
            let strict = form.take("strict");
            let strict = strict
                .map(|strict| fields::boolean(strict, "response_format.json_schema.strict"))
                .transpose()?;
            others.keep_rest("response_format.json_schema.", form)?;
            Ok(Format::JsonSchema { name, description, schema, strict })
        }
        _ => Err(Invalid::new(path, "text, json_object or json_schema is expected")),
    }
}

/// `reasoning_effort` (OpenAI), `reasoning` (OpenRouter) and `thinking` (Anthropic's, DeepSeek's) together.
fn reasoning(body: &mut Fields<'_>, others: &mut Others) -> Result<Option<Reasoning>, Invalid> {
    let mut reasoning = Reasoning::default();
    if let Some(word) = body.take("reasoning_effort") {
        reasoning.effort = Some(effort(word, "reasoning_effort")?);
    }
    if let Some(object) = body.take("reasoning") {
        let mut object = Fields::of(object.get(), "reasoning")?;
        if let Some(word) = object.take("effort") {
            reasoning.effort = Some(effort(word, "reasoning.effort")?);
        }
        if let Some(value) = object.take("max_tokens") {
            reasoning.budget_tokens = Some(fields::unsigned(value, "reasoning.max_tokens")?);
        }
        if let Some(value) = object.take("enabled") {
            reasoning.enabled = Some(fields::boolean(value, "reasoning.enabled")?);
        }
        if let Some(value) = object.take("exclude") {
            reasoning.visible = Some(!fields::boolean(value, "reasoning.exclude")?);
        }
        others.keep_rest("reasoning.", object)?;
    }
    if let Some(object) = body.take("thinking") {
        let mut object = Fields::of(object.get(), "thinking")?;
        let kind = object.take("type").ok_or_else(|| Invalid::new("thinking.type", "a type is needed"))?;
        reasoning.enabled = match fields::string(kind, "thinking.type")?.as_str() {
            "enabled" | "adaptive" => Some(true),
            "disabled" => Some(false),
            _ => return Err(Invalid::new("thinking.type", "enabled, adaptive or disabled is expected")),
        };
        if let Some(value) = object.take("budget_tokens") {
            reasoning.budget_tokens = Some(fields::unsigned(value, "thinking.budget_tokens")?);
        }
        if let Some(value) = object.take("display") {
            reasoning.visible = match fields::string(value, "thinking.display")?.as_str() {
                "summarized" => Some(true),
                "omitted" => Some(false),
                _ => return Err(Invalid::new("thinking.display", "summarized or omitted is expected")),
            };
        }
        others.keep_rest("thinking.", object)?;
    }
    Ok((reasoning != Reasoning::default()).then_some(reasoning))
}

fn effort(raw: &RawValue, path: &str) -> Result<Effort, Invalid> {
    Ok(match fields::string(raw, path)?.as_str() {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::XHigh,
        "max" => Effort::Max,
        _ => {
            return Err(Invalid::new(path, "none, minimal, low, medium, high, xhigh or max is expected"));
        }
    })
}

/// `{"type": "ephemeral", "ttl": "5m" | "1h"}`, Anthropic's form.
pub fn cache_mark(raw: &RawValue, path: &str) -> Result<CacheMark, Invalid> {
    let mut mark = Fields::of(raw.get(), path)?;
    let kind = mark.take("type").map(|kind| fields::string(kind, &format!("{path}.type"))).transpose()?;
    if kind.as_deref() != Some("ephemeral") {
        return Err(Invalid::new(format!("{path}.type"), "ephemeral is expected"));
    }
    let path = format!("{path}.ttl");
    match mark.take("ttl").map(|ttl| fields::string(ttl, &path)).transpose()?.as_deref() {
        None => Ok(CacheMark::Default),
        Some("5m") => Ok(CacheMark::FiveMinutes),
        Some("1h") => Ok(CacheMark::OneHour),
        Some(_) => Err(Invalid::new(path, "5m or 1h is expected")),
    }
}
