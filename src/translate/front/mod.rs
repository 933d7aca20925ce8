//! Callers' dialects.
