//! `generationConfig`: sampling, length, thinking and the form of the answer.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::members::{Members, Written};
use super::schema::Reducer;
use crate::translate::capability::{Sampling, Thinking};
use crate::translate::conversation::{Conversation, Effort, Format, Reasoning};
use crate::translate::{Invalid, Target, Unsupported};

/// `stopSequences` takes so many.
const MAX_STOPS: usize = 5;

/// `candidateCount` takes so many.
const MAX_CANDIDATES: u32 = 8;

/// The largest number that `topK`, `maxOutputTokens` and `thinkingBudget` hold (32 bits, signed).
const MAX_INT32: u64 = i32::MAX as u64;

/// The largest budget that every thinking model of the 2.5 family takes, in tokens; what `high` stands for.
const HIGH_BUDGET_TOKENS: u64 = 24_576;

/// Writes the settings of a conversation; `by_tool`: the answer's form is asked for through a tool.
pub fn generation<'a>(
    conversation: &'a Conversation,
    target: &Target<'_>,
    by_tool: bool,
    schemas: &mut Reducer,
    unsupported: &mut Unsupported<'_>,
) -> Result<Written<'a>, Invalid> {
    let mut config = Written::default();
    sampling(conversation, target, &mut config, unsupported)?;
    limits(conversation, &mut config, unsupported)?;
    if let Some(reasoning) = &conversation.reasoning {
        thinking(reasoning, target.capability.thinking, &mut config, unsupported)?;
    }
    if !by_tool {
        format(conversation.format.as_ref(), target, schemas, &mut config)?;
    }
    Ok(config)
}

fn sampling(
    conversation: &Conversation,
    target: &Target<'_>,
    config: &mut Written<'_>,
    unsupported: &mut Unsupported<'_>,
) -> Result<(), Invalid> {
    let sampling = target.capability.sampling;
    if let Some(temperature) = conversation.temperature {
        if sampling != Sampling::None && (0.0..=2.0).contains(&temperature) {
            config.add("temperature", &temperature);
        } else {
            unsupported.field("temperature")?;
        }
    }
    if let Some(top_p) = conversation.top_p {
        let is_second = sampling == Sampling::One && conversation.temperature.is_some();
        if sampling != Sampling::None && !is_second && (0.0..=1.0).contains(&top_p) {
            config.add("topP", &top_p);
        } else {
            unsupported.field("top_p")?;
        }
    }
    if let Some(top_k) = conversation.top_k {
        if sampling != Sampling::None && top_k <= MAX_INT32 {
            config.add("topK", &top_k);
        } else {
            unsupported.field("top_k")?;
        }
    }
    for (name, callers_name, penalty) in [
        ("presencePenalty", "presence_penalty", conversation.presence_penalty),
        ("frequencyPenalty", "frequency_penalty", conversation.frequency_penalty),
    ] {
        match penalty {
            Some(penalty) if (-2.0..=2.0).contains(&penalty) => config.add(name, &penalty),
            Some(_) => unsupported.field(callers_name)?,
            None => {}
        }
    }
    if let Some(seed) = conversation.seed {
        match i32::try_from(seed) {
            Ok(seed) => config.add("seed", &seed),
            Err(_) => unsupported.field("seed")?,
        }
    }
    Ok(())
}

fn limits(
    conversation: &Conversation,
    config: &mut Written<'_>,
    unsupported: &mut Unsupported<'_>,
) -> Result<(), Invalid> {
    match conversation.max_output_tokens {
        Some(tokens) if tokens <= MAX_INT32 => config.add("maxOutputTokens", &tokens),
        Some(_) => unsupported.field("max_tokens")?,
        None => {}
    }
    match conversation.count {
        None | Some(1) => {}
        Some(count) if (2..=MAX_CANDIDATES).contains(&count) => config.add("candidateCount", &count),
        Some(_) => unsupported.field("n")?,
    }
    if !conversation.stop.is_empty() {
        if conversation.stop.len() > MAX_STOPS {
            unsupported.field("stop")?;
        }
        let stops: Vec<&String> = conversation.stop.iter().take(MAX_STOPS).collect();
        config.add("stopSequences", &stops);
    }
    if conversation.logprobs == Some(true) {
        config.add("responseLogprobs", &true);
        if let Some(others) = conversation.top_logprobs.filter(|others| *others > 0) {
            config.add("logprobs", &others);
        }
    }
    Ok(())
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

fn thinking(
    reasoning: &Reasoning,
    by: Thinking,
    config: &mut Written<'_>,
    unsupported: &mut Unsupported<'_>,
) -> Result<(), Invalid> {
    let callers_name = if reasoning.effort.is_some() { "reasoning_effort" } else { "thinking" };
    let off = reasoning.enabled == Some(false)
        || (reasoning.enabled.is_none() && reasoning.effort == Some(Effort::None));
    if by == Thinking::None {
        if !off && *reasoning != Reasoning::default() {
            unsupported.field(callers_name)?;
        }
        return Ok(());
    }
    let by_level = by != Thinking::Budget;
    let mut written = ThinkingConfig::default();
    // Whoever names a budget in Anthropic's way reads the thoughts; an effort in OpenAI's way keeps them hidden.
    let wants_thoughts = reasoning.budget_tokens.is_some() || reasoning.enabled == Some(true);
    written.include_thoughts = reasoning.visible.or(wants_thoughts.then_some(true)).filter(|_| !off);
    if off {
        if by_level {
            unsupported.field(callers_name)?;
        } else {
            written.thinking_budget = Some(0);
        }
    } else if let Some(budget) = reasoning.budget_tokens {
        match i32::try_from(budget) {
            Ok(budget) => written.thinking_budget = Some(i64::from(budget)),
            Err(_) => unsupported.field("thinking")?,
        }
    } else if let Some(effort) = reasoning.effort {
        if effort > Effort::High {
            unsupported.field("reasoning_effort")?;
        }
        if by_level {
            written.thinking_level = Some(level(effort));
        } else {
            written.thinking_budget = i64::try_from(budget_tokens(effort)).ok();
        }
    } else if reasoning.enabled == Some(true) && !by_level {
        written.thinking_budget = Some(-1);
    }
    if written.include_thoughts.is_some()
        || written.thinking_budget.is_some()
        || written.thinking_level.is_some()
    {
        config.add("thinkingConfig", &written);
    }
    Ok(())
}

fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High | Effort::XHigh | Effort::Max => "HIGH",
    }
}

fn budget_tokens(effort: Effort) -> u64 {
    match effort {
        Effort::None => 0,
        Effort::Minimal | Effort::Low => 1_024,
        Effort::Medium => 8_192,
        Effort::High | Effort::XHigh | Effort::Max => HIGH_BUDGET_TOKENS,
    }
}

fn format<'a>(
    format: Option<&'a Format>,
    target: &Target<'_>,
    schemas: &mut Reducer,
    config: &mut Written<'a>,
) -> Result<(), Invalid> {
    match format {
        None | Some(Format::Text) => {}
        Some(Format::JsonObject) => config.add("responseMimeType", &"application/json"),
        Some(Format::JsonSchema { schema, description, .. }) => {
            config.add("responseMimeType", &"application/json");
            if target.capability.full_json_schema {
                let schema = described(schema, description.as_deref());
                config.0.push((Cow::Borrowed("responseJsonSchema"), schema));
            } else {
                let field = "response_format.json_schema.schema";
                config.add("responseSchema", &schemas.reduce(schema, description.as_deref(), field)?);
            }
        }
    }
    Ok(())
}

/// A schema with a description, where it has none of its own.
pub fn described<'a>(schema: &'a RawValue, description: Option<&str>) -> Cow<'a, RawValue> {
    let Some(description) = description.filter(|text| !text.is_empty()) else { return Cow::Borrowed(schema) };
    let Ok(Members(members)) = serde_json::from_str(schema.get()) else { return Cow::Borrowed(schema) };
    if members.iter().any(|(name, _)| name == "description") {
        return Cow::Borrowed(schema);
    }
    let mut written = Written::default();
    written.add("description", &description);
    written.0.extend(members.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))));
    serde_json::value::to_raw_value(&written).map_or(Cow::Borrowed(schema), Cow::Owned)
}
