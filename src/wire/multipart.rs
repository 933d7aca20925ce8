//! `multipart/form-data` request bodies (RFC 7578), read as places in the bytes: files stay where they are.

use std::ops::Range;

use super::request::{Edit, InvalidRequest};

/// Parts of one body.
const MAX_PARTS: usize = 256;

/// What matters of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The model as the caller wrote it.
    pub model: String,
    model_range: Range<usize>,
    /// The caller asked for a stream.
    pub stream: bool,
}

impl Form {
    /// The edit that makes the model the provider's own id.
    pub fn model_edit(&self, model_id: &str) -> Edit {
        Edit { range: self.model_range.clone(), replacement: model_id.as_bytes().to_vec() }
    }
}

fn refused(text: &'static str) -> InvalidRequest {
    InvalidRequest(text.into())
}

/// The boundary of a `multipart/form-data` content type; `None` for another type. RFC 2046 section 5.1.1.
pub fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    ((1..=70).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic())).then_some(value)
}

/// Reads a form. A `model` or `stream` part that stands twice is refused: the provider could take the other.
///
/// # Errors
/// What is wrong, for the caller.
pub fn inspect(body: &[u8], boundary: &str) -> Result<Form, InvalidRequest> {
    let delimiter = format!("--{boundary}");
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let mut at = finder.find(body).ok_or(refused("The multipart body has no boundary"))?;
    if at != 0 && !body.get(..at).unwrap_or_default().ends_with(b"\r\n") {
        return Err(refused("The multipart body does not begin with its boundary"));
    }
    let mut model = None;
    let mut stream = None;
    for _ in 0..MAX_PARTS {
        let after = at + delimiter.len();
        match body.get(after..after + 2) {
            Some(b"--") => {
                let (model, model_range) = model.ok_or(refused("The form has no 'model' part"))?;
                return Ok(Form { model, model_range, stream: stream.unwrap_or(false) });
            }
            Some(b"\r\n") => {}
            _ => return Err(refused("The multipart body has a broken boundary")),
        }
        let rest = body.get(after + 2..).unwrap_or_default();
        let head_length = memchr::memmem::find(rest, b"\r\n\r\n")
            .ok_or(refused("A part of the form has no end of its head"))?;
        let head = rest.get(..head_length).unwrap_or_default();
        let content = after + 2 + head_length + 4;
        let next = next_delimiter(body, content, &finder).ok_or(refused("The multipart body is cut off"))?;
        let range = content..next - 2;
        let text = || {
            body.get(range.clone())
                .filter(|value| value.len() <= 1024)
                .and_then(|value| std::str::from_utf8(value).ok())
        };
        match part_name(head) {
            Some(b"model") => {
                let text = text().ok_or(refused("The form's 'model' is not a short text"))?;
                if !text.contains('/') || text.contains(['\r', '\n']) {
                    return Err(refused("'model' must be written account/model"));
                }
                if model.replace((text.to_owned(), range)).is_some() {
                    return Err(refused("The form has more than one 'model' part"));
                }
            }
            Some(b"stream") => {
                let wanted = text().is_some_and(|text| text.eq_ignore_ascii_case("true"));
                if stream.replace(wanted).is_some() {
                    return Err(refused("The form has more than one 'stream' part"));
                }
            }
            _ => {}
        }
        at = next;
    }
    Err(refused("The form has too many parts"))
}

/// Where the next delimiter stands that begins a line.
fn next_delimiter(body: &[u8], from: usize, finder: &memchr::memmem::Finder<'_>) -> Option<usize> {
    let mut at = from;
    loop {
        let found = at + finder.find(body.get(at..)?)?;
        if found >= from + 2 && body.get(found - 2..found) == Some(b"\r\n") {
            return Some(found);
        }
        at = found + 1;
    }
}

/// The `name` of a part's `Content-Disposition`.
fn part_name(head: &[u8]) -> Option<&[u8]> {
    let line = head.split(|b| *b == b'\n').find(|line| {
        line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case(b"content-disposition:"))
    })?;
    line.split(|b| *b == b';').skip(1).find_map(|parameter| {
        let parameter = parameter.trim_ascii();
        let value =
            parameter.get(..5).filter(|key| key.eq_ignore_ascii_case(b"name=")).and(parameter.get(5..))?;
        let value = value.trim_ascii();
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut body = String::new();
        for (name, value) in parts {
            body.push_str(&format!(
                "--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        body.push_str("--XyZ--\r\n");
        body.into_bytes()
    }

    #[test]
    fn forms() {
        let body =
            form(&[("file", "binary --XyZ not a boundary\r\n\r\n"), ("model", "a/b"), ("stream", "true")]);
        let read = inspect(&body, "XyZ").unwrap();
        assert_eq!((read.model.as_str(), read.stream), ("a/b", true));
        let mut edits = [read.model_edit("whisper-1")];
        let out = super::super::request::apply(&body, &mut edits).concat();
        assert_eq!(
            out,
            form(&[
                ("file", "binary --XyZ not a boundary\r\n\r\n"),
                ("model", "whisper-1"),
                ("stream", "true")
            ])
        );
        for bad in [
            form(&[("file", "x")]),
            form(&[("model", "a/b"), ("model", "c/d")]),
            form(&[("model", "plain")]),
            form(&[("model", "a/b\r\nX: y")]),
            b"".to_vec(),
            b"--XyZ\r\n".to_vec(),
            b"--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na/b".to_vec(),
            b"--XyZmodel".to_vec(),
            b"-\n--XyZ--".to_vec(),
            b"---XyZ--".to_vec(),
        ] {
            assert!(inspect(&bad, "XyZ").is_err(), "{}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Some("abc"));
        assert_eq!(boundary("Multipart/Form-Data; charset=x; Boundary=\"a b\""), None);
        assert_eq!(boundary("multipart/form-data; boundary=\"a'b\""), Some("a'b"));
        for none in ["application/json", "multipart/form-data", "multipart/form-data; boundary="] {
            assert_eq!(boundary(none), None, "{none}");
        }
    }
}
