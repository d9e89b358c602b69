//! Connections that are handed over: after `101 Switching Protocols`, or to a tunnel that was asked for by `CONNECT`, the
//! bytes are the handler's.

#[cfg(feature = "websocket")]
pub(crate) mod line;

use std::{
    fmt,
    io::{self, IoSlice, Read, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use maniple::{
    cancel::{CancelToken, Cancelled},
    net::Shutdown,
    sync::channel::Receiver,
};

use super::{drain::Seat, state::Connection};
use crate::transport::{Peer, Transport, memory};

/// What a handler wants done with the connection.
pub(crate) type Takeover = Box<dyn FnOnce(Upgraded) + Send>;

/// A connection that no longer speaks HTTP, handed over to who answered with [`Response::upgrade`] or
/// [`Response::tunnel`].
///
/// It reads first what the client had sent behind its request, and then from the connection; what is written leaves at
/// once. Reads and writes wait, in coroutines and in plain threads, and are cut short by timeouts, deadlines and
/// cancellation as those of sockets are. [`split`](Upgraded::split) parts it for two coroutines.
///
/// It counts as one of the server's connections until it is dropped, which closes it; half of it keeps it open. Closing
/// while something that the client has sent is unread resets the connection.
///
/// # Draining
/// A drain waits for it, at most for the grace time. Who holds it is told: [`is_draining`](Upgraded::is_draining) asks,
/// [`draining`](Upgraded::draining) can be waited for among other things, and
/// [`until_draining`](Upgraded::until_draining) cuts a wait short. What is open at the end of the grace time is
/// cut: the coroutine that the closure runs in is cancelled, reads elsewhere fail with kind `ConnectionAborted`, and
/// writes with that or `BrokenPipe`.
///
/// # Examples
/// A protocol of lines, until the client or the server has had enough:
/// ```
/// use std::io::{BufRead, BufReader, Read, Write};
/// use maniple_server::{Request, Response, Router, Server, transport::memory};
///
/// fn lines(_: &mut Request) -> Response {
///     Response::upgrade("lines", |connection| {
///         let (reader, mut writer) = connection.split();
///         for line in BufReader::new(reader).lines() {
///             let Ok(line) = line else { break };
///             if writeln!(writer, "you said {line}").is_err() {
///                 break;
///             }
///         }
///     })
/// }
///
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let (listener, connector) = memory::listener();
///     let server = Server::builder(Router::new().get("/lines", lines)).listener(listener)?;
///     let handle = server.handle();
///     let serving = maniple::spawn(move || server.serve());
///
///     let mut client = connector.connect()?;
///     client.write_all(b"GET /lines HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\nhello\n")?;
///     client.shutdown(maniple::net::Shutdown::Write)?;
///     let mut answer = String::new();
///     client.read_to_string(&mut answer)?;
///     assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
///     assert!(answer.ends_with("\r\n\r\nyou said hello\n"));
///
///     handle.drain();
///     serving.join()??;
///     Ok(())
/// })
/// # }
/// ```
///
/// [`Response::upgrade`]: crate::Response::upgrade
/// [`Response::tunnel`]: crate::Response::tunnel
#[derive(Debug)]
pub struct Upgraded {
    reader: UpgradedReader,
    writer: UpgradedWriter,
}

/// The receiving half of an [`Upgraded`] connection; made by [`Upgraded::split`].
pub struct UpgradedReader {
    shared: Arc<Shared>,
    /// What the client sent behind its request, and how much of it has been read.
    ahead: Vec<u8>,
    read: usize,
}

/// The sending half of an [`Upgraded`] connection; made by [`Upgraded::split`].
///
/// Dropping it alone does not tell the client that nothing more comes: [`shutdown`](UpgradedWriter::shutdown) does.
pub struct UpgradedWriter {
    shared: Arc<Shared>,
}

/// What both halves share.
struct Shared {
    connection: Arc<Connection>,
    peer: Peer,
    protocol: String,
    /// Cancelled when the server begins to drain.
    drain: CancelToken,
    /// Given up last: the server may end with its last connection.
    _seat: Option<Seat>,
}

impl Upgraded {
    pub(super) fn new(
        connection: Arc<Connection>,
        peer: Peer,
        seat: Seat,
        protocol: String,
        ahead: Vec<u8>,
    ) -> Self {
        // Those of HTTP are over. Errors say that the peer is gone already.
        let _ = connection.transport.set_read_timeout(None);
        let _ = connection.transport.set_write_timeout(None);
        Self::of(
            Shared {
                connection,
                peer,
                protocol,
                drain: seat.drain(),
                _seat: Some(seat),
            },
            ahead,
        )
    }

    fn of(shared: Shared, ahead: Vec<u8>) -> Self {
        let shared = Arc::new(shared);
        Self {
            reader: UpgradedReader {
                shared: shared.clone(),
                ahead,
                read: 0,
            },
            writer: UpgradedWriter { shared },
        }
    }

    /// One for a test of what is to be handed a connection, and the client's end of it. No server counts or drains it.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use maniple_server::Upgraded;
    /// let (mut connection, mut client) = Upgraded::for_test("chat");
    /// client.write_all(b"hello").unwrap();
    /// let mut greeting = [0; 5];
    /// connection.read_exact(&mut greeting).unwrap();
    /// assert_eq!((&greeting, connection.protocol()), (b"hello", "chat"));
    /// ```
    pub fn for_test(protocol: &str) -> (Self, memory::Stream) {
        let (stream, client) = memory::pair();
        let transport = Transport::Memory(stream);
        let connection = Self::over(transport, Peer::Memory, protocol, Vec::new());
        (connection, client)
    }

    /// One of no server's: a client's, or for a test.
    pub(crate) fn over(transport: Transport, peer: Peer, protocol: &str, ahead: Vec<u8>) -> Self {
        Self::within(transport, peer, protocol, ahead, CancelToken::new())
    }

    /// One that is a part of a server's connection, which sees to its end.
    pub(crate) fn within(
        transport: Transport,
        peer: Peer,
        protocol: &str,
        ahead: Vec<u8>,
        drain: CancelToken,
    ) -> Self {
        let shared = Shared {
            connection: Arc::new(Connection::new(transport, 0)),
            peer,
            protocol: protocol.to_owned(),
            drain,
            _seat: None,
        };
        Self::of(shared, ahead)
    }

    /// Parts it, so that one coroutine can read while another writes. The connection closes once both halves are
    /// dropped.
    pub fn split(self) -> (UpgradedReader, UpgradedWriter) {
        (self.reader, self.writer)
    }

    /// The protocol that was switched to, as [`Response::upgrade`](crate::Response::upgrade) was given it; empty for a
    /// tunnel.
    pub fn protocol(&self) -> &str {
        &self.shared().protocol
    }

    /// How long a read may wait; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.set_timeout(timeout)
    }

    /// How long a write may wait for the client to take something; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.writer.set_timeout(timeout)
    }

    /// Ends one direction or both, for both halves.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shared().connection.transport.shutdown(how)
    }

    /// As a read, of what is there.
    ///
    /// # Errors
    /// Kind `WouldBlock` if nothing is there; else as a read.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.try_read(buffer)
    }

    fn shared(&self) -> &Shared {
        &self.writer.shared
    }
}

impl UpgradedReader {
    /// How long a read may wait; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.connection.transport.set_read_timeout(timeout)
    }

    /// As a read, of what is there.
    ///
    /// # Errors
    /// Kind `WouldBlock` if nothing is there; else as a read.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read_ahead(buffer) {
            Some(count) => Ok(count),
            None => self.shared.settle_read(buffer, Transport::try_read),
        }
    }

    fn read_ahead(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let left = &self.ahead[self.read..];
        if left.is_empty() {
            return None;
        }
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.read += count;
        if self.read == self.ahead.len() {
            (self.ahead, self.read) = (Vec::new(), 0);
        }
        Some(count)
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl UpgradedWriter {
    /// How long a write may wait for the client to take something; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.connection.transport.set_write_timeout(timeout)
    }

    /// Tells the client that nothing more comes.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn shutdown(&self) -> io::Result<()> {
        self.shared.connection.transport.shutdown(Shutdown::Write)
    }

    /// As a write, of what there is room for.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is no room; else as a write.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.shared.connection.transport.try_write(bytes);
        self.shared.settle_write(written)
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

macro_rules! drains {
    ($($half:ty),*) => {$(
        impl $half {
            /// Who is at the other end.
            pub fn peer(&self) -> &Peer {
                &self.shared().peer
            }

            /// The client's address, if it came over TCP.
            pub fn peer_addr(&self) -> Option<SocketAddr> {
                match self.peer() {
                    Peer::Tcp(address) => Some(*address),
                    _ => None,
                }
            }

            /// Whether the server has begun to drain.
            pub fn is_draining(&self) -> bool {
                self.shared().drain.is_cancelled()
            }

            /// A channel that is disconnected when the server begins to drain, for
            /// [`select!`](maniple::select) beside what else is waited for.
            pub fn draining(&self) -> Receiver<()> {
                self.shared().drain.cancelled()
            }

            /// Runs `f`, whose waits are cut short when the server begins to drain. The connection can still be used.
            ///
            /// # Errors
            /// If a wait in `f` that cannot return an error was cut short by the drain; one that can returns one for which
            /// [`is_cancelled_error`](maniple::cancel::is_cancelled_error) holds.
            pub fn until_draining<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Result<T, Cancelled> {
                let drain = self.shared().drain.clone();
                drain.run(|| f(self))
            }
        }
    )*};
}

drains!(Upgraded, UpgradedReader, UpgradedWriter);

impl Shared {
    fn settle_read(
        &self,
        buffer: &mut [u8],
        read: impl FnOnce(&Transport, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match read(&self.connection.transport, buffer) {
            Ok(0) if !buffer.is_empty() && self.connection.is_cut() => Err(cut()),
            read => read,
        }
    }

    fn settle_write(&self, written: io::Result<usize>) -> io::Result<usize> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.connection.is_cut() => {
                Err(cut())
            }
            written => written,
        }
    }
}

/// What those learn whose connection the server has ended.
#[cold]
fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the server has ended, and its connections",
    )
}

impl Read for UpgradedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read_ahead(buffer) {
            Some(count) => Ok(count),
            None => self.shared.settle_read(buffer, Transport::read),
        }
    }
}

impl Write for UpgradedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.shared.connection.transport.write(bytes);
        self.shared.settle_write(written)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.shared.connection.transport.write_vectored(slices);
        self.shared.settle_write(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.shared.connection.transport.flush();
        self.shared.settle_write(flushed.map(|()| 0)).map(drop)
    }
}

impl Read for Upgraded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Write for Upgraded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl fmt::Debug for UpgradedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UpgradedReader");
        debug.field("peer", self.peer()).finish_non_exhaustive()
    }
}

impl fmt::Debug for UpgradedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UpgradedWriter");
        debug.field("peer", self.peer()).finish_non_exhaustive()
    }
}
