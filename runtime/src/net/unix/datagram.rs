//! Unix-domain datagrams.

use std::{
    fmt, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::SocketAddr,
    },
    path::Path,
    time::Duration,
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use super::{
    super::{Shutdown, simulated},
    PeerCredentials,
    address::{bind, from_raw, patiently, to_raw},
    endpoint, rights,
    socket::{FLAGS, Timeout, conversions, raw_shutdown, timeouts},
    source::{Moved, Source},
    transfer::Partial,
};
use crate::sys::event::Direction;

/// A Unix-domain datagram socket, in the shape of [`std::os::unix::net::UnixDatagram`].
///
/// No datagram is lost or overtaken: a send waits while the receiver's queue is full.
///
/// # Examples
/// ```
/// use maniple::net::UnixDatagram;
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let (here, there) = UnixDatagram::pair()?;
///     here.send(b"one")?;
///     here.send(b"two")?;
///     let mut buffer = [0; 16];
///     assert_eq!(there.recv(&mut buffer)?, 3);
///     assert_eq!(&buffer[..3], b"one");
///     Ok(())
/// })
/// # }
/// ```
pub struct UnixDatagram {
    source: Source,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

endpoint!(UnixDatagram, "UnixDatagram", DGRAM, true);
conversions!(UnixDatagram, with_source, std::os::unix::net::UnixDatagram);

impl UnixDatagram {
    /// A socket without a name: it can send, and receive once it is connected.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn unbound() -> io::Result<Self> {
        simulated::take_descriptor()?;
        let kind = SocketType::DGRAM;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, FLAGS, None)?;
        Ok(Self::with_source(Source::new(fd)))
    }

    /// Makes a socket file at the path and receives what is sent there.
    ///
    /// # Errors
    /// If the file exists (kind `AddrInUse`) or cannot be made.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        Self::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Binds a socket to an address, which may be an abstract one.
    ///
    /// # Errors
    /// If the file exists (kind `AddrInUse`) or cannot be made.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        let socket = Self::unbound()?;
        bind(&socket.source, address)?;
        Ok(socket)
    }

    /// Sets where [`UnixDatagram::send`] sends to, and what alone is received from. Does not wait.
    ///
    /// # Errors
    /// If no datagram socket is at the path.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to an address, like [`UnixDatagram::connect`] to a path.
    ///
    /// # Errors
    /// If no datagram socket is at the address.
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        Ok(rustix::net::connect(&self.source, &to_raw(address)?)?)
    }

    /// Sends one datagram to the peer.
    ///
    /// # Errors
    /// If there is no peer or it is gone, the datagram is too long, or the wait for room was cut short.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source
            .send(self.write_timeout.load(), bytes, Partial::Vague)
    }

    /// Sends one datagram to the socket at a path.
    ///
    /// A full queue of a receiver that one is not connected to is looked at again after pauses of up to
    /// 16 ms; to a connected one, [`UnixDatagram::send`] goes on as soon as there is room.
    ///
    /// # Errors
    /// If there is no peer or it is gone, the datagram is too long, or the wait for room was cut short.
    pub fn send_to<P: AsRef<Path>>(&self, bytes: &[u8], path: P) -> io::Result<usize> {
        self.send_to_addr(bytes, &SocketAddr::from_pathname(path)?)
    }

    /// Sends a datagram to an address, like [`UnixDatagram::send_to`] to a path.
    ///
    /// # Errors
    /// Fails as [`UnixDatagram::send_to`] does.
    pub fn send_to_addr(&self, bytes: &[u8], address: &SocketAddr) -> io::Result<usize> {
        let address = to_raw(address)?;
        patiently(self.source.as_fd(), self.write_timeout.load(), |fd| {
            rustix::net::sendto(fd, bytes, SendFlags::NOSIGNAL, &address)
        })
    }

    /// Receives one datagram; its end is lost if it is longer than the buffer.
    ///
    /// # Errors
    /// Past the read timeout (kind `TimedOut`), or if the wait was cut short.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv_len(buffer).map(|length| length.min(buffer.len()))
    }

    /// Receives a datagram and returns how long it is: longer than the buffer if its end was lost.
    ///
    /// # Errors
    /// Fails as [`UnixDatagram::recv`] does.
    pub fn recv_len(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::TRUNC)
    }

    /// Receives a datagram and returns from whom; the address is unnamed if the sender is not bound.
    ///
    /// # Errors
    /// Fails as [`UnixDatagram::recv`] does.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buffer, RecvFlags::empty())
    }

    /// Reads a datagram like [`UnixDatagram::recv`], and leaves it to be received again.
    ///
    /// # Errors
    /// Fails as [`UnixDatagram::recv`] does.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::PEEK)
    }

    /// Reads a datagram like [`UnixDatagram::recv_from`], and leaves it to be received again.
    ///
    /// # Errors
    /// Fails as [`UnixDatagram::recv_from`] does.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive_from(buffer, RecvFlags::PEEK)
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        self.source
            .receive_datagram(self.read_timeout.load(), buffer, flags)
    }

    fn receive_from(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        let timeout = self.read_timeout.load();
        let (n, from) = self.source.receive_datagram_from(timeout, buffer, flags)?;
        Ok((n, from_raw(from)?))
    }
}
