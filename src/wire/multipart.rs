//! `multipart/form-data` request bodies (RFC 7578), read as places in the bytes: files stay where they are.
//!
//! Readers of forms differ in what they forgive, so nothing is forgiven here: a form that two readers could take
//! apart differently would let the provider see another model than the one that was checked.

use std::ops::Range;

use super::request::{Edit, InvalidRequest, check_model, looks_like};

/// Parts of one body.
const MAX_PARTS: usize = 256;

/// Bytes of the head of one part.
const MAX_PART_HEAD_BYTES: usize = 8 * 1024;

/// What matters of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The model as the caller wrote it.
    pub model: String,
    model_range: Range<usize>,
    boundary: String,
}

impl Form {
    /// The edit that makes the model the provider's own id.
    pub fn model_edit(&self, model_id: &str) -> Edit {
        Edit { range: self.model_range.clone(), replacement: model_id.as_bytes().to_vec() }
    }

    /// The content type that says how this form was read.
    pub fn content_type(&self) -> String {
        let boundary = &self.boundary;
        if boundary.bytes().all(is_token_byte) {
            format!("multipart/form-data; boundary={boundary}")
        } else {
            format!("multipart/form-data; boundary=\"{boundary}\"")
        }
    }
}

fn refused(text: &'static str) -> InvalidRequest {
    InvalidRequest(text.into())
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Name and value of a header's parameter.
type Parameter<'a> = (&'a [u8], &'a [u8]);

/// A header value of the form `value; name=token; name="quoted"`: the value, and the parameters as they stand.
/// `None` when it has another form, a backslash in a quoted value, or one name twice.
pub fn parameters(header: &[u8]) -> Option<(&[u8], Vec<Parameter<'_>>)> {
    let end = memchr::memchr(b';', header).unwrap_or(header.len());
    let value = header.get(..end)?.trim_ascii();
    let mut rest = header.get(end..)?;
    let mut found: Vec<(&[u8], &[u8])> = Vec::new();
    while let Some(parameter) = rest.strip_prefix(b";") {
        let parameter = parameter.trim_ascii_start();
        let equals = memchr::memchr(b'=', parameter)?;
        let (name, given) = (parameter.get(..equals)?, parameter.get(equals + 1..)?);
        let (text, behind) = if let Some(quoted) = given.strip_prefix(b"\"") {
            let end = memchr::memchr2(b'"', b'\\', quoted).filter(|end| quoted.get(*end) == Some(&b'"'))?;
            (quoted.get(..end)?, quoted.get(end + 1..)?)
        } else {
            let end = given.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(given.len());
            (given.get(..end)?, given.get(end..).filter(|_| end > 0)?)
        };
        let is_name = !name.is_empty() && name.iter().copied().all(is_token_byte);
        if !is_name || found.len() >= 8 || found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        found.push((name, text));
        rest = behind.trim_ascii_start();
    }
    rest.is_empty().then_some((value, found))
}

/// Whether a boundary is one that every reader takes alike. RFC 2046 section 5.1.1, without the space.
pub fn is_boundary(boundary: &str) -> bool {
    (1..=70).contains(&boundary.len())
        && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte))
}

/// Reads a form. A `model` part that stands twice is refused: the provider could take the other.
///
/// # Errors
/// What is wrong, for the caller.
pub fn inspect(body: &[u8], boundary: &str) -> Result<Form, InvalidRequest> {
    let delimiter = format!("--{boundary}");
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let mut at = finder.find(body).ok_or(refused("The multipart body has no boundary"))?;
    if !matches!(body.get(..at), Some(b"" | b"\r\n")) {
        return Err(refused("The multipart body does not begin with its boundary"));
    }
    let mut model = None;
    let mut has_stream = false;
    for _ in 0..MAX_PARTS {
        let after = at + delimiter.len();
        match body.get(after..after + 2) {
            Some(b"--") if matches!(body.get(after + 2..), Some(b"" | b"\r\n")) => {
                let (model, model_range) = model.ok_or(refused("The form has no 'model' part"))?;
                return Ok(Form { model, model_range, boundary: boundary.to_owned() });
            }
            Some(b"--") => return Err(refused("The multipart body goes on behind its end")),
            Some(b"\r\n") => {}
            _ => return Err(refused("The multipart body has a broken boundary")),
        }
        let rest = body.get(after + 2..).unwrap_or_default();
        let head = rest.get(..rest.len().min(MAX_PART_HEAD_BYTES)).unwrap_or_default();
        let head_length = memchr::memmem::find(head, b"\r\n\r\n")
            .ok_or(refused("A part of the form has no end of its head, or a very long one"))?;
        let part = part(rest.get(..head_length).unwrap_or_default())?;
        let content = after + 2 + head_length + 4;
        let next = next_delimiter(body, content, &finder)?;
        let range = content..next - 2;
        let text =
            || body.get(range.clone()).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
        match part.field {
            Some("model") if part.is_file => return Err(refused("The form's 'model' is a file")),
            Some("model") => {
                let text = text();
                check_model(text)?;
                if text.contains(char::is_control) {
                    return Err(refused("'model' must be written account/model"));
                }
                if model.replace((text.to_owned(), range)).is_some() {
                    return Err(refused("The form has more than one 'model' part"));
                }
            }
            Some(_) => {
                let text = text();
                if part.is_file || !["true", "false"].iter().any(|known| text.eq_ignore_ascii_case(known)) {
                    return Err(refused("The form's 'stream' must be true or false"));
                }
                if std::mem::replace(&mut has_stream, true) {
                    return Err(refused("The form has more than one 'stream' part"));
                }
            }
            None => {}
        }
        at = next;
    }
    Err(refused("The form has too many parts"))
}

/// Where the next delimiter stands. One that does not follow a line end of its own is refused: some readers
/// take it for a delimiter all the same.
fn next_delimiter(
    body: &[u8],
    from: usize,
    finder: &memchr::memmem::Finder<'_>,
) -> Result<usize, InvalidRequest> {
    let mut at = from;
    loop {
        let found = body.get(at..).and_then(|rest| finder.find(rest));
        let found = at + found.ok_or(refused("The multipart body is cut off"))?;
        if found >= from + 2 && body.get(found - 2..found) == Some(b"\r\n") {
            return Ok(found);
        }
        if found == from || matches!(body.get(found - 1), Some(b'\r' | b'\n')) {
            return Err(refused("The multipart body has a boundary without a line end before it"));
        }
        at = found + 1;
    }
}

/// What the head of a part says.
struct Part {
    /// `model` or `stream`, if it is one of them.
    field: Option<&'static str>,
    is_file: bool,
}

fn part(head: &[u8]) -> Result<Part, InvalidRequest> {
    const BROKEN: &str = "A part of the form has a broken head";
    let mut disposition = None;
    let mut lines = head;
    loop {
        let end = memchr::memmem::find(lines, b"\r\n").unwrap_or(lines.len());
        let (line, rest) = lines.split_at_checked(end).ok_or(refused(BROKEN))?;
        let colon = memchr::memchr(b':', line).ok_or(refused(BROKEN))?;
        let (name, value) = line.split_at_checked(colon).ok_or(refused(BROKEN))?;
        // A folded line begins with a space, which is in no name; "--" could begin a delimiter.
        let is_name = !name.is_empty() && !name.starts_with(b"--") && name.iter().copied().all(is_token_byte);
        if !is_name || value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(refused(BROKEN));
        }
        let value = value.strip_prefix(b":").unwrap_or_default();
        if name.eq_ignore_ascii_case(b"content-disposition") && disposition.replace(value).is_some() {
            return Err(refused("A part of the form has more than one Content-Disposition"));
        }
        match rest.strip_prefix(b"\r\n") {
            Some(rest) => lines = rest,
            None => break,
        }
    }
    let broken = || refused("A part of the form needs 'Content-Disposition: form-data; name=\"...\"'");
    let (kind, parameters) = disposition.and_then(parameters).ok_or_else(broken)?;
    let is_named = |known: &[u8], name: &[u8]| known.eq_ignore_ascii_case(name);
    // `name*` and `name*0` are other ways to write a name, which only some readers know.
    let extended = parameters.iter().any(|(key, _)| key.get(..5).is_some_and(|key| is_named(key, b"name*")));
    let name = parameters.iter().find(|(key, _)| is_named(key, b"name")).map(|(_, name)| *name);
    let name = name.filter(|_| !extended && is_named(kind, b"form-data")).ok_or_else(broken)?;
    let is_file =
        parameters.iter().any(|(key, _)| key.get(..8).is_some_and(|key| is_named(key, b"filename")));
    let name = String::from_utf8_lossy(name);
    let field = ["model", "stream"].into_iter().find(|field| looks_like(name.trim(), field));
    if field.is_some_and(|field| field != name) {
        return Err(refused("Write the names of the form's parts 'model' and 'stream' exactly so"));
    }
    Ok(Part { field, is_file })
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
        assert_eq!(read.model, "a/b");
        assert_eq!(read.content_type(), "multipart/form-data; boundary=XyZ");
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
            form(&[("model", "a/b"), ("Model", "c/d")]),
            form(&[("MODEL", "c/d"), ("model", "a/b")]),
            form(&[("model", "a/b"), (" model", "c/d")]),
            form(&[("model", "a/b"), ("Stream", "true")]),
            form(&[("model", "a/b"), ("stream", "1")]),
            form(&[("model", &format!("a/{}", "b".repeat(255)))]),
            // Bytes behind the end, and before the beginning.
            [form(&[("model", "a/b")]), form(&[("model", "c/d")])].concat(),
            [b"preamble\r\n".to_vec(), form(&[("model", "a/b")])].concat(),
            // An empty part without a line end of its own, and bare line ends: a part to others, text to us.
            form(&[
                ("x", "--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nc/d"),
                ("model", "a/b"),
            ])
            .into_iter()
            .collect(),
            form(&[
                ("x", "y\n--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nc/d"),
                ("model", "a/b"),
            ]),
        ] {
            assert!(inspect(&bad, "XyZ").is_err(), "{}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn heads_of_parts() {
        let read = |head: &str| {
            let body = format!(
                "--b\r\n{head}\r\n\r\nc/d\r\n--b\r\nContent-Disposition: form-data; name=model\r\n\r\na/b\r\n--b--"
            );
            inspect(body.as_bytes(), "b").map(|form| form.model)
        };
        for good in [
            "content-disposition: form-data; name=prompt",
            "Content-Disposition:form-data;name=\"a; b=c\";filename=\"x: \u{e9};.wav\"\r\nContent-Type: audio/wav",
            "Content-Type: x\r\nContent-Disposition: form-data; name=\"file\"; filename*=utf-8''a.wav",
            "Content-Disposition: FORM-DATA; Name=\"models\" ",
        ] {
            assert_eq!(read(good).as_deref(), Ok("a/b"), "{good}");
        }
        let fine = "Content-Disposition: form-data; name=\"x\"";
        for bad in [
            "",
            "X: y",
            "Content-Disposition: attachment; name=\"x\"",
            "Content-Disposition: form-data",
            "Content-Disposition: form-data; filename=\"x\"",
            "Content-Disposition: form-data; name=\"x\"; name=\"model\"",
            "Content-Disposition: form-data; name=\"x\"; NAME=model",
            "Content-Disposition: form-data; name=\"x\"; name*=utf-8''model",
            "Content-Disposition: form-data; name=\"x\"; name*0=model",
            "Content-Disposition: form-data; name=\"x\"; filename=\"a\"; filename=\"b\"",
            "Content-Disposition: form-data; name=\"mod\\el\"",
            "Content-Disposition: form-data; name=\"x\" y",
            "Content-Disposition: form-data; name=\"x",
            "Content-Disposition: form-data; name=x y",
            "Content-Disposition: form-data; name=",
            "Content-Disposition: form-data; name",
            "Content-Disposition: form-data;; name=x",
            "Content-Disposition: form-data; name=\"x\";",
            "Content-Disposition: form-data, name=\"x\"",
            "Content-Disposition: form-data; name =\"x\"",
            "Content-Disposition : form-data; name=\"x\"",
            "Content-Disposition: form-data;\r\n name=\"x\"",
            "Content-Disposition: form-data; name=\"x\"\nContent-Disposition: form-data; name=\"model\"",
            "Content-Disposition: form-data; name=\"x\0\"",
            "Content-Disposition: form-data; name=\"Model\"",
            "Content-Disposition: form-data; name=\"model\"; filename=\"m\"",
            &format!("{fine}\r\n{fine}"),
            &format!("{fine}\r\nno colon"),
            &format!("{fine}\r\n folded: yes"),
            &format!("{fine}\r\n--b--: x"),
            &format!("{fine}\r\nX: {}", "y".repeat(MAX_PART_HEAD_BYTES)),
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_parameters() {
        let boundary = |header: &str| {
            let (_, found) = parameters(header.as_bytes())?;
            let found = found.into_iter().find(|(name, _)| *name == b"boundary")?;
            Some(String::from_utf8(found.1.to_vec()).unwrap())
        };
        assert_eq!(boundary("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(
            boundary("multipart/form-data ;x=\";boundary=z\" ; boundary=\"a;b\"").as_deref(),
            Some("a;b")
        );
        for none in
            ["a/b", "a/b; boundary=", "a/b; boundary=a; Boundary=b", "a/b; boundary=\"a", "a/b; boundary=a b"]
        {
            assert_eq!(boundary(none), None, "{none}");
        }
        for (text, right) in
            [("a'b(),=?", true), ("", false), ("a b", false), ("a;b", false), ("a\"b", false)]
        {
            assert_eq!(is_boundary(text), right, "{text}");
        }
        let quoted =
            inspect(b"--a:b\r\nContent-Disposition: form-data; name=model\r\n\r\nx/y\r\n--a:b--", "a:b")
                .unwrap();
        assert_eq!(quoted.content_type(), "multipart/form-data; boundary=\"a:b\"");
    }
}
