//! Somebody else's JSON as a tree, for the few places that need one: only as deep as a connection's stack allows, and
//! only as large as its memory is worth. A level of a tree takes the parser more than a KiB of a stack that does not
//! grow, and an element of two bytes becomes one of many times its size.

use serde_json::Value;

/// Levels of arrays and objects in a tree.
pub const MAX_DEPTH: usize = 32;
/// Bytes of JSON that become a tree where nothing else is said: an error, an event.
pub const MAX_BYTES: usize = 64 * 1024;

/// JSON as a tree; `None` when it is no JSON, is larger than [`MAX_BYTES`] or deeper than [`MAX_DEPTH`].
pub fn small(json: &[u8]) -> Option<Value> {
    read(json, MAX_BYTES)
}

/// The same for at most so many bytes.
pub fn read(json: &[u8], max_bytes: usize) -> Option<Value> {
    if json.len() > max_bytes || nests_deeper_than(json, MAX_DEPTH) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Whether brackets nest deeper than a limit. Looks at bytes only, so that no recursion has run before it.
pub fn nests_deeper_than(json: &[u8], most: usize) -> bool {
    let mut depth = 0usize;
    let mut rest = json.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(inside) = rest.next() {
                    match inside {
                        b'"' => break,
                        b'\\' => {
                            rest.next();
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_small_and_flat_becomes_a_tree() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(small(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(small(nested(MAX_DEPTH + 1).as_bytes()).is_none());
        assert!(small(nested(1_000_000).as_bytes()).is_none());
        let quoted = Value::from(format!("\"\\{}", nested(1000))).to_string();
        assert!(small(quoted.as_bytes()).is_some(), "brackets in a text are none");
        assert!(small(Value::from("x".repeat(MAX_BYTES)).to_string().as_bytes()).is_none());
        for none in ["", "[", "x", "[[]", "\u{0}"] {
            assert!(small(none.as_bytes()).is_none(), "{none}");
        }
    }
}
