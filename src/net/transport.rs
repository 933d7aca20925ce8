//! A socket with or without TLS, for both sides.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::Socket;

/// What bytes travel through.
#[derive(Debug)]
pub enum Transport {
    /// Bare.
    Plain(Socket),
    /// TLS towards a caller.
    Server(Box<StreamOwned<ServerConnection, Socket>>),
    /// TLS towards a provider.
    Client(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Transport {
    /// Speaks TLS as a server; the handshake happens with the first read or write.
    ///
    /// # Errors
    /// When the configuration can not be used.
    pub fn server(socket: Socket, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Self::Server(Box::new(StreamOwned::new(session, socket))))
    }

    /// Speaks TLS as a client and finishes the handshake.
    ///
    /// # Errors
    /// What the socket said, or `InvalidData` when the provider's certificate or protocol is refused.
    pub fn client(socket: Socket, config: &Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Client(Box::new(stream)))
    }

    /// The socket underneath.
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Server(stream) => &stream.sock,
            Self::Client(stream) => &stream.sock,
        }
    }

    /// The socket underneath.
    pub fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Server(stream) => &mut stream.sock,
            Self::Client(stream) => &mut stream.sock,
        }
    }

    /// Whether a kept provider connection is still good. Under TLS a provider may have sent session tickets
    /// meanwhile, so only its end is looked for there.
    pub fn is_idle_and_open(&mut self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_idle_and_open(),
            Self::Server(_) => false,
            Self::Client(stream) => stream.sock.is_idle_and_open(),
        }
    }

    /// Says goodbye as the protocol has it. Nothing can be done about a failure.
    pub fn close(&mut self) {
        if let Self::Server(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.conn.complete_io(&mut stream.sock);
        }
        self.socket().shutdown_write();
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Server(stream) => end_without_goodbye(stream.read(buffer)),
            Self::Client(stream) => stream.read(buffer),
        }
    }
}

/// Many clients close without TLS's goodbye; between requests that is an ordinary end. Within a request the
/// framing tells.
fn end_without_goodbye(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        other => other,
    }
}

impl Write for Transport {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buffer),
            Self::Server(stream) => stream.write(buffer),
            Self::Client(stream) => stream.write(buffer),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(buffers),
            Self::Server(stream) => stream.write_vectored(buffers),
            Self::Client(stream) => stream.write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Server(stream) => stream.flush(),
            Self::Client(stream) => stream.flush(),
        }
    }
}

/// Sends a request to a provider. False when it was not taken whole, because the provider answered or closed
/// before.
///
/// # Errors
/// What the transport said.
pub fn write_request(transport: &mut Transport, pieces: &[&[u8]]) -> io::Result<bool> {
    match transport {
        Transport::Plain(socket) => {
            let mut slices = slices(pieces);
            socket.write_unless_answered(&mut slices)
        }
        other => write_all_pieces(other, pieces).map(|()| true),
    }
}

fn slices<'a>(pieces: &[&'a [u8]]) -> Vec<IoSlice<'a>> {
    pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect()
}

/// Writes all of several pieces, in as few system calls as the transport allows.
///
/// # Errors
/// What the transport said.
pub fn write_all_pieces(transport: &mut impl Write, pieces: &[&[u8]]) -> io::Result<()> {
    let mut slices = slices(pieces);
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match transport.write_vectored(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    transport.flush()
}
