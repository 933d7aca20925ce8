//! Providers' protocols.
