//! Names as types: a value of one of these has been checked, so nothing later checks again.

use std::fmt;
use std::sync::Arc;

/// Why a name was refused, as a sentence for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName(pub String);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidName {}

/// Reads a name out of a text without a copy of the text: a start reads millions.
///
/// # Errors
/// The rule that the text breaks.
pub fn deserialize_name<'de, D: serde::Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, InvalidName>,
) -> Result<T, D::Error> {
    struct Text<T>(fn(&str) -> Result<T, InvalidName>);

    impl<T> serde::de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(parse))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// The rule that the text breaks.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map_err(InvalidName)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_name(deserializer, Self::parse)
            }
        }
    };
}

name_type!(
    /// A person's email address, lower case.
    Email,
    |text| {
        let wrong = || {
            Err(format!("'{text}' is not an email address in lower case, such as ada@example.com (at most 254 bytes)"))
        };
        let Some((local, host)) = text.split_once('@') else { return wrong() };
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._%+'-".contains(&b);
        let host_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
        let fits = text.len() <= 254
            && !local.is_empty()
            && !host.is_empty()
            && local.bytes().all(allowed)
            && host.bytes().all(host_allowed)
            && !host.starts_with(['.', '-'])
            && !host.ends_with(['.', '-']);
        if fits { Ok(()) } else { wrong() }
    }
);

fn short_name(text: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let fits = bytes.len() <= 64
        && bytes.iter().copied().all(inner)
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge);
    if fits {
        Ok(())
    } else {
        Err(format!(
            "'{text}' is not a name: use 1 to 64 lower-case letters, digits, '-', '_' or '.', with a letter or digit at both ends"
        ))
    }
}

name_type!(
    /// A team's name.
    TeamName,
    short_name
);

name_type!(
    /// The name of a provider account: the part of `account/model` before the first slash.
    AccountName,
    short_name
);

name_type!(
    /// The name of a virtual account, or of a token: 3 to 36 characters, as the public contract has it for tokens.
    SlugName,
    |text| {
        let bytes = text.as_bytes();
        let fits = (3..=36).contains(&bytes.len())
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.last().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if fits {
            Ok(())
        } else {
            Err(format!(
                "'{text}' is not a name: use 3 to 36 lower-case letters, digits and hyphens, a letter first, no hyphen last"
            ))
        }
    }
);

name_type!(
    /// A model's name within its account: the part of `account/model` after the first slash.
    ModelName,
    |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@/+-".contains(&b);
        let fits = (1..=128).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('/')
            && !text.ends_with('/')
            && !text.contains("//");
        if fits {
            Ok(())
        } else {
            Err(format!(
                "'{text}' is not a model name: use 1 to 128 letters, digits and '.', '_', ':', '@', '/', '+', '-'"
            ))
        }
    }
);

/// A token's public id: 12 base62 characters. Kept in place rather than behind a pointer: there may be a million,
/// and each call looks one up.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 12]);

impl TokenId {
    /// Checks a text.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match <[u8; 12]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_alphanumeric) => Ok(Self(bytes)),
            _ => Err(InvalidName(format!("'{text}' is not a token id: it has 12 letters and digits"))),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII can be in it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The characters.
    pub fn bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// A number with the order of the text, which compares faster.
    pub fn number(&self) -> u128 {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        u128::from_be_bytes([0, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l])
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl serde::Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for TokenId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_name(deserializer, Self::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["ada@example.com", "a+b@x.io", "o'neil@corp"] {
            assert!(Email::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "ada", "@x", "a@", "Ada@example.com", "a b@x.io", "a@x@y", "a@-x", "a@x.", "a\n@x", "a|b@x"]
        {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
        for good in ["a", "main", "open-ai.2", "a_b"] {
            assert!(AccountName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a b", "ä", &"a".repeat(65)] {
            assert!(AccountName::parse(bad).is_err(), "{bad}");
        }
        for good in ["gpt-4o", "meta-llama/Llama-3.1:8b", "x@2"] {
            assert!(ModelName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a b", "a\"b", &"m".repeat(129)] {
            assert!(ModelName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["ab", "Abc", "1bc", "ab-", &"a".repeat(37)] {
            assert!(SlugName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(TokenId::parse("0aZ456789abc").unwrap().as_str(), "0aZ456789abc");
        for bad in ["", "0aZ456789ab", "0aZ456789abcd", "0aZ456789ab-", "0aZ456789a\u{e9}"] {
            assert!(TokenId::parse(bad).is_err(), "{bad}");
        }
    }
}
