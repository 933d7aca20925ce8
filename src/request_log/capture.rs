//! The bodies of one call while they pass: copies within a bound for one body and one for all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Pending, Shared};
use crate::domain::UsageRecord;

/// About what a record takes that waits with its bodies, its metadata aside.
const RECORD_BYTES: usize = 1024;

/// What is kept of one body.
#[derive(Default)]
pub(super) struct Body {
    /// Its beginning.
    pub(super) bytes: Vec<u8>,
    /// How long it is.
    pub(super) total_bytes: u64,
    /// Bytes of memory taken for it.
    room: usize,
}

impl Body {
    /// Adds bytes as far as they are kept; false when there is no room in memory.
    fn push(&mut self, bytes: &[u8], shared: &Shared) -> bool {
        self.total_bytes = self.total_bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let left = shared.max_body_bytes.saturating_sub(self.bytes.len());
        let kept = bytes.get(..left).unwrap_or(bytes);
        let needed = self.bytes.len().saturating_add(kept.len());
        if needed > self.room {
            // Doubled, so that a stream of small events is not copied over and over.
            let room = needed.max(self.room.saturating_mul(2)).min(shared.max_body_bytes);
            if !shared.take_room(room.saturating_sub(self.room)) {
                return false;
            }
            self.room = room;
            self.bytes.reserve_exact(room.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(kept);
        true
    }
}

/// Copies of a call's bodies. Dropped unfinished they are gone, as are those of a call that reached no provider.
pub struct Capture {
    shared: Arc<Shared>,
    pub(super) request: Body,
    pub(super) answer: Body,
    /// There was no room for all of it.
    lost: bool,
}

impl fmt::Debug for Capture {
    /// Sizes only: what is in it belongs into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capture({} + {} bytes)", self.request.bytes.len(), self.answer.bytes.len())
    }
}

impl Capture {
    pub(super) fn begin(shared: &Arc<Shared>, request: &[u8]) -> Option<Self> {
        let shared = Arc::clone(shared);
        let mut capture = Self { shared, request: Body::default(), answer: Body::default(), lost: false };
        capture.request.push(request, &capture.shared).then_some(capture)
    }

    /// These bytes of the answer's body go to the caller.
    pub fn answer(&mut self, bytes: &[u8]) {
        if !self.lost && !self.answer.push(bytes, &self.shared) {
            self.lost = true;
            self.give_back();
        }
    }

    /// Hands the bodies to the writer, with the record of their call.
    pub fn finish(mut self, record: UsageRecord) {
        let shared = Arc::clone(&self.shared);
        let texts = record.metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let room = RECORD_BYTES.saturating_add(texts);
        if !self.lost && shared.take_room(room) {
            self.request.room = self.request.room.saturating_add(room);
        } else {
            self.lost = true;
        }
        if self.lost {
            shared.drop_one("request_log.max_held_bytes are held");
        } else {
            shared.push(Pending { capture: self, record });
        }
    }

    fn give_back(&mut self) {
        for body in [std::mem::take(&mut self.request), std::mem::take(&mut self.answer)] {
            self.shared.held_bytes.fetch_sub(body.room, Ordering::AcqRel);
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.give_back();
    }
}
