//! What a browser sends: queries, `application/x-www-form-urlencoded` bodies and cookies, within limits.

use crate::failure::Failure;

/// Bytes of a form's body. Certificates and manifests are pasted into forms.
pub const MAX_FORM_BYTES: u64 = 256 * 1024;
/// Fields of one form or query.
const MAX_FIELDS: usize = 512;
/// Bytes of all cookies that are looked at.
const MAX_COOKIE_BYTES: usize = 16 * 1024;

/// The fields of a query or of a form, decoded, in order. Values may be secrets: never printed.
#[derive(Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fields({})", self.0.len())
    }
}

/// Decodes `%XX` and, where `plus` says so, `+` as a space; `None` when an escape is broken or the result is no
/// UTF-8.
pub fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                decoded.push(high << 4 | low);
            }
            b'+' if plus => decoded.push(b' '),
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).ok()
}

/// A text as one segment of a path or one value of a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl Fields {
    /// Reads `name=value&...`.
    ///
    /// # Errors
    /// When an escape is broken, or there are too many fields.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut fields = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if fields.len() >= MAX_FIELDS {
                return Err(Failure::BadRequest("The form has too many fields".into()));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let broken = || Failure::BadRequest("The form holds a broken %-escape".into());
            let name = decode(name, true).ok_or_else(broken)?;
            fields.push((name, decode(value, true).ok_or_else(broken)?));
        }
        Ok(Self(fields))
    }

    /// The first value of a field, without the spaces around it; empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The first value of a field as it was sent; empty when there is none.
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The value of a field that was filled in.
    pub fn filled(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Whether a checkbox is set.
    pub fn is_set(&self, name: &str) -> bool {
        self.filled(name).is_some()
    }

    /// All values of a field, such as the choices of checkboxes.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is something else; `None` when the field is empty.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.filled(name) else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Some(number)),
            _ => Err(Failure::Unprocessable(format!("'{name}' must be a whole number").into())),
        }
    }

    /// The same fields with one replaced, added, or (for an empty value) removed, as a query: for links that
    /// keep the rest of what a page was asked for.
    pub fn query_with(&self, changes: &[(&str, &str)]) -> String {
        let mut query = String::new();
        let kept = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = kept.filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        for (name, value) in kept.chain(changes.iter().copied()).filter(|(_, value)| !value.is_empty()) {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&encode(name));
            query.push('=');
            query.push_str(&encode(value));
        }
        query
    }

    /// The fields that are not among some, for hidden inputs.
    pub fn except<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let kept = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        kept.filter(move |(name, value)| !value.is_empty() && !names.contains(name))
    }

    /// Fields for tests.
    #[cfg(test)]
    pub fn of(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

/// The value of a cookie in the `Cookie` lines of a request. One that stands twice is none: somebody planted one.
pub fn cookie<'h>(lines: impl Iterator<Item = &'h [u8]>, name: &str) -> Option<&'h str> {
    let mut found = None;
    let mut seen_bytes = 0_usize;
    for line in lines {
        seen_bytes = seen_bytes.saturating_add(line.len());
        if seen_bytes > MAX_COOKIE_BYTES {
            return None;
        }
        let Ok(line) = std::str::from_utf8(line) else { continue };
        for (key, value) in line.split(';').filter_map(|part| part.trim().split_once('=')) {
            if key == name && found.replace(value).is_some() {
                return None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Fields, cookie, decode, encode};

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let fields = Fields::parse("name=a+b%26c&on=on&pick=1&pick=2&empty=&days=30&name=second").unwrap();
        assert_eq!(fields.text("name"), "a b&c");
        assert!(fields.is_set("on") && !fields.is_set("empty") && !fields.is_set("absent"));
        assert_eq!(fields.all("pick").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(fields.number("days").unwrap(), Some(30));
        assert_eq!(fields.number("empty").unwrap(), None);
        assert_eq!(fields.number("name").unwrap_err().status(), 422);
        assert_eq!(
            fields.query_with(&[("pick", ""), ("name", ""), ("q", "ü &")]),
            "?on=on&days=30&q=%C3%BC%20%26"
        );
        assert_eq!(Fields::default().query_with(&[]), "");
    }

    #[test]
    fn hostile_forms_are_refused() {
        for bad in ["a=%", "a=%2", "a=%zz", "%ff=1", "a=%ff"] {
            assert_eq!(Fields::parse(bad).unwrap_err().status(), 400, "{bad}");
        }
        assert_eq!(Fields::parse(&"a=1&".repeat(513)).unwrap_err().status(), 400);
        assert!(Fields::parse(&"a=1&".repeat(512)).is_ok());
        for number in ["+8", "-1", "1e3", "18446744073709551616", "٣"] {
            assert!(Fields::of(&[("n", number)]).number("n").is_err(), "{number}");
        }
        assert_eq!(format!("{:?}", Fields::of(&[("password", "hunter2")])), "Fields(1)");
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for text in ["", "plain", "a/b c+d%", "<script>", "\u{202e}x", "é\0\n"] {
            assert_eq!(decode(&encode(text), true).as_deref(), Some(text));
        }
        assert_eq!(encode("ada@example.com"), "ada@example.com");
    }

    #[test]
    fn cookies_are_found_and_planted_ones_are_not() {
        let of = |lines: &[&'static str], name| {
            cookie(lines.iter().map(|line| line.as_bytes()), name).map(str::to_owned)
        };
        assert_eq!(of(&["a=1; session=x ;b=2"], "session").as_deref(), Some("x"));
        assert_eq!(of(&["a=1", "session=y"], "session").as_deref(), Some("y"));
        assert_eq!(of(&["session=x; session=y"], "session"), None);
        assert_eq!(of(&["session=x", "session=x"], "session"), None);
        assert_eq!(of(&["xsession=x; Session=y"], "session"), None);
        assert_eq!(of(&["session"], "session"), None);
    }
}
