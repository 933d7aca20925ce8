//! What a caller asks for, in no dialect.
//!
//! JSON that is only carried (schemas, arguments) stays text, so that neither the order of its keys nor the digits
//! of its numbers change.

use serde_json::value::RawValue;

/// One request for an answer.
#[derive(Debug, Default)]
pub struct Conversation {
    /// What was said so far, in order; system turns stand where the caller put them.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether and what it has to call; `None`: the provider's default.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls may come in one answer; `None`: the provider's default.
    pub parallel_tool_calls: Option<bool>,
    /// The longest answer, in tokens, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// As the caller wrote it, 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// An extension of the dialects that have none.
    pub top_k: Option<u64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
    /// For answers that repeat.
    pub seed: Option<i64>,
    /// How many answers; `None` is one.
    pub count: Option<u32>,
    /// Log probabilities of the chosen tokens.
    pub logprobs: Option<bool>,
    /// And of so many others at each place.
    pub top_logprobs: Option<u32>,
    /// The form of the answer.
    pub format: Option<Format>,
    /// How much to think.
    pub reasoning: Option<Reasoning>,
    /// The caller's own id of its end user.
    pub user: Option<String>,
    /// `auto`, `default`, `flex`, `priority` (OpenAI's words; the Messages front maps its own to them).
    pub service_tier: Option<String>,
    /// A cache mark on the whole request (Messages' top-level `cache_control`).
    pub cache: Option<CacheMark>,
    /// The answer comes as a stream.
    pub stream: bool,
    /// The caller wants a usage chunk (Chat's `stream_options.include_usage`); other fronts always write usage.
    pub include_usage: bool,
    /// `provider_options`: fields for the provider's own request, by name, in the caller's order. A back merges them
    /// into the top level of what it writes and refuses names that it writes itself.
    pub provider_options: Vec<(String, Box<RawValue>)>,
    /// Names of fields that the front knows and that have no place above (`logit_bias`, `prediction`,
    /// `web_search_options`) or that it does not know, as the caller wrote them. Every back hands all of them to
    /// [`Unsupported`](super::Unsupported), unless it can serve one of them by its name.
    pub others: Vec<(String, Box<RawValue>)>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions (also `developer`).
    System,
    /// The caller; results of tools are parts of a user's turn.
    User,
    /// The model.
    Assistant,
}

/// What one of them said.
#[derive(Debug)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What, in order; may be empty.
    pub parts: Vec<Part>,
    /// Where it stands in the caller's body, such as `messages[3]`, for refusals.
    pub place: String,
}

/// A piece of a turn.
#[derive(Debug)]
pub enum Part {
    /// Text.
    Text {
        /// May be empty.
        text: String,
        /// A cache mark behind it.
        cache: Option<CacheMark>,
    },
    /// A picture.
    Image {
        /// Where it is.
        source: Source,
        /// `low`, `high`, `auto`.
        detail: Option<String>,
        /// A cache mark behind it.
        cache: Option<CacheMark>,
    },
    /// A document, such as a PDF.
    Document {
        /// Where it is.
        source: Source,
        /// Its name.
        name: Option<String>,
        /// A cache mark behind it.
        cache: Option<CacheMark>,
    },
    /// Sound.
    Audio {
        /// Base64.
        data: String,
        /// `wav`, `mp3`.
        format: String,
    },
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// What a tool gave.
    ToolResult(ToolResult),
    /// What the model thought.
    Thinking {
        /// May be empty; then the signature is all there is.
        text: String,
        /// The provider's proof, to be brought back unchanged.
        signature: Option<String>,
    },
    /// Thoughts that only the provider can read, to be brought back unchanged.
    RedactedThinking {
        /// Opaque.
        data: String,
    },
    /// The model declined, in these words.
    Refusal {
        /// The words.
        text: String,
    },
}

/// A model's call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Unique in its answer.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text as the model wrote it; may be empty or broken, a back that needs an object refuses that by place.
    pub arguments: String,
    /// The provider's proof of the thought behind it (Gemini's `thoughtSignature`), to be brought back unchanged.
    pub signature: Option<String>,
    /// A cache mark behind it.
    pub cache: Option<CacheMark>,
}

/// What a tool gave.
#[derive(Debug, Default)]
pub struct ToolResult {
    /// The call's id.
    pub call_id: String,
    /// Text, images and documents; may be empty.
    pub parts: Vec<Part>,
    /// The tool failed.
    pub is_error: bool,
    /// A cache mark behind it.
    pub cache: Option<CacheMark>,
}

/// Where a picture or document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Here.
    Base64 {
        /// Such as `image/png`, without parameters, in lower case.
        media_type: String,
        /// Standard base64.
        data: String,
    },
    /// Plain text, for documents.
    Text(String),
    /// At an address that the provider has to fetch; the gateway never does.
    Url(String),
    /// A file that was given to the provider before.
    FileId(String),
}

/// How long a provider keeps what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMark {
    /// As long as the provider does by default.
    Default,
    /// `5m`.
    FiveMinutes,
    /// `1h`.
    OneHour,
}

/// Something the model may call.
#[derive(Debug)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments; `None`: it takes none.
    pub parameters: Option<Box<RawValue>>,
    /// Whether arguments have to follow the schema.
    pub strict: Option<bool>,
    /// A cache mark behind it.
    pub cache: Option<CacheMark>,
}

/// Whether and what the model has to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// Nothing.
    None,
    /// Something.
    Required,
    /// This one.
    Tool(String),
    /// One of these only; whether it has to.
    Allowed {
        /// Their names.
        names: Vec<String>,
        /// It has to call one.
        required: bool,
    },
}

/// The form of an answer.
#[derive(Debug)]
pub enum Format {
    /// Plain text.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON by a schema.
    JsonSchema {
        /// The schema's name.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// JSON Schema.
        schema: Box<RawValue>,
        /// Whether it has to be followed to the letter.
        strict: Option<bool>,
    },
}

/// How much a model thinks before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// By a word.
    pub effort: Option<Effort>,
    /// By a number of tokens.
    pub budget_tokens: Option<u64>,
    /// `Some(false)`: not at all; `Some(true)`: as the model sees fit, where nothing else is said.
    pub enabled: Option<bool>,
    /// Whether the caller wants to read (a summary of) the thoughts.
    pub visible: Option<bool>,
}

/// How much thinking, by a word. OpenAI's scale with Anthropic's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words are the dialects' own")]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}
