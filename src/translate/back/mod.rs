//! Providers' protocols.

pub mod converse;
