//! Manifests in files: YAML, JSON or TOML, one or several in a file, to JSON as the API takes it.
//!
//! A file may come from someone else than the one who applies it, so what it can cost is bounded before anything
//! of it is built.

use serde_json::Value;

use super::failure::Failure;
use super::input;

/// Nesting that a manifest may have; the API takes no more.
const MAX_DEPTH: usize = 24;

/// Documents of one file; the API takes no more in one change.
const MAX_DOCUMENTS: usize = 1000;

/// Anchors of one file, and uses of them.
const MAX_ALIASES: usize = 64;

/// What all uses of anchors may add up to, in scalars and brackets.
const MAX_ALIAS_EVENTS: usize = 10_000;

/// The manifests of a file, with the secrets that they name in place. `-` is standard input.
///
/// # Errors
/// When it can not be read, is in none of the three languages, or names a secret that can not be read.
pub fn read(file: &str) -> Result<Vec<Value>, Failure> {
    let text = input::read_text_up_to(file, input::MAX_MANIFEST_BYTES)?;
    let name = if file == "-" { "standard input" } else { file };
    let wrong = |why: String| Failure::Input(format!("{name}: {why}"));
    let mut manifests = parse(file, &text).map_err(wrong)?;
    if manifests.is_empty() {
        return Err(wrong("there is no manifest in it".to_owned()));
    }
    for (at, manifest) in manifests.iter_mut().enumerate() {
        if !manifest.is_object() {
            return Err(wrong(format!("manifest {} is not a map of fields", at + 1)));
        }
        if depth(manifest) > MAX_DEPTH {
            return Err(wrong(format!("manifest {} nests deeper than {MAX_DEPTH} levels", at + 1)));
        }
        resolve_part(manifest)?;
        for model in manifest.get_mut("integrations").and_then(Value::as_array_mut).into_iter().flatten() {
            resolve_part(model)?;
        }
    }
    Ok(manifests)
}

/// Reads by the file's ending; without one that says so, TOML when it is TOML, else YAML, of which JSON is a part.
fn parse(file: &str, text: &str) -> Result<Vec<Value>, String> {
    let ending = std::path::Path::new(file).extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    let found = match ending {
        "toml" => toml(text)?,
        "json" => flat(vec![serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?]),
        "yaml" | "yml" => flat(yaml(text)?),
        _ => match toml(text) {
            Ok(found) if !found.is_empty() => found,
            _ => flat(yaml(text)?),
        },
    };
    if found.len() > MAX_DOCUMENTS {
        return Err(format!("it holds more than {MAX_DOCUMENTS} manifests"));
    }
    Ok(found)
}

/// One table is one manifest; `[[manifests]]` are several.
fn toml(text: &str) -> Result<Vec<Value>, String> {
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| format!("it is not TOML: {}", error.message()))?;
    let several = match (table.len(), table.remove("manifests")) {
        (1, Some(toml::Value::Array(several))) => several,
        (0, _) => Vec::new(),
        (_, Some(_)) => return Err("beside [[manifests]] it holds something else".to_owned()),
        (_, None) => vec![toml::Value::Table(table)],
    };
    several.into_iter().map(json_of_toml).collect()
}

/// TOML has times of its own; the API takes them as text.
fn json_of_toml(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| format!("{number} is not a number that JSON has"))?,
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => {
            Value::Array(items.into_iter().map(json_of_toml).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let fields = table.into_iter().map(|(name, value)| Ok((name, json_of_toml(value)?)));
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
    })
}

/// All documents; empty ones are skipped.
fn yaml(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: MAX_DOCUMENTS,
            max_anchors: MAX_ALIASES,
            max_aliases: MAX_ALIASES,
            max_merge_keys: MAX_ALIASES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_EVENTS,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: MAX_ALIASES,
        },
        // YAML's older `yes` and `no` are words here, as in the languages that other tools read.
        strict_booleans: true,
        // A snippet could show a secret.
        with_snippet: false,
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| format!("it is not YAML that can be used: {}", first_line(&error.to_string())))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A list of manifests counts as several documents, so that any tool can write them as one JSON value.
fn flat(documents: Vec<Value>) -> Vec<Value> {
    documents
        .into_iter()
        .flat_map(|document| match document {
            Value::Array(items) => items,
            other => vec![other],
        })
        .collect()
}

/// How deep a value nests. It was parsed, so the parser's own limit has bounded it already.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Puts secrets in their places in a manifest, or in one of its models.
fn resolve_part(part: &mut Value) -> Result<(), Failure> {
    for object in ["auth_data", "tls_settings"] {
        for (name, value) in part.get_mut(object).and_then(Value::as_object_mut).into_iter().flatten() {
            if name == "headers" {
                for value in value.as_object_mut().into_iter().flat_map(|headers| headers.values_mut()) {
                    resolve(value, false)?;
                }
            } else {
                resolve(value, name == "key_file_content" || object == "tls_settings")?;
            }
        }
    }
    Ok(())
}

/// Puts the secret in the place of `{from_file: PATH}` or `{from_env: NAME}`. It is read on the caller's side:
/// the gateway opens no file that a manifest names. Key files and PEM have several lines.
fn resolve(value: &mut Value, lines: bool) -> Result<(), Failure> {
    let Some(fields) = value.as_object() else { return Ok(()) };
    let place = |name: &str| fields.get(name).and_then(Value::as_str).filter(|_| fields.len() == 1);
    let (file, variable) = (place("from_file"), place("from_env"));
    if let (Some(file), true) = (file, lines) {
        *value = Value::String(input::read_text(file)?);
        return Ok(());
    }
    if let (Some(variable), true) = (variable, lines) {
        let text = std::env::var(variable).map_err(|_| {
            Failure::Input(format!("the environment variable {variable} is not set to a text"))
        })?;
        *value = Value::String(text);
        return Ok(());
    }
    if let Some(secret) = input::read_secret(file, variable)? {
        *value = Value::String(secret.expose().to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_three_languages_say_the_same() {
        let want = vec![
            json!({"type": "team", "name": "a", "members": ["x@y.z"], "tags": {"n": "1"}}),
            json!({"type": "virtual-account", "name": "b", "expiration_date": "2027-01-31", "flag": true, "n": 2}),
        ];
        let yaml = "---\ntype: team\nname: a\nmembers: [x@y.z]\ntags: {n: '1'}\n---\n\
            type: virtual-account\nname: b\nexpiration_date: 2027-01-31\nflag: true\nn: 2\n---\n";
        let toml = "[[manifests]]\ntype = 'team'\nname = 'a'\nmembers = ['x@y.z']\ntags = {n = '1'}\n\
            [[manifests]]\ntype = 'virtual-account'\nname = 'b'\nexpiration_date = 2027-01-31\nflag = true\nn = 2\n";
        let json = Value::Array(want.clone()).to_string();
        for (file, text) in [
            ("x.yaml", yaml),
            ("x.yml", yaml),
            ("-", yaml),
            ("x.toml", toml),
            ("-", toml),
            ("x.json", &json),
            ("-", &json),
            ("x.yaml", &json),
        ] {
            assert_eq!(parse(file, text).as_ref(), Ok(&want), "{file}: {text}");
        }
        assert_eq!(parse("x.toml", "type = 'team'").unwrap(), [json!({"type": "team"})]);
        assert_eq!(parse("x.yaml", "a: 1\n---\n").unwrap(), [json!({"a": 1})]);
        assert_eq!(parse("x.yaml", "# nothing\n").unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn what_is_wrong_is_refused_and_not_repeated() {
        for (file, text) in [
            ("x.yaml", "key: sk-SECRET\nkey: again"),
            ("x.yaml", "a: [sk-SECRET"),
            ("x.yaml", "a: sk-SECRET\n b: x\nc"),
            ("x.json", "{\"a\": \"sk-SECRET\""),
            ("x.toml", "a = 'sk-SECRET"),
            ("x.toml", "[[manifests]]\na = 1\n[other]\nb = 'sk-SECRET'"),
            ("-", "a: sk-SECRET\n}"),
        ] {
            let error = parse(file, text).unwrap_err();
            assert!(!error.contains("SECRET"), "{text}: {error}");
        }
    }

    #[test]
    fn anchors_are_bounded() {
        assert_eq!(parse("x.yaml", "a: &a [1]\nb: *a\n").unwrap(), [json!({"a": [1], "b": [1]})]);
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let uses = vec![format!("*a{}", level - 1); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{uses}]\n"));
        }
        assert!(parse("x.yaml", &bomb).is_err());
        // Few uses of something large.
        let mut wide = format!("a: &a [{}]\n", vec!["x"; 2000].join(","));
        for at in 0..50 {
            wide.push_str(&format!("b{at}: *a\n"));
        }
        assert!(parse("x.yaml", &wide).is_err());
        assert!(parse("x.yaml", "a: &a [*a]\n").is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        for (file, open, close) in [("x.yaml", "[", "]"), ("x.json", "[", "]"), ("x.yaml", "{a: ", "}")] {
            let text = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            assert!(parse(file, &text).is_err(), "{file} {open}");
        }
        let block: String = (0..300).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert!(parse("x.yaml", &block).is_err());
        assert!(parse("x.toml", &format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000))).is_err());
    }
}
