//! JSON and server-sent events, appended to a buffer.

/// Appends a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    // A `Vec` takes every write, and a `str` is always a JSON string.
    let _ = serde_json::to_writer(out, text);
}

/// Appends one object, field by field, in the order of the calls.
#[derive(Debug)]
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    /// Begins it.
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Begins the next field; its value is to be appended to what this gives.
    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        push_string(self.out, name);
        self.out.push(b':');
        self.out
    }

    /// A string.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        push_string(self.key(name), value);
        self
    }

    /// A string or `null`.
    pub fn maybe_text(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.json(name, "null"),
        }
    }

    /// A whole number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.json(name, &value.to_string())
    }

    /// What is JSON already.
    pub fn json(&mut self, name: &str, value: &str) -> &mut Self {
        self.key(name).extend_from_slice(value.as_bytes());
        self
    }

    /// An object.
    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        object(self.key(name), fill);
        self
    }
}

/// Appends a whole object.
pub fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    let mut object = Object::open(out);
    fill(&mut object);
    out.push(b'}');
}

/// Appends one event whose data is an object with the event's name as its `type`.
pub fn event(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    object(out, |data| {
        data.text("type", name);
        fill(data);
    });
    out.extend_from_slice(b"\n\n");
}
