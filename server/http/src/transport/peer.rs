//! Who is at the other end of a connection that was made from here.

use std::io;

use super::{Peer, Transport};

impl Transport {
    /// Who is at the other end.
    pub(crate) fn peer(&self) -> io::Result<Peer> {
        match self {
            Transport::Tcp(stream) => stream.peer_addr().map(Peer::Tcp),
            Transport::Unix(_) => Ok(Peer::Unix),
            Transport::Memory(_) => Ok(Peer::Memory),
            #[cfg(feature = "tls")]
            Transport::Tls(secure) => secure.below().peer(),
        }
    }
}
