//! Callers' dialects.

mod carried;
mod emit;
mod fields;
pub mod messages;
pub mod responses;
