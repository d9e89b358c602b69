//! UDP in a world: datagrams that are lost, come twice, late, or in another order.
//!
//! A host's socket is a Unix-domain one that is bound to a name for its address. What it sends the world takes, and
//! gives to the other host's socket later, from a socket of its own that has the sender's address for a name: so who
//! receives learns who has sent, by the calls that run in service.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketType, bind, connect, getpeername,
        getsockname, sendto, socket_with,
    },
};

use super::{
    chronicle::glimpse,
    event::{Event, Flying},
    host::HostId,
    link::{Packet, PacketKind, Way},
    name::{FLAGS, Names, address_of, decode, host_of},
    stream::Around,
};

/// The largest that fits into an IPv4 packet.
const MOST_BYTES: usize = 65_507;

/// What a host keeps of datagrams that nobody has received yet (`net.core.rmem_default`).
const MOST_HELD: usize = 212_992;

/// What a datagram takes of that beside its bytes.
const OVERHEAD: usize = 256;

/// Sockets that datagrams are given from, before those that nobody is connected to are closed.
const MOST_SENDERS: usize = 256;

#[derive(Default)]
pub(super) struct Datagrams {
    /// What datagrams from an address are given from, and whether some socket is connected to that.
    senders: BTreeMap<(HostId, SocketAddr), (OwnedFd, bool)>,
    /// Datagrams for which a socket has had no room.
    held: BTreeMap<(HostId, SocketAddr), Held>,
}

#[derive(Default)]
struct Held {
    datagrams: VecDeque<(HostId, SocketAddr, Vec<u8>)>,
    bytes: usize,
}

fn tag(host: HostId) -> String {
    format!("d{}", host.0)
}

impl Datagrams {
    /// A socket that is bound to that address of the host.
    pub(super) fn bind(
        &mut self,
        names: &Names,
        host: HostId,
        address: SocketAddr,
    ) -> io::Result<OwnedFd> {
        let fd = socket()?;
        bind(&fd, &names.of(&tag(host), address)?)?;
        Ok(fd)
    }

    /// Has a socket receive from that address alone, and send there.
    pub(super) fn connect(
        &mut self,
        names: &Names,
        from: HostId,
        socket: BorrowedFd<'_>,
        to: SocketAddr,
    ) -> io::Result<()> {
        let to_host = host_of(from, to.ip());
        self.sender(names, to_host, to)?.1 = true;
        Ok(connect(socket, &sender_name(names, to_host, to)?)?)
    }

    /// Sends a datagram, to where the socket is connected if nothing else is said.
    pub(super) fn send(
        &mut self,
        around: &mut Around<'_>,
        from: HostId,
        socket: BorrowedFd<'_>,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> rustix::io::Result<usize> {
        let decoded = |name| decode(&name).map(|(_, address)| address);
        let to = match to {
            Some(to) => to,
            None => getpeername(socket)
                .ok()
                .flatten()
                .and_then(decoded)
                .ok_or(Errno::DESTADDRREQ)?,
        };
        let source = getsockname(socket).ok().and_then(decoded);
        let source = source.ok_or(Errno::NOTSOCK)?;
        if bytes.len() > MOST_BYTES {
            return Err(Errno::MSGSIZE);
        }
        let to_host = host_of(from, to.ip());
        let packet = Packet {
            from,
            to: to_host,
            source,
            destination: to,
            kind: PacketKind::Datagram,
            bytes,
        };
        let (at, times) = match around.links.send(around.plan, packet) {
            Way::Comes(at) => (at, 1),
            Way::ComesTwice(at) => (at, 2),
            Way::Lost | Way::Resets(_) => (0, 0),
        };
        let mut noted = around.plan.note_sent(from, to_host, || glimpse(bytes));
        if times == 0 {
            around.plan.note_lost(noted);
        }
        for _ in 0..times {
            let flying = Flying {
                from,
                source,
                to: to_host,
                destination: to,
                bytes: bytes.to_vec(),
                // The second comes as well, and is the same.
                noted: std::mem::take(&mut noted),
            };
            around.plan.at(at, Event::Datagram(flying));
        }
        Ok(bytes.len())
    }

    /// A datagram arrives, and is thrown away if nobody is there for it.
    pub(super) fn arrive(&mut self, names: &Names, around: &mut Around<'_>, flying: Flying) {
        if !around.lets_through(flying.from, flying.to) {
            around.plan.note_lost(flying.noted);
            return;
        }
        around.plan.note_came(flying.noted);
        let key = (flying.to, flying.destination);
        let (from, bytes) = ((flying.from, flying.source), flying.bytes);
        let is_waiting = self.held.contains_key(&key);
        if is_waiting || self.give(names, from, key, &bytes) == Err(Errno::AGAIN) {
            let held = self.held.entry(key).or_default();
            let size = bytes.len() + OVERHEAD;
            if held.bytes + size <= MOST_HELD {
                held.bytes += size;
                held.datagrams.push_back((from.0, from.1, bytes));
            }
        }
    }

    /// Gives what waits for room, as far as there is some; whether anything was given.
    pub(super) fn give_held(&mut self, names: &Names) -> bool {
        let mut given = false;
        for (key, mut held) in std::mem::take(&mut self.held) {
            while let Some((host, source, bytes)) = held.datagrams.pop_front() {
                if self.give(names, (host, source), key, &bytes) == Err(Errno::AGAIN) {
                    held.datagrams.push_front((host, source, bytes));
                    break;
                }
                given = true;
                held.bytes -= bytes.len() + OVERHEAD;
            }
            if !held.datagrams.is_empty() {
                self.held.insert(key, held);
            }
        }
        given
    }

    /// Forgets what waits for sockets of a host.
    pub(super) fn forget_those_of(&mut self, host: HostId) {
        self.held.retain(|(of, _), _| *of != host);
    }

    fn give(
        &mut self,
        names: &Names,
        (from, source): (HostId, SocketAddr),
        (to, destination): (HostId, SocketAddr),
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let sender = self.sender(names, from, source);
        let (sender, _) = sender.map_err(|_| Errno::CONNREFUSED)?;
        let to_name = |address| names.of(&tag(to), address).map_err(|_| Errno::INVAL);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let given = sendto(&*sender, bytes, flags, &to_name(destination)?);
        let given = match given {
            // What is bound to all addresses is bound to the loopback as well.
            Err(Errno::CONNREFUSED) if destination.ip().is_loopback() => {
                let any = SocketAddr::new(address_of(to), destination.port());
                sendto(&*sender, bytes, flags, &to_name(any)?)
            }
            given => given,
        };
        given.map(drop)
    }

    fn sender(
        &mut self,
        names: &Names,
        host: HostId,
        address: SocketAddr,
    ) -> io::Result<&mut (OwnedFd, bool)> {
        if !self.senders.contains_key(&(host, address)) {
            if self.senders.len() >= MOST_SENDERS {
                self.senders.retain(|_, (_, is_peer)| *is_peer);
            }
            let fd = socket()?;
            bind(&fd, &sender_name(names, host, address)?)?;
            self.senders.insert((host, address), (fd, false));
        }
        let made = self.senders.get_mut(&(host, address));
        made.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    Ok(socket_with(family, kind, FLAGS, None)?)
}

fn sender_name(names: &Names, host: HostId, address: SocketAddr) -> io::Result<SocketAddrUnix> {
    names.of(&format!("s{}", host.0), address)
}

/// Whether an address is one that a host may bind to, and which that is.
pub(super) fn own(host: HostId, ip: IpAddr) -> Option<IpAddr> {
    match ip {
        ip if ip.is_unspecified() => Some(address_of(host)),
        ip => (ip.is_loopback() || ip == address_of(host)).then_some(ip),
    }
}
