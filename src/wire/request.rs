//! What the gateway needs to know of an OpenAI-dialect request, as places in its bytes.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The longest model that is looked at.
pub(super) const MAX_MODEL_BYTES: usize = 256;

/// Why a request body was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRequest(pub Cow<'static, str>);

/// Replace the bytes at a place by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The place.
    pub range: Range<usize>,
    /// What stands there afterwards.
    pub replacement: Vec<u8>,
}

/// What matters of a JSON request body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The model as the caller wrote it.
    pub model: String,
    /// Where the model's JSON string stands.
    pub model_range: Range<usize>,
    /// The caller asked for a stream.
    pub stream: bool,
    /// The caller asked for the usage chunk.
    pub include_usage: bool,
    /// The largest of `max_completion_tokens`, `max_tokens` and `max_output_tokens`: which of them the provider goes by is
    /// not known here.
    pub max_tokens: Option<u64>,
    /// So many answers are asked for (`n`, `best_of`), each of up to [`Inspected::max_tokens`]; from 1 to 1,000.
    pub choices: u64,
    /// `preset` is there, which chooses a model at OpenRouter.
    pub has_preset: bool,
    stream_options: StreamOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum StreamOptions {
    Absent,
    /// `null`, at this place.
    Null(Range<usize>),
    Object {
        range: Range<usize>,
        /// Where the value of `include_usage` stands, if there is one.
        include_usage: Option<Range<usize>>,
        is_empty: bool,
    },
}

/// Answers that one call is taken to ask for at most.
const MAX_CHOICES: u64 = 1000;

/// The keys of a body that matter to a decision, in lower case as they must be written.
const BODY_KEYS: [&str; 11] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "models",
    "fallbacks",
    "preset",
    "n",
    "best_of",
];

/// Whether a lenient reader could take one name for the other: they differ in case only, with the two letters
/// outside ASCII whose case folding lands in it.
pub(super) fn looks_like(name: &str, wanted: &str) -> bool {
    let fold = |letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => char::to_ascii_lowercase(&other),
    };
    name.chars().map(fold).eq(wanted.chars())
}

/// Reads the values of an object's keys that matter, as places in its text. A key that stands twice, or that
/// another reader could take for one of them, is refused: the provider could read the other value.
struct Members<const N: usize>([&'static str; N]);

type Values<'a, const N: usize> = Result<[Option<&'a RawValue>; N], InvalidRequest>;

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = Values<'de, N>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        let mut problem = None;
        while let Some(key) = map.next_key_seed(&self)? {
            // Neither of the two ways to read a value uses the stack for its nesting.
            let (name, exact) = match key {
                Key::Exact(name) => (name, true),
                Key::Alike(name) => (name, false),
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value: &'de RawValue = map.next_value()?;
            let slot = self.0.iter().zip(&mut values).find(|(known, _)| **known == name);
            if !exact {
                problem = Some(format!("The body is refused: write the key '{name}' exactly so"));
            } else if slot.is_some_and(|(_, slot)| slot.replace(value).is_some()) {
                problem = Some(format!("The body is refused: duplicate key '{name}'"));
            }
        }
        Ok(problem.map_or(Ok(values), |text| Err(InvalidRequest(text.into()))))
    }
}

enum Key {
    Exact(&'static str),
    Alike(&'static str),
    Other,
}

impl<'de, const N: usize> DeserializeSeed<'de> for &Members<N> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for &Members<N> {
    type Value = Key;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        let found = self.0.iter().find(|name| looks_like(key, name));
        Ok(match found {
            Some(name) if *name == key => Key::Exact(name),
            Some(name) => Key::Alike(name),
            None => Key::Other,
        })
    }
}

/// Reads a text that must be one object.
fn members<'a, const N: usize>(text: &'a str, keys: [&'static str; N]) -> serde_json::Result<Values<'a, N>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let values = deserializer.deserialize_map(Members(keys))?;
    deserializer.end()?;
    Ok(values)
}

/// A value that must be `true`, `false` or `null`, if it is there.
fn flag(raw: Option<&RawValue>, refusal: &'static str) -> Result<bool, InvalidRequest> {
    match raw.map(RawValue::get) {
        Some("true") => Ok(true),
        None | Some("false" | "null") => Ok(false),
        Some(_) => Err(InvalidRequest(refusal.into())),
    }
}

/// Whether a model is one that can be looked up. The text is not in the refusal: it can be long.
pub(super) fn check_model(model: &str) -> Result<(), InvalidRequest> {
    if model.len() > MAX_MODEL_BYTES {
        return Err(InvalidRequest(format!("'model' is longer than {MAX_MODEL_BYTES} bytes").into()));
    }
    if !model.contains('/') {
        return Err(InvalidRequest(
            "'model' must be written account/model; GET /v1/models lists what you may use".into(),
        ));
    }
    Ok(())
}

fn place(of: &str, within: usize) -> Range<usize> {
    let start = of.as_ptr().addr().wrapping_sub(within);
    start..start + of.len()
}

/// Reads a JSON request body. Keys that matter and stand twice are refused (also when one is written with
/// escapes or in another case), because the provider could read the other one.
///
/// # Errors
/// What is wrong, for the caller.
pub fn inspect(body: &[u8]) -> Result<Inspected, InvalidRequest> {
    let text = std::str::from_utf8(body).map_err(|_| InvalidRequest("The body is not UTF-8".into()))?;
    let [
        raw_model,
        stream,
        stream_options,
        max_tokens,
        max_completion_tokens,
        max_output_tokens,
        models,
        fallbacks,
        preset,
        n,
        best_of,
    ] = members(text, BODY_KEYS).map_err(|error| invalid_json(&error))??;
    for (name, value) in [("models", models), ("fallbacks", fallbacks)] {
        if value.is_some_and(|value| value.get() != "null") {
            // Routers behind one key take these as other models to answer in place of the one that was granted.
            return Err(InvalidRequest(
                format!("'{name}' is not taken: a call is for the one model that 'model' names").into(),
            ));
        }
    }
    let base = body.as_ptr().addr();
    let number = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse::<u64>().ok());
    let raw_model = raw_model.ok_or(InvalidRequest(
        "The body has no 'model'; name it as account/model, see GET /v1/models".into(),
    ))?;
    let model: String = serde_json::from_str(raw_model.get())
        .map_err(|_| InvalidRequest("'model' must be a string such as account/model".into()))?;
    check_model(&model)?;
    let stream = flag(stream, "'stream' must be true, false or null")?;
    let (stream_options, include_usage) = match stream_options {
        None => (StreamOptions::Absent, false),
        Some(raw) if raw.get() == "null" => (StreamOptions::Null(place(raw.get(), base)), false),
        Some(raw) => {
            let invalid = |_| InvalidRequest("'stream_options' must be an object or null".into());
            let [include_usage] = members(raw.get(), ["include_usage"]).map_err(invalid)??;
            let wanted = flag(include_usage, "'stream_options.include_usage' must be true, false or null")?;
            let is_empty = raw.get().trim_start_matches('{').trim_start().starts_with('}');
            let object = StreamOptions::Object {
                range: place(raw.get(), base),
                include_usage: include_usage.map(|raw| place(raw.get(), base)),
                is_empty,
            };
            (object, wanted)
        }
    };
    Ok(Inspected {
        model,
        model_range: place(raw_model.get(), base),
        stream,
        include_usage,
        max_tokens: number(max_completion_tokens).max(number(max_tokens)).max(number(max_output_tokens)),
        choices: number(n).max(number(best_of)).unwrap_or(1).clamp(1, MAX_CHOICES),
        has_preset: preset.is_some_and(|raw| raw.get() != "null"),
        stream_options,
    })
}

fn invalid_json(error: &serde_json::Error) -> InvalidRequest {
    let reason: Cow<'static, str> = if error.is_eof() {
        "The body is not complete JSON".into()
    } else {
        format!("The body is not a JSON object (line {}, column {})", error.line(), error.column()).into()
    };
    InvalidRequest(reason)
}

impl Inspected {
    /// The edit that makes the model the provider's own id.
    pub fn model_edit(&self, model_id: &str) -> Edit {
        Edit { range: self.model_range.clone(), replacement: json_string(model_id) }
    }

    /// The edit that asks for the usage chunk of a stream, for a caller that did not.
    pub fn usage_edit(&self) -> Option<Edit> {
        if !self.stream || self.include_usage {
            return None;
        }
        let edit = match &self.stream_options {
            // Behind the model's value, which is always there.
            StreamOptions::Absent => Edit {
                range: self.model_range.end..self.model_range.end,
                replacement: br#","stream_options":{"include_usage":true}"#.to_vec(),
            },
            StreamOptions::Null(range) => {
                Edit { range: range.clone(), replacement: br#"{"include_usage":true}"#.to_vec() }
            }
            StreamOptions::Object { include_usage: Some(range), .. } => {
                Edit { range: range.clone(), replacement: b"true".to_vec() }
            }
            StreamOptions::Object { range, include_usage: None, is_empty } => Edit {
                range: range.start + 1..range.start + 1,
                replacement: if *is_empty {
                    br#""include_usage":true"#.to_vec()
                } else {
                    br#""include_usage":true,"#.to_vec()
                },
            },
        };
        Some(edit)
    }
}

/// A text as a JSON string.
pub fn json_string(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// The pieces of a body with edits applied, without copying the body. Edits must not overlap.
pub fn apply<'a>(body: &'a [u8], edits: &'a mut [Edit]) -> Vec<&'a [u8]> {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut pieces = Vec::with_capacity(edits.len() * 2 + 1);
    let mut at = 0;
    for edit in edits.iter() {
        pieces.push(body.get(at..edit.range.start).unwrap_or_default());
        pieces.push(edit.replacement.as_slice());
        at = edit.range.end;
    }
    pieces.push(body.get(at..).unwrap_or_default());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str, id: &str) -> String {
        let inspected = inspect(body.as_bytes()).unwrap();
        let mut edits = vec![inspected.model_edit(id)];
        edits.extend(inspected.usage_edit());
        String::from_utf8(apply(body.as_bytes(), &mut edits).concat()).unwrap()
    }

    #[test]
    fn only_the_model_changes() {
        for (body, expected) in [
            (r#"{"model":"a/b"}"#, r#"{"model":"x"}"#),
            (
                "\n{ \"seed\" : 12345678901234567890 ,\t\"t\":1.0, \"model\" : \"a\\u002fb\" , \"é\":\"\\u00e9\"}\n",
                "\n{ \"seed\" : 12345678901234567890 ,\t\"t\":1.0, \"model\" : \"x\" , \"é\":\"\\u00e9\"}\n",
            ),
            (
                r#"{"m":{"model":"q/r"},"model":"a/b","z":[{"model":1}]}"#,
                r#"{"m":{"model":"q/r"},"model":"x","z":[{"model":1}]}"#,
            ),
            (r#"{"model":"a/b","stream":false}"#, r#"{"model":"x","stream":false}"#),
            (
                r#"{"model":"a/b","stream":true}"#,
                r#"{"model":"x","stream_options":{"include_usage":true},"stream":true}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"a/b"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"x"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":false},"model":"a/b"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"x"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{ },"model":"a/b"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true },"model":"x"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"z":1},"model":"a/b"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"z":1},"model":"x"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":null,"model":"a/b"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"x"}"#,
            ),
        ] {
            assert_eq!(edited(body, "x"), expected);
        }
        assert_eq!(edited(r#"{"model":"a/b"}"#, "q\"\\é"), r#"{"model":"q\"\\é"}"#);
    }

    #[test]
    fn refused_bodies() {
        for bad in [
            "",
            "null",
            "[]",
            "{",
            "{}",
            r#"{"model":1}"#,
            r#"{"model":null}"#,
            r#"{"model":"gpt"}"#,
            r#"{"model":"a/b"} x"#,
            r#"{"model":"a/b","model":"c/d"}"#,
            r#"{"model":"a/b","mod\u0065l":"c/d"}"#,
            r#"{"model":"a/b","stream":true,"stream":false}"#,
            r#"{"stream":true,"model":"a/b","stream_options":{"include_usage":true,"include_usage":false}}"#,
            r#"{"model":"a/b",}"#,
            "\u{feff}{}",
            r#"["a/b"]"#,
            r#"["a/b",true,null,1,1,1]"#,
            r#"{"model":"a/b","Model":"c/d"}"#,
            r#"{"MODEL":"c/d","model":"a/b"}"#,
            r#"{"model":"a/b","\u004dodel":"c/d"}"#,
            r#"{"Model":"a/b"}"#,
            r#"{"model":"a/b","Stream":true}"#,
            "{\"model\":\"a/b\",\"\u{17f}tream\":true}",
            r#"{"model":"a/b","stream_Options":{}}"#,
            "{\"model\":\"a/b\",\"max_to\u{212a}ens\":1}",
            r#"{"model":"a/b","stream":1}"#,
            r#"{"model":"a/b","stream":"true"}"#,
            r#"{"model":"a/b","stream":[]}"#,
            r#"{"model":"a/b","stream_options":[]}"#,
            r#"{"model":"a/b","stream_options":[true]}"#,
            r#"{"model":"a/b","stream_options":false}"#,
            r#"{"model":"a/b","stream_options":"x"}"#,
            r#"{"model":"a/b","stream_options":{"include_usage":1}}"#,
            r#"{"model":"a/b","stream_options":{"include_usage":"true"}}"#,
            r#"{"model":"a/b","stream_options":{"Include_Usage":true}}"#,
        ] {
            assert!(inspect(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(inspect(b"{\"model\":\"a/\xff\"}").is_err());
        assert!(inspect(b"{\"model\":\"a/b\",\"x\":\"\xff\"}").is_err());
    }

    #[test]
    fn refusals_name_the_key_and_never_the_value() {
        let text = |body: &str| inspect(body.as_bytes()).unwrap_err().0;
        assert!(text(r#"{"model":"a/b","Model":"zzz"}"#).contains("'model'"));
        assert!(text(r#"{"model":"a/b","stream":1,"STREAM":2}"#).contains("'stream'"));
        assert!(text(r#"{"model":"a/b","model":"zzz"}"#).contains("duplicate key 'model'"));
        let long = format!("{{\"model\":\"a/{}\"}}", "zzz".repeat(100));
        assert!(text(&long).contains("256") && !text(&long).contains("zzz"));
        let longest = format!("a/{}", "z".repeat(254));
        assert_eq!(inspect(format!("{{\"model\":\"{longest}\"}}").as_bytes()).unwrap().model, longest);
    }

    #[test]
    fn nulls_are_absent_values() {
        let body =
            r#"{"model":"a/b","stream":true,"stream_options":{"include_usage":null},"max_tokens":null}"#;
        let read = inspect(body.as_bytes()).unwrap();
        assert_eq!((read.stream, read.include_usage, read.max_tokens), (true, false, None));
        assert!(edited(body, "x").contains(r#"{"include_usage":true}"#));
        assert!(!inspect(br#"{"model":"a/b","stream":null}"#).unwrap().stream);
    }

    #[test]
    fn deep_nesting_needs_no_stack() {
        let deep = format!(r#"{{"model":"a/b","x":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert!(inspect(deep.as_bytes()).is_ok());
    }

    #[test]
    fn what_an_answer_may_have_is_the_most_that_is_asked_for() {
        for (more, max_tokens, choices) in [
            ("", None, 1),
            (r#","max_tokens":5"#, Some(5), 1),
            // A small one hides no large one.
            (r#","max_completion_tokens":1,"max_tokens":9"#, Some(9), 1),
            (r#","max_tokens":1,"max_output_tokens":7,"n":3"#, Some(7), 3),
            (r#","n":2,"best_of":8"#, None, 8),
            (r#","n":0"#, None, 1),
            (r#","n":-4,"max_tokens":-1"#, None, 1),
            (r#","n":99999999999999999999,"max_tokens":null"#, None, 1),
            (r#","n":1000000"#, None, 1000),
        ] {
            let read = inspect(format!(r#"{{"model":"a/b"{more}}}"#).as_bytes()).unwrap();
            assert_eq!((read.max_tokens, read.choices), (max_tokens, choices), "{more}");
        }
        assert!(inspect(br#"{"model":"a/b","n":1,"n":128}"#).is_err());
    }
}
