//! Sockets in the shape of [`std::net`], whose calls suspend the coroutine instead of blocking its
//! thread. On a plain thread they block it.
//!
//! In a cancelled scope a call that may wait returns an error that carries
//! [`Cancelled`](crate::cancel::Cancelled), whether or not it would have had to; past a deadline, or the
//! socket's own timeout, one of kind [`TimedOut`](std::io::ErrorKind::TimedOut). Never `Interrupted`, which
//! callers retry.

#![deny(unsafe_code)]

mod connect;
mod hangups;
mod interest;
mod lookup;
mod pipe;
mod resolve;
pub(crate) mod simulated;
mod socket;
mod source;
mod splice;
mod tcp;
mod transfer;
mod udp;
mod udp_batch;
mod unix;

pub use hangups::{Hangup, Hangups};
pub use interest::Interest;
pub use lookup::{DEFAULT_NAME_TTL, MAX_NAMES, set_name_ttl};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use resolve::ToSocketAddrs;
pub use source::{wait_readable, wait_writable};
pub(crate) use splice::one_way;
pub use splice::{Duplex, SpliceFrom, SpliceTo, splice};
pub use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
pub use tcp::{Incoming, ListenOptions, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use udp_batch::{Datagram, RecvBatch};
pub use unix::{
    MOST_FDS, PeerCredentials, UnixDatagram, UnixIncoming, UnixListener, UnixSeqpacket,
    UnixSeqpacketListener, UnixStream,
};
