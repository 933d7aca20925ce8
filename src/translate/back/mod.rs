//! Providers' protocols.

pub mod anthropic;
