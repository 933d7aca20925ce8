//! Which header lines cross the gateway, each way: allow-lists, so that nothing crosses by accident.

use std::collections::BTreeMap;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::outgoing::Outgoing;
use crate::authn;
use crate::failure::Failure;
use crate::http::{AnswerHead, Headers, RequestHead, is_name};
use crate::store::Account;
use crate::upstream::AuthHeader;
use crate::wire::{multipart, tree};

/// What a caller's request hands on to the provider. Not its content type: the provider is told how the gateway
/// read the body.
pub const TO_PROVIDER: [&str; 2] = ["accept", "openai-beta"];

/// The same for Anthropic's own protocol, whose callers say which version of it they speak.
pub const ANTHROPIC_TO_PROVIDER: [&str; 3] = ["accept", "anthropic-version", "anthropic-beta"];

/// What a provider's answer hands on to the caller, besides `x-ratelimit-*` and `anthropic-ratelimit-*`.
const TO_CALLER: [&str; 11] = [
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
    "cache-control",
    // What Anthropic's clients show with an error.
    "request-id",
];

/// What of a provider's answer still holds when it is said in another dialect.
const TRANSLATED_TO_CALLER: [&str; 3] = ["retry-after", "retry-after-ms", "x-should-retry"];

/// Where providers put their id of a request.
const UPSTREAM_REQUEST_IDS: [&str; 4] = ["request-id", "x-request-id", "x-amzn-requestid", "apim-request-id"];

/// The boundary of the form that a request's body is; `None` when it is JSON.
///
/// # Errors
/// A content type that this endpoint does not take, or that could be read in two ways.
pub fn form_boundary(head: &RequestHead, takes_forms: bool) -> Result<Option<String>, Failure> {
    let mut values = head.headers.all("content-type");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Failure::BadRequest("Content-Type stands more than once".into()));
    }
    let value = value.trim_ascii();
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_form = kind.eq_ignore_ascii_case(b"multipart/form-data");
    let is_json = kind.eq_ignore_ascii_case(b"application/json");
    if !is_json && (!is_form || !takes_forms) {
        return Err(Failure::UnsupportedMediaType(if takes_forms {
            "Send a form as 'Content-Type: multipart/form-data' or JSON as 'Content-Type: application/json'"
                .into()
        } else {
            "This endpoint takes JSON; send 'Content-Type: application/json'".into()
        }));
    }
    // Some clients end the line with a semicolon.
    let value = value.strip_suffix(b";").unwrap_or(value);
    let (_, parameters) = multipart::parameters(value)
        .ok_or(Failure::BadRequest("Content-Type has parameters that can not be read".into()))?;
    let parameter = |wanted: &[u8]| {
        parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
    };
    if !is_form {
        let is_utf8 = parameter(b"charset").is_none_or(|charset| charset.eq_ignore_ascii_case(b"utf-8"));
        return if is_utf8 {
            Ok(None)
        } else {
            Err(Failure::UnsupportedMediaType("JSON is UTF-8; send 'Content-Type: application/json'".into()))
        };
    }
    parameter(b"boundary")
        .and_then(|boundary| std::str::from_utf8(boundary).ok())
        .filter(|boundary| multipart::is_boundary(boundary))
        .map(|boundary| Some(boundary.to_owned()))
        .ok_or(Failure::BadRequest("Content-Type multipart/form-data needs a boundary".into()))
}

/// The head of the request to the provider. `authorization` is what its credential comes to for this request.
pub fn provider_request(
    account: &Account,
    outgoing: &Outgoing<'_>,
    authorization: &[AuthHeader],
    body_bytes: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[b"POST ", outgoing.target.as_bytes(), b" HTTP/1.1\r\nhost: "]);
    put(&[
        account.endpoint.authority.as_bytes(),
        b"\r\nuser-agent: gateway\r\naccept-encoding: identity\r\n",
    ]);
    for (name, value) in authorization {
        put(&[name.as_bytes(), b": ", value.expose().as_bytes(), b"\r\n"]);
    }
    put(&[b"content-type: ", outgoing.content_type.as_bytes(), b"\r\n"]);
    if let Some((head, allowed_lines)) = outgoing.caller {
        for (name, value) in head.headers.iter() {
            for allowed in allowed_lines {
                if is_name(name, allowed) {
                    put(&[allowed.as_bytes(), b": ", value, b"\r\n"]);
                    break;
                }
            }
        }
    }
    for (name, value) in outgoing.fixed {
        let is_said = outgoing.caller.is_some_and(|(head, _)| head.headers.all(name).next().is_some());
        if !is_said {
            put(&[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    for (name, value) in &account.spec.headers {
        put(&[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    put(&[b"content-length: ", body_bytes.to_string().as_bytes(), b"\r\n\r\n"]);
    out
}

fn is_one_of(name: &[u8], allowed: &[&str]) -> bool {
    for allowed in allowed {
        if is_name(name, allowed) {
            return true;
        }
    }
    false
}

/// Puts the lines of a provider's answer that may reach the caller into the head of ours.
pub fn to_caller(from: &Headers, to: &mut AnswerHead, limits_here: bool) {
    for (name, value) in from.iter() {
        let starts_with =
            |start: &[u8]| name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
        // Where the gateway has a limit of its own, that is the one which the caller must know.
        let is_rate_limit =
            (starts_with(b"x-ratelimit-") && !limits_here) || starts_with(b"anthropic-ratelimit-");
        if is_rate_limit || is_one_of(name, &TO_CALLER) {
            to.line_in_small_letters(name, value);
        } else if is_name(name, "x-request-id") {
            to.line(b"x-upstream-request-id", value);
        }
    }
}

/// The same for an answer that is said again in another dialect: what describes the provider's own bytes stays
/// behind, and so do rate limits that are written in its own words. The provider's request id goes along.
pub fn to_caller_translated(from: &Headers, to: &mut AnswerHead) {
    let id = UPSTREAM_REQUEST_IDS.iter().find_map(|name| from.all(name).next());
    if let Some(id) = id {
        to.line(b"x-upstream-request-id", id);
    }
    for (name, value) in from.iter() {
        if is_one_of(name, &TRANSLATED_TO_CALLER) {
            to.line_in_small_letters(name, value);
        }
    }
}

/// The caller's request id where it is a sane one: 1 to 128 letters, digits, `-`, `_`, `.`, `:`.
pub fn sane_request_id(head: &RequestHead) -> Option<String> {
    let value = head.headers.one("x-request-id")?;
    let sane = (1..=128).contains(&value.len())
        && value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b));
    sane.then(|| String::from_utf8_lossy(value).into_owned())
}

/// Reads a header whose value is a JSON object of a known form; `None` when it is something else, or nests deep.
pub fn small_json<T: serde::de::DeserializeOwned>(value: &[u8]) -> Option<T> {
    if !value.trim_ascii_start().starts_with(b"{") || tree::nests_deeper_than(value, tree::MAX_DEPTH) {
        return None;
    }
    serde_json::from_slice(value).ok()
}

const MAX_METADATA_KEYS: usize = 64;
const MAX_METADATA_KEY_CHARS: usize = 128;
const MAX_METADATA_VALUE_CHARS: usize = 128;

/// `X-TFY-METADATA`: a JSON object of strings.
///
/// # Errors
/// What is wrong with it, for the caller.
pub fn metadata(head: &RequestHead) -> Result<BTreeMap<String, String>, String> {
    let mut values = head.headers.all("x-tfy-metadata");
    let Some(value) = values.next() else { return Ok(BTreeMap::new()) };
    if values.next().is_some() {
        return Err("X-TFY-METADATA stands more than once".to_owned());
    }
    let not_json =
        || "X-TFY-METADATA is not JSON; write an object of strings such as {\"team\":\"search\"}".to_owned();
    let text = std::str::from_utf8(value).map_err(|_| not_json())?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err("X-TFY-METADATA is not a JSON object of strings".to_owned());
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_map(Metadata).map_err(|_| not_json())?;
    deserializer.end().map_err(|_| not_json())?;
    read
}

/// Reads the object; a value is looked at only where it is a string, so that nesting needs no stack.
struct Metadata;

impl<'de> Visitor<'de> for Metadata {
    type Value = Result<BTreeMap<String, String>, String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        let mut problem = None;
        while let Some((key, raw)) = entries.next_entry::<String, &'de RawValue>()? {
            let is_string = raw.get().starts_with('"');
            let value: String = if is_string {
                serde_json::from_str(raw.get()).map_err(A::Error::custom)?
            } else {
                String::new()
            };
            let wrong = if key.is_empty() || key.chars().count() > MAX_METADATA_KEY_CHARS {
                format!(
                    "X-TFY-METADATA has a key that is empty or longer than {MAX_METADATA_KEY_CHARS} characters"
                )
            } else if !is_string {
                format!("the value of '{key}' in X-TFY-METADATA is not a string")
            } else if value.chars().count() > MAX_METADATA_VALUE_CHARS {
                format!(
                    "the value of '{key}' in X-TFY-METADATA is longer than {MAX_METADATA_VALUE_CHARS} characters"
                )
            } else if map.contains_key(&key) {
                format!("'{key}' stands more than once in X-TFY-METADATA")
            } else if map.len() >= MAX_METADATA_KEYS {
                format!("X-TFY-METADATA has more than {MAX_METADATA_KEYS} keys")
            } else {
                map.insert(key, value);
                continue;
            };
            problem.get_or_insert(wrong);
        }
        Ok(problem.map_or(Ok(map), Err))
    }
}

/// The token that a request shows: as `Authorization: Bearer`, as `x-api-key` as clients of other dialects do, or
/// the same in both. Two that differ show none: nothing could say which one was meant.
pub fn presented_token(head: &RequestHead) -> Option<&str> {
    let absent = |name| head.headers.all(name).next().is_none();
    if absent("x-api-key") {
        return head.headers.one("authorization").and_then(authn::bearer);
    }
    let key = std::str::from_utf8(head.headers.one("x-api-key")?).ok()?.trim();
    if absent("authorization") {
        return Some(key);
    }
    head.headers.one("authorization").and_then(authn::bearer).filter(|token| *token == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> RequestHead {
        let text = format!("POST /x HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
        RequestHead::parse(text.as_bytes(), 64).unwrap()
    }

    #[test]
    fn content_types() {
        let read = |value: &str, takes_forms| {
            form_boundary(&head(&format!("content-type: {value}\r\n")), takes_forms)
                .map_err(|failure| failure.status())
        };
        for json in [
            "application/json",
            "Application/JSON; charset=\"UTF-8\"",
            "application/json;",
            "application/json ; x=y",
        ] {
            assert_eq!(read(json, false), Ok(None), "{json}");
            assert_eq!(read(json, true), Ok(None), "{json}");
        }
        assert_eq!(form_boundary(&head(""), false), Ok(None));
        let twice = head("content-type: application/json\r\ncontent-type: application/json\r\n");
        assert_eq!(form_boundary(&twice, false).map_err(|failure| failure.status()), Err(400));
        for (value, boundary) in [
            ("multipart/form-data; boundary=abc", "abc"),
            ("multipart/form-data; charset=\"x; boundary=no\"; Boundary=\"a,b\"", "a,b"),
        ] {
            assert_eq!(read(value, true), Ok(Some(boundary.to_owned())), "{value}");
            assert_eq!(read(value, false), Err(415), "{value}");
        }
        for (value, status) in [
            ("", 415),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("application/jsonp", 415),
            ("application/json, multipart/form-data; boundary=a", 415),
            ("multipart/mixed; boundary=a", 415),
            ("application/json; charset=utf-16", 415),
            ("application/json; charset=utf-8; charset=utf-16", 400),
            ("multipart/form-data", 400),
            ("multipart/form-data; boundary=", 400),
            ("multipart/form-data; boundary=a; boundary=b", 400),
            ("multipart/form-data; boundary=a; BOUNDARY=a", 400),
            ("multipart/form-data; boundary=\"a;b\"", 400),
            ("multipart/form-data; boundary=\"a", 400),
            ("multipart/form-data; boundary=a b", 400),
        ] {
            assert_eq!(read(value, true), Err(status), "{value}");
        }
    }

    #[test]
    fn metadata_is_an_object_of_strings() {
        let read = |value: &str| metadata(&head(&format!("x-tfy-metadata: {value}\r\n")));
        assert_eq!(read(r#"{"a":"b","\u00e9":"\""}"#).unwrap().len(), 2);
        assert!(read(" {} ").unwrap().is_empty());
        for bad in
            ["", "x", "[]", "\"a\"", "{\"a\":1}", "{\"a\":\"b\"} x", "{\"a\":\"b\",}", "{\"a\":\"\\q\"}"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(r#"{"a":"b","\u0061":"c"}"#).unwrap_err().contains("more than once"));
        let many: Vec<String> = (0..65).map(|number| format!("\"{number}\":\"\"")).collect();
        assert!(read(&format!("{{{}}}", many.join(","))).unwrap_err().contains("more than 64"));
        assert!(read(&format!("{{\"a\":\"{}\"}}", "x".repeat(129))).is_err());
        assert!(read(&format!("{{\"{}\":\"a\"}}", "x".repeat(129))).is_err());
    }

    #[test]
    fn nested_metadata_needs_no_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let value = format!("{{\"deep\":{}1{}}}", open.repeat(100_000), close.repeat(100_000));
            let read = metadata(&head(&format!("x-tfy-metadata: {value}\r\n")));
            assert!(read.unwrap_err().contains("'deep' in X-TFY-METADATA is not a string"));
        }
    }
}
