//! What of HTTP needs no socket.

#[path = "../../src/http/chunked.rs"]
mod chunked;
#[path = "../../src/http/eventstream/mod.rs"]
pub mod eventstream;
#[path = "../../src/http/head.rs"]
mod head;
#[path = "../../src/http/sse.rs"]
pub mod sse;

pub use chunked::{ChunkedDecoder, Piece};
pub use head::{BodyLength, HeadError, Headers, RequestHead, ResponseHead, Version, head_end};
