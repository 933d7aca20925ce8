//! What the model may call, and JSON by a schema through a tool that it has to call.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::blocks::{CachePoint, Writer};
use super::turns::Said;
use crate::translate::Invalid;
use crate::translate::conversation::{Conversation, Format, Tool, ToolChoice};

/// The tool whose arguments are the answer, unless a caller's has this name.
const JSON_TOOL: &str = "json_answer";

/// `toolConfig`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    tools: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
}

impl ToolConfig<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// Some tool has to be called.
    pub(super) fn is_forced(&self) -> bool {
        self.tool_choice.is_some()
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Entry<'a> {
    ToolSpec(Spec<'a>),
    CachePoint(CachePoint),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Schema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Schema<'a> {
    Json(&'a RawValue),
    /// An object of no certain form.
    #[serde(rename = "json")]
    Open(Open),
}

#[derive(Debug, Serialize)]
struct Open {
    #[serde(rename = "type")]
    kind: &'static str,
    properties: Nothing,
}

impl Open {
    const NEW: Self = Self { kind: "object", properties: Nothing {} };
}

#[derive(Debug, Serialize)]
struct Nothing {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    Any(Nothing),
    Tool { name: Cow<'a, str> },
}

/// What is called for.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    pub(super) config: ToolConfig<'a>,
    /// The tool whose arguments are the answer.
    pub(super) json_tool: Option<String>,
}

/// Writes the list of tools and the choice.
pub(super) fn write<'a>(
    conversation: &'a Conversation,
    said: &Said<'_>,
    writer: &mut Writer<'_, '_>,
) -> Result<Told<'a>, Invalid> {
    let mut told = Told::default();
    let choice = conversation.tool_choice.as_ref();
    let allowed = match choice {
        Some(ToolChoice::Allowed { names, .. }) => Some(names),
        _ => None,
    };
    // There is no way to say that no tool may be called: without the list nothing can be.
    let hides_tools = choice == Some(&ToolChoice::None) && said.called.is_empty();
    for tool in conversation.tools.iter().filter(|_| !hides_tools) {
        if allowed.is_none_or(|names| names.contains(&tool.name)) {
            push(tool, writer, &mut told.config)?;
        }
    }
    let callers_tools = told.config.tools.len();
    if callers_tools == 0 && !conversation.tools.is_empty() && allowed.is_some() {
        return Err(Invalid::new("tool_choice", "allows none of the tools"));
    }
    if told.config.tools.is_empty() {
        // Calls that were made need a list of tools, also where the caller gives none any more.
        let names = said.called.iter().map(|name| Cow::Owned(name.clone()));
        told.config.tools.extend(names.map(|name| {
            Entry::ToolSpec(Spec {
                name,
                description: None,
                input_schema: Schema::Open(Open::NEW),
                strict: None,
            })
        }));
    }
    told.config.tool_choice = match choice {
        Some(ToolChoice::None) if !said.called.is_empty() => {
            writer.unsupported.note("tool_choice");
            None
        }
        None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Allowed { required: false, .. }) => {
            None
        }
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => {
            Some(Choice::Any(Nothing {}))
        }
        Some(ToolChoice::Tool(name)) => {
            if !conversation.tools.iter().any(|tool| tool.name == *name) {
                return Err(Invalid::new("tool_choice", "names a tool that is not in the list of tools"));
            }
            Some(Choice::Tool { name: writer.names.theirs(name) })
        }
    };
    if told.config.is_forced() && callers_tools == 0 {
        return Err(Invalid::new("tool_choice", "asks for a call although there are no tools"));
    }
    if told.config.is_forced() && !writer.target.capability.forced_tool_choice {
        writer.unsupported.field("tool_choice")?;
        told.config.tool_choice = None;
    }
    if conversation.parallel_tool_calls == Some(false) && callers_tools > 0 {
        writer.unsupported.field("parallel_tool_calls")?;
    }
    json_by_tool(conversation, callers_tools, writer, &mut told)?;
    Ok(told)
}

fn push<'a>(tool: &'a Tool, writer: &mut Writer<'_, '_>, config: &mut ToolConfig<'a>) -> Result<(), Invalid> {
    let input_schema = match &tool.parameters {
        None => Schema::Open(Open::NEW),
        Some(schema) if schema.get().starts_with('{') => Schema::Json(schema),
        Some(_) => {
            return Err(Invalid::new("tools", "the schema of a tool's parameters has to be an object"));
        }
    };
    let mut strict = tool.strict.filter(|strict| *strict);
    if strict.is_some() && !writer.target.capability.structured_output {
        writer.unsupported.field("tools.strict")?;
        strict = None;
    }
    let description = tool.description.as_deref().filter(|description| !description.trim().is_empty());
    let name = writer.names.theirs(&tool.name);
    config.tools.push(Entry::ToolSpec(Spec { name, description, input_schema, strict }));
    if let Some(point) = writer.cache_point(tool.cache)? {
        config.tools.push(Entry::CachePoint(point));
    }
    Ok(())
}

/// For models without JSON by a schema of their own.
fn json_by_tool<'a>(
    conversation: &'a Conversation,
    callers_tools: usize,
    writer: &mut Writer<'_, '_>,
    told: &mut Told<'a>,
) -> Result<(), Invalid> {
    let Some(Format::JsonSchema { schema, description, .. }) = &conversation.format else { return Ok(()) };
    let capability = writer.target.capability;
    // Where a tool of the caller's has to be called the answer is that call and has no other form.
    if capability.structured_output || told.config.is_forced() {
        return Ok(());
    }
    if !capability.forced_tool_choice || !schema.get().starts_with('{') {
        return writer.unsupported.field("response_format");
    }
    let mut name = JSON_TOOL.to_owned();
    while name.len() < 64 && conversation.tools.iter().any(|tool| tool.name == name) {
        name.push('_');
    }
    told.config.tools.push(Entry::ToolSpec(Spec {
        name: Cow::Owned(name.clone()),
        description: Some(
            description.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or("The answer."),
        ),
        input_schema: Schema::Json(schema),
        strict: None,
    }));
    // Beside tools of the caller's the model may also call one of those; an answer in words is never right.
    told.config.tool_choice =
        Some(if callers_tools > 0 && conversation.tool_choice != Some(ToolChoice::None) {
            Choice::Any(Nothing {})
        } else {
            Choice::Tool { name: Cow::Owned(name.clone()) }
        });
    told.json_tool = Some(name);
    Ok(())
}
