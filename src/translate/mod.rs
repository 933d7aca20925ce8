//! Conversions between dialects, as pure functions: no I/O, no clock, no state of the gateway.
//!
//! There is one form in the middle ([`conversation`] for what is asked, [`answer`] for what comes back) and a reader
//! and a writer for each dialect around it, so that N callers' dialects and M providers' protocols need N + M parts:
//!
//! - a **front** (`front/`) reads a caller's request into a [`Conversation`] and writes an [`Answer`], or the
//!   [`Event`]s of a stream, in the caller's dialect;
//! - a **back** (`back/`) writes a [`Conversation`] as a provider's request and reads the provider's answer, or the
//!   units of its stream, into the same.
//!
//! What a provider can not do is never lost in silence: [`Unsupported`] collects it by the caller's field name.

pub mod answer;
pub mod back;
pub mod capability;
pub mod conversation;
mod dialect;
pub mod embedding;
mod few;
pub mod front;
mod json_text;
mod members;
mod stream;
#[cfg(test)]
mod tests;
mod unsupported;

pub use answer::{Answer, Choice, Event, Finish, FinishReason, ProviderError, Tokens};
pub use capability::Capability;
pub use conversation::Conversation;
pub use dialect::{Back, Front};
pub use stream::Translation;
pub use unsupported::{Dropped, Invalid, Unsupported};

/// What a back has to know of where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The provider's word in messages, such as `anthropic`.
    pub provider: &'static str,
    /// The provider's own id of the model.
    pub model_id: &'a str,
    /// What the model takes.
    pub capability: &'a Capability,
    /// What the provider can not do is dropped and listed, not refused.
    pub drop_unsupported: bool,
}

/// A provider's request, written.
#[derive(Debug)]
pub struct Built {
    /// JSON.
    pub body: Vec<u8>,
    /// What was dropped, by the caller's field names; without [`Target::drop_unsupported`] only what was
    /// [noted](Unsupported::note).
    pub dropped: Dropped,
    /// What the reader of the answer has to know.
    pub context: ReplyContext,
}

/// A provider's answer that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What the reader of an answer has to know of its request.
#[derive(Clone, Debug, Default)]
pub struct ReplyContext {
    /// The answer's JSON was asked for through a forced tool of this name: its arguments are the content.
    pub json_tool: Option<String>,
    /// Names of tools that had to be rewritten for the provider: (as the provider knows it, as the caller wrote it).
    pub tool_names: Vec<(String, String)>,
}

impl ReplyContext {
    /// A tool's name as the caller wrote it.
    pub fn callers_tool_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.tool_names.iter().find(|(theirs, _)| theirs == name).map_or(name, |(_, callers)| callers)
    }
}

/// What the gateway itself says of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Letters and digits, unique; a front puts its dialect's prefix before it (`chatcmpl-`, `msg_`, `resp_`) where
    /// the provider gave no id.
    pub unique: &'a str,
    /// The model as the caller named it, where the provider names none.
    pub model: &'a str,
    /// Unix seconds, where the provider says none.
    pub created_s: u64,
}
