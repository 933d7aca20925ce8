//! A conversation as a request.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::blocks::mark;
use super::thinking::{self, Circumstances};
use super::tools::{self, Names};
use super::turns;
use crate::translate::capability::Sampling;
use crate::translate::members::Members;
use crate::translate::{Built, Conversation, Invalid, ReplyContext, Target, Unsupported};

/// Objects of the request into which `provider_options` are merged member by member.
const MERGED: [&str; 2] = ["metadata", "output_config"];
/// Names that no option may write, also where this request does without them.
const OWN: [&str; 4] = ["model", "messages", "stream", "max_tokens"];
/// Members of an object of `provider_options` that is merged into one of the gateway's own.
const MAX_MERGED: usize = 256;
/// The highest temperature.
const MAX_TEMPERATURE: f64 = 1.0;
/// The lowest `top_p` beside thinking.
const MIN_TOP_P_THINKING: f64 = 0.95;

/// Writes a conversation as a request of the Messages API.
///
/// # Errors
/// What the provider would refuse, or can not do.
pub fn build(conversation: &Conversation, target: &Target<'_>) -> Result<Built, Invalid> {
    let mut unsupported = Unsupported::new(*target);
    let names = Names::new(conversation);
    let turns = turns::build(conversation, target, &names, &mut unsupported)?;
    let tools = tools::build(conversation, target, &names, &mut unsupported)?;
    let max_tokens = conversation.max_output_tokens.unwrap_or(target.capability.max_output_tokens);
    let now = Circumstances { max_tokens, is_forced: tools.is_forced, lacks_thoughts: turns.lacks_thoughts };
    let told = thinking::build(conversation.reasoning.as_ref(), target, now, &mut unsupported)?;
    let mut fields = Fields::default();
    fields.add("model", &target.model_id)?;
    fields.add("max_tokens", &max_tokens)?;
    if !turns.system.is_empty() {
        fields.add("system", &turns.system)?;
    }
    fields.add("messages", &turns.messages)?;
    if let Some(tools) = &tools.tools {
        fields.add("tools", tools)?;
    }
    if let Some(choice) = &tools.choice {
        fields.add("tool_choice", choice)?;
    }
    let is_thinking = told.is_on();
    if let Some(thinking) = &told.thinking {
        fields.add("thinking", thinking)?;
    }
    if told.effort.is_some() || tools.schema.is_some() {
        fields.add(
            "output_config",
            &OutputConfig {
                effort: told.effort,
                format: tools.schema.map(|schema| OutputFormat { kind: "json_schema", schema }),
            },
        )?;
    }
    sampling(conversation, target, is_thinking, &mut fields, &mut unsupported)?;
    stop(conversation, &mut fields, &mut unsupported)?;
    if let Some(user) = &conversation.user {
        fields.add("metadata", &json!({"user_id": user}))?;
    }
    match conversation.service_tier.as_deref() {
        None => {}
        Some("auto") => fields.add("service_tier", &"auto")?,
        Some("default") => fields.add("service_tier", &"standard_only")?,
        Some(_) => unsupported.field("service_tier")?,
    }
    if let Some(mark) = mark(conversation.cache, target, &mut unsupported)? {
        fields.add("cache_control", &mark)?;
    }
    if conversation.stream {
        fields.add("stream", &true)?;
    }
    refuse(conversation, &mut unsupported)?;
    for (name, value) in &conversation.provider_options {
        fields.merge(name, value)?;
    }
    Ok(Built {
        body: fields.into_json(),
        dropped: unsupported.into_dropped(),
        context: ReplyContext { json_tool: tools.json_tool, tool_names: names.into_pairs() },
    })
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutputFormat<'a>>,
}

#[derive(Serialize)]
struct OutputFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawValue,
}

fn sampling(
    conversation: &Conversation,
    target: &Target<'_>,
    is_thinking: bool,
    fields: &mut Fields,
    unsupported: &mut Unsupported<'_>,
) -> Result<(), Invalid> {
    for (name, value) in [("temperature", conversation.temperature), ("top_p", conversation.top_p)] {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(Invalid::new(name, "has to be a number"));
        }
    }
    let takes = target.capability.sampling;
    // 1 is what every model does by itself, so nothing is lost with it.
    let temperature = conversation.temperature.filter(|value| differs(*value));
    let mut has_temperature = false;
    if let Some(value) = temperature {
        if takes == Sampling::None || is_thinking || value > MAX_TEMPERATURE {
            unsupported.field("temperature")?;
        } else {
            fields.add("temperature", &value)?;
            has_temperature = true;
        }
    }
    if let Some(value) = conversation.top_p.filter(|value| differs(*value)) {
        let is_alone = takes == Sampling::Any || !has_temperature;
        if takes == Sampling::None || !is_alone || (is_thinking && value < MIN_TOP_P_THINKING) {
            unsupported.field("top_p")?;
        } else {
            fields.add("top_p", &value)?;
        }
    }
    if let Some(value) = conversation.top_k {
        if takes == Sampling::None || is_thinking {
            unsupported.field("top_k")?;
        } else {
            fields.add("top_k", &value)?;
        }
    }
    Ok(())
}

fn differs(value: f64) -> bool {
    (value - 1.0).abs() > f64::EPSILON
}

fn stop(
    conversation: &Conversation,
    fields: &mut Fields,
    unsupported: &mut Unsupported<'_>,
) -> Result<(), Invalid> {
    // Stop texts of white space only are refused by the provider.
    let (stop, blank): (Vec<_>, Vec<_>) =
        conversation.stop.iter().partition::<Vec<&String>, _>(|text| !text.trim().is_empty());
    if !blank.is_empty() {
        unsupported.field("stop")?;
    }
    if stop.is_empty() { Ok(()) } else { fields.add("stop_sequences", &stop) }
}

/// What the Messages API has nothing for.
fn refuse(conversation: &Conversation, unsupported: &mut Unsupported<'_>) -> Result<(), Invalid> {
    let is_set = |value: Option<f64>| value.is_some_and(|value| value != 0.0);
    for (field, is_wanted) in [
        ("n", conversation.count.is_some_and(|count| count > 1)),
        ("seed", conversation.seed.is_some()),
        ("frequency_penalty", is_set(conversation.frequency_penalty)),
        ("presence_penalty", is_set(conversation.presence_penalty)),
        ("logprobs", conversation.logprobs == Some(true)),
        ("top_logprobs", conversation.top_logprobs.is_some_and(|count| count > 0)),
    ] {
        if is_wanted {
            unsupported.field(field)?;
        }
    }
    conversation.others.iter().try_for_each(|(name, _)| unsupported.field(name))
}

/// The top level of the request, in order.
#[derive(Debug, Default)]
struct Fields {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Fields {
    fn add<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Invalid> {
        let value = serde_json::value::to_raw_value(value)
            .map_err(|_| Invalid::new(name, "can not be written as JSON"))?;
        self.fields.push((name.to_owned(), value));
        Ok(())
    }

    /// Adds a field of the caller's `provider_options`.
    fn merge(&mut self, name: &str, value: &RawValue) -> Result<(), Invalid> {
        let refused = |name: &str| {
            Invalid::new(format!("provider_options.{name}"), "the gateway writes this field itself")
        };
        if OWN.contains(&name) {
            return Err(refused(name));
        }
        let Some((_, own)) = self.fields.iter_mut().find(|(known, _)| known == name) else {
            self.fields.push((name.to_owned(), value.to_owned()));
            return Ok(());
        };
        let both = (serde_json::from_str::<Members<'_>>(own.get()), serde_json::from_str(value.get()));
        let (Ok(Members(known)), Ok(Members(more)), true) = (both.0, both.1, MERGED.contains(&name)) else {
            return Err(refused(name));
        };
        if more.len() > MAX_MERGED {
            return Err(refused(name));
        }
        // As texts, so that what is only carried keeps its order: the members of one behind those of the other.
        let mut names: BTreeSet<_> = known.iter().map(|(key, _)| key).collect();
        if let Some((twice, _)) = more.iter().find(|(key, _)| !names.insert(key)) {
            return Err(refused(&format!("{name}.{}", printable(twice))));
        }
        let inner = |text: &str| {
            let text = text.trim();
            text.strip_prefix('{')
                .and_then(|text| text.strip_suffix('}'))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let members = [inner(own.get()), inner(value.get())];
        let joined = members.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join(",");
        *own = RawValue::from_string(format!("{{{joined}}}")).map_err(|_| refused(name))?;
        Ok(())
    }

    fn into_json(self) -> Vec<u8> {
        let mut json = Vec::with_capacity(self.fields.iter().map(|(_, value)| value.get().len() + 24).sum());
        for (number, (name, value)) in self.fields.iter().enumerate() {
            json.push(if number == 0 { b'{' } else { b',' });
            json.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
            json.push(b':');
            json.extend_from_slice(value.get().as_bytes());
        }
        json.push(b'}');
        json
    }
}

/// A name of the caller's in a message of ours.
fn printable(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(64).collect()
}
