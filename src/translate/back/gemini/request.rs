//! A conversation as the body of `generateContent`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::contents::{Contents, WirePart};
use super::generation::{described, generation};
use super::members::{Members, Written, camel_case};
use super::schema::{Reducer, is_empty_object};
use super::{VERTEX, names};
use crate::translate::conversation::{Conversation, Format, Part, Tool, ToolChoice};
use crate::translate::{Built, Invalid, ReplyContext, Target, Unsupported};

/// The tool through which JSON is asked for where the model has no mode for it.
const JSON_TOOL: &str = "json_answer";

/// Writes the request's body. The method's name decides whether it is a stream, nothing in the body.
///
/// # Errors
/// What can not be said to the provider, by the caller's field name.
pub fn build(conversation: &Conversation, target: &Target<'_>) -> Result<Built, Invalid> {
    let mut unsupported = Unsupported::new(*target);
    refuse_what_has_no_place(conversation, target, &mut unsupported)?;
    let contents = Contents::of(&conversation.turns, target, &mut unsupported)?;
    let mut schemas = Reducer::new();
    let mut context = ReplyContext::default();
    let json_tool = json_tool(conversation, target, &mut unsupported)?;

    let mut body = Written::default();
    body.add("contents", &contents.list);
    if !contents.system.is_empty() {
        body.add("systemInstruction", &Instructions { parts: &contents.system });
    }
    if let Some(schema) = json_tool {
        context.json_tool = Some(JSON_TOOL.to_owned());
        let mut declaration = Written::default();
        declaration.add("name", &JSON_TOOL);
        declaration.add("description", &"Gives the answer.");
        parameters(schema, target, "response_format", &mut schemas, &mut declaration)?;
        body.add("tools", &[FunctionDeclarations { function_declarations: vec![declaration] }]);
        body.add("toolConfig", &ToolConfig::new("ANY", Some(vec![Cow::Borrowed(JSON_TOOL)])));
    } else {
        tools(conversation, target, &mut schemas, &mut context, &mut body)?;
    }
    let by_tool = !target.capability.structured_output
        && matches!(conversation.format, Some(Format::JsonSchema { .. }));
    let mut config = generation(conversation, target, by_tool, &mut schemas, &mut unsupported)?;
    match conversation.service_tier.as_deref() {
        None | Some("auto" | "default") => {}
        Some(tier @ ("flex" | "priority")) if target.provider != VERTEX => body.add("serviceTier", &tier),
        Some(_) => unsupported.field("service_tier")?,
    }
    provider_options(&conversation.provider_options, &mut body, &mut config)?;
    if !config.0.is_empty() {
        body.add("generationConfig", &config);
    }
    let body = serde_json::to_vec(&body)
        .map_err(|_| Invalid::new("messages", "The request can not be written for this provider."))?;
    Ok(Built { body, dropped: unsupported.into_dropped(), context })
}

#[derive(Serialize)]
struct Instructions<'a> {
    parts: &'a [WirePart<'a>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionDeclarations<'a> {
    function_declarations: Vec<Written<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: FunctionCallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<Vec<Cow<'a, str>>>,
}

impl<'a> ToolConfig<'a> {
    fn new(mode: &'static str, allowed_function_names: Option<Vec<Cow<'a, str>>>) -> Self {
        Self { function_calling_config: FunctionCallingConfig { mode, allowed_function_names } }
    }
}

fn refuse_what_has_no_place(
    conversation: &Conversation,
    target: &Target<'_>,
    unsupported: &mut Unsupported<'_>,
) -> Result<(), Invalid> {
    for (name, _) in &conversation.others {
        unsupported.field(name)?;
    }
    if conversation.parallel_tool_calls == Some(false) {
        unsupported.field("parallel_tool_calls")?;
    }
    if conversation.user.is_some() {
        unsupported.field("user")?;
    }
    if has_cache_mark(conversation) {
        unsupported.field("cache_control")?;
    }
    // Only newer models follow a schema of a tool to the letter.
    if !target.capability.full_json_schema && conversation.tools.iter().any(|tool| tool.strict == Some(true))
    {
        unsupported.field("tools.strict")?;
    }
    Ok(())
}

fn has_cache_mark(conversation: &Conversation) -> bool {
    fn marked(part: &Part) -> bool {
        match part {
            Part::Text { cache, .. } | Part::Image { cache, .. } | Part::Document { cache, .. } => {
                cache.is_some()
            }
            Part::ToolCall(call) => call.cache.is_some(),
            Part::ToolResult(result) => result.cache.is_some(),
            _ => false,
        }
    }
    let in_result = |part: &Part| match part {
        Part::ToolResult(result) => result.parts.iter().any(marked),
        _ => false,
    };
    let mut parts = conversation.turns.iter().flat_map(|turn| &turn.parts);
    conversation.cache.is_some()
        || conversation.tools.iter().any(|tool| tool.cache.is_some())
        || parts.any(|part| marked(part) || in_result(part))
}

/// The schema for a forced tool, where JSON has to be asked for in that way.
fn json_tool<'a>(
    conversation: &'a Conversation,
    target: &Target<'_>,
    unsupported: &mut Unsupported<'_>,
) -> Result<Option<&'a RawValue>, Invalid> {
    match &conversation.format {
        Some(Format::JsonSchema { schema, .. }) if !target.capability.structured_output => {
            if conversation.tools.is_empty() {
                return Ok(Some(schema));
            }
            unsupported.field("response_format")?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn tools<'a>(
    conversation: &'a Conversation,
    target: &Target<'_>,
    schemas: &mut Reducer,
    context: &mut ReplyContext,
    body: &mut Written<'a>,
) -> Result<(), Invalid> {
    let mut declarations = Vec::with_capacity(conversation.tools.len());
    for (number, tool) in conversation.tools.iter().enumerate() {
        declarations.push(declaration(tool, number, target, schemas, context)?);
    }
    if declarations.is_empty() {
        return match &conversation.tool_choice {
            None | Some(ToolChoice::Auto | ToolChoice::None) => Ok(()),
            Some(_) => Err(Invalid::new("tool_choice", "There are no tools to choose from.")),
        };
    }
    body.add("tools", &[FunctionDeclarations { function_declarations: declarations }]);
    let is_strict =
        target.capability.full_json_schema && conversation.tools.iter().any(|tool| tool.strict == Some(true));
    let config = match &conversation.tool_choice {
        // Calls that follow their schemas, or text: what `strict` promises.
        None | Some(ToolChoice::Auto) if is_strict => Some(ToolConfig::new("VALIDATED", None)),
        None => None,
        Some(ToolChoice::Auto) => Some(ToolConfig::new("AUTO", None)),
        Some(ToolChoice::None) => Some(ToolConfig::new("NONE", None)),
        Some(ToolChoice::Required) => Some(ToolConfig::new("ANY", None)),
        Some(ToolChoice::Tool(name)) => {
            Some(ToolConfig::new("ANY", Some(known_names(conversation, std::slice::from_ref(name))?)))
        }
        Some(ToolChoice::Allowed { names, required }) => {
            let mode = if *required { "ANY" } else { "VALIDATED" };
            Some(ToolConfig::new(mode, Some(known_names(conversation, names)?)))
        }
    };
    if let Some(config) = config {
        body.add("toolConfig", &config);
    }
    Ok(())
}

fn known_names<'a>(conversation: &Conversation, chosen: &'a [String]) -> Result<Vec<Cow<'a, str>>, Invalid> {
    let mut known = Vec::new();
    for name in chosen {
        if !conversation.tools.iter().any(|tool| tool.name == *name) {
            return Err(Invalid::new("tool_choice", "The chosen tool is not among the tools."));
        }
        known.push(names::for_provider(name));
    }
    if known.is_empty() {
        return Err(Invalid::new("tool_choice", "No tool is allowed; say \"none\"."));
    }
    Ok(known)
}

fn declaration<'a>(
    tool: &'a Tool,
    number: usize,
    target: &Target<'_>,
    schemas: &mut Reducer,
    context: &mut ReplyContext,
) -> Result<Written<'a>, Invalid> {
    if tool.name.is_empty() {
        return Err(Invalid::new(format!("tools[{number}]"), "A tool needs a name."));
    }
    let name = names::for_provider(&tool.name);
    if let Cow::Owned(theirs) = &name {
        context.tool_names.push((theirs.clone(), tool.name.clone()));
    }
    let mut declaration = Written::default();
    declaration.add("name", &name);
    if let Some(description) = tool.description.as_deref().filter(|text| !text.is_empty()) {
        declaration.add("description", &description);
    }
    if let Some(schema) = tool.parameters.as_deref() {
        parameters(schema, target, &format!("tools[{number}].parameters"), schemas, &mut declaration)?;
    }
    Ok(declaration)
}

fn parameters<'a>(
    schema: &'a RawValue,
    target: &Target<'_>,
    field: &str,
    schemas: &mut Reducer,
    declaration: &mut Written<'a>,
) -> Result<(), Invalid> {
    if !schema.get().starts_with('{') {
        return if schema.get() == "null" {
            Ok(())
        } else {
            Err(Invalid::new(field, "The schema has to be an object."))
        };
    }
    // Vertex refuses an object without properties; no schema says the same.
    if is_empty_object(schema) {
        return Ok(());
    }
    if target.capability.full_json_schema {
        declaration.0.push((Cow::Borrowed("parametersJsonSchema"), described(schema, None)));
    } else {
        declaration.add("parameters", &schemas.reduce(schema, None, field)?);
    }
    Ok(())
}

/// Merges what the caller wrote for the provider itself. `model` stands in the path and may not come in by the body.
fn provider_options<'a>(
    options: &'a [(String, Box<RawValue>)],
    body: &mut Written<'a>,
    config: &mut Written<'a>,
) -> Result<(), Invalid> {
    for (name, value) in options {
        let camel = camel_case(name);
        let refused = || Invalid::new(format!("provider_options.{name}"), "The gateway writes this itself.");
        if camel == "generationConfig" {
            let Ok(Members(members)) = serde_json::from_str(value.get()) else {
                return Err(Invalid::new(format!("provider_options.{name}"), "This has to be an object."));
            };
            for (inner, value) in members {
                if config.has(&inner) {
                    return Err(Invalid::new(
                        format!("provider_options.{name}.{inner}"),
                        "The request sets this already.",
                    ));
                }
                config.0.push((inner, Cow::Borrowed(value)));
            }
        } else if body.has(name) || matches!(camel.as_str(), "model" | "contents" | "systemInstruction") {
            return Err(refused());
        } else {
            body.0.push((Cow::Borrowed(name.as_str()), Cow::Borrowed(value.as_ref())));
        }
    }
    Ok(())
}
