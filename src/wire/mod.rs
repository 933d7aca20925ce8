//! The JSON shapes of each dialect: only the fields that a decision needs are read, everything else rides along
//! untouched as bytes.

pub mod events;
pub mod multipart;
pub mod request;
pub mod tokens;
pub mod usage;
