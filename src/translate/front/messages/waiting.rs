//! Calls that begin before the one before them is whole: this dialect's clients take one block at a time.

use std::collections::VecDeque;

/// Bytes of calls that are held back.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Calls that are held back.
const MAX_WAITING_CALLS: usize = 128;

/// A call that is held back.
#[derive(Debug, Default)]
pub struct Call {
    /// The running number of calls.
    pub index: u32,
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The proof of the thought behind it.
    pub signature: Option<String>,
    /// JSON text, as far as it came.
    pub arguments: String,
    /// It is whole.
    pub ended: bool,
}

/// More is to be held back than there is room for.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// The calls that are held back, in their order.
#[derive(Debug, Default)]
pub struct Waiting {
    calls: VecDeque<Call>,
    bytes: usize,
}

impl Waiting {
    /// One more.
    ///
    /// # Errors
    /// When there is no room.
    pub fn push(&mut self, call: Call) -> Result<(), Full> {
        if self.calls.len() >= MAX_WAITING_CALLS {
            return Err(Full);
        }
        self.count(call.id.len() + call.name.len() + call.signature.as_ref().map_or(0, String::len))?;
        self.calls.push_back(call);
        Ok(())
    }

    /// More arguments of one of them; `Ok(false)`: it is not here.
    ///
    /// # Errors
    /// When there is no room.
    pub fn append(&mut self, index: u32, fragment: &str) -> Result<bool, Full> {
        self.count(fragment.len())?;
        let Some(call) = self.calls.iter_mut().find(|call| call.index == index) else { return Ok(false) };
        call.arguments.push_str(fragment);
        Ok(true)
    }

    /// One of them is whole.
    pub fn end(&mut self, index: u32) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.index == index) {
            call.ended = true;
        }
    }

    /// The first one, which waits no longer.
    pub fn pop(&mut self) -> Option<Call> {
        let call = self.calls.pop_front()?;
        if self.calls.is_empty() {
            self.bytes = 0;
        }
        Some(call)
    }

    fn count(&mut self, more: usize) -> Result<(), Full> {
        self.bytes = self.bytes.saturating_add(more);
        if self.bytes > MAX_WAITING_BYTES { Err(Full) } else { Ok(()) }
    }
}
