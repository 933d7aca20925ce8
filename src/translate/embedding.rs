//! Embeddings in no dialect.

/// A request for embeddings.
#[derive(Debug, Default)]
pub struct EmbeddingRequest {
    /// Texts, in order.
    pub inputs: Vec<String>,
    /// The wanted length of each vector.
    pub dimensions: Option<u32>,
    /// Vectors are written as base64 of little-endian 32-bit floats.
    pub base64: bool,
    /// `provider_options`, as in a conversation (`task_type`, `input_type`).
    pub provider_options: Vec<(String, Box<serde_json::value::RawValue>)>,
    /// Other fields, for `Unsupported`.
    pub others: Vec<(String, Box<serde_json::value::RawValue>)>,
}

/// What comes back.
#[derive(Debug, Default)]
pub struct EmbeddingAnswer {
    /// One vector an input, in the order of the inputs.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of the input, where the provider says so.
    pub input_tokens: Option<u64>,
}
