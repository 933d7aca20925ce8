//! Providers' protocols.

pub mod anthropic;
pub mod gemini;
pub mod openai;
