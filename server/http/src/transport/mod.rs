//! What a connection's bytes travel over: a closed set of kinds, with the same methods.
//!
//! The server is written against `Transport` and [`Listener`] and knows no socket. A kind that is to be added is an arm
//! here and nothing anywhere else. TLS is one, over any of the others.

mod connector;
pub mod memory;
#[cfg(feature = "websocket")]
mod peer;
#[cfg(feature = "http2")]
mod polled;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;

#[cfg(feature = "http2")]
use std::task::Waker;
use std::{
    fmt,
    fs::File,
    io::{self, IoSlice, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::{
        fd::{BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::SocketAddr as UnixAddr,
    },
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

#[cfg(feature = "http2")]
use maniple::net::Interest;
use maniple::net::{Shutdown, TcpListener, TcpStream, UnixListener, UnixStream};

pub use crate::proxied::{
    header::{ProxyHeader, ProxyTls},
    trust::Trust,
};
pub use connector::Connector;
#[cfg(feature = "http2")]
pub(crate) use polled::Held;
#[cfg(feature = "http2")]
pub use polled::{Dialed, Polled};
pub(crate) use tls::{ClientTls, TlsCounts, Unsecured, is_plain_http};

/// A connection of any kind.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(memory::Stream),
    #[cfg(feature = "tls")]
    Tls(Box<tls::Secure>),
}

/// Whether a write to a peer that is gone is no more than an error: sendfile(2) cannot be told to raise no signal. Rust programs
/// ignore that one, unless told otherwise.
static SIGPIPE_IS_HARMLESS: LazyLock<bool> = LazyLock::new(|| {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (rustix::process::Signal::PIPE.as_raw() - 1) & 1 == 1)
});

/// The same for each kind.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr, $secure:ident => $over_tls:expr) => {
        match $self {
            Transport::Tcp($stream) => $call,
            Transport::Unix($stream) => $call,
            Transport::Memory($stream) => $call,
            #[cfg(feature = "tls")]
            Transport::Tls($secure) => $over_tls,
        }
    };
    ($self:expr, $stream:ident => $call:expr) => {
        each!($self, $stream => $call, $stream => $call)
    };
}

impl Transport {
    #[inline]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => (&mut &*stream).read(buffer), secure => secure.read(buffer))
    }

    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => (&mut &*stream).write(bytes), secure => secure.write(bytes))
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(
            self,
            stream => (&mut &*stream).write_vectored(slices),
            secure => secure.write_vectored(slices)
        )
    }

    /// Sends bytes of a file like a write, where the kernel can ([`sends_files`](Self::sends_files)); 0 if the file has no more.
    pub(crate) fn send_file(&self, file: &File, offset: u64, bytes: usize) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.send_file(file, offset, bytes),
            Transport::Unix(stream) => stream.send_file(file, offset, bytes),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether the kernel can send of a file by itself, and no signal would come of it.
    pub(crate) fn sends_files(&self) -> bool {
        matches!(self, Transport::Tcp(_) | Transport::Unix(_)) && *SIGPIPE_IS_HARMLESS
    }

    /// Sends what writes have taken and not sent, which only those over TLS do.
    pub(crate) fn flush(&self) -> io::Result<()> {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) | Transport::Memory(_) => Ok(()),
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.flush(),
        }
    }

    /// Whether there is something to [flush](Self::flush).
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) | Transport::Memory(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.is_behind(),
        }
    }

    /// Bytes that writes have taken and that are still to be given to what is below, as only TLS has them.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) | Transport::Memory(_) => 0,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.unsent(),
        }
    }

    /// Whether a peer says by bytes that it ends, which may still be on their way when this end closes.
    pub(crate) fn ends_by_bytes(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) | Transport::Memory(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(_) => true,
        }
    }

    /// Whether it has taken in bytes that were not read, so that its descriptor does not tell of them.
    pub(crate) fn holds_input(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) | Transport::Memory(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.holds_input(),
        }
    }

    /// Reads what is there; kind `WouldBlock` if nothing is.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_read(buffer))
    }

    /// Writes what there is room for; kind `WouldBlock` if there is none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(bytes))
    }

    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.peek(buffer))
    }

    /// Whether a read may find something, as far as is known without asking the kernel.
    pub(crate) fn may_be_readable(&self) -> bool {
        match self {
            Transport::Tcp(stream) => stream.may_be_readable(),
            Transport::Unix(stream) => stream.may_be_readable(),
            Transport::Memory(_) => true,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.holds_input() || secure.below().may_be_readable(),
        }
    }

    /// Waits until there is something to read or room to write.
    pub(crate) fn wait_either(&self) -> io::Result<()> {
        each!(self, stream => stream.wait_either(), secure => secure.wait_either())
    }

    #[inline]
    pub(crate) fn wait_readable_until(&self, until: Instant) -> io::Result<()> {
        each!(self, stream => stream.wait_readable_until(until))
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        each!(self, stream => stream.set_read_timeout(timeout))
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        each!(self, stream => stream.set_write_timeout(timeout))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        each!(self, stream => stream.shutdown(how))
    }

    /// Small writes leave at once.
    pub(crate) fn set_nodelay(&self) {
        match self {
            // An error says that the peer is gone already.
            Transport::Tcp(stream) => _ = stream.set_nodelay(true),
            Transport::Unix(_) | Transport::Memory(_) => {}
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().set_nodelay(),
        }
    }

    /// From now on the kernel takes no more than so many bytes ahead of what it has sent, where it can be told so; or as many as
    /// it has room for.
    pub(crate) fn limit_unsent(&self, bytes: Option<u32>) {
        match self {
            // An error says that the peer is gone already.
            Transport::Tcp(stream) => _ = stream.limit_unsent(bytes.unwrap_or(u32::MAX)),
            Transport::Unix(_) | Transport::Memory(_) => {}
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().limit_unsent(bytes),
        }
    }

    /// How much of what was written the peer has not taken: 0 once it has all, and less when it has taken some.
    pub(crate) fn untaken(&self) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.unacknowledged(),
            Transport::Unix(stream) => stream.unread_by_peer(),
            Transport::Memory(stream) => Ok(stream.unread_by_peer()),
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => Ok(secure.below().untaken()? + secure.unsent()),
        }
    }

    /// Has closing look to the peer like no orderly end. Of a Unix socket it always looks like one, unless something
    /// that the peer sent is unread.
    pub(crate) fn reset_on_close(&self) {
        match self {
            // An error says that the peer is gone already.
            Transport::Tcp(stream) => _ = stream.reset_on_close(),
            Transport::Unix(_) => {}
            Transport::Memory(stream) => stream.reset_on_close(),
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.reset_on_close(),
        }
    }

    /// Wakes the calling worker no more.
    pub(crate) fn unwatch(&self) {
        match self {
            Transport::Tcp(stream) => stream.unwatch(),
            Transport::Unix(stream) => stream.unwatch(),
            Transport::Memory(_) => {}
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().unwatch(),
        }
    }

    /// What a poller waits for of it beside wakers, if it is a socket; else it wakes by [`wake_by`](Self::wake_by).
    #[cfg(feature = "http2")]
    pub(crate) fn interest(&self, reads: bool, writes: bool) -> Option<Interest<'_>> {
        match self {
            Transport::Tcp(stream) => Some(stream.interest(reads, writes)),
            Transport::Unix(stream) => Some(stream.interest(reads, writes)),
            Transport::Memory(_) => None,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().interest(reads, writes),
        }
    }

    /// What has no descriptor wakes this whenever something has changed, once.
    #[cfg(feature = "http2")]
    pub(crate) fn wake_by(&self, waker: &Waker) {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) => {}
            Transport::Memory(stream) => stream.wake_by(waker),
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().wake_by(waker),
        }
    }

    /// Whether it can be waited for without a coroutine.
    #[inline]
    pub(crate) fn has_descriptor(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) => true,
            Transport::Memory(_) => false,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().has_descriptor(),
        }
    }

    /// Whether a read that was short has shown that nothing more is there, so that what waits for more does wait.
    #[inline]
    pub(crate) fn is_emptied_by_short_reads(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Memory(_) => true,
            // A read stops where descriptors came along.
            Transport::Unix(_) => false,
            // What waits for more waits for what is decrypted.
            #[cfg(feature = "tls")]
            Transport::Tls(_) => true,
        }
    }

    /// Whether a peer that is gone looks different from one that has only ended its sending.
    pub(crate) fn tells_half_closes(&self) -> bool {
        match self {
            Transport::Tcp(_) => false,
            Transport::Unix(_) | Transport::Memory(_) => true,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().tells_half_closes(),
        }
    }

    /// That the peer has ended its sending, and whether nothing can be sent to it any more; of what has no descriptor, which
    /// tells of that itself.
    pub(crate) fn hangup(&self) -> Option<bool> {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) => None,
            Transport::Memory(stream) => stream.hangup(),
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().hangup(),
        }
    }

    /// What is below TLS, where that is spoken: which carries what comes before its handshake.
    pub(crate) fn below_tls(&self) -> &Transport {
        match self {
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below(),
            _ => self,
        }
    }

    /// Whether TLS is spoken on it.
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Transport::Tls(_) => true,
            _ => false,
        }
    }

    /// By which it is waited for without a coroutine.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Transport::Tcp(stream) => Some(stream.fd_to_wait_for()),
            Transport::Unix(stream) => Some(stream.fd_to_wait_for()),
            Transport::Memory(_) => None,
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().descriptor(),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// The address of a TCP connection's other end.
    Tcp(SocketAddr),
    /// A process on this machine, over a Unix-domain socket.
    Unix,
    /// This process, over a connection in [`memory`].
    Memory,
}

impl Peer {
    /// The address that its connections are counted by, if it has one: of IPv6 the network of 64 bits, all of which one
    /// subscriber has.
    pub(crate) fn network(&self) -> Option<IpAddr> {
        let Peer::Tcp(address) = self else {
            return None;
        };
        Some(match address.ip().to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            v4 => v4,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
            Peer::Memory => f.write_str("memory"),
        }
    }
}

/// Where a server listens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A path, or a name that is no file.
    Unix(UnixAddr),
    /// Within this process.
    Memory,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(address) => match (address.as_pathname(), address.as_abstract_name()) {
                (Some(path), _) => write!(f, "unix:{}", path.display()),
                (None, Some(name)) => write!(f, "unix:@{}", name.escape_ascii()),
                (None, None) => f.write_str("unix"),
            },
            Address::Memory => f.write_str("memory"),
        }
    }
}

/// What a server accepts connections from.
///
/// Made from a listener that exists already: ours or std's, for TCP or a Unix-domain socket, an inherited descriptor
/// of either (`OwnedFd`), or one in [`memory`].
///
/// An inherited descriptor is taken to be [shared](Listener::shared) with others, as those of systemd's socket units and
/// of a supervisor are.
///
/// # Examples
/// ```
/// use maniple_server::{Router, Server};
/// # fn main() -> std::io::Result<()> {
/// let bound_before = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let server = Server::builder(Router::new()).listener(bound_before)?;
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    shared: bool,
    policy: Option<Arc<Policy>>,
}

/// What is to be made of connections from a listener, beside what they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) trust: Trust,
    /// Whether those who are trusted send a PROXY header first.
    pub(crate) proxy_protocol: bool,
}

impl Policy {
    pub(crate) fn trusts(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self.trust.trusts(address.ip()),
            Peer::Unix => self.trust.trusts_unix(),
            Peer::Memory => self.trust.trusts_memory(),
        }
    }
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
    Memory(memory::Listener),
    #[cfg(feature = "tls")]
    Tls(Box<tls::SecureListener>),
}

impl Listener {
    /// Waits for a connection.
    pub(crate) fn accept(&self) -> io::Result<(Transport, Peer)> {
        self.kind.accept()
    }

    /// A connection that has arrived; kind `WouldBlock` if there is none.
    pub(crate) fn try_accept(&self) -> io::Result<(Transport, Peer)> {
        self.kind.try_accept()
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            kind: self.kind.try_clone()?,
            shared: self.shared,
            policy: self.policy.clone(),
        })
    }

    /// Whether others accept from the same socket or will do so later. Default: yes for an inherited descriptor, else
    /// no.
    ///
    /// As it drains, a server lets the kernel refuse what connects to a listener of its own, and closes it. A shared one
    /// goes on listening for the others; what waits there by then is still accepted.
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Takes the word of these peers for who the client is, and what it asked for:
    /// [`Request::client_address`](crate::Request::client_address), [`scheme`](crate::Request::scheme) and
    /// [`host`](crate::Request::host). Default: nobody's.
    pub fn trust(mut self, peers: Trust) -> Self {
        self.policy_mut().trust = peers;
        self
    }

    /// Whether [trusted](Listener::trust) peers begin each connection with a header of the PROXY protocol, version 1 or 2.
    /// Default: no.
    ///
    /// A trusted peer that sends none, or not within [`header_timeout`](crate::server::Builder::header_timeout), is not
    /// served. Others are served as they are; a header from them is a malformed request. What the header says is
    /// [`Request::proxy`](crate::Request::proxy).
    pub fn proxy_protocol(mut self, reads: bool) -> Self {
        self.policy_mut().proxy_protocol = reads;
        self
    }

    fn policy_mut(&mut self) -> &mut Policy {
        Arc::make_mut(self.policy.get_or_insert_default())
    }

    pub(crate) fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref()
    }

    /// What is contradictory about its settings.
    pub(crate) fn complaint(&self) -> Option<&'static str> {
        let policy = self.policy.as_deref()?;
        let for_nobody = policy.proxy_protocol && policy.trust.is_nobody();
        for_nobody.then_some("a listener with proxy_protocol must trust somebody to send it")
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Refuses what has not begun to connect. An error if it cannot, and others may go on connecting.
    pub(crate) fn ignore_new(&self) -> io::Result<()> {
        self.kind.ignore_new()
    }

    /// Whether connections may be on their way that can neither be accepted yet nor refused any more.
    pub(crate) fn has_handshakes(&self) -> bool {
        self.kind.has_handshakes()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<Address> {
        self.kind.address()
    }
}

impl Kind {
    fn accept(&self) -> io::Result<(Transport, Peer)> {
        Ok(match self {
            Kind::Tcp(listener) => of_tcp(listener.accept()?),
            Kind::Unix(listener) => (Transport::Unix(listener.accept()?.0), Peer::Unix),
            Kind::Memory(listener) => (Transport::Memory(listener.accept()?), Peer::Memory),
            #[cfg(feature = "tls")]
            Kind::Tls(listener) => listener.secure(listener.below().accept()?)?,
        })
    }

    fn try_accept(&self) -> io::Result<(Transport, Peer)> {
        Ok(match self {
            Kind::Tcp(listener) => of_tcp(listener.try_accept()?),
            Kind::Unix(listener) => (Transport::Unix(listener.try_accept()?.0), Peer::Unix),
            Kind::Memory(listener) => (Transport::Memory(listener.try_accept()?), Peer::Memory),
            #[cfg(feature = "tls")]
            Kind::Tls(listener) => listener.secure(listener.below().try_accept()?)?,
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Kind::Tcp(listener) => Kind::Tcp(listener.try_clone()?),
            Kind::Unix(listener) => Kind::Unix(listener.try_clone()?),
            Kind::Memory(listener) => Kind::Memory(listener.clone()),
            #[cfg(feature = "tls")]
            Kind::Tls(listener) => Kind::Tls(Box::new(listener.try_clone()?)),
        })
    }

    fn ignore_new(&self) -> io::Result<()> {
        match self {
            Kind::Tcp(listener) => listener.ignore_new(),
            Kind::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Kind::Memory(listener) => {
                listener.close();
                Ok(())
            }
            #[cfg(feature = "tls")]
            Kind::Tls(listener) => listener.below().ignore_new(),
        }
    }

    fn has_handshakes(&self) -> bool {
        match self {
            Kind::Tcp(_) => true,
            Kind::Unix(_) | Kind::Memory(_) => false,
            #[cfg(feature = "tls")]
            Kind::Tls(listener) => listener.below().has_handshakes(),
        }
    }

    fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Kind::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Kind::Unix(listener) => Address::Unix(listener.local_addr()?),
            Kind::Memory(_) => Address::Memory,
            #[cfg(feature = "tls")]
            Kind::Tls(listener) => listener.below().address()?,
        })
    }
}

fn of_tcp((stream, peer): (TcpStream, SocketAddr)) -> (Transport, Peer) {
    (Transport::Tcp(stream), Peer::Tcp(peer))
}

/// What a [`Listener`] can be made of, itself included.
pub trait IntoListener {
    /// Makes it.
    ///
    /// # Errors
    /// If it is no listener.
    fn into_listener(self) -> io::Result<Listener>;
}

impl IntoListener for Listener {
    fn into_listener(self) -> io::Result<Listener> {
        Ok(self)
    }
}

macro_rules! listeners {
    ($($from:ty, $listener:ident => $kind:expr, $shared:expr;)*) => {$(
        impl TryFrom<$from> for Listener {
            type Error = io::Error;

            fn try_from($listener: $from) -> io::Result<Self> {
                Ok(Self { kind: $kind, shared: $shared, policy: None })
            }
        }

        impl IntoListener for $from {
            fn into_listener(self) -> io::Result<Listener> {
                self.try_into()
            }
        }
    )*};
}

listeners! {
    TcpListener, listener => Kind::Tcp(listener), false;
    UnixListener, listener => Kind::Unix(listener), false;
    memory::Listener, listener => Kind::Memory(listener), false;
    std::net::TcpListener, listener => Kind::Tcp(listener.try_into()?), false;
    std::os::unix::net::UnixListener, listener => Kind::Unix(listener.try_into()?), false;
    OwnedFd, descriptor => of_descriptor(descriptor)?, true;
}

/// Sees by its address what a descriptor is. One that does not listen is found out by the first accept.
fn of_descriptor(descriptor: OwnedFd) -> io::Result<Kind> {
    let inet = std::net::TcpListener::from(descriptor);
    if inet.local_addr().is_ok() {
        return Ok(Kind::Tcp(inet.try_into()?));
    }
    let unix = std::os::unix::net::UnixListener::from(OwnedFd::from(inet));
    match unix.local_addr() {
        Ok(_) => Ok(Kind::Unix(unix.try_into()?)),
        Err(error) => {
            let text = format!("the descriptor is no listening socket: {error}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}
