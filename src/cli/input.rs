//! What commands take in besides plain words: secrets, durations, headers, tags, paths.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::failure::Failure;
use crate::clock::UnixMillis;
use crate::secret::Secret;

const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One file of manifests.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Reads a text file, or standard input when its name is `-`.
///
/// # Errors
/// When it can not be read, is over 1 MiB or is not UTF-8.
pub fn read_text(file: &str) -> Result<String, Failure> {
    read_text_up_to(file, MAX_FILE_BYTES)
}

/// The same with another limit, in bytes.
///
/// # Errors
/// When it can not be read, is larger or is not UTF-8.
pub fn read_text_up_to(file: &str, limit: u64) -> Result<String, Failure> {
    let name = if file == "-" { "standard input" } else { file };
    let wrong = |why: &dyn std::fmt::Display| Failure::Input(format!("{name} can not be read: {why}"));
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(limit + 1).read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(Path::new(file)).map_err(|error| wrong(&error))?;
        opened.take(limit + 1).read_to_string(&mut text)
    };
    read.map_err(|error| wrong(&error))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > limit {
        return Err(wrong(&format!("it is over {} MiB", limit >> 20)));
    }
    Ok(text)
}

/// Reads a secret from a file (`-` is standard input) or from an environment variable. `None` when neither
/// is named.
///
/// # Errors
/// When both are named, or what was read is not one line of text.
pub fn read_secret(file: Option<&str>, variable: Option<&str>) -> Result<Option<Secret>, Failure> {
    let (text, origin) = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Failure::Usage("Give --api-key-file or --api-key-env, not both.".to_owned()));
        }
        (Some(file), None) => (read_text(file)?, if file == "-" { "standard input" } else { file }),
        (None, Some(variable)) => match std::env::var(variable) {
            Ok(text) => (text, variable),
            Err(_) => {
                return Err(Failure::Input(format!(
                    "the environment variable {variable} is not set to a text"
                )));
            }
        },
    };
    let secret = one_line(&text).map_err(|why| Failure::Input(format!("the key in {origin} {why}")))?;
    Ok(Some(Secret::new(secret.to_owned())))
}

/// The text without one newline at its end.
fn one_line(text: &str) -> Result<&str, &'static str> {
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        Err("is empty")
    } else if line.chars().any(char::is_control) {
        Err("has more than one line, or characters that no key has")
    } else {
        Ok(line)
    }
}

/// Reads `30m`, `24h`, `7d` or `0` as minutes.
///
/// # Errors
/// A sentence that names the forms.
pub fn minutes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a duration; write it like 30m, 24h or 7d, or 0");
    if text == "0" {
        return Ok(0);
    }
    let (number, factor) = [('m', 1), ('h', 60), ('d', 24 * 60)]
        .into_iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)))
        .ok_or_else(wrong)?;
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// Checks a date that is passed on as it was written.
///
/// # Errors
/// A sentence that names the forms.
pub fn date(text: &str) -> Result<String, String> {
    UnixMillis::parse(text).map(|_| text.to_owned())
}

/// Reads `Name: value` headers as a JSON object.
///
/// # Errors
/// A usage error that names the header without its value, which may be a secret.
pub fn headers(given: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut headers = Map::new();
    for header in given {
        let Some((name, value)) = header.split_once(':') else {
            return Err(Failure::Usage("Write --header as 'Name: value'.".to_owned()));
        };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(Failure::Usage(format!("'{name}' is not the name of a header.")));
        }
        let name = name.to_ascii_lowercase();
        if headers.insert(name.clone(), Value::from(value.trim())).is_some() {
            return Err(Failure::Usage(format!("The header {name} is given twice.")));
        }
    }
    Ok(headers)
}

/// Reads `key=value` tags as a JSON object.
///
/// # Errors
/// A usage error.
pub fn tags(given: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut tags = Map::new();
    for tag in given {
        match tag.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                if tags.insert(key.to_owned(), Value::from(value)).is_some() {
                    return Err(Failure::Usage(format!("The tag {key} is given twice.")));
                }
            }
            _ => return Err(Failure::Usage(format!("'{tag}' is not a tag; write it as key=value."))),
        }
    }
    Ok(tags)
}

/// Percent-encodes everything that is not unreserved in a URL (RFC 3986).
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A path of the management API, below its root, from segments that may hold anything.
///
/// # Errors
/// An empty segment would name another resource, such as the whole list; so would `.` and `..`.
pub fn path(segments: &[&str]) -> Result<String, Failure> {
    let mut path = String::new();
    for segment in segments {
        if matches!(*segment, "" | "." | "..") {
            return Err(Failure::Usage(format!("'{segment}' is not a name.")));
        }
        path.push('/');
        path.push_str(&percent_encode(segment));
    }
    Ok(path)
}

/// A path with a query of those parameters that have a value.
pub fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut url = path.to_owned();
    for (name, value) in parameters {
        if let Some(value) = value {
            url.push(if url.contains('?') { '&' } else { '?' });
            let _ = write!(url, "{name}={}", percent_encode(value));
        }
    }
    url
}

/// Takes `ACCOUNT/NAME` apart; the name may hold more slashes.
///
/// # Errors
/// A usage error that shows the form.
pub fn account_and_model(text: &str) -> Result<(&str, &str), Failure> {
    match text.split_once('/') {
        Some((account, model)) if !account.is_empty() && !model.is_empty() => Ok((account, model)),
        _ => Err(Failure::Usage(format!(
            "'{text}' is not a model; write it as ACCOUNT/NAME, such as main/gpt-4o."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, wanted) in [("0", 0), ("30m", 30), ("24h", 1440), ("7d", 10_080), ("0h", 0)] {
            assert_eq!(minutes(text), Ok(wanted));
        }
        for wrong in
            ["", "7", "h", "-1h", "+1h", "1.5h", "1w", "1 h", "99999999999999999999d", "9999999999999999999d"]
        {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_newline_is_cut_from_a_key() {
        assert_eq!(one_line("sk\n"), Ok("sk"));
        assert_eq!(one_line("sk\r\n"), Ok("sk"));
        assert_eq!(one_line("sk"), Ok("sk"));
        for wrong in ["", "\n", "sk\n\n", "a\nb\n", "a\0"] {
            assert!(one_line(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn header_lines() {
        let read = headers(&["X-Org: a: b ".to_owned(), "x-empty:".to_owned()]).unwrap();
        assert_eq!(Value::Object(read), serde_json::json!({"x-org": "a: b", "x-empty": ""}));
        for wrong in [vec!["secret"], vec![": x"], vec!["a b: c"], vec!["A: 1", "a: 2"]] {
            let wrong: Vec<String> = wrong.into_iter().map(str::to_owned).collect();
            let error = headers(&wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn tag_pairs() {
        let read = tags(&["team=search".to_owned(), "note=a=b".to_owned()]).unwrap();
        assert_eq!(Value::Object(read), serde_json::json!({"team": "search", "note": "a=b"}));
        for wrong in ["x", "=x"] {
            assert!(tags(&[wrong.to_owned()]).is_err());
        }
        assert!(tags(&["a=1".to_owned(), "a=2".to_owned()]).is_err());
    }

    #[test]
    fn paths_and_queries() {
        assert_eq!(path(&["users", "a+b@x.io"]).unwrap(), "/users/a%2Bb%40x.io");
        assert_eq!(
            path(&["m", "meta-llama/Llama 3:ü?#%"]).unwrap(),
            "/m/meta-llama%2FLlama%203%3A%C3%BC%3F%23%25"
        );
        for wrong in ["", ".", ".."] {
            assert!(path(&["users", wrong]).is_err());
        }
        let url =
            with_query("/grants", &[("subject", Some("user:a&b")), ("target", None), ("role", Some("x"))]);
        assert_eq!(url, "/grants?subject=user%3Aa%26b&role=x");
        assert_eq!(account_and_model("a/b/c").unwrap(), ("a", "b/c"));
        for wrong in ["a", "/b", "a/", ""] {
            assert!(account_and_model(wrong).is_err());
        }
    }
}
