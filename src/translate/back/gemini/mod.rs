//! Google's `generateContent` and `streamGenerateContent`, on the Gemini API and on Vertex AI, and their embeddings.
//!
//! A signature of thoughts stands on the part that it belongs to: on a call it is the call's, on a text it becomes a
//! thinking block without text behind it (or ends the one that is open). On the way back a thinking block's signature
//! goes to the call that follows it at once, where that has none, and else stays with the thoughts.
//!
//! A stream has no end mark of its own and its chunks may say `STOP` before the last of them, so the reason of the end
//! is told when the body has ended. What code execution and grounding write beside the text is not carried.

mod answer;
mod contents;
mod error;
mod generation;
mod members;
mod names;
mod partial;
mod request;
mod schema;
mod stream;
mod usage;

pub mod claude;
pub mod embedding;
pub mod path;

pub use answer::read;
pub use error::error;
pub use request::build;
pub use stream::StreamReader;

#[cfg(test)]
mod tests;

/// How [`Target::provider`](crate::translate::Target::provider) names Vertex AI; anything else is the Gemini API.
const VERTEX: &str = "google-vertex";

/// Text of a provider that is passed on, at most: characters.
const MAX_MESSAGE_CHARS: usize = 2_000;
