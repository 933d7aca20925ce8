//! Callers' dialects.

mod carried;
mod emit;
mod fields;
pub mod messages;
pub mod responses;
#[cfg(test)]
mod tests;
