//! Callers' dialects.

pub mod chat;
mod carried;
mod emit;
mod fields;
pub mod messages;
pub mod responses;
#[cfg(test)]
mod tests;
