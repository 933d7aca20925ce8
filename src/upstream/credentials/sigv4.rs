//! AWS Signature Version 4 in the `authorization` header. Facts: the "Signature Version 4" pages of AWS's IAM guide.
//!
//! The path is signed as it is sent, encoded once more, as every service but S3 wants it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ring::{digest, hmac};

use crate::clock::UnixMillis;
use crate::domain::AwsAccessKey;
use crate::secret::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Whose signature, and for what it is good.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The keys.
    pub key: &'a AwsAccessKey,
    /// The region of the host that is called.
    pub region: &'a str,
    /// The service's signing name, such as `bedrock`.
    pub service: &'a str,
    /// When it is signed; AWS takes five minutes of difference.
    pub time: UnixMillis,
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// As it is sent, percent-encoded.
    pub path: &'a str,
    /// As it is sent, without the question mark.
    pub query: &'a str,
    /// Lines that are sent and signed, with `host`; names in lower case. Those that the signature adds are not here.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body in pieces.
    pub body: &'a [&'a [u8]],
}

/// The header lines that a signature adds, names in lower case.
pub fn sign(signer: &Signer<'_>, request: &Request<'_>) -> Vec<(&'static str, Secret)> {
    let time = basic_time(signer.time);
    let token = signer.key.session_token.as_ref().map(Secret::expose);
    let mut headers = request.headers.to_vec();
    headers.push(("x-amz-date", &time));
    headers.extend(token.map(|token| ("x-amz-security-token", token)));
    let (canonical, signed_names) =
        canonical_request(&Request { headers: &headers, ..*request }, &hex(&hash(request.body)), true);
    let scope = scope(signer, &time);
    let text = string_to_sign(&time, &scope, &canonical);
    let signature = signature(signer, &time, &text);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={signed_names}, Signature={signature}",
        signer.key.access_key_id
    );
    let mut added = vec![("authorization", Secret::new(authorization))];
    added.extend(token.map(|token| ("x-amz-security-token", Secret::new(token.to_owned()))));
    added.push(("x-amz-date", Secret::new(time)));
    added
}

/// `YYYYMMDDTHHMMSSZ`.
fn basic_time(time: UnixMillis) -> String {
    let iso = time.to_iso();
    let seconds = iso.get(..19).unwrap_or_default();
    seconds.chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect()
}

fn day(time: &str) -> &str {
    time.get(..8).unwrap_or_default()
}

fn scope(signer: &Signer<'_>, time: &str) -> String {
    format!("{}/{}/{}/aws4_request", day(time), signer.region, signer.service)
}

fn string_to_sign(time: &str, scope: &str, canonical: &str) -> String {
    format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(&hash(&[canonical.as_bytes()])))
}

fn signature(signer: &Signer<'_>, time: &str, text: &str) -> String {
    let start = Secret::new(format!("AWS4{}", signer.key.secret_access_key.expose()));
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, start.expose().as_bytes());
    for part in [day(time), signer.region, signer.service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

/// The request in its one canonical form, and the names of its headers. `removes_dots`: `.`, `..` and empty
/// segments are resolved as AWS does it.
fn canonical_request(request: &Request<'_>, body_hash: &str, removes_dots: bool) -> (String, String) {
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in request.headers {
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        lines
            .entry(name)
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert(value);
    }
    let names = lines.keys().copied().collect::<Vec<_>>().join(";");
    let path = if removes_dots { without_dots(request.path) } else { request.path.to_owned() };
    let mut text = String::with_capacity(512);
    text.push_str(request.method);
    text.push('\n');
    percent_encode(path.as_bytes(), true, &mut text);
    text.push('\n');
    text.push_str(&canonical_query(request.query));
    text.push('\n');
    for (name, value) in &lines {
        text.push_str(name);
        text.push(':');
        text.push_str(value);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&names);
    text.push('\n');
    text.push_str(body_hash);
    (text, names)
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// Sorted by encoded name, then by encoded value.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded_anew(name), encoded_anew(value))
        })
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encoded once, whatever was encoded before.
fn encoded_anew(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let decoded = match (first, after.first_chunk::<2>()) {
            (b'%', Some([high, low])) => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = decoded {
            bytes.push(high << 4 | low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    let mut out = String::with_capacity(text.len());
    percent_encode(&bytes, false, &mut out);
    out
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// All but the unreserved characters of RFC 3986 as `%XX`, in upper case.
pub fn percent_encode(bytes: &[u8], keeps_slash: bool, out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (keeps_slash && *byte == b'/') {
            out.push(char::from(*byte));
        } else {
            // Writing to a text can not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn hash(pieces: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    context.finish().as_ref().try_into().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "sigv4_tests.rs"]
mod tests;
