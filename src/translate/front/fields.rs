//! Objects of a caller's body, field by field: each is taken once, and what nobody took is known by its name.
//!
//! Values stay text until they are taken, so that carried JSON keeps its digits and the order of its keys. Nothing
//! here recurses: a level of nesting is read by the code that knows it.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::translate::Invalid;

/// Fields of one object; the dialects know fewer than half as many.
const MAX_FIELDS: usize = 128;
/// Elements of one list; Anthropic documents the same limit for messages.
pub const MAX_ELEMENTS: usize = 100_000;
/// Fields without a place in a conversation that are carried along.
const MAX_OTHERS: usize = 128;
/// The longest name that is repeated to the caller, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Fields that have no place in a conversation, for `Unsupported`.
#[derive(Debug, Default)]
pub struct Others(Vec<(String, Box<RawValue>)>);

impl Others {
    /// One more.
    ///
    /// # Errors
    /// When there are too many.
    pub fn push(&mut self, name: String, value: &RawValue) -> Result<(), Invalid> {
        if self.0.len() >= MAX_OTHERS {
            return Err(Invalid::new(name, "is one of too many fields that can not be translated"));
        }
        self.0.push((name, value.to_owned()));
        Ok(())
    }

    /// All of them, in order.
    pub fn into_inner(self) -> Vec<(String, Box<RawValue>)> {
        self.0
    }
}

/// The fields of one object that were not taken yet. A field that is `null` is as absent.
#[derive(Debug)]
pub struct Fields<'a> {
    place: String,
    entries: Vec<(String, Option<&'a RawValue>)>,
}

impl<'a> Fields<'a> {
    /// The fields of the object at a place, such as `messages[3]`; the body itself has an empty place.
    ///
    /// # Errors
    /// When it is no object, has a field twice, or has too many.
    pub fn read(text: &'a str, place: String) -> Result<Self, Invalid> {
        let mut json = serde_json::Deserializer::from_str(text);
        let entries = json.deserialize_map(ObjectVisitor).and_then(|entries| json.end().map(|()| entries));
        match entries {
            Ok(entries) => Ok(Self { place, entries }),
            Err(_) if place.is_empty() => {
                Err(Invalid::new("body", "has to be a JSON object that has each field once"))
            }
            Err(_) => Err(Invalid::new(place, "has to be an object that has each field once")),
        }
    }

    /// Where a field of this object stands.
    pub fn place(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// Where this object stands.
    pub fn here(&self) -> &str {
        &self.place
    }

    /// A refusal of one of its fields.
    pub fn invalid(&self, name: &str, message: &str) -> Invalid {
        Invalid::new(self.place(name), message)
    }

    /// A field as text of JSON.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let entry = self.entries.iter_mut().find(|(key, _)| key == name)?;
        entry.1.take().filter(|raw| raw.get() != "null")
    }

    fn typed<T: DeserializeOwned>(&mut self, name: &str, message: &str) -> Result<Option<T>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(raw) => serde_json::from_str(raw.get()).map(Some).map_err(|_| self.invalid(name, message)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        self.typed(name, "has to be a string")
    }

    /// A string that has to be there.
    ///
    /// # Errors
    /// When it is absent or something else.
    pub fn needed_text(&mut self, name: &str) -> Result<String, Invalid> {
        self.text(name)?.ok_or_else(|| self.invalid(name, "is needed, a string"))
    }

    /// Yes or no.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Invalid> {
        self.typed(name, "has to be true or false")
    }

    /// A whole number from 0.
    ///
    /// # Errors
    /// When it is something else.
    pub fn whole(&mut self, name: &str) -> Result<Option<u64>, Invalid> {
        self.typed(name, "has to be a whole number, 0 or more")
    }

    /// A number between two others.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&mut self, name: &str, min: f64, max: f64) -> Result<Option<f64>, Invalid> {
        match self.typed::<f64>(name, "has to be a number")? {
            Some(value) if value < min || value > max => {
                Err(self.invalid(name, &format!("has to be a number from {min} to {max}")))
            }
            value => Ok(value),
        }
    }

    /// A list of strings.
    ///
    /// # Errors
    /// When it is something else.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Invalid> {
        let Some(elements) = self.list(name)? else { return Ok(None) };
        let texts = elements.into_iter().map(|raw| serde_json::from_str(raw.get()));
        let texts: Result<Vec<String>, _> = texts.collect();
        texts.map(Some).map_err(|_| self.invalid(name, "has to be a list of strings"))
    }

    /// An object.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&mut self, name: &str) -> Result<Option<Fields<'a>>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(raw) => Fields::read(raw.get(), self.place(name)).map(Some),
        }
    }

    /// A list.
    ///
    /// # Errors
    /// When it is something else, or too long.
    pub fn list(&mut self, name: &str) -> Result<Option<Vec<&'a RawValue>>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(raw) => list(raw, &self.place(name)).map(Some),
        }
    }

    /// A list of objects.
    ///
    /// # Errors
    /// When it is something else, or too long.
    pub fn objects(&mut self, name: &str) -> Result<Option<Vec<Fields<'a>>>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(raw) => objects(raw, &self.place(name)).map(Some),
        }
    }

    /// Whatever fields an object has, in its order (`provider_options`, `metadata`).
    ///
    /// # Errors
    /// When it is something else.
    pub fn entries(&mut self, name: &str) -> Result<Vec<(String, &'a RawValue)>, Invalid> {
        let fields = self.object(name)?;
        let entries = fields.map(|fields| fields.entries).unwrap_or_default();
        Ok(entries.into_iter().filter_map(|(key, raw)| raw.map(|raw| (key, raw))).collect())
    }

    /// Takes a field that says what every provider does anyway; with another value it is left.
    pub fn take_if(&mut self, name: &str, harmless: &[&str]) {
        for (key, value) in &mut self.entries {
            if key == name && value.is_some_and(|raw| harmless.contains(&raw.get())) {
                *value = None;
            }
        }
    }

    /// What nobody took has no place in a conversation.
    ///
    /// # Errors
    /// When that is too much.
    pub fn leave_to(self, others: &mut Others) -> Result<(), Invalid> {
        for (name, value) in &self.entries {
            let Some(value) = value.filter(|raw| raw.get() != "null") else { continue };
            others.push(self.place(&printable(name)), value)?;
        }
        Ok(())
    }
}

/// A caller's word, short and plain enough to be repeated to it.
pub fn printable(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(MAX_NAME_BYTES).collect()
}

/// The elements of a list.
///
/// # Errors
/// When it is none, or too long.
pub fn list<'a>(raw: &'a RawValue, place: &str) -> Result<Vec<&'a RawValue>, Invalid> {
    let mut json = serde_json::Deserializer::from_str(raw.get());
    json.deserialize_seq(ListVisitor)
        .map_err(|_| Invalid::new(place, format!("has to be a list of at most {MAX_ELEMENTS} elements")))
}

/// The elements of a list of objects.
///
/// # Errors
/// When it is none, or too long.
pub fn objects<'a>(raw: &'a RawValue, place: &str) -> Result<Vec<Fields<'a>>, Invalid> {
    let elements = list(raw, place)?.into_iter().enumerate();
    elements.map(|(number, raw)| Fields::read(raw.get(), format!("{place}[{number}]"))).collect()
}

/// Whether JSON text is a string: content is often a string or a list.
pub fn is_string(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Vec<(String, Option<&'de RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Self::Value::new();
        while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
            if entries.len() >= MAX_FIELDS || entries.iter().any(|(known, _)| *known == key) {
                return Err(serde::de::Error::custom("twice or too many"));
            }
            entries.push((key, Some(value)));
        }
        Ok(entries)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Self::Value::new();
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            if elements.len() >= MAX_ELEMENTS {
                return Err(serde::de::Error::custom("too long"));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

/// JSON text without the white space between its tokens.
pub fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut quoted = false;
    let mut escaped = false;
    for character in json.chars() {
        if quoted {
            quoted = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            quoted = character == '"';
        }
        text.push(character);
    }
    text
}
