//! Names of tools as Google takes them: a letter or `_`, then letters, digits and `_.:-`, 64 in all.

use std::borrow::Cow;

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// How much of a name that does not fit is kept before its digest.
const KEPT_BYTES: usize = 50;

/// The name for the provider: itself where it fits, else a readable part of it and a digest, so that two names never
/// become one. The same name gives the same one each time.
pub fn for_provider(name: &str) -> Cow<'_, str> {
    if fits(name) {
        return Cow::Borrowed(name);
    }
    let mut fitting = String::with_capacity(MAX_NAME_BYTES);
    for letter in name.chars().take(KEPT_BYTES) {
        fitting.push(if is_inner(letter) { letter } else { '_' });
    }
    if !fitting.starts_with(is_first) {
        fitting.insert(0, '_');
    }
    let digest = blake3::hash(name.as_bytes()).to_hex();
    fitting.push('_');
    fitting.push_str(digest.get(..10).unwrap_or_default());
    Cow::Owned(fitting)
}

fn fits(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && name.starts_with(is_first) && name.chars().all(is_inner)
}

fn is_first(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_'
}

fn is_inner(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | ':' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_apart() {
        for name in ["a", "_x.y:z-1", &"n".repeat(64)] {
            assert_eq!(for_provider(name), *name);
        }
        let hostile =
            ["", "1st", "mcp/server/tool", "mcp server tool", "über", &"n".repeat(65), "\u{0}", "日本語"];
        let mut seen = std::collections::BTreeSet::new();
        for name in hostile {
            let fitting = for_provider(name);
            assert!(fits(&fitting), "{fitting}");
            assert_ne!(fitting, *name);
            assert_eq!(fitting, for_provider(name));
            assert!(seen.insert(fitting.into_owned()), "{name}");
        }
    }
}
