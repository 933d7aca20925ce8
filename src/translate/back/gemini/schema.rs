//! JSON Schema reduced to the subset of OpenAPI 3.0 that older models of Google take.
//!
//! What the subset has no word for is left out: it only makes arguments less exact, and the subset is documented.
//! References are put in place; one that leads back to itself becomes a plain object. Values of `const` and `enum`
//! that are not text are told in the description.

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::translate::Invalid;
use crate::translate::members::Members;
use crate::wire::tree;

/// How deep a schema may be with its references in place; a level takes four calls on a stack that does not grow.
const MAX_DEPTH: usize = 12;

/// How deep the JSON of a schema may be: objects and lists, of which a level of a schema takes two.
const MAX_NESTING: usize = 32;

/// How large one schema may be, in bytes: as a tree it takes many times as much.
const MAX_SCHEMA_BYTES: usize = 512 * 1024;

/// How many schemas one schema may hold with its references in place.
const MAX_NODES: usize = 10_000;

/// How much all reduced schemas of a request may be together, in bytes, beyond twice what came in.
const MAX_ADDED_BYTES: usize = 1024 * 1024;

/// Numbers that the subset takes as they are.
const NUMBERS: [&str; 8] = [
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
];

/// Formats that the subset knows, by the type they belong to.
const FORMATS: [(&str, &str); 6] = [
    ("string", "enum"),
    ("string", "date-time"),
    ("integer", "int32"),
    ("integer", "int64"),
    ("number", "float"),
    ("number", "double"),
];

/// Reduces the schemas of one request, within limits for all of them.
#[derive(Debug)]
pub struct Reducer {
    bytes_left: usize,
}

/// One schema on its way.
struct Walk<'a> {
    root: &'a Value,
    nodes_left: usize,
    bytes_left: usize,
    /// References that are being followed.
    open: Vec<&'a str>,
}

/// The schema is deeper or larger than may be.
struct TooLarge;

impl Reducer {
    /// For one request.
    pub fn new() -> Self {
        Self { bytes_left: MAX_ADDED_BYTES }
    }

    /// The reduced form of a schema; `field` names it in a refusal.
    pub fn reduce(
        &mut self,
        schema: &RawValue,
        description: Option<&str>,
        field: &str,
    ) -> Result<Value, Invalid> {
        let too_deep = || Invalid::new(field, "The schema is nested too deep.");
        if nesting(schema.get()) > MAX_NESTING {
            return Err(too_deep());
        }
        let too_large =
            || Invalid::new(field, format!("The schema is larger than {MAX_SCHEMA_BYTES} bytes."));
        if schema.get().len() > MAX_SCHEMA_BYTES {
            return Err(too_large());
        }
        let root = tree::read(schema.get().as_bytes(), MAX_SCHEMA_BYTES).ok_or_else(too_deep)?;
        if !root.is_object() {
            return Err(Invalid::new(field, "The schema has to be an object."));
        }
        self.bytes_left = self.bytes_left.saturating_add(schema.get().len().saturating_mul(2));
        let mut walk =
            Walk { root: &root, nodes_left: MAX_NODES, bytes_left: self.bytes_left, open: Vec::new() };
        let reduced = walk.schema(&root, 0).map_err(|TooLarge| {
            Invalid::new(
                field,
                "The schema is nested too deep or too large once its references are in place.",
            )
        });
        self.bytes_left = walk.bytes_left;
        let mut reduced = reduced?;
        if let Some(description) = description.filter(|text| !text.is_empty()) {
            reduced.entry("description").or_insert_with(|| Value::from(description));
        }
        Ok(Value::Object(reduced))
    }
}

impl<'a> Walk<'a> {
    fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(TooLarge)?;
        Ok(())
    }

    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Map<String, Value>, TooLarge> {
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or(TooLarge)?;
        self.take(32)?;
        if depth > MAX_DEPTH {
            return Err(TooLarge);
        }
        // `true` and `{}` take anything; the subset wants a type.
        let Some(members) = schema.as_object() else { return Ok(plain_object()) };
        for name in ["enum", "required", "type", "anyOf", "oneOf", "allOf"] {
            // Looking through a list costs as well, whatever is kept of it.
            self.take(members.get(name).and_then(Value::as_array).map_or(0, Vec::len))?;
        }
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            return self.reference(reference, members, depth);
        }
        if let Some(parts) = members.get("allOf").and_then(Value::as_array) {
            return self.merged(members, parts, depth);
        }
        self.members(members, depth)
    }

    fn reference(
        &mut self,
        reference: &'a str,
        members: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Map<String, Value>, TooLarge> {
        let known = self.open.len();
        let found = if self.open.contains(&reference) { None } else { self.find(reference) };
        let mut reduced = match found {
            Some(found) => {
                self.open.push(reference);
                let reduced = self.schema(found, depth + 1)?;
                self.open.truncate(known);
                reduced
            }
            None => plain_object(),
        };
        if let Some(description) = members.get("description").and_then(Value::as_str) {
            self.take(description.len())?;
            reduced.insert("description".to_owned(), Value::from(description));
        }
        Ok(reduced)
    }

    /// What a reference within the document (`#`, `#/$defs/Name`) names.
    fn find(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }

    /// `allOf`: all of it in one schema. The first to say something is heard.
    fn merged(
        &mut self,
        members: &'a Map<String, Value>,
        parts: &'a [Value],
        depth: usize,
    ) -> Result<Map<String, Value>, TooLarge> {
        let mut all = self.members(members, depth)?;
        let has_own_type = members.contains_key("type") || members.contains_key("properties");
        if !has_own_type {
            all.remove("type");
        }
        for part in parts {
            for (name, value) in self.schema(part, depth + 1)? {
                match (all.get_mut(&name), value) {
                    (Some(Value::Object(known)), Value::Object(more)) => {
                        for (name, value) in more {
                            known.entry(name).or_insert(value);
                        }
                    }
                    (Some(Value::Array(known)), Value::Array(more)) if name == "required" => {
                        for value in more {
                            if !known.contains(&value) {
                                known.push(value);
                            }
                        }
                    }
                    (Some(_), _) => {}
                    (None, value) => {
                        all.insert(name, value);
                    }
                }
            }
        }
        if !all.contains_key("anyOf") {
            all.entry("type").or_insert_with(|| Value::from("OBJECT"));
        }
        Ok(all)
    }

    fn members(
        &mut self,
        members: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Map<String, Value>, TooLarge> {
        let branches = ["anyOf", "oneOf"].iter().find_map(|name| members.get(*name)?.as_array());
        if let Some(branches) = branches.filter(|branches| !branches.is_empty()) {
            return self.branches(members, branches, depth);
        }
        let (types, mut is_nullable) = types_of(members);
        is_nullable |= members.get("nullable") == Some(&Value::Bool(true));
        if types.len() > 1 {
            let mut any = Vec::new();
            for kind in types {
                let mut reduced = self.typed(members, kind, depth)?;
                if is_nullable {
                    reduced.insert("nullable".to_owned(), Value::Bool(true));
                }
                any.push(Value::Object(reduced));
            }
            return Ok(Map::from_iter([("anyOf".to_owned(), Value::Array(any))]));
        }
        let kind = types.first().copied().unwrap_or_else(|| implied_type(members));
        let mut reduced = self.typed(members, kind, depth)?;
        if is_nullable {
            reduced.insert("nullable".to_owned(), Value::Bool(true));
        }
        Ok(reduced)
    }

    /// One of several schemas. The subset lets nothing stand beside `anyOf`.
    fn branches(
        &mut self,
        members: &'a Map<String, Value>,
        branches: &'a [Value],
        depth: usize,
    ) -> Result<Map<String, Value>, TooLarge> {
        let is_null = |branch: &Value| branch.get("type").and_then(Value::as_str) == Some("null");
        let is_nullable = branches.iter().any(is_null)
            || members.get("nullable") == Some(&Value::Bool(true))
            || members
                .get("type")
                .and_then(Value::as_array)
                .is_some_and(|types| types.contains(&json!("null")));
        let mut any = Vec::new();
        for branch in branches.iter().filter(|branch| !is_null(branch)) {
            let mut reduced = self.schema(branch, depth + 1)?;
            if is_nullable && !reduced.contains_key("anyOf") {
                reduced.insert("nullable".to_owned(), Value::Bool(true));
            }
            if let Some(description) = members.get("description").and_then(Value::as_str)
                && !reduced.contains_key("anyOf")
            {
                self.take(description.len())?;
                reduced.entry("description").or_insert_with(|| Value::from(description));
            }
            any.push(reduced);
        }
        if any.len() <= 1 {
            return Ok(any.pop().unwrap_or_else(|| {
                Map::from_iter([
                    ("type".to_owned(), Value::from("STRING")),
                    ("nullable".to_owned(), Value::Bool(true)),
                ])
            }));
        }
        Ok(Map::from_iter([("anyOf".to_owned(), any.into_iter().map(Value::Object).collect())]))
    }

    fn typed(
        &mut self,
        members: &'a Map<String, Value>,
        kind: &str,
        depth: usize,
    ) -> Result<Map<String, Value>, TooLarge> {
        let mut reduced = Map::new();
        reduced.insert("type".to_owned(), Value::from(kind.to_ascii_uppercase()));
        for name in ["title", "description", "pattern"] {
            if let Some(text) = members.get(name).and_then(Value::as_str) {
                if name == "pattern" && kind != "string" {
                    continue;
                }
                self.take(text.len())?;
                reduced.insert(name.to_owned(), Value::from(text));
            }
        }
        for name in NUMBERS {
            if let Some(number) = members.get(name).filter(|value| value.is_number()) {
                reduced.insert(name.to_owned(), number.clone());
            }
        }
        if let Some(format) = members.get("format").and_then(Value::as_str)
            && FORMATS.contains(&(kind, format))
        {
            reduced.insert("format".to_owned(), Value::from(format));
        }
        self.choices(members, kind, &mut reduced)?;
        match kind {
            "object" => self.properties(members, &mut reduced, depth)?,
            "array" => {
                let first = members.get("prefixItems").and_then(|items| items.get(0));
                let items = members.get("items").filter(|items| items.is_object()).or(first);
                let items = match items {
                    Some(items) => self.schema(items, depth + 1)?,
                    None => Map::from_iter([("type".to_owned(), Value::from("STRING"))]),
                };
                reduced.insert("items".to_owned(), Value::Object(items));
            }
            _ => {}
        }
        Ok(reduced)
    }

    /// `enum` and `const`: a list for text, a sentence for anything else.
    fn choices(
        &mut self,
        members: &'a Map<String, Value>,
        kind: &str,
        reduced: &mut Map<String, Value>,
    ) -> Result<(), TooLarge> {
        let one = members.get("const").map(std::slice::from_ref);
        let Some(values) = members.get("enum").and_then(Value::as_array).map(Vec::as_slice).or(one) else {
            return Ok(());
        };
        if kind == "string" {
            let texts: Vec<&str> =
                values.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).collect();
            self.take(texts.iter().map(|text| text.len() + 3).sum())?;
            if !texts.is_empty() {
                reduced.insert("enum".to_owned(), Value::from(texts));
            }
        } else if !matches!(kind, "object" | "array") {
            let listed = values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
            self.take(listed.len())?;
            let known = reduced.get("description").and_then(Value::as_str).unwrap_or_default();
            let text = format!("{known}{}One of: {listed}.", if known.is_empty() { "" } else { " " });
            reduced.insert("description".to_owned(), Value::from(text));
        }
        Ok(())
    }

    fn properties(
        &mut self,
        members: &'a Map<String, Value>,
        reduced: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), TooLarge> {
        let Some(properties) = members.get("properties").and_then(Value::as_object) else { return Ok(()) };
        let mut kept = Map::new();
        for (name, property) in properties {
            self.take(name.len())?;
            kept.insert(name.clone(), Value::Object(self.schema(property, depth + 1)?));
        }
        // A name that is required and not described is refused.
        let required: BTreeSet<&str> = members
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| kept.contains_key(*name))
            .collect();
        self.take(required.iter().map(|name| name.len() + 3).sum())?;
        if !required.is_empty() {
            reduced.insert("required".to_owned(), required.into_iter().collect());
        }
        // An object that has the member and no properties in it is refused.
        if !kept.is_empty() {
            reduced.insert("properties".to_owned(), Value::Object(kept));
        }
        Ok(())
    }
}

fn plain_object() -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), Value::from("OBJECT"))])
}

/// The types that the subset knows of those that are named, each once, and whether `null` is among them.
fn types_of(members: &Map<String, Value>) -> (Vec<&'static str>, bool) {
    let named: Vec<&str> = match members.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_nullable = named.contains(&"null");
    let known = ["string", "number", "integer", "boolean", "array", "object"];
    let types = known.into_iter().filter(|kind| named.iter().any(|name| name.eq_ignore_ascii_case(kind)));
    (types.collect(), is_nullable)
}

/// The type of a schema that names none.
fn implied_type(members: &Map<String, Value>) -> &'static str {
    if members.contains_key("items") || members.contains_key("prefixItems") {
        return "array";
    }
    if members.contains_key("properties") {
        return "object";
    }
    let value = members.get("const").or_else(|| members.get("enum")?.get(0));
    match value {
        Some(Value::String(_)) => "string",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(number)) if number.is_f64() => "number",
        Some(Value::Number(_)) => "integer",
        _ if members.contains_key("pattern") || members.contains_key("minLength") => "string",
        _ => "object",
    }
}

/// How deep objects and lists stand in each other.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut after_backslash) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if after_backslash => after_backslash = false,
            b'\\' => after_backslash = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether a schema says that there are no arguments: an object without properties that takes no others by name.
pub fn is_empty_object(schema: &RawValue) -> bool {
    let Ok(Members(members)) = serde_json::from_str(schema.get()) else { return false };
    members.iter().all(|(name, value)| match name.as_ref() {
        "type" => value.get() == "\"object\"",
        "properties" => {
            value.get() == "null"
                || serde_json::from_str::<Members<'_>>(value.get()).is_ok_and(|inner| inner.0.is_empty())
        }
        "additionalProperties" => value.get() == "false",
        "$schema" | "title" | "description" | "required" | "$id" | "$defs" => true,
        _ => false,
    })
}
