//! Providers' protocols.

pub mod anthropic;
mod budget;
pub mod converse;
pub mod gemini;
pub mod invoke;
pub mod openai;
