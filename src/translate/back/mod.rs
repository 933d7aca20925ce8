//! Providers' protocols.

pub mod anthropic;
pub mod converse;
pub mod gemini;
pub mod openai;
