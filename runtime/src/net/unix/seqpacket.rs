//! Unix-domain connections that keep the bounds of messages (`SOCK_SEQPACKET`, unix(7)).

use std::{
    fmt, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::SocketAddr,
    },
    path::Path,
    time::Duration,
};

use rustix::net::{AddressFamily, RecvFlags, SocketType};

use super::{
    super::Shutdown,
    PeerCredentials,
    address::from_raw,
    endpoint, listener, rights,
    socket::{FLAGS, Timeout, conversions, raw_shutdown, timeouts},
    source::{Moved, Source},
    stream::{connected, listening},
    transfer::Partial,
};
use crate::sys::event::Direction;

/// A connection whose messages arrive whole, in order, each in one receive.
///
/// The standard library has no such type; descriptors convert by [`OwnedFd`].
///
/// # Examples
/// ```
/// use maniple::net::UnixSeqpacket;
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let (here, there) = UnixSeqpacket::pair()?;
///     here.send(b"one")?;
///     here.send(b"two")?;
///     drop(here);
///     let mut buffer = [0; 16];
///     assert_eq!(there.recv(&mut buffer)?, 3);
///     assert_eq!(there.recv(&mut buffer)?, 3);
///     assert_eq!(there.recv(&mut buffer)?, 0, "the end");
///     Ok(())
/// })
/// # }
/// ```
pub struct UnixSeqpacket {
    source: Source,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

endpoint!(UnixSeqpacket, "UnixSeqpacket", SEQPACKET, true);
conversions!(UnixSeqpacket, with_source);

impl UnixSeqpacket {
    /// Connects to the listener at a path. Waits while the listener's backlog is full.
    ///
    /// # Errors
    /// If nobody listens there, or the wait was cut short.
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        Self::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to an address, which may be an abstract one.
    ///
    /// # Errors
    /// If nobody listens there, or the wait was cut short.
    pub fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        let fd = connected(SocketType::SEQPACKET, address)?;
        Ok(Self::with_source(Source::new(fd)))
    }

    /// Sends one message, whole.
    ///
    /// # Errors
    /// If the peer is gone, the message is too long, or the wait for room was cut short.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source
            .send(self.write_timeout.load(), bytes, Partial::Vague)
    }

    /// Receives one message; its end is lost if it is longer than the buffer. Returns 0 once the peer has
    /// closed, which an empty message cannot be told from.
    ///
    /// # Errors
    /// Past the read timeout (kind `TimedOut`), or if the wait was cut short.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .receive(self.read_timeout.load(), buffer, Partial::Vague)
    }

    /// Receives a message and returns how long it is: longer than the buffer if its end was lost.
    ///
    /// # Errors
    /// Fails as [`UnixSeqpacket::recv`] does.
    pub fn recv_len(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.io(
            Direction::Read,
            self.read_timeout.load(),
            |fd| match rustix::net::recv(fd, &mut *buffer, RecvFlags::TRUNC)? {
                (_, 0) => self.source.at_end(),
                (_, length) => Ok(Moved::Filled(length)),
            },
        )
    }
}

/// Listens for [`UnixSeqpacket`] connections.
///
/// Dropping it leaves its file where it is.
///
/// # Examples
/// ```
/// use maniple::net::{UnixSeqpacket, UnixSeqpacketListener};
/// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
/// # fn main() -> std::io::Result<()> {
/// let address = SocketAddr::from_abstract_name(format!("packets {}", std::process::id()))?;
/// let listener = UnixSeqpacketListener::bind_addr(&address)?;
/// let client = UnixSeqpacket::connect_addr(&address)?;
/// let (server, _) = listener.accept()?;
/// client.send(b"whole")?;
/// assert_eq!(server.recv(&mut [0; 16])?, 5);
/// # Ok(())
/// # }
/// ```
pub struct UnixSeqpacketListener {
    source: Source,
}

listener!(
    UnixSeqpacketListener,
    "UnixSeqpacketListener",
    SEQPACKET,
    UnixSeqpacket
);
conversions!(UnixSeqpacketListener, with_source);
