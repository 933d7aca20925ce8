//! Tools, the choice among them, and JSON answers through a forced tool.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::blocks::{Mark, mark};
use crate::translate::conversation::{Conversation, Format, Part, ToolChoice};
use crate::translate::{Invalid, Target, Unsupported};
use crate::wire::tree;

/// The longest name of a tool.
const MAX_NAME_BYTES: usize = 128;
/// The tool whose arguments are the answer; underscores follow where a caller's tool has the name.
const JSON_TOOL: &str = "json_answer";

/// One tool as it goes out.
#[derive(Debug, Serialize)]
pub(super) struct WireTool<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Mark>,
}

/// Names of tools as the provider takes them: letters, digits, `_` and `-`.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The caller's name to the provider's, where they differ.
    rewritten: BTreeMap<String, String>,
}

impl Names {
    /// Of all tools and calls of a conversation.
    pub(super) fn new(conversation: &Conversation) -> Self {
        let calls = conversation.turns.iter().flat_map(|turn| &turn.parts).filter_map(|part| match part {
            Part::ToolCall(call) => Some(call.name.as_str()),
            _ => None,
        });
        let all: BTreeSet<&str> =
            conversation.tools.iter().map(|tool| tool.name.as_str()).chain(calls).collect();
        let mut taken: BTreeSet<String> =
            all.iter().filter(|name| is_name(name)).map(|name| (*name).to_owned()).collect();
        let mut rewritten = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for name in all.into_iter().filter(|name| !is_name(name)) {
            let plain: String = name
                .chars()
                .map(|c| if is_name_char(c) { c } else { '_' })
                .take(MAX_NAME_BYTES - 12)
                .collect();
            let plain = if plain.is_empty() { "_".to_owned() } else { plain };
            let number: &mut u32 = numbers.entry(plain.clone()).or_insert(1);
            let mut theirs = plain.clone();
            while taken.contains(&theirs) {
                *number = number.saturating_add(1);
                theirs = format!("{plain}_{number}");
            }
            taken.insert(theirs.clone());
            rewritten.insert(name.to_owned(), theirs);
        }
        Self { rewritten }
    }

    /// The provider's name.
    pub(super) fn of<'a>(&self, name: &'a str) -> Cow<'a, str> {
        self.rewritten.get(name).map_or(Cow::Borrowed(name), |theirs| Cow::Owned(theirs.clone()))
    }

    /// Pairs of the provider's and the caller's name.
    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.rewritten.into_iter().map(|(callers, theirs)| (theirs, callers)).collect()
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.chars().all(is_name_char)
}

/// What of a request is about tools.
#[derive(Debug, Default)]
pub(super) struct Tools<'a> {
    /// Never an empty list.
    pub(super) tools: Option<Vec<WireTool<'a>>>,
    /// Only with tools.
    pub(super) choice: Option<Value>,
    /// The choice makes the model call one.
    pub(super) is_forced: bool,
    /// The tool whose arguments are the answer.
    pub(super) json_tool: Option<String>,
    /// The schema that the provider holds the answer to.
    pub(super) schema: Option<&'a RawValue>,
}

/// The tools, the choice and the form of the answer.
pub(super) fn build<'a>(
    conversation: &'a Conversation,
    target: &Target<'_>,
    names: &Names,
    unsupported: &mut Unsupported<'_>,
) -> Result<Tools<'a>, Invalid> {
    let mut built = Tools::default();
    let allowed = match &conversation.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => Some(names.iter().collect::<BTreeSet<_>>()),
        _ => None,
    };
    let known: BTreeSet<_> = conversation.tools.iter().map(|tool| &tool.name).collect();
    let named = match &conversation.tool_choice {
        Some(ToolChoice::Tool(name)) => std::slice::from_ref(name),
        Some(ToolChoice::Allowed { names, .. }) => names.as_slice(),
        _ => &[],
    };
    if !named.iter().all(|name| known.contains(name)) || allowed.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err(Invalid::new("tool_choice", "it names a tool that is not among the tools"));
    }
    let mut tools = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, tool) in conversation.tools.iter().enumerate() {
        if !seen.insert(&tool.name) {
            return Err(Invalid::new(format!("tools[{number}]"), "another tool has this name"));
        }
        if allowed.as_ref().is_some_and(|names| !names.contains(&tool.name)) {
            continue;
        }
        let place = || format!("tools[{number}].function.parameters");
        let input_schema = match &tool.parameters {
            None => Cow::Owned(raw(&json!({"type": "object", "properties": {}}))?),
            Some(schema) => object_schema(schema, place)?,
        };
        let strict = match tool.strict {
            Some(true) if target.capability.structured_output => Some(true),
            Some(true) => {
                unsupported.field("strict")?;
                None
            }
            Some(false) | None => None,
        };
        let cache_control = mark(tool.cache, target, unsupported)?;
        let description = tool.description.as_deref().filter(|text| !text.is_empty()).map(Cow::Borrowed);
        tools.push(WireTool { name: names.of(&tool.name), description, input_schema, strict, cache_control });
    }
    let mut choice = match &conversation.tool_choice {
        None | Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => None,
        Some(ToolChoice::None) => Some(json!({"type": "none"})),
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => {
            built.is_forced = true;
            Some(json!({"type": "any"}))
        }
        Some(ToolChoice::Tool(name)) => {
            built.is_forced = true;
            Some(json!({"type": "tool", "name": names.of(name)}))
        }
    };
    if built.is_forced && tools.is_empty() {
        return Err(Invalid::new("tool_choice", "a tool has to be called and there is none"));
    }
    if let Some(wish) = wish(conversation, target) {
        match wish {
            Wish::Native(schema) => built.schema = Some(schema),
            // An answer that is a call has no content, so there is nothing to be held to a form.
            Wish::Tool(_) if built.is_forced => {}
            Wish::Tool(schema) => {
                let may_call = choice.is_none() && !tools.is_empty();
                if !may_call {
                    tools.clear();
                }
                let mut name = JSON_TOOL.to_owned();
                while tools.iter().any(|tool| tool.name == name) && name.len() < MAX_NAME_BYTES {
                    name.push('_');
                }
                tools.push(json_tool(conversation, name.clone(), schema)?);
                choice = Some(match may_call {
                    true => json!({"type": "any"}),
                    false => json!({"type": "tool", "name": name, "disable_parallel_tool_use": true}),
                });
                built.is_forced = true;
                built.json_tool = Some(name);
            }
        }
    }
    if tools.is_empty() {
        return Ok(built);
    }
    if conversation.parallel_tool_calls == Some(false) {
        let mut one = choice.unwrap_or_else(|| json!({"type": "auto"}));
        if one.get("type").and_then(Value::as_str) != Some("none")
            && let Some(members) = one.as_object_mut()
        {
            members.insert("disable_parallel_tool_use".to_owned(), Value::Bool(true));
        }
        choice = Some(one);
    } else if choice.is_none() && conversation.tool_choice.is_some() {
        choice = Some(json!({"type": "auto"}));
    }
    built.choice = choice;
    built.tools = Some(tools);
    Ok(built)
}

/// The largest schema that is looked through, in bytes: as a tree it takes many times as much.
const MAX_SCHEMA_BYTES: usize = 512 * 1024;

/// How a JSON answer is asked for.
enum Wish<'a> {
    /// The provider holds the answer to it.
    Native(&'a RawValue),
    /// Through a tool with this schema, or with any object.
    Tool(Option<&'a RawValue>),
}

fn wish<'a>(conversation: &'a Conversation, target: &Target<'_>) -> Option<Wish<'a>> {
    match conversation.format.as_ref()? {
        Format::Text => None,
        Format::JsonObject => Some(Wish::Tool(None)),
        // The provider takes only schemas whose objects are closed.
        Format::JsonSchema { schema, .. } if target.capability.structured_output && is_closed(schema) => {
            Some(Wish::Native(schema))
        }
        Format::JsonSchema { schema, .. } => Some(Wish::Tool(Some(schema))),
    }
}

fn json_tool<'a>(
    conversation: &'a Conversation,
    name: String,
    schema: Option<&'a RawValue>,
) -> Result<WireTool<'a>, Invalid> {
    let input_schema = match schema {
        Some(schema) => object_schema(schema, || "response_format.json_schema.schema".to_owned())?,
        None => Cow::Owned(raw(&json!({"type": "object", "additionalProperties": true}))?),
    };
    let purpose = match &conversation.format {
        Some(Format::JsonSchema { description: Some(text), .. }) if !text.is_empty() => format!(" {text}"),
        _ => String::new(),
    };
    let description = format!("Gives the final answer: its arguments are the whole answer as JSON.{purpose}");
    Ok(WireTool {
        name: Cow::Owned(name),
        description: Some(Cow::Owned(description)),
        input_schema,
        strict: None,
        cache_control: None,
    })
}

/// Only as far as it has to be known.
#[derive(Deserialize)]
struct SchemaRoot<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
}

/// A schema whose root says that it is an object, as it has to. The caller's text stays as it is.
fn object_schema(schema: &RawValue, place: impl Fn() -> String) -> Result<Cow<'_, RawValue>, Invalid> {
    let text = schema.get().trim();
    let root: Result<SchemaRoot<'_>, _> = serde_json::from_str(text);
    match root {
        Ok(SchemaRoot { kind: Some(kind) }) if kind.get() == "\"object\"" => Ok(Cow::Borrowed(schema)),
        Ok(SchemaRoot { kind: None }) if text.starts_with('{') => {
            let members = text.strip_prefix('{').unwrap_or_default();
            let comma = if members.trim_start().starts_with('}') { "" } else { "," };
            RawValue::from_string(format!("{{\"type\":\"object\"{comma}{members}"))
                .map(Cow::Owned)
                .map_err(|_| Invalid::new(place(), "it is no JSON Schema"))
        }
        _ => Err(Invalid::new(place(), "the schema has to be of an object (\"type\": \"object\")")),
    }
}

/// Whether every object of a schema refuses other members than its own.
fn is_closed(schema: &RawValue) -> bool {
    // One that is too large or too deep to look through is asked for through a tool.
    tree::read(schema.get().as_bytes(), MAX_SCHEMA_BYTES).is_some_and(|schema| all_closed(&schema))
}

fn all_closed(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let is_object = members.get("type").is_some_and(|kind| {
                kind == "object" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "object"))
            });
            (!is_object || members.get("additionalProperties") == Some(&Value::Bool(false)))
                && members.values().all(all_closed)
        }
        Value::Array(items) => items.iter().all(all_closed),
        _ => true,
    }
}

fn raw(value: &Value) -> Result<Box<RawValue>, Invalid> {
    serde_json::value::to_raw_value(value).map_err(|_| Invalid::new("tools", "can not be written"))
}
