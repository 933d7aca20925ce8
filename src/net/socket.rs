//! A stream socket that a coroutine waits on.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use may::io::{CoIo, WaitIo};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::watch::{Interruption, Watch};

/// A descriptor of either kind.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain.
    Unix(UnixStream),
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).read(buffer),
            Self::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }

    fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).write_vectored(buffers),
            Self::Unix(stream) => (&mut &*stream).write_vectored(buffers),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    Upstream,
}

/// A connected socket. Reads and writes wait without blocking the worker, and end early when the connection's
/// watch says so: with `TimedOut` for the deadline and `ConnectionAborted` for anything else.
#[derive(Debug)]
pub struct Socket {
    io: CoIo<Arc<Stream>>,
    watch: Arc<Watch>,
    side: Side,
    // Dropped last. `CoIo` closes its descriptor before it takes the number out of epoll; by then another
    // thread could have the number again, and its new socket would never hear of an event.
    _open: Arc<Stream>,
}

impl Socket {
    /// Takes a caller's accepted socket under its watch.
    ///
    /// # Errors
    /// When the runtime can not register the descriptor.
    pub fn from_caller(stream: Stream, watch: Arc<Watch>) -> io::Result<Self> {
        if let Stream::Tcp(tcp) = &stream {
            tcp.set_nodelay(true)?;
        }
        let socket = Self::new(stream, watch, Side::Caller)?;
        socket.watch.attach_caller(socket.io.waker());
        Ok(socket)
    }

    fn new(stream: Stream, watch: Arc<Watch>, side: Side) -> io::Result<Self> {
        let open = Arc::new(stream);
        let io = CoIo::new(Arc::clone(&open)).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { io, watch, side, _open: open })
    }

    /// A socket that ends when the other end of the pair is dropped: how a coroutine waits, under its watch,
    /// for a thread.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn signal(watch: &Arc<Watch>) -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = Self::new(Stream::Unix(ours), Arc::clone(watch), Side::Upstream)?;
        socket.attach();
        Ok((socket, theirs))
    }

    /// Connects to an address. The descriptor is chosen so that it belongs to `worker`, one of `workers`:
    /// then a call's two sockets wake on one core.
    ///
    /// # Errors
    /// What the system said, `TimedOut` or `ConnectionAborted`.
    pub fn connect(
        address: SocketAddr,
        watch: &Arc<Watch>,
        worker: usize,
        workers: usize,
    ) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let mut descriptor = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        for _ in 0..8 {
            let raw = descriptor.as_raw_fd();
            if usize::try_from(raw).unwrap_or(0) % workers.max(1) == worker {
                break;
            }
            descriptor = rustix::io::fcntl_dupfd_cloexec(&descriptor, raw.saturating_add(1))?;
        }
        let tcp = TcpStream::from(descriptor);
        tcp.set_nodelay(true)?;
        let started = rustix::net::connect(&tcp, &address);
        let socket = Self::new(Stream::Tcp(tcp), Arc::clone(watch), Side::Upstream)?;
        match started {
            Ok(()) => {
                socket.attach();
                return Ok(socket);
            }
            Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        socket.attach();
        loop {
            socket.wait()?;
            let Stream::Tcp(tcp) = socket.io.inner().as_ref() else { continue };
            if let Some(error) = tcp.take_error()? {
                return Err(error);
            }
            if tcp.peer_addr().is_ok() {
                return Ok(socket);
            }
        }
    }

    /// Moves a kept provider connection under another call's watch.
    pub fn adopt(&mut self, watch: &Arc<Watch>) {
        self.watch = Arc::clone(watch);
        self.attach();
    }

    /// Takes a provider connection from under its watch, before it is kept for another call.
    pub fn release(&self) {
        self.watch.attach_upstream(None);
    }

    fn attach(&self) {
        self.watch.attach_upstream(Some(self.io.waker()));
    }

    /// Whether a kept connection is still open and silent, as an idle one must be.
    pub fn is_idle_and_open(&self) -> bool {
        matches!(self.io.inner().read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The worker that this socket's events arrive on.
    pub fn worker(&self, workers: usize) -> usize {
        usize::try_from(self.io.inner().as_raw_fd()).unwrap_or(0) % workers.max(1)
    }

    /// Ends the stream in both directions now.
    pub fn shutdown(&self) {
        let _ = match self.io.inner().as_ref() {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Both),
        };
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&self) {
        let _ = match self.io.inner().as_ref() {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
    }

    /// Writes all of several pieces, or stops when the other end has something to say (an answer, or its end)
    /// while it takes no more: a provider may refuse a large request before it has read it. Says whether all was
    /// written.
    ///
    /// # Errors
    /// What the system said, `TimedOut` or `ConnectionAborted`.
    pub fn write_unless_answered(&mut self, mut rest: &mut [IoSlice<'_>]) -> io::Result<bool> {
        while !rest.is_empty() {
            match self.io.inner().write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.is_readable() {
                        return Ok(false);
                    }
                    self.wait()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn is_readable(&self) -> bool {
        match self.io.inner().as_ref() {
            Stream::Tcp(stream) => stream.peek(&mut [0]).is_ok(),
            Stream::Unix(_) => false,
        }
    }

    /// The user id at the other end of a Unix socket.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(self.io.inner())?.uid.as_raw())
    }

    fn wait(&self) -> io::Result<()> {
        self.check()?;
        self.io.wait_io();
        self.check()
    }

    fn check(&self) -> io::Result<()> {
        let interruption = match self.side {
            Side::Caller => self.watch.caller_side_interruption(),
            Side::Upstream => self.watch.interruption(),
        };
        match interruption {
            None => Ok(()),
            Some(Interruption::Deadline) => Err(io::ErrorKind::TimedOut.into()),
            Some(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.io.inner().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.io.inner().write_vectored(buffers) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A descriptor that is listened on.
#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsRawFd for ListenerKind {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

/// A listening socket whose accept waits without blocking the worker.
#[derive(Debug)]
pub struct Listener {
    io: CoIo<ListenerKind>,
}

impl Listener {
    /// Takes a bound TCP listener.
    ///
    /// # Errors
    /// When the runtime can not register the descriptor.
    pub fn tcp(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Self::new(ListenerKind::Tcp(listener))
    }

    /// Takes a bound Unix listener.
    ///
    /// # Errors
    /// When the runtime can not register the descriptor.
    pub fn unix(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Self::new(ListenerKind::Unix(listener))
    }

    fn new(kind: ListenerKind) -> io::Result<Self> {
        let io = CoIo::new(kind).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { io })
    }

    /// The next connection and, for TCP, where it came from; `None` once `stop` says so. `stop` is asked after
    /// each wake-up.
    ///
    /// # Errors
    /// What the system said, such as that descriptors have run out; the listener stays good.
    pub fn accept_unless(&self, stop: impl Fn() -> bool) -> io::Result<Option<(Stream, Option<SocketAddr>)>> {
        loop {
            let accepted = match self.io.inner() {
                ListenerKind::Tcp(listener) => {
                    listener.accept().map(|(stream, peer)| (Stream::Tcp(stream), Some(peer)))
                }
                ListenerKind::Unix(listener) => {
                    listener.accept().map(|(stream, _)| (Stream::Unix(stream), None))
                }
            };
            match accepted {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if stop() {
                        return Ok(None);
                    }
                    self.io.wait_io();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(Some),
            }
        }
    }

    /// Wakes the coroutine that waits in [`Listener::accept_unless`].
    pub fn waker(&self) -> may::io::WaitIoWaker {
        self.io.waker()
    }
}
