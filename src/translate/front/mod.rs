//! Callers' dialects.

pub mod chat;
