//! The splitter of server-sent events: however the bytes are cut, the same events come out and no byte is lost.
#![no_main]

use gateway_fuzz::http::sse::{self, Event, EventSplitter};
use libfuzzer_sys::fuzz_target;

fn split(body: &[u8], piece: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut splitter = EventSplitter::new(1 << 16);
    let mut found = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        splitter.push(piece);
        while let Some(event) = splitter.next() {
            match event {
                Event::Whole(range) => found.push(splitter.bytes(&range).to_vec()),
                Event::Fragment { range, .. } => found.push(splitter.bytes(&range).to_vec()),
            }
        }
    }
    (found, splitter.rest().to_vec())
}

fuzz_target!(|body: &[u8]| {
    // A carriage return at the end of a piece may or may not be followed by its line feed, so that events, not the
    // place of their last byte, are compared: all bytes together are the body.
    for piece in [1, 2, 3, 7, usize::MAX] {
        let (found, rest) = split(body, piece);
        let all: Vec<u8> = found.iter().flatten().chain(&rest).copied().collect();
        assert_eq!(all, body);
        for event in &found {
            let _ = (sse::data(event), sse::name(event), sse::without_id_and_retry(event));
        }
    }
});
