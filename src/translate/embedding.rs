//! Embeddings in no dialect, and OpenAI's dialect of them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Invalid;

/// OpenAI's limit of texts in one request.
pub const MAX_INPUTS: usize = 2_048;

/// A request for embeddings.
#[derive(Debug, Default)]
pub struct EmbeddingRequest {
    /// Texts, in order.
    pub inputs: Vec<String>,
    /// The wanted length of each vector.
    pub dimensions: Option<u32>,
    /// Vectors are written as base64 of little-endian 32-bit floats.
    pub base64: bool,
    /// `provider_options`, as in a conversation (`task_type`, `input_type`).
    pub provider_options: Vec<(String, Box<serde_json::value::RawValue>)>,
    /// Other fields, for `Unsupported`.
    pub others: Vec<(String, Box<serde_json::value::RawValue>)>,
}

/// What comes back.
#[derive(Debug, Default)]
pub struct EmbeddingAnswer {
    /// One vector an input, in the order of the inputs.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of the input, where the provider says so.
    pub input_tokens: Option<u64>,
}

/// The members of an object in their order; of names that come twice the last one counts.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

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

/// Reads the body of OpenAI's `POST /embeddings`. The model's name is not looked at.
///
/// # Errors
/// What is not a request for embeddings of text, by its field.
pub fn read(body: &[u8]) -> Result<EmbeddingRequest, Invalid> {
    let Members(members) = serde_json::from_slice(body)
        .map_err(|_| Invalid::new("body", "The body has to be a JSON object of a modest depth."))?;
    let mut request = EmbeddingRequest::default();
    for (name, value) in members {
        let is_null = value.get() == "null";
        match name.as_ref() {
            "model" => {}
            "input" => request.inputs = inputs(value)?,
            "dimensions" if is_null => {}
            "dimensions" => {
                let dimensions: u32 = serde_json::from_str(value.get()).unwrap_or_default();
                if dimensions == 0 {
                    return Err(Invalid::new("dimensions", "This has to be a positive whole number."));
                }
                request.dimensions = Some(dimensions);
            }
            "encoding_format" if is_null => {}
            "encoding_format" => {
                request.base64 = match value.get() {
                    "\"float\"" => false,
                    "\"base64\"" => true,
                    _ => {
                        return Err(Invalid::new(
                            "encoding_format",
                            "This has to be \"float\" or \"base64\".",
                        ));
                    }
                }
            }
            "provider_options" if is_null => {}
            "provider_options" => {
                let Members(options) = serde_json::from_str(value.get())
                    .map_err(|_| Invalid::new("provider_options", "This has to be an object."))?;
                let owned = options.into_iter().map(|(name, value)| (name.into_owned(), value.to_owned()));
                request.provider_options = owned.collect();
            }
            _ if is_null => {}
            _ => request.others.push((name.into_owned(), value.to_owned())),
        }
    }
    if request.inputs.is_empty() {
        return Err(Invalid::new("input", "There has to be a text or a list of texts."));
    }
    Ok(request)
}

fn inputs(value: &RawValue) -> Result<Vec<String>, Invalid> {
    let text = value.get();
    let inputs: Vec<String> = if text.starts_with('"') {
        vec![serde_json::from_str(text).map_err(|_| Invalid::new("input", "This is no text."))?]
    } else {
        serde_json::from_str(text).map_err(|_| {
            Invalid::new(
                "input",
                "This model takes a text or a list of texts; lists of tokens are not supported.",
            )
        })?
    };
    if inputs.len() > MAX_INPUTS {
        return Err(Invalid::new("input", format!("There may be {MAX_INPUTS} texts at most.")));
    }
    if let Some(empty) = inputs.iter().position(String::is_empty) {
        return Err(Invalid::new(format!("input[{empty}]"), "A text may not be empty."));
    }
    Ok(inputs)
}

/// Writes OpenAI's answer. Usage is always there: SDKs read it without looking; it is 0 where the provider says none.
pub fn write(answer: &EmbeddingAnswer, model: &str, base64: bool) -> Vec<u8> {
    let mut out = br#"{"object":"list","data":["#.to_vec();
    for (index, vector) in answer.vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!(r#"{{"object":"embedding","index":{index},"embedding":"#).as_bytes());
        if base64 {
            out.push(b'"');
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            push_base64(&bytes, &mut out);
            out.push(b'"');
        } else {
            // The shortest digits that give the same 32-bit number again.
            out.extend(serde_json::to_vec(vector).unwrap_or_else(|_| b"[]".to_vec()));
        }
        out.push(b'}');
    }
    let tokens = answer.input_tokens.unwrap_or_default();
    let model = serde_json::Value::from(model);
    let end = format!(r#"],"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#);
    out.extend_from_slice(end.as_bytes());
    out
}

/// Base64 with padding (RFC 4648, section 4).
fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4_usize {
            let number = bits >> (18 - 6 * place) & 63;
            let letter = LETTERS.get(number as usize).copied().unwrap_or(b'=');
            out.push(if place <= three.len() { letter } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn texts_are_read() {
        let request = read(br#"{"model":"x","input":"hello","encoding_format":null}"#).unwrap();
        assert_eq!(request.inputs, ["hello"]);
        assert!(!request.base64 && request.dimensions.is_none() && request.others.is_empty());
        let request = read(
            br#"{"input":["a","b\n"],"dimensions":256,"encoding_format":"base64","user":"u","x":null,
                "provider_options":{"task_type":"RETRIEVAL_QUERY"},"mod\u0065l":"y"}"#,
        )
        .unwrap();
        assert_eq!(request.inputs, ["a", "b\n"]);
        assert!(request.base64);
        assert_eq!(request.dimensions, Some(256));
        assert_eq!(request.others.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["user"]);
        assert_eq!(request.provider_options.len(), 1);
    }

    #[test]
    fn what_is_no_request_is_refused_by_field() {
        let many = serde_json::to_string(&vec!["a"; MAX_INPUTS + 1]).unwrap();
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{\"input\":\"a\"", "body"),
            ("{}", "input"),
            (r#"{"input":[]}"#, "input"),
            (r#"{"input":null}"#, "input"),
            (r#"{"input":""}"#, "input[0]"),
            (r#"{"input":["a",""]}"#, "input[1]"),
            (r#"{"input":[1,2,3]}"#, "input"),
            (r#"{"input":[[1,2],[3]]}"#, "input"),
            (r#"{"input":{"a":1}}"#, "input"),
            (r#"{"input":"\ud800"}"#, "input"),
            (r#"{"input":"a","dimensions":0}"#, "dimensions"),
            (r#"{"input":"a","dimensions":-1}"#, "dimensions"),
            (r#"{"input":"a","dimensions":1.5}"#, "dimensions"),
            (r#"{"input":"a","dimensions":99999999999}"#, "dimensions"),
            (r#"{"input":"a","encoding_format":"hex"}"#, "encoding_format"),
            (r#"{"input":"a","provider_options":[1]}"#, "provider_options"),
            (&format!(r#"{{"input":{many}}}"#), "input"),
            (&format!(r#"{{"input":{deep}}}"#), "input"),
        ] {
            let refused = read(body.as_bytes()).unwrap_err();
            assert_eq!(refused.field, field, "{}", &body[..body.len().min(60)]);
        }
    }

    #[test]
    fn vectors_are_written_in_both_forms() {
        let answer =
            EmbeddingAnswer { vectors: vec![vec![0.1, -2.0, 3.5e-8], vec![]], input_tokens: Some(7) };
        let floats: Value = serde_json::from_slice(&write(&answer, "a/\"b\"", false)).unwrap();
        assert_eq!(
            floats,
            json!({"object": "list", "model": "a/\"b\"", "usage": {"prompt_tokens": 7, "total_tokens": 7}, "data": [
                {"object": "embedding", "index": 0, "embedding": [0.1, -2.0, 3.5e-8]},
                {"object": "embedding", "index": 1, "embedding": []},
            ]})
        );
        let answer = EmbeddingAnswer { vectors: vec![vec![1.0], vec![1.0, -1.0]], input_tokens: None };
        let base64: Value = serde_json::from_slice(&write(&answer, "m", true)).unwrap();
        assert_eq!(base64["data"][0]["embedding"], "AACAPw==");
        assert_eq!(base64["data"][1]["embedding"], "AACAPwAAgL8=");
        let mut out = Vec::new();
        push_base64(b"\xff\xfe\xfdab", &mut out);
        assert_eq!(out, b"//79YWI=");
    }
}
