//! AWS Bedrock: Converse and ConverseStream.
//!
//! One body for all families of models; what only one family takes goes into `additionalModelRequestFields`, by
//! [`Vendor`].

mod answer;
mod blocks;
mod error;
mod members;
mod names;
mod request;
mod stream;
mod thinking;
mod tools;
mod turns;

#[cfg(test)]
mod tests;

pub use answer::read;
pub use error::error;
pub use request::build;
pub use stream::StreamReader;

/// What is asked of a model; one path segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A whole answer.
    Converse,
    /// A stream of events.
    ConverseStream,
    /// The model's own dialect; embeddings.
    Invoke,
    /// How many tokens an input has.
    CountTokens,
}

/// What stands before the model in the id of an inference profile. Tokens are counted by the model itself: the
/// provider knows no profile there.
const GEOGRAPHIES: &[&str] = &["us", "eu", "apac", "jp", "au", "ca", "us-gov", "global"];

/// The path to send: `/model/{id}/converse`, where the id is one segment and everything in it but unreserved
/// characters (RFC 3986) is percent-encoded once, in upper case: `:` of versions and ARNs is `%3A`, `/` is `%2F`.
///
/// What signs the request (SigV4) takes this path exactly as it is sent and encodes each of its segments **once more**
/// for the canonical request, so that `%3A` is signed as `%253A`; nothing may normalise it in between. A prefix of
/// `base_url` stands before it on the wire and in the canonical path.
pub fn path(model_id: &str, operation: Operation) -> String {
    let mut path = String::with_capacity(model_id.len() + 32);
    path.push_str("/model/");
    let model_id = match model_id.split_once('.') {
        Some((geography, model))
            if operation == Operation::CountTokens && GEOGRAPHIES.contains(&geography) =>
        {
            model
        }
        _ => model_id,
    };
    // A segment of dots alone would be a step in the tree.
    let is_dots = model_id.bytes().all(|byte| byte == b'.');
    for byte in model_id.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && !is_dots);
        if plain {
            path.push(char::from(byte));
        } else {
            path.push('%');
            for half in [byte >> 4, byte & 15] {
                path.extend(char::from_digit(u32::from(half), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
    path.push_str(match operation {
        Operation::Converse => "/converse",
        Operation::ConverseStream => "/converse-stream",
        Operation::Invoke => "/invoke",
        Operation::CountTokens => "/count-tokens",
    });
    path
}

/// Who made a model, as far as its own fields differ. The first word of the family's name in the table of
/// capabilities says it: never the model's id, which an application profile's ARN does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Claude,
    Nova,
    Mistral,
    Cohere,
    GptOss,
    Other,
}

impl Vendor {
    fn of(family: &str) -> Self {
        match family.split('-').next() {
            Some("claude") => Self::Claude,
            Some("nova") => Self::Nova,
            Some("mistral") => Self::Mistral,
            Some("command") => Self::Cohere,
            Some("gpt") => Self::GptOss,
            _ => Self::Other,
        }
    }
}
