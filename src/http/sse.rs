//! Server-sent events as bytes: split at their ends, never decoded as text per read. WHATWG HTML, section 9.2.

use std::borrow::Cow;
use std::ops::Range;

/// What the splitter hands out next, as a place in its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole event with the empty line that ends it.
    Whole(Range<usize>),
    /// A piece of an event that is larger than may be held back; `last` when it ends here.
    Fragment {
        /// Where it stands.
        range: Range<usize>,
        /// The event ends with this piece.
        last: bool,
    },
}

/// Collects bytes and hands out events as soon as they are whole.
#[derive(Debug)]
pub struct EventSplitter {
    buffer: Vec<u8>,
    /// Everything before this was handed out.
    start: usize,
    /// Everything before this was looked at.
    scanned: usize,
    line_is_empty: bool,
    after_cr: bool,
    /// A carriage return ended an event; a line feed after it belongs to it.
    ended_by_cr: bool,
    in_fragments: bool,
    max_event_bytes: usize,
}

impl EventSplitter {
    /// A splitter that holds back at most this much of one event.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            line_is_empty: true,
            after_cr: false,
            ended_by_cr: false,
            in_fragments: false,
            max_event_bytes,
        }
    }

    /// Takes bytes in. What was handed out before is forgotten.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.scanned = 0;
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
        }
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.capacity() > 4 * self.max_event_bytes && self.buffer.len() < self.max_event_bytes {
            self.buffer.shrink_to(self.max_event_bytes);
        }
    }

    /// The bytes at a place that was handed out.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.buffer.get(range.clone()).unwrap_or_default()
    }

    /// The next event or piece of one; `None` until more bytes come.
    pub fn next(&mut self) -> Option<Event> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if self.ended_by_cr {
                self.ended_by_cr = false;
                if byte == b'\n' {
                    self.scanned += 1;
                }
                self.after_cr = false;
                return Some(self.hand_out(true));
            }
            match byte {
                b'\n' => {
                    self.scanned += 1;
                    if self.after_cr {
                        self.after_cr = false;
                    } else if self.line_is_empty {
                        return Some(self.hand_out(true));
                    } else {
                        self.line_is_empty = true;
                    }
                }
                b'\r' => {
                    self.scanned += 1;
                    self.after_cr = true;
                    self.ended_by_cr = self.line_is_empty;
                    self.line_is_empty = true;
                }
                _ => {
                    self.after_cr = false;
                    self.line_is_empty = false;
                    let rest = self.buffer.get(self.scanned..).unwrap_or_default();
                    self.scanned += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                }
            }
        }
        let held = self.buffer.len() - self.start;
        if held > self.max_event_bytes || (self.in_fragments && held > 0) {
            self.in_fragments = true;
            return Some(self.hand_out(false));
        }
        None
    }

    fn hand_out(&mut self, ends: bool) -> Event {
        let range = self.start..self.scanned;
        self.start = self.scanned;
        if ends {
            self.line_is_empty = true;
        }
        if self.in_fragments {
            self.in_fragments = !ends;
            Event::Fragment { range, last: ends }
        } else {
            Event::Whole(range)
        }
    }

    /// What is left when the stream has ended: an event without its empty line, perhaps nothing.
    pub fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Whether a part of an unfinished event was already handed out.
    pub fn is_in_fragments(&self) -> bool {
        self.in_fragments
    }
}

/// The lines of one event, without their ends.
pub fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let event = event.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(event);
    event.split(|b| *b == b'\n').flat_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.split(|b| *b == b'\r')
    })
}

/// The value of a field line: after the colon, without one leading space; `None` when the line is another field.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    match rest.first() {
        None => Some(rest),
        Some(b':') => {
            let value = rest.get(1..).unwrap_or_default();
            Some(value.strip_prefix(b" ").unwrap_or(value))
        }
        Some(_) => None,
    }
}

/// The data of an event, its lines joined by line feeds; `None` when it has no data line.
pub fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    for line in lines(event) {
        if let Some(value) = field(line, b"data") {
            found = Some(match found {
                None => Cow::Borrowed(value),
                Some(before) => {
                    let mut joined = before.into_owned();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                    Cow::Owned(joined)
                }
            });
        }
    }
    found
}

/// The event's name, from its last `event:` line.
pub fn name(event: &[u8]) -> Option<&[u8]> {
    lines(event).filter_map(|line| field(line, b"event")).last()
}

/// An event without its `id:` and `retry:` lines, which make some clients hand out empty events; `None` when
/// nothing but those was in it. An event without such lines comes back as it is.
pub fn without_id_and_retry(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let unwanted = |line: &[u8]| field(line, b"id").is_some() || field(line, b"retry").is_some();
    // Nearly every event begins with its data line and has only that.
    if !lines(event).any(unwanted) {
        return Some(Cow::Borrowed(event));
    }
    let mut kept = Vec::with_capacity(event.len());
    let mut has_content = false;
    for line in event.split_inclusive(|b| *b == b'\n') {
        let text = line.trim_ascii_end();
        if !unwanted(text) {
            has_content |= !text.is_empty();
            kept.extend_from_slice(line);
        }
    }
    has_content.then_some(Cow::Owned(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(stream: &[u8], step: usize, max: usize) -> (Vec<(Vec<u8>, bool)>, Vec<u8>) {
        let mut splitter = EventSplitter::new(max);
        let mut out = Vec::new();
        for part in stream.chunks(step.max(1)) {
            splitter.push(part);
            while let Some(event) = splitter.next() {
                match event {
                    Event::Whole(range) => out.push((splitter.bytes(&range).to_vec(), true)),
                    Event::Fragment { range, .. } => out.push((splitter.bytes(&range).to_vec(), false)),
                }
            }
        }
        (out, splitter.rest().to_vec())
    }

    #[test]
    fn events_are_the_same_however_they_arrive() {
        let stream = "\u{feff}data: {\"é\":1}\n\n: comment\n\nevent: x\r\ndata: a\r\ndata: b\r\n\r\ndata: c\r\rdata: [DONE]\n\ndata: tail";
        let whole = split(stream.as_bytes(), stream.len(), 1000);
        let texts: Vec<_> =
            whole.0.iter().map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned()).collect();
        assert_eq!(
            texts,
            [
                "\u{feff}data: {\"é\":1}\n\n",
                ": comment\n\n",
                "event: x\r\ndata: a\r\ndata: b\r\n\r\n",
                "data: c\r\r",
                "data: [DONE]\n\n"
            ]
        );
        assert_eq!(whole.1, b"data: tail");
        for step in 1..stream.len() {
            assert_eq!(split(stream.as_bytes(), step, 1000), whole, "step {step}");
        }
    }

    #[test]
    fn giant_events_pass_in_pieces() {
        let stream = [b"data: ".as_slice(), &vec![b'x'; 5000], b"\n\ndata: small\n\n"].concat();
        for step in [1, 7, 100, 3000, 10_000] {
            let (events, rest) = split(&stream, step, 1000);
            let joined: Vec<u8> = events.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            assert_eq!(joined, stream, "step {step}");
            assert!(rest.is_empty());
            assert_eq!(events.last().unwrap(), &(b"data: small\n\n".to_vec(), true));
        }
    }

    #[test]
    fn fields() {
        assert_eq!(data(b"data: a\ndata:b\n\n").unwrap().as_ref(), b"a\nb");
        assert_eq!(data(b"data:  a\r\n\r\n").unwrap().as_ref(), b" a");
        assert_eq!(data(b": x\n\n"), None);
        assert_eq!(data(b"database: x\n\n"), None);
        assert_eq!(data("\u{feff}data: x\n\n".as_bytes()).unwrap().as_ref(), b"x");
        assert_eq!(name(b"event: response.completed\ndata: {}\n\n"), Some(&b"response.completed"[..]));
        assert_eq!(without_id_and_retry(b"data: x\n\n").unwrap().as_ref(), b"data: x\n\n");
        assert_eq!(without_id_and_retry(b"id: 7\ndata: x\nretry: 10\n\n").unwrap().as_ref(), b"data: x\n\n");
        assert_eq!(without_id_and_retry(b"retry: 10\n\n"), None);
        assert_eq!(without_id_and_retry(b": c\n\n").unwrap().as_ref(), b": c\n\n");
    }
}
