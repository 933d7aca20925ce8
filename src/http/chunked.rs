//! The chunked transfer coding, RFC 9112 section 7.1, as a decoder without I/O.

use std::ops::Range;

/// Bytes of one chunk-size line with its extensions, and of all trailers.
const MAX_LINE_BYTES: usize = 4096;
const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// The bytes are no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidChunk;

/// What a decoder found at the start of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Content, as a place in the input; everything up to its end is consumed.
    Data(Range<usize>),
    /// This many bytes are consumed, and more input is needed.
    NeedMore(usize),
    /// This many bytes are consumed, and the body is complete.
    End(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Within a chunk-size line: digits seen so far, the size, and whether an extension has begun.
    Size {
        digits: u8,
        size: u64,
        in_extension: bool,
        line_bytes: usize,
    },
    /// White space behind the size: an extension or the line's end must come.
    SizeSpace {
        size: u64,
        line_bytes: usize,
    },
    /// The line feed of a chunk-size line must come.
    SizeLf {
        size: u64,
    },
    /// This much of the chunk is still to come.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// Within the trailers: bytes of the present line, whether its name has ended, bytes of all.
    Trailer {
        line_bytes: usize,
        in_value: bool,
        all_bytes: usize,
    },
    TrailerLf {
        line_bytes: usize,
        all_bytes: usize,
    },
    Done,
}

/// Reads a chunked body in pieces of any size.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: START }
    }
}

const START: State = State::Size { digits: 0, size: 0, in_extension: false, line_bytes: 0 };

impl ChunkedDecoder {
    /// Takes the next piece off the input. Call again with the rest until it needs more.
    ///
    /// # Errors
    /// When the bytes break the grammar or its limits; the framing is lost then.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, InvalidChunk> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data { left } => {
                    let available = u64::try_from(input.len() - at).unwrap_or(u64::MAX);
                    let taken = usize::try_from(left.min(available)).unwrap_or(0);
                    let left = left - left.min(available);
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Ok(Piece::Data(at..at + taken));
                }
                State::Size { digits, size, in_extension, line_bytes } => {
                    if line_bytes >= MAX_LINE_BYTES {
                        return Err(InvalidChunk);
                    }
                    let digit = char::from(byte).to_digit(16);
                    self.state = match (byte, digit) {
                        (b'\r', _) if digits > 0 => State::SizeLf { size },
                        (b'\r' | b'\n' | 0, _) => return Err(InvalidChunk),
                        (_, Some(digit)) if !in_extension => {
                            if digits >= 15 {
                                return Err(InvalidChunk);
                            }
                            let size = (size << 4) | u64::from(digit);
                            State::Size { digits: digits + 1, size, in_extension, line_bytes: line_bytes + 1 }
                        }
                        // White space may stand before an extension only.
                        (b' ' | b'\t', _) if digits > 0 && !in_extension => {
                            State::SizeSpace { size, line_bytes: line_bytes + 1 }
                        }
                        (b';', _) if digits > 0 => {
                            State::Size { digits, size, in_extension: true, line_bytes: line_bytes + 1 }
                        }
                        _ if in_extension => {
                            State::Size { digits, size, in_extension, line_bytes: line_bytes + 1 }
                        }
                        _ => return Err(InvalidChunk),
                    };
                }
                State::SizeSpace { size, line_bytes } => {
                    let line_bytes = line_bytes + 1;
                    self.state = match byte {
                        _ if line_bytes >= MAX_LINE_BYTES => return Err(InvalidChunk),
                        b' ' | b'\t' => State::SizeSpace { size, line_bytes },
                        b'\r' => State::SizeLf { size },
                        b';' => State::Size { digits: 1, size, in_extension: true, line_bytes },
                        _ => return Err(InvalidChunk),
                    };
                }
                State::SizeLf { size } => {
                    self.state = match (byte, size) {
                        (b'\n', 0) => State::Trailer { line_bytes: 0, in_value: false, all_bytes: 0 },
                        (b'\n', left) => State::Data { left },
                        _ => return Err(InvalidChunk),
                    };
                }
                State::DataCr if byte == b'\r' => self.state = State::DataLf,
                State::DataLf if byte == b'\n' => self.state = START,
                State::DataCr | State::DataLf => return Err(InvalidChunk),
                State::Trailer { line_bytes, in_value, all_bytes } => {
                    let is_name = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                    let fits = match byte {
                        b'\n' | 0 => false,
                        b'\r' => in_value || line_bytes == 0,
                        b':' => in_value || line_bytes > 0,
                        _ => in_value || is_name,
                    };
                    if all_bytes >= MAX_TRAILER_BYTES || !fits {
                        return Err(InvalidChunk);
                    }
                    let all_bytes = all_bytes + 1;
                    self.state = if byte == b'\r' {
                        State::TrailerLf { line_bytes, all_bytes }
                    } else {
                        let in_value = in_value || byte == b':';
                        State::Trailer { line_bytes: line_bytes + 1, in_value, all_bytes }
                    };
                }
                State::TrailerLf { line_bytes, all_bytes } => {
                    if byte != b'\n' {
                        return Err(InvalidChunk);
                    }
                    if line_bytes == 0 {
                        self.state = State::Done;
                        return Ok(Piece::End(at + 1));
                    }
                    self.state = State::Trailer { line_bytes: 0, in_value: false, all_bytes };
                }
                State::Done => return Ok(Piece::End(at)),
            }
            at += 1;
        }
        Ok(if self.state == State::Done { Piece::End(at) } else { Piece::NeedMore(at) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, bool), InvalidChunk> {
        let mut decoder = ChunkedDecoder::default();
        let mut out = Vec::new();
        for part in input.chunks(step) {
            let mut part = part;
            loop {
                match decoder.next(part)? {
                    Piece::Data(range) => {
                        out.extend_from_slice(&part[range.clone()]);
                        part = &part[range.end..];
                    }
                    Piece::NeedMore(_) => break,
                    Piece::End(_) => return Ok((out, true)),
                }
            }
        }
        Ok((out, decoder.state == State::Done))
    }

    #[test]
    fn bodies_in_pieces_of_every_size() {
        let body =
            b"4\r\nWiki\r\n5;name=\"v\"\r\npedia\r\nE \r\n in\r\n\r\nchunks.\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..=body.len() {
            assert_eq!(
                decode(body, step).unwrap(),
                (b"Wikipedia in\r\n\r\nchunks.".to_vec(), true),
                "step {step}"
            );
        }
        assert_eq!(decode(b"0\r\n\r\n", 1).unwrap(), (Vec::new(), true));
        assert_eq!(decode(b"3\r\nab", 9).unwrap(), (b"ab".to_vec(), false));
    }

    #[test]
    fn what_is_no_chunked_body() {
        for bad in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1\n",
            b"1\r\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1;\n\r\n",
            b"0\r\nX: y\n\r\n",
            b"fffffffffffffffff\r\n",
            b";\r\n",
            b"1\x00\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"5 zz\r\n",
            b"5 5\r\n",
            b"0\r\na : b\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
        ] {
            for step in [1, bad.len()] {
                assert!(decode(bad, step).is_err(), "{}", String::from_utf8_lossy(bad));
            }
        }
        assert!(decode(&[&b"1;"[..], &vec![b'a'; 5000]].concat(), 4096).is_err());
        assert!(decode(&[&b"0\r\n"[..], &vec![b'a'; 20000]].concat(), 4096).is_err());
    }
}
