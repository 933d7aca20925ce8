//! OpenAI's Chat Completions as a provider's protocol, for callers of other dialects: OpenAI, Azure, and the many
//! servers that speak it (vLLM, llama.cpp, Ollama, Mistral, Groq, DeepSeek, xAI, OpenRouter) with their variants.

mod answer;
mod failure;
mod messages;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use answer::read;
pub use failure::error;
pub use request::build;
pub use stream::StreamReader;
