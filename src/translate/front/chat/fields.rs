//! A caller's JSON, taken apart field by field, with the path of each for refusals. Values that are only carried stay
//! text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::translate::Invalid;

/// Members of one object that are not carried as text.
const MAX_MEMBERS: usize = 256;
/// Of a member's name, since refusals repeat it.
const MAX_NAME_BYTES: usize = 256;
/// Deepest nesting of arrays and objects in a body; what is carried as text is held to it as well.
pub const MAX_DEPTH: usize = 100;

/// The members of one object that were not taken yet, in the caller's order.
#[derive(Debug, Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Takes an object apart. Members that are `null` count as absent.
    ///
    /// # Errors
    /// If it is no object, names a member twice or has too many.
    pub fn of(json: &'a str, path: &str) -> Result<Self, Invalid> {
        if json.trim_start().as_bytes().first() != Some(&b'{') {
            return Err(Invalid::new(path, "an object is expected"));
        }
        serde_json::from_str(json).map_err(|_| {
            Invalid::new(
                path,
                "not JSON, or an object with a name twice, one over 256 bytes, or over 256 of them",
            )
        })
    }

    /// Takes a member out.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(place).1)
    }

    /// Looks at a member.
    pub fn peek(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// What was not taken.
    pub fn rest(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.0.into_iter()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Self::Value = Vec::new();
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    let value: &'de RawValue = map.next_value()?;
                    let twice = members.iter().any(|(known, _)| *known == name.0);
                    if twice || members.len() >= MAX_MEMBERS || name.0.len() > MAX_NAME_BYTES {
                        return Err(serde::de::Error::custom("members"));
                    }
                    members.push((name.0, value));
                }
                members.retain(|(_, value)| value.get() != "null");
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Fields)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Name)
    }
}

/// A string.
///
/// # Errors
/// If it is none.
pub fn string(value: &RawValue, path: &str) -> Result<String, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid::new(path, "a string is expected"))
}

/// A boolean.
///
/// # Errors
/// If it is none.
pub fn boolean(value: &RawValue, path: &str) -> Result<bool, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid::new(path, "true or false is expected"))
}

/// A whole number from 0.
///
/// # Errors
/// If it is none.
pub fn unsigned(value: &RawValue, path: &str) -> Result<u64, Invalid> {
    serde_json::from_str(value.get()).map_err(|_| Invalid::new(path, "a whole number is expected"))
}

/// A number in a range, both ends included.
///
/// # Errors
/// If it is none, or outside.
pub fn number(value: &RawValue, path: &str, least: f64, most: f64) -> Result<f64, Invalid> {
    let number: f64 =
        serde_json::from_str(value.get()).map_err(|_| Invalid::new(path, "a number is expected"))?;
    if !(least..=most).contains(&number) {
        return Err(Invalid::new(path, format!("a number from {least} to {most} is expected")));
    }
    Ok(number)
}

/// The items of a list, at most so many.
///
/// # Errors
/// If it is no list, or longer.
pub fn list<'a>(value: &'a RawValue, path: &str, most: usize) -> Result<Vec<&'a RawValue>, Invalid> {
    if !value.get().starts_with('[') {
        return Err(Invalid::new(path, "a list is expected"));
    }
    let items: Vec<&'a RawValue> =
        serde_json::from_str(value.get()).map_err(|_| Invalid::new(path, "a list is expected"))?;
    if items.len() > most {
        return Err(Invalid::new(path, format!("more than {most} items")));
    }
    Ok(items)
}

/// A JSON object that is only carried.
///
/// # Errors
/// If it is no object.
pub fn carried_object(value: &RawValue, path: &str) -> Result<Box<RawValue>, Invalid> {
    if !value.get().starts_with('{') {
        return Err(Invalid::new(path, "an object is expected"));
    }
    Ok(value.to_owned())
}
