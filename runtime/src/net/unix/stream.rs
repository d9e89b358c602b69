//! Unix-domain streams and their listeners.

use std::{
    fmt,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::SocketAddr,
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SendFlags, SocketType};

use super::{
    super::{Interest, Shutdown, simulated},
    PeerCredentials,
    address::{bind, from_raw, patiently, to_raw},
    endpoint, listener, rights,
    socket::{
        DEFAULT_BACKLOG, FLAGS, Timeout, conversions, raw_shutdown, reader, timeouts, writer,
    },
    source::{Moved, Source, until},
    transfer::Partial,
};
use crate::sys::{event::Direction, socket::send_queue};

/// A Unix-domain connection, in the shape of [`std::os::unix::net::UnixStream`].
///
/// Reads and writes need only `&UnixStream`, so two coroutines can share one, each in its direction.
///
/// # Examples
/// ```
/// use maniple::net::UnixStream;
/// use std::io::{Read, Write};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let (mut here, mut there) = UnixStream::pair()?;
///     let asked = maniple::spawn(move || -> std::io::Result<String> {
///         let mut question = String::new();
///         there.read_to_string(&mut question)?;
///         Ok(question)
///     });
///     here.write_all(b"anybody there?")?;
///     drop(here);
///     assert_eq!(asked.join()??, "anybody there?");
///     Ok(())
/// })
/// # }
/// ```
pub struct UnixStream {
    pub(in crate::net) source: Source,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

endpoint!(UnixStream, "UnixStream", STREAM, false);
conversions!(UnixStream, with_source, std::os::unix::net::UnixStream);

impl UnixStream {
    /// Connects to the listener at a path. Waits while the listener's backlog is full.
    ///
    /// # Errors
    /// If nobody listens there, or the wait was cut short.
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        Self::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to an address, which may be an abstract one
    /// ([`from_abstract_name`](std::os::linux::net::SocketAddrExt::from_abstract_name)).
    ///
    /// # Errors
    /// If nobody listens there, or the wait was cut short.
    pub fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        let fd = connected(SocketType::STREAM, address)?;
        Ok(Self::with_source(Source::new(fd)))
    }

    /// Reads without consuming.
    ///
    /// # Errors
    /// Fails as [`Read::read`](io::Read::read) does.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.peek(self.read_timeout.load(), buffer)
    }

    /// Reads what is there, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = simulated::part(buffer.len(), 1);
        self.source.try_receive(&mut buffer[..part])
    }

    /// Waits until there is something to read, the peer has closed, or the connection failed.
    ///
    /// It may return early; a read then waits.
    ///
    /// # Errors
    /// Past the read timeout (kind `TimedOut`), or if the wait was cut short.
    pub fn wait_readable(&self) -> io::Result<()> {
        self.source.wait_readable(self.read_timeout.load())
    }

    /// Waits until there is something to read, like [`UnixStream::wait_readable`], but until `until` at the latest; the
    /// read timeout does not count.
    ///
    /// # Errors
    /// Past `until` (kind `TimedOut`), or if the wait was cut short.
    pub fn wait_readable_until(&self, until: Instant) -> io::Result<()> {
        self.source.wait_ready(Direction::Read, Some(until))
    }

    /// Writes what there is room for, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is no room.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let part = simulated::part(bytes.len(), 1);
        self.source.try_io(Direction::Write, |fd| {
            rustix::net::send(
                fd,
                &bytes[..part],
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )
        })
    }

    /// Sends bytes of a file from `offset` on, as [`TcpStream::send_file`](crate::net::TcpStream::send_file).
    ///
    /// # Errors
    /// Past the write timeout (kind `TimedOut`), if the connection or the file cannot be used, or if the wait was cut
    /// short.
    pub fn send_file(&self, file: impl AsFd, offset: u64, bytes: usize) -> io::Result<usize> {
        let timeout = self.write_timeout.load();
        self.source.send_file(timeout, file.as_fd(), offset, bytes)
    }

    /// Waits until there is something to read or room to write, the peer has closed, or the connection failed.
    ///
    /// It waits no longer than the read timeout and the write timeout, and may return early.
    /// [`TcpStream::wait_either`](crate::net::TcpStream::wait_either) has an example.
    ///
    /// # Errors
    /// Past a timeout (kind `TimedOut`), or if the wait was cut short.
    pub fn wait_either(&self) -> io::Result<()> {
        let timeouts = [self.read_timeout.load(), self.write_timeout.load()];
        let shorter = timeouts.into_iter().flatten().min();
        self.source.wait_either(until(shorter))
    }

    /// What was written and the peer has not read, as the memory that the kernel keeps it in (`SIOCOUTQ`): more than
    /// its bytes, and 0 once all is read.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn unread_by_peer(&self) -> io::Result<usize> {
        send_queue(self.source.as_fd())
    }

    /// Has the calling worker watch the socket no more, until somebody waits for it there again: as
    /// [`TcpStream::unwatch`](crate::net::TcpStream::unwatch).
    pub fn unwatch(&self) {
        self.source.unwatch();
    }

    /// What to wait for beside a waker: that something can be read, or written, or either.
    ///
    /// For who polls futures that read and write without waiting, by `try_read` and `try_write`: see
    /// [`Poller`](crate::future::Poller::wait_beside).
    pub fn interest(&self, reads: bool, writes: bool) -> Interest<'_> {
        Interest::new(&self.source, reads, writes)
    }

    /// Whether a read may find something, bytes or an end, as far as is known without asking the kernel: no, if the
    /// caller's worker watches the connection and, when it last polled, had heard of nothing since a read emptied it.
    /// Always yes on a plain thread.
    ///
    /// For connections that lie idle: before what can be done again is sent there, this costs nothing.
    #[inline]
    pub fn may_be_readable(&self) -> bool {
        self.source.may_be_readable()
    }

    /// The descriptor, to be waited for and for nothing else: for a type of one's own whose `as_fd` gives this to
    /// [`spawn_when_readable`](crate::task::spawn_when_readable).
    ///
    /// The descriptor that `as_fd` gives may have anything done to it. From then on a short read no longer shows that
    /// nothing more is there, so a wait for more may end at once, and the read behind it then waits.
    pub fn fd_to_wait_for(&self) -> BorrowedFd<'_> {
        self.source.fd_to_wait_for()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = simulated::part(buffer.len(), 1);
        let buffer = &mut buffer[..part];
        self.source
            .receive(self.read_timeout.load(), buffer, Partial::Vague)
    }

    fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..simulated::part(bytes.len(), 1)];
        self.source
            .send(self.write_timeout.load(), bytes, Partial::Vague)
    }

    fn transmit_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = simulated::part_of(slices, 1);
        self.source
            .send_vectored(self.write_timeout.load(), slices, Partial::Vague)
    }
}

reader!(UnixStream, &UnixStream);
writer!(UnixStream, &UnixStream);

/// A listening Unix-domain socket, in the shape of [`std::os::unix::net::UnixListener`].
///
/// Dropping it leaves its file where it is, as in std; a later bind to that path fails until the file is
/// removed.
///
/// # Examples
/// ```
/// use maniple::net::{UnixListener, UnixStream};
/// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     // A name that is no file: nothing to remove.
///     let address = SocketAddr::from_abstract_name(format!("example {}", std::process::id()))?;
///     let listener = UnixListener::bind_addr(&address)?;
///     let client = UnixStream::connect_addr(&address)?;
///     let (server, _) = listener.accept()?;
///     assert_eq!(server.peer_credentials()?.pid, Some(std::process::id() as i32));
///     # drop(client);
///     Ok(())
/// })
/// # }
/// ```
pub struct UnixListener {
    source: Source,
}

listener!(UnixListener, "UnixListener", STREAM, UnixStream);
conversions!(UnixListener, with_source, std::os::unix::net::UnixListener);

impl UnixListener {
    /// Accepts a connection that is there, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is none; otherwise as [`UnixListener::accept`].
    pub fn try_accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (source, peer) = self.source.try_accept()?;
        Ok((UnixStream::with_source(source), from_raw(peer)?))
    }

    /// Connections as they come; ends at no error, as in std.
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    /// A second handle to the same listener.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.source.try_clone().map(Self::with_source)
    }
}

/// The iterator of [`UnixListener::incoming`].
#[derive(Debug)]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// A socket of that kind, connected.
pub(super) fn connected(kind: SocketType, address: &SocketAddr) -> io::Result<OwnedFd> {
    simulated::take_descriptor()?;
    let address = to_raw(address)?;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, FLAGS, None)?;
    patiently(fd.as_fd(), None, |fd| rustix::net::connect(fd, &address))?;
    Ok(fd)
}

/// A socket of that kind, listening.
pub(super) fn listening(kind: SocketType, address: &SocketAddr) -> io::Result<OwnedFd> {
    simulated::take_descriptor()?;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, FLAGS, None)?;
    bind(&fd, address)?;
    rustix::net::listen(&fd, DEFAULT_BACKLOG)?;
    Ok(fd)
}
