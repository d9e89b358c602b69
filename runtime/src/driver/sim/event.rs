//! What happens in the network of a world, and requests for connections, which are on their way for a while.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use rustix::io::Errno;

use super::{
    host::HostId,
    link::{Packet, PacketKind},
    plan::{Call, Happens},
};

pub(crate) type Answer = Box<dyn FnOnce(io::Result<OwnedFd>) + Send>;

/// What happens in the network at some time.
pub(crate) enum Event {
    /// A request for a connection is sent, or sent again.
    Asks(Attempt),
    /// It arrives.
    Syn(Attempt),
    /// Its answer is sent, or sent again.
    Tells(Attempt, io::Result<OwnedFd>),
    /// That arrives.
    Answered(Attempt, io::Result<OwnedFd>),
    /// Something that this end has sent is due.
    Due(u32),
    /// The connection is broken, as this end learns now.
    Broken(u32, Errno),
    /// No word has come for so long of what the peer of this end has got.
    Unheard(u32),
    /// A datagram arrives.
    Datagram(Flying),
    /// Something is to be called.
    Call(Call),
    /// Something on standby has its deadline.
    Alarm,
}

impl Happens for Event {
    /// One for each request for a connection, for each end of a connection, and for the datagrams between two sockets.
    fn lane(&self) -> Option<u64> {
        let port = |address: &SocketAddr| u64::from(address.port());
        // The topmost bits say which of the three it is.
        Some(match self {
            Event::Asks(attempt)
            | Event::Syn(attempt)
            | Event::Tells(attempt, _)
            | Event::Answered(attempt, _) => {
                1 << 62 | u64::from(attempt.from.0) << 16 | port(&attempt.client)
            }
            Event::Due(id) | Event::Broken(id, _) | Event::Unheard(id) => 2 << 62 | u64::from(*id),
            Event::Datagram(Flying {
                from,
                source,
                destination,
                ..
            }) => 3 << 62 | u64::from(from.0) << 32 | port(source) << 16 | port(destination),
            Event::Call(_) | Event::Alarm => return None,
        })
    }
}

/// What an event has come to.
pub(super) enum Happened {
    /// No socket is other than it was.
    Nothing,
    Something,
    /// This is to be called.
    Call(Call),
}

/// A datagram on its way.
pub(crate) struct Flying {
    pub(super) from: HostId,
    pub(super) source: SocketAddr,
    pub(super) to: HostId,
    pub(super) destination: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) noted: u64,
}

pub(crate) struct Attempt {
    pub(super) from: HostId,
    pub(super) client: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) tries: u32,
    pub(super) answer: Answer,
    /// Of what is under way for it, for who reads what happens.
    pub(super) noted: u64,
}

impl Attempt {
    pub(super) fn packet(&self, kind: PacketKind, from: HostId, to: HostId) -> Packet<'static> {
        let (source, destination) = match kind {
            PacketKind::Syn => (self.client, self.to),
            _ => (self.to, self.client),
        };
        Packet {
            from,
            to,
            source,
            destination,
            kind,
            bytes: &[],
        }
    }
}
