//! A request of a caller.

use serde_json::value::RawValue;

use super::items;
use crate::translate::Invalid;
use crate::translate::conversation::{
    Conversation, Effort, Format, Part, Reasoning, Role, Tool, ToolChoice, Turn,
};
use crate::translate::front::fields::{Fields, Others, printable};

/// Labels that a caller may put on an answer, as documented.
const MAX_METADATA: usize = 16;

/// Reads the body of `POST /v1/responses`.
///
/// # Errors
/// When it is no request of this dialect, or needs a state that the gateway does not keep; by the field.
pub fn read(body: &[u8]) -> Result<Conversation, Invalid> {
    let text = std::str::from_utf8(body).map_err(|_| Invalid::new("body", "has to be UTF-8"))?;
    let mut fields = Fields::read(text, String::new())?;
    let mut others = Others::default();
    fields.needed_text("model")?;
    refuse_state(&mut fields)?;
    check_metadata(&mut fields)?;

    let mut turns = Vec::new();
    if let Some(text) = fields.text("instructions")?.filter(|text| !text.is_empty()) {
        let parts = vec![Part::Text { text, cache: None }];
        turns.push(Turn { role: Role::System, parts, place: "instructions".to_owned() });
    }
    let input = fields.take("input").ok_or_else(|| fields.invalid("input", "is needed"))?;
    items::read(input, &mut turns, &mut others)?;

    let tools = tools(&mut fields, &mut others)?;
    let tool_choice = tool_choice(&mut fields, &mut others)?;
    let reasoning = reasoning(&mut fields, &mut others)?;
    let format = format(&mut fields, &mut others)?;
    let logprobs = include(&mut fields, &mut others)?;
    if let Some(mut options) = fields.object("stream_options")? {
        // Padding against guessing by length, which is never written.
        options.take_if("include_obfuscation", &["false"]);
        options.leave_to(&mut others)?;
    }
    fields.take_if("truncation", &["\"disabled\""]);
    let top_logprobs = fields.whole("top_logprobs")?.filter(|count| *count > 0);
    let service_tier = fields.text("service_tier")?;
    if service_tier.as_deref().is_some_and(|tier| !["auto", "default", "flex", "priority"].contains(&tier)) {
        return Err(fields.invalid("service_tier", "has to be 'auto', 'default', 'flex' or 'priority'"));
    }
    // The newer name of the two says the same.
    let (identifier, user) = (fields.text("safety_identifier")?, fields.text("user")?);
    let max_output_tokens = fields.whole("max_output_tokens")?;
    if max_output_tokens == Some(0) {
        return Err(fields.invalid("max_output_tokens", "has to be 1 or more"));
    }
    let provider_options = fields.entries("provider_options")?;

    let conversation = Conversation {
        turns,
        tools,
        tool_choice,
        parallel_tool_calls: fields.flag("parallel_tool_calls")?,
        max_output_tokens,
        temperature: fields.number("temperature", 0.0, 2.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        logprobs: (logprobs || top_logprobs.is_some()).then_some(true),
        top_logprobs: top_logprobs.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        format,
        reasoning,
        user: identifier.or(user),
        service_tier,
        stream: fields.flag("stream")?.unwrap_or(false),
        include_usage: true,
        provider_options: provider_options.into_iter().map(|(name, raw)| (name, raw.to_owned())).collect(),
        ..Conversation::default()
    };
    fields.leave_to(&mut others)?;
    Ok(Conversation { others: others.into_inner(), ..conversation })
}

/// What refers to something that was kept can not be left out without changing what is asked.
fn refuse_state(fields: &mut Fields<'_>) -> Result<(), Invalid> {
    for name in ["previous_response_id", "conversation", "prompt"] {
        if fields.take(name).is_some() {
            return Err(fields.invalid(
                name,
                "refers to something that is kept, and nothing is kept for this model; send the whole conversation as input",
            ));
        }
    }
    if fields.flag("background")? == Some(true) {
        return Err(fields
            .invalid("background", "is not possible for this model: nothing is kept to be fetched later"));
    }
    // Not to store is what happens; to store is a wish that the account may have dropped.
    fields.take_if("store", &["false"]);
    Ok(())
}

/// Labels come back with the answer and go nowhere else.
fn check_metadata(fields: &mut Fields<'_>) -> Result<(), Invalid> {
    let labels = fields.entries("metadata")?;
    if labels.len() > MAX_METADATA || labels.iter().any(|(_, value)| !value.get().starts_with('"')) {
        return Err(fields.invalid("metadata", "has to be an object of at most 16 strings"));
    }
    Ok(())
}

fn tools(fields: &mut Fields<'_>, others: &mut Others) -> Result<Vec<Tool>, Invalid> {
    let mut tools = Vec::new();
    for (number, raw) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let place = format!("tools[{number}]");
        let mut tool = Fields::read(raw.get(), place.clone())?;
        let kind = tool.needed_text("type")?;
        if kind != "function" {
            others.push(format!("{place}:{}", printable(&kind)), raw)?;
            continue;
        }
        // What every provider does anyway.
        tool.take_if("defer_loading", &["false"]);
        tools.push(Tool {
            name: tool.needed_text("name")?,
            description: tool.text("description")?,
            parameters: tool.take("parameters").map(RawValue::to_owned),
            strict: tool.flag("strict")?,
            cache: None,
        });
        tool.leave_to(others)?;
    }
    Ok(tools)
}

fn tool_choice(fields: &mut Fields<'_>, others: &mut Others) -> Result<Option<ToolChoice>, Invalid> {
    let Some(raw) = fields.take("tool_choice") else { return Ok(None) };
    let place = fields.place("tool_choice");
    let invalid = || Invalid::new("tool_choice", "has to be 'auto', 'none', 'required' or an object");
    if raw.get().starts_with('"') {
        return match raw.get() {
            "\"auto\"" => Ok(Some(ToolChoice::Auto)),
            "\"none\"" => Ok(Some(ToolChoice::None)),
            "\"required\"" => Ok(Some(ToolChoice::Required)),
            _ => Err(invalid()),
        };
    }
    let mut choice = Fields::read(raw.get(), place).map_err(|_| invalid())?;
    let kind = choice.needed_text("type")?;
    let chosen = match kind.as_str() {
        "function" => ToolChoice::Tool(choice.needed_text("name")?),
        "allowed_tools" => {
            let required = match choice.needed_text("mode")?.as_str() {
                "auto" => false,
                "required" => true,
                _ => return Err(choice.invalid("mode", "has to be 'auto' or 'required'")),
            };
            let mut names = Vec::new();
            for mut tool in choice.objects("tools")?.unwrap_or_default() {
                if tool.needed_text("type")? == "function" {
                    names.push(tool.needed_text("name")?);
                }
                // A hosted tool among them is refused where it stands in `tools`.
            }
            ToolChoice::Allowed { names, required }
        }
        _ => {
            others.push(format!("tool_choice:{}", printable(&kind)), raw)?;
            return Ok(None);
        }
    };
    choice.leave_to(others)?;
    Ok(Some(chosen))
}

fn reasoning(fields: &mut Fields<'_>, others: &mut Others) -> Result<Option<Reasoning>, Invalid> {
    let Some(mut object) = fields.object("reasoning")? else { return Ok(None) };
    let mut reasoning = Reasoning::default();
    if let Some(word) = object.text("effort")? {
        let effort = effort(&word).ok_or_else(|| {
            object.invalid("effort", "has to be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'")
        })?;
        reasoning.effort = Some(effort);
    }
    let summary = object.text("summary")?;
    let older = object.text("generate_summary")?;
    if let Some(word) = summary.or(older) {
        if !["auto", "concise", "detailed", "none"].contains(&word.as_str()) {
            return Err(object.invalid("summary", "has to be 'auto', 'concise' or 'detailed'"));
        }
        reasoning.visible = Some(word != "none");
    }
    // Thoughts of earlier turns are what the caller brings.
    object.take_if("context", &["\"auto\""]);
    object.take_if("mode", &["\"standard\""]);
    object.leave_to(others)?;
    Ok((reasoning != Reasoning::default()).then_some(reasoning))
}

fn effort(word: &str) -> Option<Effort> {
    Some(match word {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::XHigh,
        "max" => Effort::Max,
        _ => return None,
    })
}

fn format(fields: &mut Fields<'_>, others: &mut Others) -> Result<Option<Format>, Invalid> {
    let Some(mut text) = fields.object("text")? else { return Ok(None) };
    text.take_if("verbosity", &["\"medium\""]);
    let format = text.object("format")?;
    text.leave_to(others)?;
    let Some(mut format) = format else { return Ok(None) };
    let read = match format.needed_text("type")?.as_str() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema" => {
            let schema = format.take("schema").filter(|raw| raw.get().starts_with('{'));
            Format::JsonSchema {
                schema: schema.ok_or_else(|| format.invalid("schema", "is needed, an object"))?.to_owned(),
                name: format.text("name")?,
                description: format.text("description")?,
                strict: format.flag("strict")?,
            }
        }
        _ => return Err(format.invalid("type", "has to be 'text', 'json_object' or 'json_schema'")),
    };
    format.leave_to(others)?;
    Ok(Some(read))
}

/// Whether log probabilities are to be included.
fn include(fields: &mut Fields<'_>, others: &mut Others) -> Result<bool, Invalid> {
    let mut logprobs = false;
    for raw in fields.list("include")?.unwrap_or_default() {
        match raw.get() {
            // Always there: nothing is kept, so the caller needs it.
            "\"reasoning.encrypted_content\"" => {}
            "\"message.output_text.logprobs\"" => logprobs = true,
            text if text.starts_with('"') => {
                others.push(format!("include:{}", printable(text.trim_matches('"'))), raw)?
            }
            _ => return Err(fields.invalid("include", "has to be a list of strings")),
        }
    }
    Ok(logprobs)
}
