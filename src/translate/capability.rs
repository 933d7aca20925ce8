//! Which model takes which parameters: a table of data, with a default for each family of models.

/// What a model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The family, such as `claude-opus-4.7`.
    pub family: String,
    /// `temperature`, `top_p` and `top_k`.
    pub sampling: Sampling,
    /// How it is told to think.
    pub thinking: Thinking,
    /// The longest answer in tokens; what is sent where the provider needs a limit and the caller gave none.
    pub max_output_tokens: u64,
    /// JSON by a schema is a feature of the provider; else it is asked for through a forced tool.
    pub structured_output: bool,
    /// System turns may stand among the others; else they are joined to the first or the nearest turn.
    pub system_among_turns: bool,
    /// The last turn may be the beginning of the answer.
    pub prefill: bool,
    /// JSON Schema of tools passes as it is; else it is reduced to the provider's subset.
    pub full_json_schema: bool,
    /// Cache marks are taken.
    pub cache_marks: bool,
}

/// Which sampling parameters a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// All of them.
    Any,
    /// `temperature` or `top_p`, not both.
    One,
    /// None of them.
    None,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// It does not, or not on request.
    None,
    /// By a number of tokens.
    Budget,
    /// As it sees fit, with a word for the effort.
    Adaptive,
    /// By a level (Gemini 3).
    Level,
}

impl Default for Capability {
    fn default() -> Self {
        Self {
            family: String::new(),
            sampling: Sampling::Any,
            thinking: Thinking::None,
            max_output_tokens: 8_192,
            structured_output: true,
            system_among_turns: false,
            prefill: false,
            full_json_schema: true,
            cache_marks: false,
        }
    }
}
