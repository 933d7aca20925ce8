//! Callers' dialects.

mod carried;
pub mod chat;
mod emit;
mod fields;
pub mod messages;
pub mod responses;
#[cfg(test)]
mod seam_tests;
#[cfg(test)]
mod tests;
