//! Arguments that come in pieces, each with the place where it belongs (`partialArgs`, Gemini 3 on Vertex).
//!
//! The pieces are not JSON in order, so the object is put together and told whole.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::Text;

/// How deep a place may be.
const MAX_DEPTH: usize = 32;

/// How long a list may become.
const MAX_ITEMS: usize = 10_000;

/// How much all pieces of a call may be together, in bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A piece.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartialArgument<'a> {
    /// Such as `$.a.b[0]`.
    #[serde(borrow)]
    json_path: Option<Text<'a>>,
    /// More of a string.
    #[serde(borrow)]
    string_value: Option<Text<'a>>,
    /// A number.
    number_value: Option<serde_json::Number>,
    /// A truth.
    bool_value: Option<bool>,
    /// Nothing; present as the word `NULL_VALUE` or as null.
    #[serde(borrow)]
    #[allow(dead_code, reason = "its presence says what the absence of all others says")]
    null_value: Option<&'a serde_json::value::RawValue>,
}

/// The pieces so far.
#[derive(Debug, Default)]
pub struct Pieces {
    object: Map<String, Value>,
    bytes: usize,
}

/// A place that is none, or more than may be held.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable;

/// A step of a place.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Item(usize),
}

impl Pieces {
    /// Takes a piece in.
    pub fn add(&mut self, piece: &PartialArgument<'_>) -> Result<(), Unusable> {
        let path = piece.json_path.as_ref().map_or("", |path| path.0.as_ref());
        let text = piece.string_value.as_ref().map(|text| text.0.as_ref());
        self.bytes = self.bytes.saturating_add(path.len()).saturating_add(text.map_or(16, str::len));
        if self.bytes > MAX_BYTES {
            return Err(Unusable);
        }
        let mut steps = steps(path)?.into_iter();
        let Some(Step::Name(first)) = steps.next() else { return Err(Unusable) };
        let mut place = self.object.entry(first).or_insert(Value::Null);
        for step in steps {
            place = match step {
                Step::Name(name) => {
                    if place.is_null() {
                        *place = Value::Object(Map::new());
                    }
                    place.as_object_mut().ok_or(Unusable)?.entry(name).or_insert(Value::Null)
                }
                Step::Item(number) => {
                    if place.is_null() {
                        *place = Value::Array(Vec::new());
                    }
                    let items = place.as_array_mut().ok_or(Unusable)?;
                    if number >= items.len() {
                        // What a list grows by counts as well: a place may name an item far behind its end.
                        let added = number - items.len() + 1;
                        self.bytes = self.bytes.saturating_add(added.saturating_mul(32));
                        if number >= MAX_ITEMS || self.bytes > MAX_BYTES {
                            return Err(Unusable);
                        }
                        items.resize(number + 1, Value::Null);
                    }
                    items.get_mut(number).ok_or(Unusable)?
                }
            };
        }
        match (text, &mut *place) {
            (Some(text), Value::String(known)) => known.push_str(text),
            (Some(text), _) => *place = Value::from(text),
            (None, _) => {
                if let Some(number) = &piece.number_value {
                    *place = Value::Number(number.clone());
                } else if let Some(truth) = piece.bool_value {
                    *place = Value::Bool(truth);
                }
            }
        }
        Ok(())
    }

    /// JSON text of all of it.
    pub fn into_text(self) -> String {
        Value::Object(self.object).to_string()
    }
}

/// Reads `$.name[0]['other name']`.
fn steps(path: &str) -> Result<Vec<Step>, Unusable> {
    let mut rest = path.strip_prefix('$').ok_or(Unusable)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() >= MAX_DEPTH {
            return Err(Unusable);
        }
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            if name.is_empty() {
                return Err(Unusable);
            }
            steps.push(Step::Name(name.to_owned()));
            rest = tail;
        } else if let Some(after) = rest.strip_prefix('[') {
            let quoted = after.strip_prefix('\'').map(|text| (text, "']"));
            let quoted = quoted.or_else(|| after.strip_prefix('"').map(|text| (text, "\"]")));
            if let Some((text, end)) = quoted {
                let (name, tail) = text.split_once(end).ok_or(Unusable)?;
                steps.push(Step::Name(name.to_owned()));
                rest = tail;
            } else {
                let (number, tail) = after.split_once(']').ok_or(Unusable)?;
                steps.push(Step::Item(number.parse().map_err(|_| Unusable)?));
                rest = tail;
            }
        } else {
            return Err(Unusable);
        }
    }
    Ok(steps)
}
