//! The management API: a thin face of `manage`.
