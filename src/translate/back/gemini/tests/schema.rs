//! Schemas in the subset of older models.

use serde_json::{Value, json};

use super::super::schema::Reducer;
use super::raw;

fn reduced(schema: &Value) -> Value {
    Reducer::new().reduce(&raw(&schema.to_string()), None, "schema").unwrap()
}

#[test]
fn table() {
    for (given, expected) in [
        (
            json!({"type": "string", "minLength": 1, "pattern": "^a", "format": "date-time", "x-y": 1, "default": "a"}),
            json!({"type": "STRING", "minLength": 1, "pattern": "^a", "format": "date-time"}),
        ),
        (
            json!({"type": "string", "format": "uri", "$schema": "x", "examples": ["a"]}),
            json!({"type": "STRING"}),
        ),
        (
            json!({"type": "integer", "format": "int64", "exclusiveMinimum": 0, "maximum": 9}),
            json!({"type": "INTEGER", "format": "int64", "maximum": 9}),
        ),
        (json!({"type": ["string", "null"]}), json!({"type": "STRING", "nullable": true})),
        (json!({"type": ["string", "integer"]}), json!({"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]})),
        (
            json!({"type": ["integer", "string", "null"], "description": "d"}),
            json!({"anyOf": [{"type": "STRING", "description": "d", "nullable": true},
                          {"type": "INTEGER", "description": "d", "nullable": true}]}),
        ),
        (json!({"const": "a"}), json!({"type": "STRING", "enum": ["a"]})),
        (json!({"enum": ["a", "", "b"]}), json!({"type": "STRING", "enum": ["a", "b"]})),
        (
            json!({"enum": [1, 2], "description": "d"}),
            json!({"type": "INTEGER", "description": "d One of: 1, 2."}),
        ),
        (json!({"const": true}), json!({"type": "BOOLEAN", "description": "One of: true."})),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d", "title": "t"}),
            json!({"type": "STRING", "nullable": true, "description": "d"}),
        ),
        (
            json!({"oneOf": [{"type": "string"}, {"type": "number"}], "default": 1}),
            json!({"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}),
        ),
        (json!({"anyOf": [{"type": "null"}]}), json!({"type": "STRING", "nullable": true})),
        (
            json!({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]},
                          {"properties": {"b": {"type": "string"}}, "required": ["b", "a"]}]}),
            json!({"type": "OBJECT", "required": ["a", "b"],
                "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}}}),
        ),
        (
            json!({"allOf": [{"type": "string"}], "description": "d"}),
            json!({"type": "STRING", "description": "d"}),
        ),
        (json!({"type": "array"}), json!({"type": "ARRAY", "items": {"type": "STRING"}})),
        (
            json!({"type": "array", "prefixItems": [{"type": "number"}], "items": false, "maxItems": 2}),
            json!({"type": "ARRAY", "items": {"type": "NUMBER"}, "maxItems": 2}),
        ),
        (
            json!({"type": "object", "properties": {"a": true, "b": {}}, "required": ["a", "zz"],
                "additionalProperties": false, "patternProperties": {"^x": {}}, "propertyNames": {}, "not": {}}),
            json!({"type": "OBJECT", "properties": {"a": {"type": "OBJECT"}, "b": {"type": "OBJECT"}}, "required": ["a"]}),
        ),
        (json!({"type": "object", "properties": {}}), json!({"type": "OBJECT"})),
        (
            json!({"$ref": "#/$defs/A", "description": "mine", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "string", "description": "b"}}}),
            json!({"type": "STRING", "description": "mine"}),
        ),
        (json!({"$ref": "https://example.com/x"}), json!({"type": "OBJECT"})),
        (json!({"$ref": "#/nowhere"}), json!({"type": "OBJECT"})),
        (json!({"$ref": "#"}), json!({"type": "OBJECT"})),
        // A list that holds lists of its own kind.
        (
            json!({"type": "object", "properties": {"tree": {"$ref": "#/$defs/T"}}, "$defs": {"T": {
            "type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/T"}}}}}}),
            json!({"type": "OBJECT", "properties": {"tree": {"type": "OBJECT", "properties": {
            "name": {"type": "STRING"}, "children": {"type": "ARRAY", "items": {"type": "OBJECT"}}}}}}),
        ),
        // Words that are names of properties here.
        (
            json!({"type": "object", "properties": {"type": {"type": "string"}, "enum": {"type": "string"}, "$ref": {"type": "string"}}}),
            json!({"type": "OBJECT", "properties": {"type": {"type": "STRING"}, "enum": {"type": "STRING"}, "$ref": {"type": "STRING"}}}),
        ),
        // Members of the wrong kind.
        (
            json!({"type": 7, "enum": {}, "properties": [], "required": "a", "anyOf": {}, "minLength": "x", "description": 1}),
            json!({"type": "OBJECT"}),
        ),
    ] {
        assert_eq!(reduced(&given), expected, "{given}");
    }
}

#[test]
fn what_grows_is_refused_on_the_stack_of_a_connection() {
    let stack = std::thread::Builder::new().stack_size(96 * 1024);
    let check = || {
        let refused =
            |schema: &str| Reducer::new().reduce(&raw(schema), None, "tools[3].parameters").unwrap_err();
        for kind in ["properties", "allOf", "anyOf", "items"] {
            let (open, close) = match kind {
                "properties" => (r#"{"properties":{"a":"#, "}}"),
                "items" => (r#"{"items":"#, "}"),
                "allOf" => (r#"{"allOf":["#, "]}"),
                _ => (r#"{"anyOf":[{},"#, "]}"),
            };
            for depth in [13, 20, 40, 5_000] {
                let schema = format!("{}{{}}{}", open.repeat(depth), close.repeat(depth));
                assert_eq!(refused(&schema).field, "tools[3].parameters", "{kind} {depth}");
            }
            let schema = format!("{}{{}}{}", open.repeat(10), close.repeat(10));
            assert!(Reducer::new().reduce(&raw(&schema), None, "x").is_ok(), "{kind}");
        }
        // Each refers to the next one ten times.
        let mut definitions = String::new();
        for number in 0..12 {
            let next: Vec<String> = (0..10)
                .map(|place| format!(r##""p{place}":{{"$ref":"#/$defs/d{}"}}"##, number + 1))
                .collect();
            definitions.push_str(&format!(r#""d{number}":{{"properties":{{{}}}}},"#, next.join(",")));
        }
        let bomb = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{definitions}"d12":{{}}}}}}"##);
        assert_eq!(refused(&bomb).field, "tools[3].parameters");
        // A long description in many places.
        let long = "x".repeat(100_000);
        let uses: Vec<String> =
            (0..2_000).map(|place| format!(r##""p{place}":{{"$ref":"#/$defs/d"}}"##)).collect();
        let bomb = format!(
            r#"{{"properties":{{{}}},"$defs":{{"d":{{"type":"string","description":"{long}"}}}}}}"#,
            uses.join(",")
        );
        assert_eq!(refused(&bomb).field, "tools[3].parameters");
        for schema in ["[]", "1", "\"x\"", "null", "true"] {
            assert_eq!(refused(schema).field, "tools[3].parameters");
        }
    };
    stack.spawn(check).unwrap().join().unwrap();
}

#[test]
fn the_limit_is_for_all_schemas_of_a_request() {
    let mut reducer = Reducer::new();
    let long = "x".repeat(50_000);
    let uses: Vec<String> = (0..10).map(|place| format!(r##""p{place}":{{"$ref":"#/$defs/d"}}"##)).collect();
    let schema = raw(&format!(
        r#"{{"properties":{{{}}},"$defs":{{"d":{{"type":"string","description":"{long}"}}}}}}"#,
        uses.join(",")
    ));
    let passed = (0..20).take_while(|_| reducer.reduce(&schema, None, "x").is_ok()).count();
    assert!((1..10).contains(&passed), "{passed}");
}
