//! Providers' protocols.

pub mod converse;
pub mod invoke;
