//! TCP: listeners and streams.

use std::{
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, sockopt},
};

use super::{
    Interest, Shutdown, ToSocketAddrs, connect,
    resolve::each_address,
    simulated,
    socket::{
        DEFAULT_BACKLOG, Timeout, conversions, raw_shutdown, reader, slices_at_once, tcp_socket,
        timeouts, to_inet, writer, zero_timeout,
    },
    source::{Source, until},
    transfer::Partial,
};
use crate::sys::{
    event::Direction,
    socket::{ignore_new_connections, limit_unsent, send_queue},
};

/// A TCP connection, in the shape of [`std::net::TcpStream`].
///
/// Reads and writes need only `&TcpStream`, so two coroutines can share one, each in its direction.
/// Small writes are not delayed here, but the kernel may: see [`TcpStream::set_nodelay`].
///
/// If the peer resets the connection, reads say so (kind `ConnectionReset`) once what has come is read, however
/// often one asks, and also where a write or [`TcpStream::take_error`] has told it before. Zero bytes are the
/// end that the peer meant. Clones know of each other's errors; other descriptors of the socket do not.
///
/// Bytes that the peer sends out of band (`MSG_OOB`) are left out.
///
/// # Examples
/// ```
/// use maniple::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let address = listener.local_addr()?;
///     let echo = maniple::spawn(move || -> std::io::Result<()> {
///         let (mut stream, _peer) = listener.accept()?;
///         let mut buffer = [0; 64];
///         let n = stream.read(&mut buffer)?;
///         stream.write_all(&buffer[..n])
///     });
///     let mut stream = TcpStream::connect(address)?;
///     stream.write_all(b"hello")?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer)?;
///     assert_eq!(answer, "hello");
///     echo.join()?
/// })
/// # }
/// ```
pub struct TcpStream {
    pub(in crate::net) source: Source,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

impl TcpStream {
    /// Connects to the first address that answers.
    ///
    /// Of several, IPv6 and IPv4 take turns, each attempt beginning when the one before has failed or has
    /// taken 250 ms; the others end with the first success (RFC 8305).
    ///
    /// # Errors
    /// If the name cannot be resolved or no address could be connected to (the last one's error), or
    /// the wait was cut short.
    pub fn connect<A: ToSocketAddrs>(address: A) -> io::Result<Self> {
        let addresses = address.to_socket_addrs()?;
        match addresses.as_slice() {
            [only] => connect::to(only, None),
            _ => connect::to_first_of(addresses),
        }
        .map(Self::with_source)
    }

    /// Connects like [`TcpStream::connect`], to one address and for at most `timeout`.
    ///
    /// # Errors
    /// Kind `TimedOut` if there was no answer in time; `InvalidInput` if `timeout` is zero.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        if timeout.is_zero() {
            return Err(zero_timeout());
        }
        connect::to(address, until(Some(timeout))).map(Self::with_source)
    }

    fn with_source(source: Source) -> Self {
        Self {
            source,
            read_timeout: Timeout::none(),
            write_timeout: Timeout::none(),
        }
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        to_inet(rustix::net::getpeername(&self.source)?.ok_or(Errno::NOTCONN)?)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_inet(rustix::net::getsockname(&self.source)?)
    }

    /// Ends one direction or both. A coroutine that waits in it is woken.
    ///
    /// With [`Shutdown::Read`] the peer may still send, and Linux hands that out: a read returns 0 while nothing has
    /// come, and later what came. To refuse input, drop the stream. (On a [`UnixStream`](crate::net::UnixStream) the
    /// peer's writes fail.)
    ///
    /// # Errors
    /// If the connection is gone already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let done = rustix::net::shutdown(&self.source, raw_shutdown(how));
        self.source.shut(how);
        Ok(done?)
    }

    /// A second handle to the same connection. Timeouts are each handle's own.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.source.try_clone().map(Self::with_source)
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
        self.source.try_receive(buffer)
    }

    /// Writes what there is room for, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is no room.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source.try_io(Direction::Write, |fd| {
            if let Some(sent) = self.source.send_in_world(bytes) {
                return Ok(sent);
            }
            rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
        })
    }

    /// Writes what there is room for of several buffers, one behind the other, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is no room.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = slices_at_once(slices);
        self.source.try_io(Direction::Write, |fd| {
            let first = slices.iter().find(|slice| !slice.is_empty());
            if let Some(sent) = first.and_then(|first| self.source.send_in_world(first)) {
                return Ok(sent);
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags)
        })
    }

    /// Sends bytes of a file from `offset` on, which the kernel does not copy to this process (sendfile(2)); waits for
    /// room. Returns how many were sent: 0 only where the file has no more, or `bytes` is 0.
    ///
    /// What of the file is not in memory is read from the disk meanwhile, and the worker stands still for that: have it
    /// read before, by [`fs::reading`](crate::fs::reading). Where the peer has closed, the call raises `SIGPIPE` beside
    /// its error, which Rust programs ignore unless told otherwise.
    ///
    /// # Errors
    /// Past the write timeout (kind `TimedOut`), if the connection or the file cannot be used, or if the wait was cut
    /// short.
    ///
    /// # Examples
    /// ```
    /// use maniple::net::{TcpListener, TcpStream};
    /// use std::io::Read;
    /// # fn main() -> std::io::Result<()> {
    /// maniple::run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let mut client = TcpStream::connect(listener.local_addr()?)?;
    ///     let (server, _) = listener.accept()?;
    ///     let file = std::fs::File::open("/proc/self/exe")?;
    ///     assert_eq!(server.send_file(&file, 1, 3)?, 3);
    ///     let mut bytes = [0; 3];
    ///     client.read_exact(&mut bytes)?;
    ///     assert_eq!(&bytes, b"ELF");
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn send_file(&self, file: impl AsFd, offset: u64, bytes: usize) -> io::Result<usize> {
        let timeout = self.write_timeout.load();
        self.source.send_file(timeout, file.as_fd(), offset, bytes)
    }

    /// Waits until there is something to read or room to write, the peer has closed, or the connection failed.
    ///
    /// For one coroutine that does both, so that a peer that writes before it has read all does not have both sides
    /// wait: tries with [`TcpStream::try_read`] and [`TcpStream::try_write`], and waits when neither could go on. It
    /// waits no longer than the read timeout and the write timeout, and may return early.
    ///
    /// # Errors
    /// Fails as [`TcpStream::wait_readable`] does.
    ///
    /// # Examples
    /// Sends more than the buffers between two hold, to a peer that echoes:
    /// ```
    /// use maniple::net::{TcpListener, TcpStream};
    /// use std::io::{self, ErrorKind::WouldBlock};
    /// # fn main() -> io::Result<()> {
    /// maniple::run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let stream = TcpStream::connect(listener.local_addr()?)?;
    ///     let (peer, _) = listener.accept()?;
    ///     let echo = maniple::spawn(move || io::copy(&mut &peer, &mut &peer));
    ///
    ///     let (mut unsent, mut unheard, mut buffer) = (&[b'x'; 9_000_000][..], 9_000_000, [0; 65_536]);
    ///     while unheard > 0 {
    ///         match stream.try_write(unsent) {
    ///             Ok(count) => unsent = &unsent[count..],
    ///             Err(error) if error.kind() == WouldBlock => {}
    ///             Err(error) => return Err(error),
    ///         }
    ///         match stream.try_read(&mut buffer) {
    ///             Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
    ///             Ok(count) => unheard -= count,
    ///             Err(error) if error.kind() == WouldBlock => match unsent {
    ///                 [] => stream.wait_readable()?,
    ///                 _ => stream.wait_either()?,
    ///             },
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     drop(stream);
    ///     assert_eq!(echo.join()??, 9_000_000);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn wait_either(&self) -> io::Result<()> {
        let timeouts = [self.read_timeout.load(), self.write_timeout.load()];
        let shorter = timeouts.into_iter().flatten().min();
        self.source.wait_either(until(shorter))
    }

    /// Bytes that were written and that the peer has not acknowledged: it has not got them, or has no room for
    /// them (`SIOCOUTQ`, tcp(7)).
    ///
    /// Tells a peer that reads slowly from one that reads nothing: the kernel reports a connection as writable
    /// only once a third of its send buffer is free, which may be megabytes. A half-closed connection counts one
    /// more for its end.
    ///
    /// # Errors
    /// If the system cannot tell.
    ///
    /// # Examples
    /// ```
    /// use maniple::net::{TcpListener, TcpStream};
    /// use std::io::Write;
    /// # fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.write_all(b"hello")?;
    /// while stream.unacknowledged()? > 0 {
    ///     std::thread::yield_now();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn unacknowledged(&self) -> io::Result<usize> {
        let on_its_way = self.source.end().map_or(0, simulated::in_flight);
        Ok(on_its_way + send_queue(self.source.as_fd())?)
    }

    /// From now on the kernel takes no more for sending while so many bytes are there that it has not sent
    /// (`TCP_NOTSENT_LOWAT`, tcp(7)). What is sent and not acknowledged does not count, so a connection is as fast as
    /// before.
    ///
    /// Without this a write to a peer that reads nothing fills the kernel's buffer, which may be megabytes: time that
    /// others of the worker wait, and memory that many such peers take together. But a peer that reads, and is
    /// slower than this end, then has it woken more often. 128 KiB is a usual limit; `u32::MAX` is none.
    ///
    /// # Errors
    /// If the connection is gone.
    ///
    /// # Examples
    /// ```
    /// use maniple::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.limit_unsent(128 * 1024)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit_unsent(&self, bytes: u32) -> io::Result<()> {
        if simulated::has_no_options(self.source.as_fd()) {
            return Ok(());
        }
        limit_unsent(self.source.as_fd(), bytes)
    }

    /// From now on closing the connection resets it: what has not been sent is thrown away, and the peer gets an
    /// error rather than an end (`SO_LINGER` of zero, socket(7)).
    ///
    /// For a message that breaks off and must not be taken for whole.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn reset_on_close(&self) -> io::Result<()> {
        if simulated::reset_on_close(self.source.as_fd()) {
            return Ok(());
        }
        Ok(sockopt::set_socket_linger(
            &self.source,
            Some(Duration::ZERO),
        )?)
    }

    /// Waits until there is something to read, the peer has closed, or the connection failed.
    ///
    /// An idle connection that waits like this needs no buffer. It may return early; a read then waits.
    ///
    /// # Errors
    /// Fails as [`Read::read`](io::Read::read) does, except for errors of the connection, which the next read reports.
    pub fn wait_readable(&self) -> io::Result<()> {
        self.source.wait_readable(self.read_timeout.load())
    }

    /// Waits like [`TcpStream::wait_readable`], until an instant of the caller's, whatever the read timeout.
    ///
    /// # Errors
    /// Kind `TimedOut` past that instant.
    #[inline]
    pub fn wait_readable_until(&self, until: Instant) -> io::Result<()> {
        self.source.wait_ready(Direction::Read, Some(until))
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

    /// Takes the connection out of what the calling worker watches, unless a coroutine waits for it there.
    ///
    /// For one that goes to another coroutine, possibly of another worker, as with
    /// [`spawn_when_readable`](crate::task::spawn_when_readable): its events would go on waking this worker.
    /// The next wait watches it again. Does nothing on a plain thread.
    pub fn unwatch(&self) {
        self.source.unwatch();
    }

    /// Whether the kernel sends small writes at once rather than collect them (`TCP_NODELAY`, tcp(7)).
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        let set = sockopt::set_tcp_nodelay(&self.source, nodelay);
        simulated::option(&self.source, set, ())
    }

    /// Whether `TCP_NODELAY` is set.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn nodelay(&self) -> io::Result<bool> {
        let nodelay = sockopt::tcp_nodelay(&self.source);
        simulated::option(&self.source, nodelay, false)
    }

    /// What becomes of bytes that are still to be sent when the connection is dropped (`SO_LINGER`, socket(7)).
    ///
    /// `None`, the default: the kernel goes on sending them. Zero: they are thrown away and the peer gets a reset.
    /// Any other time is kept in whole seconds; a *plain thread* that closes the connection then waits so long for
    /// the peer to acknowledge them. On a worker nothing waits: a drop there does as with `None`. Who has to
    /// know that the peer has everything lets it answer.
    ///
    /// # Errors
    /// If the connection is gone; `InvalidInput` if the time is too long.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.source.lingers();
        Ok(sockopt::set_socket_linger(&self.source, linger)?)
    }

    /// What `SO_LINGER` is.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(sockopt::socket_linger(&self.source)?)
    }

    /// The hops that a packet may take (`IP_TTL`, ip(7)).
    ///
    /// # Errors
    /// If the value is out of range.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        simulated::option(&self.source, sockopt::set_ip_ttl(&self.source, ttl), ())
    }

    /// What `IP_TTL` is.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn ttl(&self) -> io::Result<u32> {
        simulated::option(&self.source, sockopt::ip_ttl(&self.source), 64)
    }

    /// Takes the connection's pending error.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.source.take_error()
    }

    #[inline]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source
            .receive(self.read_timeout.load(), buffer, Partial::Telling)
    }

    #[inline]
    fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        self.source
            .send(self.write_timeout.load(), bytes, Partial::Telling)
    }

    fn transmit_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.source
            .send_vectored(self.write_timeout.load(), slices, Partial::Telling)
    }
}

reader!(TcpStream, &TcpStream);
writer!(TcpStream, &TcpStream);
timeouts!(TcpStream);

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("fd", &self.source.as_fd().as_raw_fd())
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}

/// A listening TCP socket, in the shape of [`std::net::TcpListener`].
pub struct TcpListener {
    source: Source,
}

impl TcpListener {
    fn with_source(source: Source) -> Self {
        Self { source }
    }

    /// Listens on the first address that can be bound, with the defaults of [`ListenOptions`].
    ///
    /// # Errors
    /// If the name cannot be resolved or no address can be bound; the message names the last one.
    pub fn bind<A: ToSocketAddrs>(address: A) -> io::Result<Self> {
        Self::builder().bind(address)
    }

    /// Options for a listener.
    pub fn builder() -> ListenOptions {
        ListenOptions::new()
    }

    /// Waits for a connection and accepts it.
    ///
    /// # Errors
    /// If the process has no descriptor left, or the wait was cut short. A connection that was reset
    /// before it could be accepted is passed over.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (source, peer) = self.source.accept()?;
        let peer = match peer {
            Some(peer) => peer,
            None => rustix::net::getpeername(&source)?.ok_or(Errno::NOTCONN)?,
        };
        Ok((TcpStream::with_source(source), to_inet(peer)?))
    }

    /// Accepts a connection that is there, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is none; otherwise as [`TcpListener::accept`].
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (source, peer) = self.source.try_accept()?;
        let peer = to_inet(peer.ok_or(Errno::NOTCONN)?)?;
        Ok((TcpStream::with_source(source), peer))
    }

    /// From now on nobody can begin to connect; those whose handshake is under way can still be accepted.
    ///
    /// To be called some time before the listener is dropped. The kernel resets connections that are complete by
    /// then and have not been accepted, with the requests that they have sent already; between a last accept and the
    /// drop there may always be one more. After this there will be none, once handshakes have had the time of a
    /// round trip. A client that tries to connect meanwhile gets no answer, and tries again after a second (tcp(7),
    /// `tcp_syn_retries`): by then there is another listener, or the refusal.
    ///
    /// # Errors
    /// If the system does not allow a filter for packets (`SO_ATTACH_FILTER`, socket(7)).
    ///
    /// # Examples
    /// ```
    /// use maniple::net::{TcpListener, TcpStream};
    /// use std::time::Duration;
    /// # fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let early = TcpStream::connect(listener.local_addr()?)?;
    /// listener.ignore_new()?;
    /// let late = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_millis(50));
    /// assert!(late.is_err());
    /// assert_eq!(listener.accept()?.1, early.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ignore_new(&self) -> io::Result<()> {
        if simulated::ignore_new(self.source.as_fd()) {
            return Ok(());
        }
        ignore_new_connections(self.source.as_fd())
    }

    /// Connections as they come; ends at no error, as in std.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address that it listens on, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        to_inet(rustix::net::getsockname(&self.source)?)
    }

    /// A second handle to the same listener.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.source.try_clone().map(Self::with_source)
    }

    /// The hops that a packet may take (`IP_TTL`), inherited by accepted connections.
    ///
    /// # Errors
    /// If the value is out of range.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        simulated::option(&self.source, sockopt::set_ip_ttl(&self.source, ttl), ())
    }

    /// What `IP_TTL` is.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn ttl(&self) -> io::Result<u32> {
        simulated::option(&self.source, sockopt::ip_ttl(&self.source), 64)
    }

    /// Takes the socket's pending error.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.source.take_error()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("fd", &self.source.as_fd().as_raw_fd())
            .field("local", &self.local_addr().ok())
            .finish()
    }
}

/// The iterator of [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// How a [`TcpListener`] is made.
///
/// # Examples
/// ```
/// use maniple::net::TcpListener;
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::builder().reuse_port(true).backlog(128).bind("127.0.0.1:0")?;
/// assert_ne!(listener.local_addr()?.port(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they bind"]
pub struct ListenOptions {
    reuse_port: bool,
    backlog: i32,
}

impl ListenOptions {
    /// The defaults: `SO_REUSEADDR`, as std has it, no `SO_REUSEPORT`, a backlog of 4096.
    pub fn new() -> Self {
        Self {
            reuse_port: false,
            backlog: DEFAULT_BACKLOG,
        }
    }

    /// Whether several listeners may share the address, the kernel spreading connections over them
    /// (`SO_REUSEPORT`, socket(7)).
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Connections that may wait to be accepted; bounded by the system (listen(2)).
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        self
    }

    /// Listens on the first address that can be bound.
    ///
    /// # Errors
    /// If the name cannot be resolved or no address can be bound; the message names the last one.
    pub fn bind<A: ToSocketAddrs>(&self, address: A) -> io::Result<TcpListener> {
        each_address(&address, |address| {
            self.bind_one(address)
                .map_err(|error| io::Error::new(error.kind(), format!("bind {address}: {error}")))
        })
    }

    fn bind_one(&self, address: &SocketAddr) -> io::Result<TcpListener> {
        if let Some(world) = simulated::world() {
            let fd = simulated::listen(&world, address, self.backlog)?;
            return Ok(TcpListener::with_source(Source::listening_in_world(fd)));
        }
        let fd = tcp_socket(address)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if self.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        rustix::net::bind(&fd, address)?;
        rustix::net::listen(&fd, self.backlog)?;
        Ok(TcpListener::with_source(Source::new(fd)))
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

conversions!(TcpStream, with_source, std::net::TcpStream);
conversions!(TcpListener, with_source, std::net::TcpListener);
