//! Objects as lists of members whose values are JSON text, so that what a caller brings keeps its order and digits.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::translate::Invalid;

/// Members of one object that comes from `provider_options`.
pub(super) const MAX_MEMBERS: usize = 64;

/// An object.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a member of the gateway's own.
    pub(super) fn put(&mut self, name: &str, value: &impl Serialize) -> Result<(), Invalid> {
        let value = serde_json::value::to_raw_value(value).map_err(|_| unwritable())?;
        self.0.push((name.to_owned(), value));
        Ok(())
    }

    /// Adds a caller's members; `place` is where they stand in `provider_options`.
    ///
    /// # Errors
    /// For a name that is there already, for too many, and for what is not an object.
    pub(super) fn merge(&mut self, place: &str, value: &RawValue) -> Result<(), Invalid> {
        let Ok(Self(members)) = serde_json::from_str::<Self>(value.get()) else {
            return Err(Invalid::new(place, format!("has to be an object of at most {MAX_MEMBERS} members")));
        };
        for (name, value) in members {
            self.add(place, name, value)?;
        }
        Ok(())
    }

    /// Adds one of a caller's members.
    pub(super) fn add(&mut self, place: &str, name: String, value: Box<RawValue>) -> Result<(), Invalid> {
        if self.0.len() >= MAX_MEMBERS {
            return Err(Invalid::new(place, format!("has more than {MAX_MEMBERS} members")));
        }
        if self.0.iter().any(|(known, _)| *known == name) {
            return Err(taken(&format!("{place}.{name}")));
        }
        self.0.push((name, value));
        Ok(())
    }
}

/// A caller's option that the gateway writes itself.
pub(super) fn taken(field: &str) -> Invalid {
    let field: String = field.chars().filter(char::is_ascii_graphic).take(128).collect();
    Invalid::new(field, "is written by the gateway for this request, or stands there twice")
}

/// What serde_json can not write: nothing here, by its types.
pub(super) fn unwritable() -> Invalid {
    Invalid::new("body", "can not be written as JSON")
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a small object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() >= MAX_MEMBERS {
                        return Err(serde::de::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(List)
    }
}
