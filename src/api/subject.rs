//! Subjects as JSON: who made something.

use serde_json::{Value, json};

/// A written subject, such as `user:ada@example.com` or `local:uid:0`, in the shape of the public contract.
pub fn shape(written: &str) -> Value {
    let (kind, slug) = written.split_once(':').unwrap_or(("user", written));
    json!({"subjectId": slug, "subjectType": kind, "subjectSlug": slug})
}

/// Who made a thing that only administrators can make, where the store does not keep the name.
pub fn administrators() -> Value {
    json!({"subjectId": "tenant-admin", "subjectType": "role", "subjectSlug": "tenant-admin"})
}
