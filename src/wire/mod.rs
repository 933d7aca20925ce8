//! The JSON shapes of each dialect.
