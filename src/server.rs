//! Listeners and lifecycle.
