//! What the unit tests of all dialects share.

pub mod vectors;
