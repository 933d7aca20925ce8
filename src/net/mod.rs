//! Sockets on the coroutine runtime.
