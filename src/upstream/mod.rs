//! Connections to providers: names resolved, sockets pooled per worker, TLS, one request and its answer.
//!
//! The hot path speaks HTTP/1.1 through the same `http` parts as the listener does, over pooled sockets: one
//! write a request, no header map, no copy of the body.

pub mod address;
mod credentials;
mod egress;
mod exchange;
mod pool;
mod resolver;
mod tls;

pub use credentials::to_base64 as base64;
pub use credentials::{AuthHeader, CredentialError, Issuers, Signable, Wait};
pub use egress::EgressPolicy;
pub use exchange::{Exchange, Ready};
pub use pool::Upstreams;

use crate::net::Interruption;

/// Why there is no answer, or no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The name did not resolve, the connection was refused, TLS failed, or it closed before it answered.
    Unreachable,
    /// The address is not one that this account may use.
    Forbidden,
    /// The answer is no HTTP/1.1.
    Invalid,
    /// The answer broke off.
    Broken,
    /// The wait was ended: deadline, caller gone, or cut.
    Interrupted(Interruption),
}
