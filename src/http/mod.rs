//! HTTP/1.1 on the wire: parse with limits, framing in and out, server-sent events as bytes. RFC 9110 and 9112.
//!
//! Strict where leniency would let one message be read in two ways: bare CR or LF, folded lines, spaces before
//! a colon, several lengths, or a length and a transfer coding are refused.

mod answer;
mod chunked;
mod connection;
pub mod eventstream;
mod head;
pub mod sse;

pub use answer::AnswerHead;
pub use chunked::{ChunkedDecoder, Piece};
pub use connection::{BodyBudget, BodyReservation, BufferedBody, Connection, Limits, ReadError};
pub use head::{BodyLength, HeadError, Headers, RequestHead, ResponseHead, Version, head_end, is_name};
