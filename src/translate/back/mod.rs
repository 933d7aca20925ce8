//! Providers' protocols.

pub mod openai;
