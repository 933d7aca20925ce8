//! What the gateway needs to know of an OpenAI-dialect request, as places in its bytes.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

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
    /// `max_completion_tokens`, else `max_tokens`, else `max_output_tokens`.
    pub max_tokens: Option<u64>,
    stream_options: StreamOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum StreamOptions {
    Absent,
    /// `null` or anything else that is no object, at this place.
    NoObject(Range<usize>),
    Object {
        range: Range<usize>,
        /// Where the value of `include_usage` stands, if there is one.
        include_usage: Option<Range<usize>>,
        is_empty: bool,
    },
}

/// Keeps `null` apart from an absent key, so that an edit never puts a key in twice.
fn raw<'de: 'a, 'a, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "raw")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    max_output_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Options<'a> {
    #[serde(borrow, default, deserialize_with = "raw")]
    include_usage: Option<&'a RawValue>,
}

fn place(of: &str, within: usize) -> Range<usize> {
    let start = of.as_ptr().addr().wrapping_sub(within);
    start..start + of.len()
}

/// Reads a JSON request body. Keys that matter and stand twice are refused (also when one is written with
/// escapes), because the provider could read the other one.
///
/// # Errors
/// What is wrong, for the caller.
pub fn inspect(body: &[u8]) -> Result<Inspected, InvalidRequest> {
    let text = std::str::from_utf8(body).map_err(|_| InvalidRequest("The body is not UTF-8".into()))?;
    let parsed: Body<'_> = serde_json::from_str(text).map_err(|error| invalid_json(&error))?;
    let base = body.as_ptr().addr();
    let number = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse().ok());
    let raw_model = parsed.model.ok_or(InvalidRequest(
        "The body has no 'model'; name it as account/model, see GET /v1/models".into(),
    ))?;
    let model: String = serde_json::from_str(raw_model.get())
        .map_err(|_| InvalidRequest("'model' must be a string such as account/model".into()))?;
    if !model.contains('/') {
        return Err(InvalidRequest(
            "'model' must be written account/model; GET /v1/models lists what you may use".into(),
        ));
    }
    let stream = parsed.stream.is_some_and(|raw| raw.get() == "true");
    let (stream_options, include_usage) = match parsed.stream_options {
        None => (StreamOptions::Absent, false),
        Some(raw) if raw.get().starts_with('{') => {
            let options: Options<'_> = serde_json::from_str(raw.get())
                .map_err(|_| InvalidRequest("'stream_options' is not valid".into()))?;
            let wanted = options.include_usage.is_some_and(|raw| raw.get() == "true");
            let is_empty = raw.get().trim_start_matches('{').trim_start().starts_with('}');
            let object = StreamOptions::Object {
                range: place(raw.get(), base),
                include_usage: options.include_usage.map(|raw| place(raw.get(), base)),
                is_empty,
            };
            (object, wanted)
        }
        Some(raw) => (StreamOptions::NoObject(place(raw.get(), base)), false),
    };
    Ok(Inspected {
        model,
        model_range: place(raw_model.get(), base),
        stream,
        include_usage,
        max_tokens: number(parsed.max_completion_tokens)
            .or_else(|| number(parsed.max_tokens))
            .or_else(|| number(parsed.max_output_tokens)),
        stream_options,
    })
}

fn invalid_json(error: &serde_json::Error) -> InvalidRequest {
    // The message names keys and positions, never values.
    let text = error.to_string();
    let reason: Cow<'static, str> = if text.starts_with("duplicate field") {
        format!("The body is refused: {text}").into()
    } else if error.is_eof() {
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
            StreamOptions::NoObject(range) => {
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
        ] {
            assert!(inspect(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(inspect(b"{\"model\":\"a/\xff\"}").is_err());
        assert!(inspect(b"{\"model\":\"a/b\",\"x\":\"\xff\"}").is_err());
    }

    #[test]
    fn deep_nesting_needs_no_stack() {
        let deep = format!(r#"{{"model":"a/b","x":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert!(inspect(deep.as_bytes()).is_ok());
    }
}
