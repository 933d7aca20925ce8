//! The members of a JSON object in their order, values as text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

/// Members that are read.
#[derive(Debug, Default)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Members that are written, in this order.
#[derive(Debug, Default)]
pub struct Written<'a>(pub Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> Written<'a> {
    /// Adds a value. One that is no JSON can not come here; it would be `null`.
    pub fn add(&mut self, name: &'static str, value: &impl Serialize) {
        let value = serde_json::value::to_raw_value(value);
        let value = value.map_or_else(|_| Cow::Borrowed(RawValue::NULL), Cow::Owned);
        self.0.push((Cow::Borrowed(name), value));
    }

    /// Whether there is one of this name, in camel case or in the snake case that Google takes as well.
    pub fn has(&self, name: &str) -> bool {
        let name = camel_case(name);
        self.0.iter().any(|(known, _)| camel_case(known) == name)
    }
}

/// `max_output_tokens` as `maxOutputTokens`: Google reads both as one.
pub fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut is_upper = false;
    for letter in name.chars() {
        if letter == '_' {
            is_upper = true;
        } else if is_upper {
            camel.push(letter.to_ascii_uppercase());
            is_upper = false;
        } else {
            camel.push(letter);
        }
    }
    camel
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value.as_ref())?;
        }
        map.end()
    }
}
