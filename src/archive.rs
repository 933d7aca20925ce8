//! The format of a backup: one file that can be written and read as a stream, whatever its size.
//!
//! A line (`gateway backup 1`), then frames: a letter, the payload's length as four bytes little-endian, the payload.
//! - `H`: what the backup is of, JSON ([`Header`]); comes first, once.
//! - `K`: the master key, 64 hex digits; only where it was asked for.
//! - `F`: a database begins, such as `state.redb`. `T`: a table of it begins.
//! - `R`: rows: key and value in turn, each behind its length (four bytes little-endian).
//! - `S`: the table ends: its number of rows (eight bytes) and the BLAKE3 of the payloads of its `R` frames.
//! - `E`: the end: the BLAKE3 of every byte before this frame. Nothing comes after it.
//!
//! Rows rather than pages of the databases, so that a backup is as small as what is in it, does not depend on the
//! version of the database's file format, and comes from one reading without a copy on the gateway's disk. The hashes
//! find damage, not malice: whoever can write the file can write hashes. What is in it is sealed and chained itself.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How every backup of this version begins.
pub const MAGIC: &str = "gateway backup 1\n";
/// What begins every backup, of whatever version.
const FAMILY: &[u8] = b"gateway backup ";
/// Bytes of a frame's payload that are read; a frame of rows has about a MiB, or one larger row.
const MAX_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of the header, and of names.
const MAX_SMALL_BYTES: usize = 64 * 1024;
const HASH_BYTES: usize = 32;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The version of the gateway that made it.
    pub gateway: String,
    /// When it was begun, ISO 8601.
    pub at: String,
    /// The organisation.
    pub tenant: String,
    /// The revision of the state in it.
    pub revision: u64,
    /// Records of the audit log so far.
    pub audit_records: u64,
    /// The head of the audit log, 64 hex digits.
    pub audit_head: String,
    /// The first audit record that did not follow from the one before; `None` when all did.
    pub audit_broken_at: Option<u64>,
    /// Which master key it is sealed under; see `MasterKey::id`.
    pub master_key_id: String,
}

/// Why a backup can not be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It can not be read.
    Io(io::Error),
    /// It is no backup.
    Foreign,
    /// It was made by a later gateway, in a format that this one does not know.
    Newer,
    /// It ends before its end.
    Cut,
    /// Something in it is not as it must be: what.
    Damaged(&'static str),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it can not be read: {error}"),
            Self::Foreign => f.write_str("it is not a backup of a gateway"),
            Self::Newer => {
                f.write_str("it is in a format of a newer gateway; use that gateway to restore it")
            }
            Self::Cut => f.write_str("it is cut off: it ends before its end; take another backup"),
            Self::Damaged(what) => write!(f, "it is damaged ({what}); take another backup"),
        }
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Io(error),
        }
    }
}

/// Makes the frames of a backup. What it gives out must be written in that order, [`MAGIC`] before all.
#[derive(Debug)]
pub struct Encoder {
    all: blake3::Hasher,
    table: blake3::Hasher,
    rows: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        let mut all = blake3::Hasher::new();
        all.update(MAGIC.as_bytes());
        Self { all, table: blake3::Hasher::new(), rows: 0 }
    }
}

impl Encoder {
    /// What the backup is of.
    ///
    /// # Errors
    /// When the header can not be written as JSON.
    pub fn header(&mut self, header: &Header) -> Result<Vec<u8>, serde_json::Error> {
        Ok(self.frame(b'H', &serde_json::to_vec(header)?))
    }

    /// The master key as hex digits.
    pub fn key(&mut self, hex: &Zeroizing<String>) -> Vec<u8> {
        self.frame(b'K', hex.as_bytes())
    }

    /// A database begins.
    pub fn file(&mut self, name: &str) -> Vec<u8> {
        self.frame(b'F', name.as_bytes())
    }

    /// A table begins.
    pub fn table(&mut self, name: &str) -> Vec<u8> {
        self.table = blake3::Hasher::new();
        self.rows = 0;
        self.frame(b'T', name.as_bytes())
    }

    /// Some rows of the table, as [`push_row`] writes them.
    pub fn rows(&mut self, payload: &[u8], rows: u64) -> Vec<u8> {
        self.table.update(payload);
        self.rows += rows;
        self.frame(b'R', payload)
    }

    /// The table ends.
    pub fn table_end(&mut self) -> Vec<u8> {
        let mut payload = self.rows.to_le_bytes().to_vec();
        payload.extend_from_slice(self.table.finalize().as_bytes());
        self.frame(b'S', &payload)
    }

    /// The end of all.
    pub fn end(&mut self) -> Vec<u8> {
        let hash = self.all.finalize();
        self.frame(b'E', hash.as_bytes())
    }

    fn frame(&mut self, letter: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(payload.len() + 5);
        frame.push(letter);
        push_length(&mut frame, payload.len());
        frame.extend_from_slice(payload);
        self.all.update(&frame);
        frame
    }
}

/// Puts a row into the payload of an `R` frame.
pub fn push_row(payload: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        push_length(payload, part.len());
        payload.extend_from_slice(part);
    }
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// The rows of a payload; an error ends them.
#[derive(Debug)]
pub struct RowsOf<'a>(&'a [u8]);

/// Reads the payload of an `R` frame.
pub fn rows_of(payload: &[u8]) -> RowsOf<'_> {
    RowsOf(payload)
}

impl<'a> RowsOf<'a> {
    fn part(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(part)
    }
}

impl<'a> Iterator for RowsOf<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let row = self.part().and_then(|key| Some((key, self.part()?)));
        if row.is_none() {
            self.0 = &[];
        }
        Some(row.ok_or(ArchiveError::Damaged("a row is not whole")))
    }
}

/// A part of a backup that was read.
#[derive(Debug)]
pub enum Piece {
    /// What it is of.
    Header(Box<Header>),
    /// The master key as hex digits.
    Key(Zeroizing<String>),
    /// A database begins.
    File(String),
    /// A table of it begins.
    Table(String),
    /// Rows of the table; for [`rows_of`].
    Rows(Vec<u8>),
    /// The table was whole.
    TableEnd,
    /// The backup was whole, to its last byte.
    End,
}

/// Where in the grammar the reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    Head,
    Files,
    File,
    Table,
    End,
}

/// Reads a backup, and checks what can be checked as it goes by. Holds one frame at a time.
#[derive(Debug)]
pub struct Decoder<R> {
    reader: R,
    all: blake3::Hasher,
    table: blake3::Hasher,
    rows: u64,
    at: At,
}

impl<R: Read> Decoder<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// When it is no backup, or one of a version that is not known.
    pub fn new(mut reader: R) -> Result<Self, ArchiveError> {
        let mut line = [0; MAGIC.len()];
        reader.read_exact(&mut line).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Foreign,
            _ => ArchiveError::Io(error),
        })?;
        if line != MAGIC.as_bytes() {
            return Err(if line.starts_with(FAMILY) { ArchiveError::Newer } else { ArchiveError::Foreign });
        }
        let mut all = blake3::Hasher::new();
        all.update(&line);
        Ok(Self { reader, all, table: blake3::Hasher::new(), rows: 0, at: At::Start })
    }

    /// The next part. After [`Piece::End`] there is none: do not ask.
    ///
    /// # Errors
    /// When it is damaged or cut off.
    pub fn next_piece(&mut self) -> Result<Piece, ArchiveError> {
        let mut head = [0; 5];
        self.reader.read_exact(&mut head)?;
        let [letter, length @ ..] = head;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        let limit = if letter == b'R' { MAX_PAYLOAD_BYTES } else { MAX_SMALL_BYTES };
        if length > limit {
            return Err(ArchiveError::Damaged("a part is too long"));
        }
        // Grows with what comes: a length alone takes no memory.
        let mut payload = Vec::new();
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        if self.reader.by_ref().take(wanted).read_to_end(&mut payload)? < length {
            return Err(ArchiveError::Cut);
        }
        let before = self.all.finalize();
        self.all.update(&head).update(&payload);
        self.piece(letter, payload, before)
    }

    fn piece(&mut self, letter: u8, payload: Vec<u8>, before: blake3::Hash) -> Result<Piece, ArchiveError> {
        let text =
            |payload| String::from_utf8(payload).map_err(|_| ArchiveError::Damaged("a name is not text"));
        let (at, piece) = match (letter, self.at) {
            (b'H', At::Start) => {
                let header = serde_json::from_slice(&payload);
                let header = header.map_err(|_| ArchiveError::Damaged("its header can not be read"))?;
                (At::Head, Piece::Header(Box::new(header)))
            }
            (b'K', At::Head) => (At::Files, Piece::Key(Zeroizing::new(text(payload)?))),
            (b'F', At::Head | At::Files | At::File) => (At::File, Piece::File(text(payload)?)),
            (b'T', At::File) => {
                self.table = blake3::Hasher::new();
                self.rows = 0;
                (At::Table, Piece::Table(text(payload)?))
            }
            (b'R', At::Table) => {
                for row in rows_of(&payload) {
                    row?;
                    self.rows += 1;
                }
                self.table.update(&payload);
                (At::Table, Piece::Rows(payload))
            }
            (b'S', At::Table) => {
                let Some((rows, hash)) = payload.split_first_chunk::<8>() else {
                    return Err(ArchiveError::Damaged("the end of a table can not be read"));
                };
                if u64::from_le_bytes(*rows) != self.rows || !is_hash(hash, self.table.finalize()) {
                    return Err(ArchiveError::Damaged("the checksum of a table is wrong"));
                }
                (At::File, Piece::TableEnd)
            }
            (b'E', At::Files | At::File) => {
                if !is_hash(&payload, before) {
                    return Err(ArchiveError::Damaged("its checksum is wrong"));
                }
                if self.reader.read(&mut [0])? != 0 {
                    return Err(ArchiveError::Damaged("something comes after its end"));
                }
                (At::End, Piece::End)
            }
            _ => return Err(ArchiveError::Damaged("its parts are not in their order")),
        };
        self.at = at;
        Ok(piece)
    }
}

fn is_hash(bytes: &[u8], wanted: blake3::Hash) -> bool {
    <[u8; HASH_BYTES]>::try_from(bytes).is_ok_and(|bytes| blake3::Hash::from_bytes(bytes) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            gateway: "0.1.0".into(),
            at: "2027-01-31T08:00:00.000Z".into(),
            tenant: "acme".into(),
            revision: 7,
            audit_records: 3,
            audit_head: "0".repeat(64),
            audit_broken_at: None,
            master_key_id: "0123456789abcdef".into(),
        }
    }

    fn backup() -> Vec<u8> {
        let mut encoder = Encoder::default();
        let mut bytes = MAGIC.as_bytes().to_vec();
        bytes.extend(encoder.header(&header()).unwrap());
        bytes.extend(encoder.key(&Zeroizing::new("ab".repeat(32))));
        bytes.extend(encoder.file("state.redb"));
        for table in ["objects", "audit"] {
            bytes.extend(encoder.table(table));
            let mut rows = Vec::new();
            push_row(&mut rows, b"k", b"value");
            push_row(&mut rows, b"", b"");
            bytes.extend(encoder.rows(&rows, 2));
            bytes.extend(encoder.table_end());
        }
        bytes.extend(encoder.file("empty.redb"));
        bytes.extend(encoder.end());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, ArchiveError> {
        let mut decoder = Decoder::new(bytes)?;
        let mut seen = Vec::new();
        loop {
            let piece = decoder.next_piece()?;
            let end = matches!(piece, Piece::End);
            seen.push(match piece {
                Piece::Header(found) => format!("{found:?}"),
                Piece::Key(key) => key.to_string(),
                Piece::File(name) | Piece::Table(name) => name,
                Piece::Rows(payload) => {
                    format!("{:?}", rows_of(&payload).map(Result::unwrap).collect::<Vec<_>>())
                }
                Piece::TableEnd => "table end".to_owned(),
                Piece::End => "end".to_owned(),
            });
            if end {
                return Ok(seen);
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let seen = read(&backup()).unwrap();
        let rows = format!("{:?}", [(&b"k"[..], &b"value"[..]), (b"", b"")]);
        let table = |name: &'static str| [name.to_owned(), rows.clone(), "table end".to_owned()];
        let mut wanted = vec![format!("{:?}", header()), "ab".repeat(32), "state.redb".to_owned()];
        wanted.extend(table("objects"));
        wanted.extend(table("audit"));
        wanted.extend(["empty.redb".to_owned(), "end".to_owned()]);
        assert_eq!(seen, wanted);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let whole = backup();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            for bit in [0, 3, 7] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let read = std::panic::catch_unwind(|| read(&bytes));
                assert!(read.is_ok_and(|read| read.is_err()), "bit {bit} of byte {at}");
            }
        }
        let mut longer = whole;
        longer.push(0);
        assert!(matches!(read(&longer), Err(ArchiveError::Damaged("something comes after its end"))));
    }

    #[test]
    fn what_is_no_backup_says_so() {
        for foreign in [&b""[..], b"gateway", b"SQLite format 3\0 and more of it", &[0; 64]] {
            assert!(matches!(read(foreign), Err(ArchiveError::Foreign)), "{foreign:?}");
        }
        assert!(matches!(read(b"gateway backup 2\nwhatever"), Err(ArchiveError::Newer)));
        // A length of 4 GiB costs nothing.
        let mut huge = MAGIC.as_bytes().to_vec();
        huge.extend([b'H', 255, 255, 255, 255]);
        assert!(matches!(read(&huge), Err(ArchiveError::Damaged("a part is too long"))));
        let mut huge = MAGIC.as_bytes().to_vec();
        huge.extend([b'R', 255, 255, 255, 3]);
        assert!(matches!(read(&huge), Err(ArchiveError::Cut)));
    }
}
