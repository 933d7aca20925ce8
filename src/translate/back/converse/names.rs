//! Names of tools and ids of calls in the form that Converse takes: at most 64 characters of a small set.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The longest name and id, in characters.
const MAX_CHARS: usize = 64;
/// Hexadecimal digits that tell shortened names apart.
const DIGEST_CHARS: usize = 16;

/// Names of tools that had to be rewritten.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// From the provider's form to the caller's.
    rewritten: BTreeMap<String, String>,
}

impl Names {
    /// The name as the provider takes it: `[a-zA-Z0-9_-]{1,64}`.
    pub(super) fn theirs<'a>(&mut self, name: &'a str) -> Cow<'a, str> {
        if !name.is_empty() && name.len() <= MAX_CHARS && name.bytes().all(is_plain) {
            return Cow::Borrowed(name);
        }
        let mut theirs: String = name
            .chars()
            .map(|c| if u8::try_from(c).is_ok_and(is_plain) { c } else { '_' })
            .take(MAX_CHARS - DIGEST_CHARS - 1)
            .collect();
        theirs.push('_');
        theirs.push_str(digest(name).get(..DIGEST_CHARS).unwrap_or_default());
        self.rewritten.entry(theirs.clone()).or_insert_with(|| name.to_owned());
        Cow::Owned(theirs)
    }

    /// For the reader of the answer.
    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.rewritten.into_iter().collect()
    }
}

/// The id of a call as the provider takes it: `[a-zA-Z0-9_.:-]{1,64}`. The same id always becomes the same, so that a
/// result still finds its call. There is no way back and none is needed: a call in an answer has an id that the
/// provider made, which goes to the caller as it is; ids in a request are never repeated in the answer.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    let fits = |byte: u8| is_plain(byte) || matches!(byte, b'.' | b':');
    if !id.is_empty() && id.len() <= MAX_CHARS && id.bytes().all(fits) {
        Cow::Borrowed(id)
    } else {
        Cow::Owned(format!("call_{}", digest(id).get(..2 * DIGEST_CHARS).unwrap_or_default()))
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
