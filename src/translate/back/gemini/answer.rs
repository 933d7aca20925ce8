//! The answer of `generateContent`, which is also what each event of a stream holds.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::usage::Usage;
use crate::translate::conversation::{Part, Source, ToolCall};
use crate::translate::few::Few;
use crate::translate::{Answer, Choice, Finish, FinishReason, ReplyContext, Unreadable};

/// More candidates than these are no answer: the API gives 8.
pub const MAX_CANDIDATES: usize = 32;

/// More parts than these in one answer are no answer.
const MAX_PARTS: usize = 16_384;

/// Pieces of arguments in one part.
const MAX_PIECES: usize = 4_096;

/// Tokens of one answer whose probabilities are told.
const MAX_LOGPROBS: usize = 131_072;

/// Other tokens at one place; the API gives 20.
const MAX_TOP_LOGPROBS: usize = 64;

/// Text, borrowed where it has no escapes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// A whole answer or one chunk. Zeros, empty lists and empty texts are left out on the wire.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reply<'a> {
    /// The answers.
    #[serde(borrow)]
    pub candidates: Option<Few<Candidate<'a>, MAX_CANDIDATES>>,
    /// Stands alone where the prompt was blocked.
    #[serde(borrow)]
    pub prompt_feedback: Option<PromptFeedback<'a>>,
    /// Counts.
    pub usage_metadata: Option<Usage>,
    /// The model's name.
    #[serde(borrow)]
    pub model_version: Option<Text<'a>>,
    /// The answer's id.
    #[serde(borrow)]
    pub response_id: Option<Text<'a>>,
    /// RFC 3339, on Vertex.
    #[serde(borrow)]
    pub create_time: Option<Text<'a>>,
    /// In place of all else, in streams that fail.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// What was wrong with the prompt.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PromptFeedback<'a> {
    /// A word.
    #[serde(borrow)]
    pub block_reason: Option<Text<'a>>,
    /// A sentence.
    #[serde(borrow)]
    pub block_reason_message: Option<Text<'a>>,
}

impl PromptFeedback<'_> {
    /// Whether it says that the prompt was blocked; it may hold nothing but ratings.
    pub fn blocks(&self) -> bool {
        self.block_reason.is_some() || self.block_reason_message.is_some()
    }
}

/// One answer, or the next piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Candidate<'a> {
    /// Parts.
    #[serde(borrow)]
    pub content: Option<ContentRead<'a>>,
    /// A word.
    #[serde(borrow)]
    pub finish_reason: Option<Text<'a>>,
    /// A sentence.
    #[serde(borrow)]
    pub finish_message: Option<Text<'a>>,
    /// Which answer; absent is 0.
    pub index: Option<u32>,
    /// Log probabilities.
    pub logprobs_result: Option<LogprobsResult>,
}

/// Parts of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContentRead<'a> {
    /// In order.
    #[serde(borrow)]
    pub parts: Option<Few<PartRead<'a>, MAX_PARTS>>,
}

/// One part; what else may stand in it (code that ran, its results) is not carried.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartRead<'a> {
    /// Text, or thoughts when `thought`.
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    /// The text is thoughts.
    pub thought: Option<bool>,
    /// Proof.
    #[serde(borrow)]
    pub thought_signature: Option<Text<'a>>,
    /// A call or a piece of one.
    #[serde(borrow)]
    pub function_call: Option<CallRead<'a>>,
    /// A picture.
    #[serde(borrow)]
    pub inline_data: Option<BlobRead<'a>>,
}

/// A call or a piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallRead<'a> {
    /// Often absent.
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    /// The tool; absent in later pieces.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// All of the arguments.
    #[serde(borrow)]
    pub args: Option<&'a RawValue>,
    /// Pieces of the arguments.
    #[serde(borrow)]
    pub partial_args: Option<Few<super::partial::PartialArgument<'a>, MAX_PIECES>>,
    /// More pieces come.
    pub will_continue: Option<bool>,
}

/// A picture or another medium.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlobRead<'a> {
    /// Its type.
    #[serde(borrow)]
    pub mime_type: Option<Text<'a>>,
    /// Base64.
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
}

/// Log probabilities in Google's form.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogprobsResult {
    chosen_candidates: Few<TokenLogprob, MAX_LOGPROBS>,
    top_candidates: Few<TopLogprobs, MAX_LOGPROBS>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TopLogprobs {
    candidates: Few<TokenLogprob, MAX_TOP_LOGPROBS>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TokenLogprob {
    token: String,
    log_probability: Option<f64>,
}

impl LogprobsResult {
    /// In OpenAI's chat form.
    pub fn in_chat_form(&self) -> Value {
        let one = |token: &TokenLogprob| {
            serde_json::json!({
                "token": token.token,
                "logprob": token.log_probability.unwrap_or_default(),
                "bytes": token.token.as_bytes(),
            })
        };
        let content = self.chosen_candidates.0.iter().enumerate().map(|(place, chosen)| {
            let mut entry = one(chosen);
            let others =
                self.top_candidates.0.get(place).map(|top| top.candidates.0.iter().map(one).collect());
            if let Value::Object(members) = &mut entry {
                members.insert("top_logprobs".to_owned(), Value::Array(others.unwrap_or_default()));
            }
            entry
        });
        serde_json::json!({"content": content.collect::<Vec<_>>(), "refusal": null})
    }
}

/// What a reason of the end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An end like any other.
    Proper(FinishReason),
    /// The model went wrong: an error unless something was said before.
    Failed,
}

/// What Google's word for the end means.
pub fn ending(reason: &str) -> Ending {
    match reason {
        "MAX_TOKENS" => Ending::Proper(FinishReason::Length),
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "LANGUAGE"
        | "ESCALATION" => Ending::Proper(FinishReason::ContentFilter),
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE"
        | "OTHER"
        | "NO_IMAGE"
        | "IMAGE_OTHER" => Ending::Failed,
        _ => Ending::Proper(FinishReason::Stop),
    }
}

/// The end in the gateway's words; `has_calls`: tools were called in this answer.
pub fn finish(reason: &str, message: Option<&str>, has_calls: bool) -> Finish {
    let kind = match ending(reason) {
        Ending::Proper(FinishReason::Stop) | Ending::Failed if has_calls => FinishReason::ToolCalls,
        Ending::Proper(kind) => kind,
        Ending::Failed => FinishReason::Stop,
    };
    let says_more = !matches!(reason, "" | "STOP" | "MAX_TOKENS" | "FINISH_REASON_UNSPECIFIED");
    Finish {
        reason: kind,
        native: says_more.then(|| word(reason)),
        stop_sequence: None,
        explanation: message.filter(|_| kind == FinishReason::ContentFilter).map(super::error::sentence),
    }
}

/// The end of an answer to a prompt that was blocked.
pub fn blocked(feedback: &PromptFeedback<'_>) -> Finish {
    let text = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.0.clone().into_owned());
    Finish {
        reason: FinishReason::ContentFilter,
        native: text(&feedback.block_reason).map(|reason| word(&reason)),
        stop_sequence: None,
        explanation: text(&feedback.block_reason_message).map(|message| super::error::sentence(&message)),
    }
}

/// A word of the provider's, and nothing longer.
fn word(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(64).collect()
}

/// Makes ids for calls that come without: unique in the answer, and between answers as far as their ids are.
#[derive(Debug)]
pub struct CallIds {
    seed: blake3::Hash,
    used: BTreeSet<String>,
}

impl CallIds {
    /// For an answer with this id; else for these bytes of it.
    pub fn new(response_id: Option<&str>, bytes: &[u8]) -> Self {
        let seed = response_id.filter(|id| !id.is_empty()).map_or(bytes, str::as_bytes);
        Self { seed: blake3::hash(seed), used: BTreeSet::new() }
    }

    /// The provider's own id where it is one, else one that is made.
    pub fn take(&mut self, given: Option<&str>) -> String {
        let given = given.filter(|id| !id.is_empty() && !self.used.contains(*id));
        let id = given.map_or_else(
            || {
                let mut hasher = blake3::Hasher::new();
                hasher.update(self.seed.as_bytes());
                hasher.update(&self.used.len().to_le_bytes());
                let digest = hasher.finalize().to_hex();
                format!("call_{}", digest.get(..24).unwrap_or_default())
            },
            str::to_owned,
        );
        self.used.insert(id.clone());
        id
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.used.len()
    }
}

/// JSON text without the white space between its tokens: arguments come indented from some servers.
pub fn compact(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let (mut in_string, mut after_backslash) = (false, false);
    for letter in text.chars() {
        if in_string {
            in_string = letter != '"' || after_backslash;
            after_backslash = letter == '\\' && !after_backslash;
        } else if letter.is_ascii_whitespace() {
            continue;
        } else {
            in_string = letter == '"';
        }
        compact.push(letter);
    }
    compact
}

/// The arguments of a whole call as JSON text of an object.
pub fn arguments(args: Option<&RawValue>) -> String {
    args.map(RawValue::get).filter(|args| args.starts_with('{')).map_or_else(|| "{}".to_owned(), compact)
}

/// Reads a whole answer. A prompt that was blocked is an answer, too.
///
/// # Errors
/// When it is no JSON of this form, holds nothing, or the model failed before it said anything.
pub fn read(body: &[u8], context: &ReplyContext) -> Result<Answer, Unreadable> {
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(|_| Unreadable)?;
    if reply.error.is_some() {
        return Err(Unreadable);
    }
    let Few(mut candidates) = reply.candidates.unwrap_or_default();
    let mut answer = Answer {
        id: reply.response_id.as_ref().map(|id| id.0.clone().into_owned()).filter(|id| !id.is_empty()),
        model: reply.model_version.map(|model| model.0.into_owned()).filter(|model| !model.is_empty()),
        created_s: reply.create_time.and_then(|time| unix_seconds(&time.0)),
        choices: Vec::new(),
        tokens: reply.usage_metadata.and_then(|usage| usage.tokens()),
    };
    if candidates.is_empty() {
        let feedback = reply.prompt_feedback.filter(PromptFeedback::blocks).ok_or(Unreadable)?;
        answer.choices.push(Choice { finish: blocked(&feedback), ..Choice::default() });
        return Ok(answer);
    }
    candidates.sort_by_key(|candidate| candidate.index.unwrap_or_default());
    let mut ids = CallIds::new(answer.id.as_deref(), body);
    let mut is_failed = true;
    for candidate in candidates {
        let reason = candidate.finish_reason.as_ref().map_or("", |reason| reason.0.as_ref());
        let has_ended =
            !matches!(reason, "" | "FINISH_REASON_UNSPECIFIED") && ending(reason) != Ending::Failed;
        let choice = choice(&candidate, &mut ids, context)?;
        let is_empty = choice.parts.iter().all(|part| matches!(part, Part::Thinking { .. }));
        is_failed &= is_empty && !has_ended;
        answer.choices.push(choice);
    }
    if is_failed { Err(Unreadable) } else { Ok(answer) }
}

fn unix_seconds(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

fn choice(
    candidate: &Candidate<'_>,
    ids: &mut CallIds,
    context: &ReplyContext,
) -> Result<Choice, Unreadable> {
    let mut choice = Choice::default();
    let mut has_calls = false;
    let parts = candidate.content.as_ref().and_then(|content| content.parts.as_ref());
    let parts = parts.map_or(&[][..], |parts| &parts.0);
    for part in parts {
        let signature = part.thought_signature.as_ref().map(|signature| signature.0.as_ref());
        let signature = signature.filter(|signature| !signature.is_empty());
        if let Some(call) = &part.function_call {
            let name = call.name.as_ref().map(|name| name.0.as_ref()).filter(|name| !name.is_empty());
            let name = name.ok_or(Unreadable)?;
            if context.json_tool.as_deref() == Some(name) {
                add_text(&mut choice.parts, &arguments(call.args));
                continue;
            }
            has_calls = true;
            choice.parts.push(Part::ToolCall(ToolCall {
                id: ids.take(call.id.as_ref().map(|id| id.0.as_ref())),
                name: context.callers_tool_name(name).to_owned(),
                arguments: arguments(call.args),
                signature: signature.map(str::to_owned),
                cache: None,
            }));
            continue;
        }
        let text = part.text.as_ref().map_or("", |text| text.0.as_ref());
        if part.thought == Some(true) {
            add_thoughts(&mut choice.parts, text, signature);
        } else {
            let signature = signature.filter(|signature| !sign_open_thoughts(&mut choice.parts, signature));
            add_text(&mut choice.parts, text);
            if let Some(signature) = signature {
                add_thoughts(&mut choice.parts, "", Some(signature));
            }
        }
        if let Some(blob) = &part.inline_data {
            add_medium(&mut choice.parts, blob);
        }
    }
    let reason = candidate.finish_reason.as_ref().map_or("", |reason| reason.0.as_ref());
    let message = candidate.finish_message.as_ref().map(|message| message.0.as_ref());
    choice.finish = finish(reason, message, has_calls);
    if let Some(logprobs) = &candidate.logprobs_result {
        choice.logprobs = serde_json::value::to_raw_value(&logprobs.in_chat_form()).ok();
    }
    Ok(choice)
}

fn add_text(parts: &mut Vec<Part>, more: &str) {
    match parts.last_mut() {
        _ if more.is_empty() => {}
        Some(Part::Text { text, .. }) => text.push_str(more),
        _ => parts.push(Part::Text { text: more.to_owned(), cache: None }),
    }
}

fn add_thoughts(parts: &mut Vec<Part>, more: &str, proof: Option<&str>) {
    if more.is_empty() && proof.is_none() {
        return;
    }
    match parts.last_mut() {
        Some(Part::Thinking { text, signature: signature @ None }) => {
            text.push_str(more);
            *signature = proof.map(str::to_owned);
        }
        _ => parts.push(Part::Thinking { text: more.to_owned(), signature: proof.map(str::to_owned) }),
    }
}

/// Puts a signature on the thoughts that came just before; whether there were any without one.
fn sign_open_thoughts(parts: &mut [Part], proof: &str) -> bool {
    match parts.last_mut() {
        Some(Part::Thinking { signature: signature @ None, .. }) => {
            *signature = Some(proof.to_owned());
            true
        }
        _ => false,
    }
}

fn add_medium(parts: &mut Vec<Part>, blob: &BlobRead<'_>) {
    let (Some(media_type), Some(data)) = (&blob.mime_type, &blob.data) else { return };
    if media_type.0.starts_with("image/") {
        let source = Source::Base64 {
            media_type: media_type.0.clone().into_owned(),
            data: data.0.clone().into_owned(),
        };
        parts.push(Part::Image { source, detail: None, cache: None });
    }
}
