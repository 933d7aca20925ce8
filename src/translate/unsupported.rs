//! What a provider can not do: refused by name, or dropped and listed.

use super::Target;

/// Names of what was dropped, by the caller's field names.
pub type Dropped = Vec<String>;

/// Names of dropped fields that are listed; what is beyond is counted in no header.
const MAX_DROPPED: usize = 32;

/// Characters of a field's path that are repeated; parts of it are the caller's own.
const MAX_FIELD_CHARS: usize = 200;
/// Characters of a sentence.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// A text without what would break a line, and cut to so many characters.
fn few_words(text: String, most_chars: usize) -> String {
    if text.len() <= most_chars && !text.chars().any(char::is_control) {
        return text;
    }
    text.chars().filter(|c| !c.is_control()).take(most_chars).collect()
}

/// A request that can not be served, and why, for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field, by its path in the caller's body, such as `messages[2].content[0].image_url`.
    pub field: String,
    /// One sentence; holds no text of the prompt.
    pub message: String,
}

impl Invalid {
    /// A refusal of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: few_words(field.into(), MAX_FIELD_CHARS),
            message: few_words(message.into(), MAX_MESSAGE_CHARS),
        }
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Collects what a provider can not do.
#[derive(Debug)]
pub struct Unsupported<'a> {
    target: Target<'a>,
    dropped: Dropped,
}

impl<'a> Unsupported<'a> {
    /// Nothing yet.
    pub fn new(target: Target<'a>) -> Self {
        Self { target, dropped: Dropped::new() }
    }

    /// A field that the provider (or this model of it) can not serve and that can be left out without changing what
    /// the answer means to be.
    ///
    /// # Errors
    /// Unless the account drops such fields.
    pub fn field(&mut self, field: &str) -> Result<(), Invalid> {
        if !self.target.drop_unsupported {
            let named = few_words(field.to_owned(), MAX_FIELD_CHARS);
            return Err(Invalid::new(
                field,
                format!(
                    "'{named}' is not supported by {} ({}); leave it out, or have the account's manager set drop_unsupported",
                    self.target.provider, self.target.model_id
                ),
            ));
        }
        self.note(field);
        Ok(())
    }

    /// A wish that can not be met in this one request, for a reason that the caller did not choose (thinking in a
    /// tool loop whose thoughts did not come back), or that changes nothing of the answer (cache marks): listed and
    /// never refused.
    pub fn note(&mut self, field: &str) {
        if self.dropped.len() < MAX_DROPPED && !self.dropped.iter().any(|known| known == field) {
            self.dropped.push(field.chars().filter(|c| c.is_ascii_graphic()).take(64).collect());
        }
    }

    /// What was dropped.
    pub fn into_dropped(self) -> Dropped {
        self.dropped
    }
}
