//! The modules under test, included from the product's sources, since the product is a binary without a library.

#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    reason = "only parts of the included modules are used here"
)]

#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/domain/mod.rs"]
pub mod domain;
pub mod http;
#[path = "../../src/id.rs"]
pub mod id;
pub mod pairs;
#[path = "../../src/secret.rs"]
pub mod secret;
#[path = "../../src/translate/mod.rs"]
pub mod translate;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

/// Feeds a stream in pieces whose lengths the first byte chooses, and hands each whole event out.
pub fn events(input: &[u8], mut each: impl FnMut(&[u8])) {
    let Some((first, body)) = input.split_first() else { return };
    let mut splitter = http::sse::EventSplitter::new(1 << 16);
    for piece in body.chunks(usize::from(*first).max(1)) {
        splitter.push(piece);
        while let Some(event) = splitter.next() {
            if let http::sse::Event::Whole(range) = event {
                each(splitter.bytes(&range));
            }
        }
    }
    each(splitter.rest());
}
