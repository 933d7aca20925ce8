//! Every caller's dialect with every provider's protocol.

use crate::translate::{Back, Front, Identity, ReplyContext};

/// What the gateway says of an answer.
pub const IDENTITY: Identity<'static> =
    Identity { unique: "0000000000", model: "account/model", created_s: 1_700_000_000 };

/// The pair that a byte chooses.
pub fn pair(choice: u8) -> (Front, Back) {
    let front = [Front::Chat, Front::Messages, Front::Responses][usize::from(choice) % 3];
    let back = [Back::OpenAi, Back::Anthropic, Back::Converse, Back::Gemini][usize::from(choice / 3) % 4];
    (front, back)
}

/// With or without a forced tool for JSON.
pub fn context(choice: u8) -> ReplyContext {
    let json_tool = (choice >= 128).then(|| "answer".to_owned());
    ReplyContext { json_tool, ..ReplyContext::default() }
}

/// Whether bytes are JSON.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok()
}
