//! Reads JSON objects field by field, so that every refusal names its field by path and none repeats a value:
//! a value may be a secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::secret::Secret;

/// Nesting that a body may have. No field needs more than a few; a parser needs stack for each.
const MAX_DEPTH: usize = 32;

/// The fields of an object that were not read yet.
#[derive(Clone)]
pub struct Fields {
    map: Map<String, Value>,
    path: String,
    refuse: fn(String) -> Failure,
}

fn bad_request(text: String) -> Failure {
    Failure::BadRequest(text.into())
}

fn unprocessable(text: String) -> Failure {
    Failure::Unprocessable(text.into())
}

/// Whether arrays and objects nest deeper than [`MAX_DEPTH`]. Brackets in strings do not count.
fn too_deep(body: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

impl Fields {
    /// Reads a request body. What is wrong with it is a 400.
    ///
    /// # Errors
    /// When the body is no JSON object.
    pub fn of_body(body: &[u8]) -> Result<Self, Failure> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(bad_request("The body is empty; send a JSON object".into()));
        }
        if too_deep(body) {
            return Err(bad_request(format!("The body nests deeper than {MAX_DEPTH} levels")));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { map, path: String::new(), refuse: bad_request }),
            Ok(_) => Err(bad_request("The body is not a JSON object".into())),
            Err(error) => Err(bad_request(format!("The body is not JSON: {error}"))),
        }
    }

    /// Takes the manifest out of a body. What is wrong inside it is a 422.
    ///
    /// # Errors
    /// When there is none.
    pub fn manifest(&mut self) -> Result<Self, Failure> {
        let manifest = self.object("manifest")?;
        let manifest = manifest.ok_or_else(|| bad_request("The field 'manifest' is missing".into()))?;
        Ok(Self { refuse: unprocessable, ..manifest })
    }

    /// Takes the manifests out of a body that has several, likewise.
    ///
    /// # Errors
    /// When there is no list of objects.
    pub fn manifests(&mut self) -> Result<Vec<Self>, Failure> {
        let manifests = self.objects("manifests")?;
        let manifests = manifests.ok_or_else(|| bad_request("The field 'manifests' is missing".into()))?;
        Ok(manifests.into_iter().map(|one| Self { refuse: unprocessable, ..one }).collect())
    }

    /// The fields of a manifest that stands alone; what is wrong inside it is a 422.
    pub fn of_manifest(map: Map<String, Value>) -> Self {
        Self { map, path: String::new(), refuse: unprocessable }
    }

    /// What is left, as it was sent.
    pub fn value(&self) -> Value {
        Value::Object(self.map.clone())
    }

    /// Every field was read. To be called before anything is done.
    ///
    /// # Errors
    /// When one is left: it is not known here.
    pub fn finish(self) -> Result<(), Failure> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err((self.refuse)(format!("The field '{}' is not known", self.path_of(name)))),
        }
    }

    /// Known fields of the public contract that have no effect here.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Whether the field has a value.
    pub fn is_set(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether nothing is left to read.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    fn wrong(&self, name: &str, want: &str) -> Failure {
        (self.refuse)(format!("The field '{}' must be {want}", self.path_of(name)))
    }

    /// A refusal in this object's manner that names a field.
    pub fn refusal(&self, name: &str, text: &str) -> Failure {
        (self.refuse)(format!("The field '{}' {text}", self.path_of(name)))
    }

    /// The field's value; an explicit null counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn missing(&self, name: &str) -> Failure {
        (self.refuse)(format!("The field '{}' is missing", self.path_of(name)))
    }

    /// Whether the field is there, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn required_text(&mut self, name: &str) -> Result<String, Failure> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A secret text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn secret(&mut self, name: &str) -> Result<Option<Secret>, Failure> {
        Ok(self.text(name)?.map(Secret::new))
    }

    /// A truth value.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        self.flag_or(name, false)
    }

    /// A truth value with a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag_or(&mut self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// A secret that is JSON text, or the JSON itself.
    ///
    /// # Errors
    /// When it is neither a text nor an object.
    pub fn json_text(&mut self, name: &str) -> Result<Option<Secret>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Secret::new(text))),
            Some(object @ Value::Object(_)) => Ok(Some(Secret::new(object.to_string()))),
            Some(_) => Err(self.wrong(name, "a string or an object")),
        }
    }

    /// A whole number, not negative. `5.0` is one: JSON does not tell it from 5.
    ///
    /// # Errors
    /// When it is something else.
    pub fn count(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(count) => Ok(Some(count)),
                None => {
                    let text = number.to_string();
                    let whole = text.strip_suffix(".0").and_then(|whole| whole.parse().ok());
                    whole.map(Some).ok_or_else(|| self.wrong(name, "a whole number, not negative"))
                }
            },
            Some(_) => Err(self.wrong(name, "a whole number, not negative")),
        }
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn required_count(&mut self, name: &str) -> Result<u64, Failure> {
        self.count(name)?.ok_or_else(|| self.missing(name))
    }

    /// A decimal number, as a number or as text; its text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn decimal(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.wrong(name, "a number, or a number as text")),
        }
    }

    /// A list of whole numbers, not negative.
    ///
    /// # Errors
    /// When it is something else.
    pub fn counts(&mut self, name: &str) -> Result<Option<Vec<u64>>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                let counts: Option<Vec<u64>> = items.iter().map(Value::as_u64).collect();
                counts.map(Some).ok_or_else(|| self.wrong(name, "a list of whole numbers"))
            }
            Some(_) => Err(self.wrong(name, "a list of whole numbers")),
        }
    }

    /// A list of texts.
    ///
    /// # Errors
    /// When it is something else.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                let texts = items.into_iter().map(|item| match item {
                    Value::String(text) => Ok(text),
                    _ => Err(self.wrong(name, "a list of strings")),
                });
                texts.collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(self.wrong(name, "a list of strings")),
        }
    }

    /// A list of texts that must be there.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn required_texts(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        self.texts(name)?.ok_or_else(|| self.missing(name))
    }

    /// An object of texts.
    ///
    /// # Errors
    /// When it is something else.
    pub fn map(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                let pairs = map.into_iter().map(|(key, value)| match value {
                    Value::String(text) => Ok((key, text)),
                    _ => Err(self.wrong(name, "an object of strings")),
                });
                pairs.collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(self.wrong(name, "an object of strings")),
        }
    }

    /// An object.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&mut self, name: &str) -> Result<Option<Self>, Failure> {
        let path = format!("{}.", self.path_of(name));
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { map, path, refuse: self.refuse })),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    /// An object, or a list of them; absent is none.
    ///
    /// # Errors
    /// When it is something else.
    pub fn one_or_more(&mut self, name: &str) -> Result<Vec<Self>, Failure> {
        if matches!(self.map.get(name), Some(Value::Array(_))) {
            return Ok(self.objects(name)?.unwrap_or_default());
        }
        Ok(self.object(name)?.into_iter().collect())
    }

    /// A list of objects.
    ///
    /// # Errors
    /// When it is something else.
    pub fn objects(&mut self, name: &str) -> Result<Option<Vec<Self>>, Failure> {
        let path = self.path_of(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                let objects = items.into_iter().enumerate().map(|(at, item)| match item {
                    Value::Object(map) => {
                        Ok(Self { map, path: format!("{path}[{at}]."), refuse: self.refuse })
                    }
                    _ => Err(self.wrong(name, "a list of objects")),
                });
                objects.collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(self.wrong(name, "a list of objects")),
        }
    }
}
