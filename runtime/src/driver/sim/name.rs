//! Names of a world's sockets, which spell the internet addresses that they stand for.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::BorrowedFd,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, getpeername};

use super::host::HostId;
use crate::sys::socket::bytes_of;

/// How its sockets are made.
pub(super) const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

const NAME: &str = "maniple-sim";

/// What the tags of Unix-domain addresses begin with.
const LOCAL: char = 'u';

/// The names of one world.
pub(super) struct Names {
    /// Tells worlds of a process apart.
    number: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: WORLDS.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn of(&self, tag: &str, address: SocketAddr) -> io::Result<SocketAddrUnix> {
        self.spell(tag, &address)
    }

    /// That of a Unix-domain address, which has a number.
    pub(super) fn local(&self, host: HostId, number: usize) -> io::Result<SocketAddrUnix> {
        self.spell(&format!("{LOCAL}{}", host.0), &number)
    }

    fn spell(&self, tag: &str, what: &dyn fmt::Display) -> io::Result<SocketAddrUnix> {
        /// Processes have the same id in different namespaces, and these names in common.
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
        let name = format!("{NAME}/{:x}/{}/{tag}/{what}", *PROCESS, self.number);
        Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
    }
}

/// The internet address that a socket's name stands for, if the socket is one of a world.
pub(crate) fn decode_address(name: &SocketAddrAny) -> Option<SocketAddr> {
    decode(name).map(|(_, address)| address)
}

/// Whether that socket is one of a world.
pub(crate) fn is_simulated(fd: BorrowedFd<'_>) -> bool {
    let name = rustix::net::getsockname(fd);
    name.is_ok_and(|name| decode(&name).is_some())
}

/// What it says of whose the socket is, and the address.
pub(super) fn decode(name: &SocketAddrAny) -> Option<(String, SocketAddr)> {
    if name.address_family() != AddressFamily::UNIX {
        return None;
    }
    // Not by rustix, which panics at a name of 108 bytes; any peer may have one.
    let [0, name @ ..] = bytes_of(name) else {
        return None;
    };
    let mut parts = str::from_utf8(name).ok()?.split('/');
    if parts.next() != Some(NAME) {
        return None;
    }
    let (_process, _world, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some((tag.to_owned(), parts.next()?.parse().ok()?))
}

/// Which end that socket belongs to: the name of its far end says so.
pub(crate) fn own_end(socket: BorrowedFd<'_>) -> Option<u32> {
    let (tag, _) = decode(&getpeername(socket).ok()??)?;
    tag.strip_prefix('e')?.parse().ok()
}

/// The address of a host.
pub(super) fn address_of(host: HostId) -> IpAddr {
    let [_, high, middle, low] = (host.0 + 1).to_be_bytes();
    Ipv4Addr::new(10, high, middle, low).into()
}

/// The host of that address, as seen from `from`; there may be none of that number.
pub(super) fn host_of(from: HostId, ip: IpAddr) -> HostId {
    match ip {
        IpAddr::V4(v4) if !v4.is_loopback() && v4.octets()[0] == 10 => {
            let [_, high, middle, low] = v4.octets();
            HostId(u32::from_be_bytes([0, high, middle, low]).wrapping_sub(1))
        }
        ip if ip.is_loopback() => from,
        _ => HostId(u32::MAX),
    }
}

/// The number of the Unix-domain address that an abstract name spells, if it is one of a world.
pub(crate) fn decode_local(name: &[u8]) -> Option<usize> {
    let mut parts = str::from_utf8(name).ok()?.split('/');
    let (first, _process, _world) = (parts.next()?, parts.next()?, parts.next()?);
    let is_local = first == NAME && parts.next()?.starts_with(LOCAL);
    is_local.then(|| parts.next()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd};

    use rustix::net::{SocketType, bind, connect, listen, socket};

    use super::*;

    #[test]
    fn a_foreign_socket_with_the_longest_name_that_there_is_is_no_worlds() {
        let mut path = std::env::temp_dir().join(format!("maniple-name-{}-", std::process::id()));
        let room = 108 - path.as_os_str().len();
        path.as_mut_os_string().push("x".repeat(room));
        let socket = || socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let (listener, client) = (socket(), socket());
        let name = SocketAddrUnix::new(&path).unwrap();
        bind(&listener, &name).unwrap();
        listen(&listener, 1).unwrap();
        connect(&client, &name).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!is_simulated(listener.as_fd()));
        assert_eq!(own_end(client.as_fd()), None);
    }
}
