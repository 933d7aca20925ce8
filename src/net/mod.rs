//! Sockets on the coroutine runtime, and the watcher that wakes their coroutines.
//!
//! The runtime's own timeouts are not used: each distinct value leaves a timer list behind and each change is
//! a system call. A connection has one [`Watch`] instead; the watcher thread wakes its coroutine when the
//! deadline has passed, when the caller has gone, or when somebody cut the call.

mod alarm;
pub mod pulse;
mod socket;
mod transport;
mod watch;

#[cfg(test)]
mod tests;

pub use socket::{Listener, Socket, Stream};
pub use transport::{Transport, slices, write_all_pieces, write_request};
pub use watch::{Cut, Interruption, Registration, Watch, Watcher};
