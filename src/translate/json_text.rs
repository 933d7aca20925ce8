//! JSON written by hand, for the places where each piece of a stream passes: appended to a buffer, without a tree.

/// Appends a JSON string with its quotes.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text, out);
    out.push(b'"');
}

/// Appends what stands between the quotes of a JSON string (RFC 8259, section 7). Everything but quotes, backslashes
/// and control characters stays as it is.
pub fn escaped(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(place) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, tail) = rest.split_at(place);
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = tail.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                let digits = [byte >> 4, byte & 15].map(|digit| HEX.get(usize::from(digit)).copied());
                out.extend(digits.into_iter().flatten());
            }
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
}

/// Appends a number in decimal.
pub fn unsigned(number: u64, out: &mut Vec<u8>) {
    if let Some(digit) = u8::try_from(number).ok().filter(|digit| *digit < 10) {
        out.push(b'0' + digit);
        return;
    }
    out.extend_from_slice(number.to_string().as_bytes());
}

/// An object that is being written: commas stand by themselves.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Opens one.
    pub fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// Writes a name and lends the buffer for its value, which must be one whole JSON value.
    pub fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        string(name, self.out);
        self.out.push(b':');
        self.out
    }

    /// A member whose value is a string.
    pub fn string(&mut self, name: &str, value: &str) {
        string(value, self.name(name));
    }

    /// A member whose value is a number.
    pub fn unsigned(&mut self, name: &str, value: u64) {
        unsigned(value, self.name(name));
    }

    /// A member whose value is JSON already.
    pub fn json(&mut self, name: &str, value: &str) {
        self.name(name).extend_from_slice(value.as_bytes());
    }

    /// Closes it.
    pub fn close(self) {
        self.out.push(b'}');
    }
}

/// Appends an array, each item by the function, which must write one whole JSON value.
pub fn array<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (number, item) in items.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_read_back_as_they_were() {
        let mut every = String::new();
        for code in 0..0x3000u32 {
            every.extend(char::from_u32(code));
        }
        for text in ["", "plain", "\"", "\\", "a\nb\r\t\u{0}\u{1f}\u{7f}\u{2028}", "é😀", "</script>", &every]
        {
            let mut out = Vec::new();
            string(text, &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert!(
                !out.contains(&b'\n') && !out.contains(&b'\r'),
                "a line break would end the line of an event"
            );
        }
    }

    #[test]
    fn numbers_and_objects() {
        for number in [0, 7, 9, 10, 255, 256, u64::MAX] {
            let mut out = Vec::new();
            unsigned(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.string("a\"", "b");
        object.unsigned("n", 12);
        object.json("j", "[1.0]");
        array([1, 2], object.name("l"), unsigned);
        object.close();
        assert_eq!(out, br#"{"a\"":"b","n":12,"j":[1.0],"l":[1,2]}"#);
    }
}
