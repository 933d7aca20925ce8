//! Anthropic's Messages API as a provider's protocol: `POST /v1/messages`, API version `2023-06-01`.
//!
//! What is done where the two forms differ:
//! - system turns behind the first user's turn stay among the others where the model takes them, else they are joined to
//!   the user's turn that is next;
//! - all results of a turn's tool calls come first in one user's turn, in the order of the calls;
//! - JSON that the provider can not be held to by a schema is asked for through a forced tool, whose arguments become
//!   the content of the answer;
//! - effort in words becomes a word or a number of thinking tokens, as the model takes it (`thinking.rs`);
//! - blocks of tools that run at the provider are not shown: the form in the middle has no place for them.

mod answer;
mod blocks;
mod error;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod thinking;
mod tools;
mod turns;

pub use answer::read;
pub use error::error;
pub use request::build;
pub use stream::StreamReader;
