//! A request of a caller.

use serde_json::value::RawValue;

use super::blocks::{self, Speaker};
use crate::translate::Invalid;
use crate::translate::conversation::{Conversation, Effort, Format, Reasoning, Role, Tool, ToolChoice, Turn};
use crate::translate::front::fields::{Fields, Others, printable};

/// Reads the body of `POST /v1/messages`.
///
/// # Errors
/// When it is no request of this dialect, by the field that is wrong.
pub fn read(body: &[u8]) -> Result<Conversation, Invalid> {
    let conversation = read_to_count(body)?;
    match conversation.max_output_tokens {
        Some(1..) => Ok(conversation),
        Some(0) => Err(Invalid::new("max_tokens", "has to be 1 or more")),
        None => Err(Invalid::new("max_tokens", "is needed, a whole number")),
    }
}

/// Reads the body of `POST /v1/messages/count_tokens`, which is the same without `max_tokens`.
///
/// # Errors
/// As [`read`].
pub fn read_to_count(body: &[u8]) -> Result<Conversation, Invalid> {
    let text = std::str::from_utf8(body).map_err(|_| Invalid::new("body", "has to be UTF-8"))?;
    let mut fields = Fields::read(text, String::new())?;
    let mut others = Others::default();
    fields.needed_text("model")?;

    let mut turns = Vec::new();
    if let Some(system) = fields.take("system") {
        let parts = blocks::read(system, "system", Speaker::System, &mut others)?;
        turns.push(Turn { role: Role::System, parts, place: "system".to_owned() });
    }
    let messages = fields.list("messages")?.ok_or_else(|| fields.invalid("messages", "is needed, a list"))?;
    if messages.is_empty() {
        return Err(fields.invalid("messages", "has to hold at least one message"));
    }
    for (number, raw) in messages.into_iter().enumerate() {
        turns.push(turn(raw, format!("messages[{number}]"), &mut others)?);
    }

    let (tool_choice, parallel_tool_calls) = tool_choice(&mut fields, &mut others)?;
    let tools = tools(&mut fields, &mut others)?;
    let mut reasoning = thinking(&mut fields, &mut others)?;
    let mut format = None;
    if let Some(mut output) = fields.object("output_config")? {
        if let Some(word) = output.text("effort")? {
            let effort = effort(&word).ok_or_else(|| {
                output.invalid("effort", "has to be 'low', 'medium', 'high', 'xhigh' or 'max'")
            })?;
            reasoning.get_or_insert_with(Reasoning::default).effort = Some(effort);
        }
        format = read_format(output.object("format")?, &mut others)?;
        output.leave_to(&mut others)?;
    }
    // The name that structured outputs had while they were a beta.
    if format.is_none() {
        format = read_format(fields.object("output_format")?, &mut others)?;
    }
    let mut user = None;
    if let Some(mut metadata) = fields.object("metadata")? {
        user = metadata.text("user_id")?;
        metadata.leave_to(&mut others)?;
    }
    let service_tier = match fields.text("service_tier")?.as_deref() {
        None => None,
        Some("auto") => Some("auto".to_owned()),
        Some("standard_only") => Some("default".to_owned()),
        Some(_) => return Err(fields.invalid("service_tier", "has to be 'auto' or 'standard_only'")),
    };
    let provider_options = fields.entries("provider_options")?;

    let conversation = Conversation {
        turns,
        tools,
        tool_choice,
        parallel_tool_calls,
        max_output_tokens: fields.whole("max_tokens")?,
        temperature: fields.number("temperature", 0.0, 1.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        top_k: fields.whole("top_k")?,
        stop: fields.texts("stop_sequences")?.unwrap_or_default(),
        format,
        reasoning,
        user,
        service_tier,
        cache: blocks::cache_mark(&mut fields, &mut others)?,
        stream: fields.flag("stream")?.unwrap_or(false),
        include_usage: true,
        provider_options: provider_options.into_iter().map(|(name, raw)| (name, raw.to_owned())).collect(),
        ..Conversation::default()
    };
    fields.leave_to(&mut others)?;
    Ok(Conversation { others: others.into_inner(), ..conversation })
}

fn turn(raw: &RawValue, place: String, others: &mut Others) -> Result<Turn, Invalid> {
    let mut message = Fields::read(raw.get(), place)?;
    let (role, speaker) = match message.needed_text("role")?.as_str() {
        "user" => (Role::User, Speaker::User),
        "assistant" => (Role::Assistant, Speaker::Assistant),
        "system" => (Role::System, Speaker::System),
        _ => return Err(message.invalid("role", "has to be 'user', 'assistant' or 'system'")),
    };
    let content = message.take("content").ok_or_else(|| message.invalid("content", "is needed"))?;
    let parts = blocks::read(content, &message.place("content"), speaker, others)?;
    let place = message.here().to_owned();
    message.leave_to(others)?;
    Ok(Turn { role, parts, place })
}

fn tools(fields: &mut Fields<'_>, others: &mut Others) -> Result<Vec<Tool>, Invalid> {
    let mut tools = Vec::new();
    for (number, raw) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let place = format!("tools[{number}]");
        let mut tool = Fields::read(raw.get(), place.clone())?;
        match tool.text("type")?.as_deref() {
            None | Some("custom") => {}
            Some(kind) => {
                others.push(format!("{place}:{}", printable(kind)), raw)?;
                continue;
            }
        }
        // Both say how the model's own provider delivers a call, and what every other does anyway.
        tool.take_if("eager_input_streaming", &["true", "false"]);
        tool.take_if("defer_loading", &["false"]);
        tools.push(Tool {
            name: tool.needed_text("name")?,
            description: tool.text("description")?,
            parameters: tool.take("input_schema").map(RawValue::to_owned),
            strict: tool.flag("strict")?,
            cache: blocks::cache_mark(&mut tool, others)?,
        });
        tool.leave_to(others)?;
    }
    Ok(tools)
}

fn tool_choice(
    fields: &mut Fields<'_>,
    others: &mut Others,
) -> Result<(Option<ToolChoice>, Option<bool>), Invalid> {
    let Some(mut choice) = fields.object("tool_choice")? else { return Ok((None, None)) };
    let chosen = match choice.needed_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(choice.needed_text("name")?),
        _ => return Err(choice.invalid("type", "has to be 'auto', 'any', 'tool' or 'none'")),
    };
    let parallel = choice.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    choice.leave_to(others)?;
    Ok((Some(chosen), parallel))
}

fn thinking(fields: &mut Fields<'_>, others: &mut Others) -> Result<Option<Reasoning>, Invalid> {
    let Some(mut thinking) = fields.object("thinking")? else { return Ok(None) };
    let mut reasoning = Reasoning::default();
    match thinking.needed_text("type")?.as_str() {
        "enabled" => {
            reasoning.enabled = Some(true);
            reasoning.budget_tokens = match thinking.whole("budget_tokens")? {
                Some(budget @ 1..) => Some(budget),
                _ => return Err(thinking.invalid("budget_tokens", "is needed, a whole number above 0")),
            };
        }
        "adaptive" => reasoning.enabled = Some(true),
        "disabled" => reasoning.enabled = Some(false),
        kind => {
            let name = format!("thinking:{}", printable(kind));
            others.push(name, RawValue::TRUE)?;
            return Ok(None);
        }
    }
    reasoning.visible = match thinking.text("display")?.as_deref() {
        None => None,
        Some("summarized") => Some(true),
        Some("omitted") => Some(false),
        Some(_) => return Err(thinking.invalid("display", "has to be 'summarized' or 'omitted'")),
    };
    thinking.leave_to(others)?;
    Ok(Some(reasoning))
}

fn effort(word: &str) -> Option<Effort> {
    Some(match word {
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::XHigh,
        "max" => Effort::Max,
        _ => return None,
    })
}

fn read_format(format: Option<Fields<'_>>, others: &mut Others) -> Result<Option<Format>, Invalid> {
    let Some(mut format) = format else { return Ok(None) };
    if format.needed_text("type")? != "json_schema" {
        return Err(format.invalid("type", "has to be 'json_schema'"));
    }
    let schema = format.take("schema").filter(|raw| raw.get().starts_with('{'));
    let schema = schema.ok_or_else(|| format.invalid("schema", "is needed, an object"))?.to_owned();
    format.leave_to(others)?;
    // This dialect knows only schemas that are followed to the letter.
    Ok(Some(Format::JsonSchema { name: None, description: None, schema, strict: Some(true) }))
}
