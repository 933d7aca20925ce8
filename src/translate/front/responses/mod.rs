//! OpenAI's Responses as a caller's dialect, in front of providers that speak another one. Without state: the gateway
//! keeps no answers, so that a caller brings the whole conversation each time. Wire facts: OpenAI's API reference and
//! the types of its Python SDK.

mod answer;
mod items;
mod object;
mod request;
mod stream;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use answer::write;
pub use answer::{error, write_echoing};
pub use object::Echo;
pub use request::read;
pub use stream::StreamWriter;
