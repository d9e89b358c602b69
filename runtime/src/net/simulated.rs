//! Sockets in a simulated world: which host a call is made on, and what its network does in the kernel's place.
//!
//! Only what makes a socket or asks for its address comes by here. A socket that was made here is used like any other.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use rustix::{io::Errno, net::SocketAddrAny};

use crate::{
    coroutine::Header,
    coroutine_local,
    driver::sim::{self, HostId, World},
    error::Elapsed,
    sync::oneshot,
};

coroutine_local! {
    /// The host that a coroutine runs on, as do those that it spawns.
    static HOST: Cell<u32> = Cell::new(0), inherited;
}

/// The host that the caller runs on.
pub(crate) fn host() -> HostId {
    HostId(HOST.get())
}

/// Has the caller, and what it spawns from here on, run on that host.
pub(crate) fn move_to(host: HostId) {
    HOST.set(host.0);
}

/// Whether a coroutine runs on that host.
pub(crate) fn is_on(host: HostId, task: &Header) -> bool {
    HOST.of(task, |id| id.get() == host.0).unwrap_or(false)
}

/// The world that the caller is in, if it is in one.
#[inline]
pub(in crate::net) fn world() -> Option<Arc<World>> {
    sim::current()
}

/// In place of a listening TCP socket.
pub(in crate::net) fn listen(
    world: &World,
    address: &SocketAddr,
    backlog: i32,
) -> io::Result<OwnedFd> {
    world.on_network(|network, _| network.listen(host(), address, backlog))
}

/// In place of a TCP connection.
pub(in crate::net) fn connect(
    world: &World,
    address: &SocketAddr,
    until: Option<Instant>,
) -> io::Result<OwnedFd> {
    crate::cancel::check()?;
    let (tell, mut told) = oneshot::channel();
    let answer = Box::new(move |answer| {
        // Who has given up closes what it gets.
        _ = tell.send(answer);
    });
    let from = host();
    world.on_network(|network, plan| network.connect(plan, from, *address, answer));
    let answer = match until {
        Some(until) => told.recv_deadline(until).ok(),
        None => told.recv().ok(),
    };
    match answer {
        Some(answer) => answer,
        None => {
            crate::cancel::check()?;
            Err(Elapsed.into())
        }
    }
}

/// In place of the system's resolver.
pub(in crate::net) fn look_up(world: &World, name: &str, port: u16) -> io::Result<SocketAddr> {
    let ip: Option<IpAddr> = world.on_network(|network, _| network.look_up(name));
    let ip = ip.ok_or_else(|| {
        let text = format!("look up {name}: the simulated world has no such host");
        io::Error::new(io::ErrorKind::NotFound, text)
    })?;
    Ok(SocketAddr::new(ip, port))
}

/// The internet address that a socket of a world stands for.
#[cold]
pub(in crate::net) fn address(name: &SocketAddrAny) -> Option<SocketAddr> {
    sim::decode_address(name)
}

/// What ended a connection of a world, if more than its peer's own end did.
#[cold]
pub(in crate::net) fn fate(socket: BorrowedFd<'_>) -> Option<Errno> {
    world()?.on_network(|network, _| network.fate(socket))
}

/// Has closing a socket of a world reset its connection; false if it is not of one.
pub(in crate::net) fn reset_on_close(socket: BorrowedFd<'_>) -> bool {
    let Some(world) = world() else { return false };
    world.on_network(|network, _| network.reset_on_close(socket));
    true
}

/// Has a listener of a world hear of no new connections; false if it is not of one.
pub(in crate::net) fn ignore_new(listener: BorrowedFd<'_>) -> bool {
    world().is_some_and(|world| world.on_network(|network, _| network.ignore_new(listener)))
}

/// What an option of TCP is set to, or is, where the socket is of a world, which has no such options.
pub(in crate::net) fn option<T>(
    socket: impl AsFd,
    outcome: rustix::io::Result<T>,
    usual: T,
) -> io::Result<T> {
    match outcome {
        Err(_) if sim::is_any() && sim::is_simulated(socket.as_fd()) => Ok(usual),
        outcome => Ok(outcome?),
    }
}
