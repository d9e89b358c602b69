//! Unix-domain sockets: streams, datagrams and sequenced packets between processes of one host.

mod address;
mod datagram;
mod rights;
mod seqpacket;
mod stream;

pub use datagram::UnixDatagram;
pub use rights::{MOST_FDS, PeerCredentials};
pub use seqpacket::{UnixSeqpacket, UnixSeqpacketListener};
pub use stream::{UnixIncoming, UnixListener, UnixStream};

use super::{socket, source, transfer};

/// What every connected kind has: a `source`, two timeouts, addresses, credentials and descriptors to pass.
macro_rules! endpoint {
    ($ours:ident, $name:literal, $kind:ident, $empty_carries:literal) => {
        impl $ours {
            fn with_source(source: Source) -> Self {
                Self {
                    source,
                    read_timeout: Timeout::none(),
                    write_timeout: Timeout::none(),
                }
            }

            /// Two ends that are connected to each other.
            ///
            /// # Errors
            /// If the process has no descriptor left.
            pub fn pair() -> io::Result<(Self, Self)> {
                let (family, kind) = (AddressFamily::UNIX, SocketType::$kind);
                $crate::net::simulated::take_descriptor()?;
                let (one, other) = rustix::net::socketpair(family, kind, FLAGS, None)?;
                Ok((
                    Self::with_source(Source::new(one)),
                    Self::with_source(Source::new(other)),
                ))
            }

            /// The address of this end; unnamed unless it was bound.
            ///
            /// # Errors
            /// If the system cannot tell.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                from_raw(Some(rustix::net::getsockname(&self.source)?))
            }

            /// The address of the peer; unnamed unless it was bound.
            ///
            /// # Errors
            /// If there is no peer.
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                from_raw(rustix::net::getpeername(&self.source)?)
            }

            /// A second handle to the same socket. Timeouts are each handle's own.
            ///
            /// # Errors
            /// If the process has no descriptor left.
            pub fn try_clone(&self) -> io::Result<Self> {
                self.source.try_clone().map(Self::with_source)
            }

            /// Ends one direction or both. A coroutine that waits in it is woken.
            ///
            /// # Errors
            /// If there is no peer.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                Ok(rustix::net::shutdown(&self.source, raw_shutdown(how))?)
            }

            /// Takes the socket's pending error.
            ///
            /// # Errors
            /// If the system cannot tell.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.source.take_error()
            }

            /// Who made the other end, as of when the two were connected (`SO_PEERCRED`, unix(7)).
            ///
            /// # Errors
            /// Kind `NotConnected` if nobody has.
            pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
                PeerCredentials::of(self.source.as_fd())
            }

            /// Sends bytes to the peer, and with the first of them descriptors, which the peer gets copies of
            /// (`SCM_RIGHTS`, unix(7)). Returns how many bytes were sent; all descriptors were.
            ///
            /// # Errors
            /// `InvalidInput` if there are more than [`MOST_FDS`](super::MOST_FDS) descriptors, or no bytes on
            /// a stream, where descriptors need a byte to travel with; otherwise as a send.
            pub fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
                rights::check(bytes, fds, $empty_carries)?;
                self.source
                    .io(Direction::Write, self.write_timeout.load(), |fd| {
                        rights::send(fd, bytes, fds).map(Moved::Fully)
                    })
            }

            /// Receives bytes, and adds the descriptors that came with them to `fds`, close-on-exec. A receive
            /// of any other kind closes descriptors that came.
            ///
            /// # Errors
            /// As a receive; if the process had no descriptor left for some of them, those and the bytes are
            /// lost (`EMFILE`).
            pub fn recv_fds(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
                self.source
                    .io(Direction::Read, self.read_timeout.load(), |fd| {
                        match rights::receive(fd, buffer, fds)? {
                            // Datagrams have no end: an empty one is one.
                            0 if !buffer.is_empty() && SocketType::$kind != SocketType::DGRAM => {
                                self.source.at_end()
                            }
                            n => Ok(Moved::Filled(n)),
                        }
                    })
            }
        }

        timeouts!($ours);

        impl fmt::Debug for $ours {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name)
                    .field("fd", &self.source.as_fd().as_raw_fd())
                    .field("local", &self.local_addr().ok())
                    .field("peer", &self.peer_addr().ok())
                    .finish()
            }
        }
    };
}

use endpoint;

/// What every listening kind has: a `source` alone, bound to an address, that gives out connections.
macro_rules! listener {
    ($ours:ident, $name:literal, $kind:ident, $connection:ident) => {
        impl $ours {
            fn with_source(source: Source) -> Self {
                Self { source }
            }

            /// Makes a socket file at the path and listens there, with a backlog of 4096.
            ///
            /// # Errors
            /// If the file exists (kind `AddrInUse`) or cannot be made.
            pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Self> {
                Self::bind_addr(&SocketAddr::from_pathname(path)?)
            }

            /// Listens at an address, which may be an abstract one, with a backlog of 4096.
            ///
            /// # Errors
            /// If the address is in use (kind `AddrInUse`) or cannot be had.
            pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
                listening(SocketType::$kind, address).map(|fd| Self::with_source(Source::new(fd)))
            }

            /// Waits for a connection and accepts it.
            ///
            /// # Errors
            /// If the process has no descriptor left, or the wait was cut short.
            pub fn accept(&self) -> io::Result<($connection, SocketAddr)> {
                let (source, peer) = self.source.accept()?;
                Ok(($connection::with_source(source), from_raw(peer)?))
            }

            /// The address that it listens at.
            ///
            /// # Errors
            /// If the system cannot tell.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                from_raw(Some(rustix::net::getsockname(&self.source)?))
            }
        }

        impl fmt::Debug for $ours {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name)
                    .field("fd", &self.source.as_fd().as_raw_fd())
                    .field("local", &self.local_addr().ok())
                    .finish()
            }
        }
    };
}

use listener;
