//! A conversation as the body of Converse and ConverseStream (they take the same).

use std::collections::BTreeSet;

use serde::Serialize;

use super::Vendor;
use super::blocks::{Block, Writer};
use super::members::{MAX_MEMBERS, Members, taken, unwritable};
use super::names::Names;
use super::thinking::Circumstances;
use super::{thinking, tools, turns};
use crate::translate::capability::Sampling;
use crate::translate::conversation::{Conversation, Format};
use crate::translate::{Built, Invalid, ReplyContext, Target, Unsupported};

/// Asked for where a model has no JSON mode of its own.
const JSON_INSTRUCTION: &str =
    "Answer with one JSON object and nothing else: no words around it, no code fence.";
/// The longest value in `requestMetadata`, in characters.
const MAX_METADATA_CHARS: usize = 256;
/// Above this top_p Claude takes it together with thinking.
const LEAST_TOP_P_WITH_THINKING: f64 = 0.95;

/// `outputConfig.textFormat`.
#[derive(Debug, Serialize)]
struct TextFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    structure: Structure<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: JsonSchema<'a>,
}

/// The schema is JSON in a string.
#[derive(Debug, Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    schema: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NovaSampling {
    top_k: u64,
}

/// Objects of the body that take a caller's members beside the gateway's.
#[derive(Debug, Default)]
struct Parts {
    inference: Members,
    additional: Members,
    output: Members,
    metadata: Members,
}

/// Writes the request.
///
/// # Errors
/// For what the provider would refuse, and for what it can not do unless such fields are dropped.
pub fn build(conversation: &Conversation, target: &Target<'_>) -> Result<Built, Invalid> {
    let mut unsupported = Unsupported::new(*target);
    let mut names = Names::default();
    let vendor = Vendor::of(&target.capability.family);
    let mut writer = Writer {
        target: *target,
        vendor,
        names: &mut names,
        unsupported: &mut unsupported,
        document_names: BTreeSet::new(),
    };
    let mut parts = Parts::default();
    let mut said = turns::write(conversation, &mut writer)?;
    let tools = tools::write(conversation, &said, &mut writer)?;
    let longest = conversation.max_output_tokens;
    if longest == Some(0) {
        return Err(Invalid::new("max_completion_tokens", "has to be at least 1"));
    }
    let now = Circumstances {
        max_tokens: longest.unwrap_or(target.capability.max_output_tokens),
        is_forced: tools.config.is_forced(),
        lacks_thoughts: said.lacks_thoughts && vendor == Vendor::Claude,
    };
    let thinks = thinking::write(conversation.reasoning.as_ref(), now, &mut writer, &mut parts.additional)?;
    if let Some(tokens) = longest.or(thinks.by_number.then_some(now.max_tokens)) {
        parts.inference.put("maxTokens", &tokens)?;
    }
    sampling(conversation, thinks.is_on && vendor == Vendor::Claude, &mut writer, &mut parts)?;
    if !conversation.stop.is_empty() {
        parts.inference.put("stopSequences", &conversation.stop)?;
    }
    format(conversation, target, &mut said.system, &mut parts)?;
    rest(conversation, &mut unsupported, &mut parts)?;

    let mut body = Body::new();
    body.put("messages", &said.messages)?;
    if !said.system.is_empty() {
        body.put("system", &said.system)?;
    }
    if !tools.config.is_empty() {
        body.put("toolConfig", &tools.config)?;
    }
    if let Some(tier) = tier(conversation, &mut unsupported)? {
        body.put("serviceTier", &Tier { kind: tier })?;
    }
    // Which of the stop texts was met, where the model says it.
    if !conversation.stop.is_empty() && vendor == Vendor::Claude {
        let path = if conversation.stream { "/delta/stop_sequence" } else { "/stop_sequence" };
        body.put("additionalModelResponseFieldPaths", &[path])?;
    }
    options(conversation, parts, &mut body)?;
    let json_tool = tools.json_tool;
    let context = ReplyContext { json_tool, tool_names: names.into_pairs() };
    Ok(Built { body: body.finish(), dropped: unsupported.into_dropped(), context })
}

#[derive(Debug, Serialize)]
struct Tier<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

fn tier<'a>(
    conversation: &'a Conversation,
    unsupported: &mut Unsupported<'_>,
) -> Result<Option<&'a str>, Invalid> {
    match conversation.service_tier.as_deref() {
        None | Some("auto") => Ok(None),
        Some(tier @ ("default" | "flex" | "priority")) => Ok(Some(tier)),
        Some(_) => unsupported.field("service_tier").map(|()| None),
    }
}

/// `temperature`, `top_p`, `top_k`. A value of 1 is what models do by themselves.
fn sampling(
    conversation: &Conversation,
    claude_thinks: bool,
    writer: &mut Writer<'_, '_>,
    parts: &mut Parts,
) -> Result<(), Invalid> {
    let takes = writer.target.capability.sampling;
    let mut temperature = conversation.temperature;
    let mut top_p = conversation.top_p;
    let mut top_k = conversation.top_k;
    let is_one = |number: f64| (number - 1.0).abs() < f64::EPSILON;
    if temperature.is_some_and(|number| number > 1.0) {
        writer.unsupported.field("temperature")?;
        temperature = Some(1.0);
    }
    if takes == Sampling::None || claude_thinks {
        if temperature.take().is_some_and(|number| !is_one(number)) {
            writer.unsupported.field("temperature")?;
        }
        let fits =
            |number: f64| is_one(number) || (takes != Sampling::None && number >= LEAST_TOP_P_WITH_THINKING);
        if let Some(number) = top_p
            && !fits(number)
        {
            writer.unsupported.field("top_p")?;
            top_p = None;
        }
        if takes == Sampling::None {
            top_p = None;
        }
        if top_k.take().is_some() {
            writer.unsupported.field("top_k")?;
        }
    }
    if takes == Sampling::One
        && temperature.is_some()
        && top_p.is_some()
        && top_p.take().is_some_and(|number| !is_one(number))
    {
        writer.unsupported.field("top_p")?;
    }
    if let Some(number) = temperature {
        parts.inference.put("temperature", &number)?;
    }
    if let Some(number) = top_p {
        parts.inference.put("topP", &number)?;
    }
    let Some(top_k) = top_k else { return Ok(()) };
    match writer.vendor {
        Vendor::Claude | Vendor::Mistral => parts.additional.put("top_k", &top_k),
        Vendor::Nova => parts.additional.put("inferenceConfig", &NovaSampling { top_k }),
        Vendor::Cohere => parts.additional.put("k", &top_k),
        Vendor::GptOss | Vendor::Other => writer.unsupported.field("top_k"),
    }
}

/// JSON mode, and JSON by a schema where the model has it (else `tools` has made a tool of it).
fn format(
    conversation: &Conversation,
    target: &Target<'_>,
    system: &mut Vec<Block<'_>>,
    parts: &mut Parts,
) -> Result<(), Invalid> {
    match &conversation.format {
        None | Some(Format::Text) => Ok(()),
        Some(Format::JsonObject) => {
            system.push(Block::Text(JSON_INSTRUCTION.into()));
            Ok(())
        }
        Some(Format::JsonSchema { name, description, schema, .. }) if target.capability.structured_output => {
            let json_schema = JsonSchema {
                name: name.as_deref().unwrap_or("answer"),
                schema: schema.get(),
                description: description.as_deref(),
            };
            parts
                .output
                .put("textFormat", &TextFormat { kind: "json_schema", structure: Structure { json_schema } })
        }
        Some(Format::JsonSchema { .. }) => Ok(()),
    }
}

/// Everything that has no equal, or nearly none.
fn rest(
    conversation: &Conversation,
    unsupported: &mut Unsupported<'_>,
    parts: &mut Parts,
) -> Result<(), Invalid> {
    let asks = |number: Option<f64>| number.is_some_and(|number| number != 0.0);
    for (is_asked, field) in [
        (conversation.count.is_some_and(|count| count > 1), "n"),
        (conversation.seed.is_some(), "seed"),
        (conversation.logprobs == Some(true), "logprobs"),
        (conversation.top_logprobs.is_some_and(|count| count > 0), "top_logprobs"),
        (asks(conversation.frequency_penalty), "frequency_penalty"),
        (asks(conversation.presence_penalty), "presence_penalty"),
    ] {
        if is_asked {
            unsupported.field(field)?;
        }
    }
    if let Some(user) = &conversation.user {
        // A word of its own in the account's log of invocations, in the letters that are allowed there.
        let fits = |c: char| c.is_ascii_alphanumeric() || " :_@$#=/+,-.".contains(c);
        if user.len() <= MAX_METADATA_CHARS && user.chars().all(fits) {
            parts.metadata.put("user", user)?;
        } else {
            unsupported.field("user")?;
        }
    }
    for (name, _) in &conversation.others {
        unsupported.field(name)?;
    }
    Ok(())
}

/// Adds the caller's own fields and writes the objects that they may stand in.
fn options(conversation: &Conversation, mut parts: Parts, body: &mut Body) -> Result<(), Invalid> {
    let mut names = BTreeSet::new();
    if conversation.provider_options.len() > MAX_MEMBERS {
        return Err(Invalid::new("provider_options", format!("has more than {MAX_MEMBERS} members")));
    }
    for (name, value) in &conversation.provider_options {
        let place = format!("provider_options.{name}");
        if !names.insert(name.as_str()) {
            return Err(taken(&place));
        }
        match name.as_str() {
            "inferenceConfig" => parts.inference.merge(&place, value)?,
            "additionalModelRequestFields" => parts.additional.merge(&place, value)?,
            "outputConfig" => parts.output.merge(&place, value)?,
            "requestMetadata" => parts.metadata.merge(&place, value)?,
            // What is called stands in the path.
            "model" | "modelId" => return Err(taken(&place)),
            _ if body.has(name) => return Err(taken(&place)),
            _ => body.put(name, value)?,
        }
    }
    for (name, members) in [
        ("inferenceConfig", parts.inference),
        ("additionalModelRequestFields", parts.additional),
        ("outputConfig", parts.output),
        ("requestMetadata", parts.metadata),
    ] {
        if !members.is_empty() {
            body.put(name, &members)?;
        }
    }
    Ok(())
}

/// An object that is written member by member, so that large ones are not held twice.
#[derive(Debug)]
struct Body {
    out: Vec<u8>,
    names: Vec<String>,
}

impl Body {
    fn new() -> Self {
        Self { out: b"{".to_vec(), names: Vec::new() }
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn put(&mut self, name: &str, value: &impl Serialize) -> Result<(), Invalid> {
        if !self.names.is_empty() {
            self.out.push(b',');
        }
        self.names.push(name.to_owned());
        serde_json::to_writer(&mut self.out, name).map_err(|_| unwritable())?;
        self.out.push(b':');
        serde_json::to_writer(&mut self.out, value).map_err(|_| unwritable())
    }

    fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}
