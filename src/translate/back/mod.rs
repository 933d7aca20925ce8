//! Providers' protocols.

pub mod anthropic;
pub mod gemini;
