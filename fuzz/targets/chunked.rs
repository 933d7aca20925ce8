//! The chunked decoder: however the bytes are cut, the same content and the same end or refusal.
#![no_main]

use gateway_fuzz::http::{ChunkedDecoder, Piece};
use libfuzzer_sys::fuzz_target;

/// The content, and whether it ended (`Some(true)`), goes on (`Some(false)`) or is refused (`None`).
fn decode(body: &[u8], piece: usize) -> (Vec<u8>, Option<bool>) {
    let mut decoder = ChunkedDecoder::default();
    let mut content = Vec::new();
    for piece in body.chunks(piece) {
        let mut rest = piece;
        loop {
            match decoder.next(rest) {
                Ok(Piece::Data(range)) => {
                    content.extend_from_slice(&rest[range.clone()]);
                    rest = &rest[range.end..];
                }
                Ok(Piece::NeedMore(used)) => {
                    assert_eq!(used, rest.len(), "bytes that nobody takes");
                    break;
                }
                Ok(Piece::End(_)) => return (content, Some(true)),
                Err(_) => return (content, None),
            }
        }
    }
    (content, Some(false))
}

fuzz_target!(|body: &[u8]| {
    let whole = decode(body, usize::MAX);
    for piece in [1, 2, 5] {
        assert_eq!(decode(body, piece), whole);
    }
});
