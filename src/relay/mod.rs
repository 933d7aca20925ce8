//! The request path, and the calls in flight.
