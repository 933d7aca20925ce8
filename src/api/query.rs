//! The query and the path of a request.

use crate::clock::UnixMillis;
use crate::failure::Failure;
use crate::manage::Page;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
const DATE_CHARS: usize = "2027-01-31".len();
const DAY_MS: u64 = 86_400_000;

fn bad_request(text: String) -> Failure {
    Failure::BadRequest(text.into())
}

/// Decodes `%XX`; `None` when an escape is broken or the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            decoded.push(high << 4 | low);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// A parsed query. Parameters that nothing asks for are ignored: clients send some that mean nothing here.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `name=value&...` as forms write it.
    ///
    /// # Errors
    /// When an escape is broken.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text: &str| {
                percent_decode(&text.replace('+', " "))
                    .ok_or_else(|| bad_request("The query holds a broken %-escape".into()))
            };
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter; an empty one counts as absent.
    ///
    /// # Errors
    /// When it is given twice.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(bad_request(format!("The query has '{name}' twice")));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// The parameters whose names begin so, with the rest of their names; empty values count too.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let rest =
            |(name, value): &(String, String)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone()));
        self.0.iter().filter_map(rest).collect()
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// When it is missing or given twice.
    pub fn required(&self, name: &str) -> Result<&str, Failure> {
        self.get(name)?.ok_or_else(|| bad_request(format!("The query needs '{name}'")))
    }

    /// A truth value.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name)? {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(bad_request(format!("'{name}' must be true or false"))),
        }
    }

    /// `limit` and `offset`.
    ///
    /// # Errors
    /// When they are not numbers.
    pub fn page(&self) -> Result<Page, Failure> {
        let number = |name: &str| match self.get(name)? {
            None => Ok(None),
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Some(text.parse::<usize>().unwrap_or(usize::MAX)))
            }
            Some(_) => Err(bad_request(format!("'{name}' must be a whole number, not negative"))),
        };
        let limit = number("limit")?.unwrap_or(DEFAULT_LIMIT);
        if limit == 0 {
            return Err(bad_request("'limit' must be at least 1".into()));
        }
        Ok(Page { limit: limit.min(MAX_LIMIT), offset: number("offset")?.unwrap_or(0) })
    }

    /// A time at which something starts: a date means its first moment.
    ///
    /// # Errors
    /// When it is no date or time.
    pub fn start(&self, name: &str) -> Result<Option<UnixMillis>, Failure> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let time = UnixMillis::parse(text).map_err(bad_request)?;
        let date = text.len() == DATE_CHARS;
        Ok(Some(if date { UnixMillis((time.0 + 1).saturating_sub(DAY_MS)) } else { time }))
    }

    /// A time before which something ends: a date means that this day is still in.
    ///
    /// # Errors
    /// When it is no date or time.
    pub fn end(&self, name: &str) -> Result<Option<UnixMillis>, Failure> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let time = UnixMillis::parse(text).map_err(bad_request)?;
        let date = text.len() == DATE_CHARS;
        Ok(Some(if date { UnixMillis(time.0.saturating_add(1)) } else { time }))
    }
}
