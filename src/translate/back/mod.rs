//! Providers' protocols.

pub mod gemini;
