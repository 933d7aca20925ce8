//! Text that must never be printed: it shows as `***` and is wiped when dropped.

use std::borrow::Cow;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::id::{InvalidName, deserialize_name};

/// A secret text, such as a provider's key.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every use of this is a place where the secret leaves custody.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// BLAKE3 of a secret: 64 hex digits on disk, the bytes in memory, compared in constant time.
#[derive(Clone, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of a secret text.
    pub fn of(secret: &str) -> Self {
        Self(*blake3::hash(secret.as_bytes()).as_bytes())
    }

    /// Reads 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        // A start reads a million of these. What is no digit is 16, a bit that no digit has.
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => 16,
        };
        let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let (pairs, _) = text.as_chunks::<2>();
        let (mut bytes, mut all) = ([0; 32], 0);
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let (high, low) = (digit(*high), digit(*low));
            all |= high | low;
            *byte = (high << 4) | (low & 15);
        }
        (all < 16).then_some(Self(bytes))
    }

    /// 64 hex digits, as they stand on disk.
    #[cfg(test)]
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl serde::Serialize for SecretHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> serde::Deserialize<'de> for SecretHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| {
            Self::from_hex(text).ok_or_else(|| InvalidName("a hash has 64 hex digits".to_owned()))
        };
        deserialize_name(deserializer, parse)
    }
}

/// A text without the secret parts of the gateway's own tokens that stand in it: somebody will put a token where
/// only its id belongs, and what they wrote ends in a log.
pub fn mask_tokens(text: &str) -> Cow<'_, str> {
    if !text.contains("tfy_") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("tfy_") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let token = from.split(|c| !is_part(c)).next().unwrap_or_default();
        // Kind and id are public: tfy_pat_ and 12 characters.
        let public = token.match_indices('_').nth(2).map_or(token.len().min(8), |(at, _)| at);
        out.push_str(token.get(..public).unwrap_or_default());
        if token.len() > public {
            out.push_str("_***");
        }
        rest = from.get(token.len()..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn tokens_are_masked_in_texts() {
        let token = "tfy_pat_gTuuG8tOFwpv_zRbkUUH11rnKYkFyrCuhI2iAcRTgx9Qj51qjrtmawdT8Ej6f7";
        let text = format!("DELETE /tokens/{token} tfy_ tfy_va_x {token}");
        assert_eq!(
            super::mask_tokens(&text),
            "DELETE /tokens/tfy_pat_gTuuG8tOFwpv_*** tfy_ tfy_va_x tfy_pat_gTuuG8tOFwpv_***"
        );
        assert_eq!(super::mask_tokens("tfy_patzRbkUUH11rnKYk"), "tfy_patz_***");
        assert_eq!(super::mask_tokens("nothing"), "nothing");
    }

    #[test]
    fn a_hash_is_64_hex_digits() {
        let hash = super::SecretHash::of("secret");
        let text = hash.to_hex();
        assert!(super::SecretHash::from_hex(&text).is_some_and(|read| read == hash));
        assert!(super::SecretHash::from_hex(&text.to_uppercase()).is_some_and(|read| read == hash));
        assert!(super::SecretHash::from_hex(&text[1..]).is_none());
        assert!(super::SecretHash::from_hex(&format!("{text}0")).is_none());
        assert!(super::SecretHash::from_hex("").is_none());
        for at in 0..64 {
            for wrong in ["g", "/", ":", "@", "G", "`", " ", "\0", "\x7f"] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, wrong);
                assert!(super::SecretHash::from_hex(&changed).is_none(), "{changed:?}");
            }
        }
        assert!(super::SecretHash::from_hex(&"\u{e9}".repeat(32)).is_none(), "64 bytes, no digits");
    }

    #[test]
    fn never_printed() {
        let secret = super::Secret::new("sk-live".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }
}
