//! Anthropic's Messages as a caller's dialect, in front of providers that speak another one. (A provider that speaks
//! it itself gets the caller's own bytes.) Wire facts: Anthropic's API reference and the types of its Python SDK.

mod answer;
mod blocks;
mod estimate;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod waiting;

pub use answer::{error, write};
pub use estimate::{estimate_tokens, write_count};
pub use request::{read, read_to_count};
pub use stream::StreamWriter;
