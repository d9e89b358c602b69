//! Sockets in a simulated world: which host a call is made on, and what its network does in the kernel's place.
//!
//! Only what makes a socket or asks for its address comes by here. A socket that was made here is used like any other.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
    time::Instant,
};

use rustix::{
    io::Errno,
    net::{SocketAddrAny, SocketAddrUnix},
};

use crate::{
    coroutine::Header,
    coroutine_local,
    driver::sim::{self, HostId, Scarce, World},
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
    if let Some(world) = world() {
        world.set_host(host);
    }
}

/// The host that a coroutine runs on, which is not running now.
pub(crate) fn host_of(task: &Header) -> HostId {
    HostId(HOST.of(task, Cell::get).unwrap_or(0))
}

/// Whether a coroutine runs on that host.
pub(crate) fn is_on(host: HostId, task: &Header) -> bool {
    HOST.of(task, Cell::get) == Some(host.0)
}

/// The world that the caller is in, if it is in one.
#[inline]
pub(in crate::net) fn world() -> Option<Arc<World>> {
    sim::current()
}

/// Before a descriptor is made, which a world may have run out of.
#[inline]
pub(crate) fn take_descriptor() -> rustix::io::Result<()> {
    match sim::is_any() {
        false => Ok(()),
        true => lacks(Scarce::Descriptors, &[Errno::MFILE, Errno::NFILE]),
    }
}

/// Before a call of the kernel that fails with one of these for want of memory and the like.
#[inline]
pub(in crate::net) fn may_fail(with: &[Errno]) -> rustix::io::Result<()> {
    match sim::is_any() {
        false => Ok(()),
        true => lacks(Scarce::Calls, with),
    }
}

#[cold]
fn lacks(scarce: Scarce, errors: &[Errno]) -> rustix::io::Result<()> {
    match world() {
        Some(world) if world.lacks(host(), scarce) => {
            Err(errors[world.draw(errors.len() as u64) as usize])
        }
        _ => Ok(()),
    }
}

/// How many of these bytes a call may move, no less than `least` of them: in a world any part, and all elsewhere.
#[inline]
pub(in crate::net) fn part(bytes: usize, least: usize) -> usize {
    match sim::is_any() {
        false => bytes,
        true => part_in_world(bytes, least),
    }
}

#[cold]
fn part_in_world(bytes: usize, least: usize) -> usize {
    world().map_or(bytes, |world| world.part(bytes, least))
}

/// Which of these slices a call may move, likewise.
#[inline]
pub(in crate::net) fn part_of<'a, 'b>(
    slices: &'a [IoSlice<'b>],
    least: usize,
) -> &'a [IoSlice<'b>] {
    match sim::is_any() {
        false => slices,
        true => part_of_in_world(slices, least),
    }
}

#[cold]
fn part_of_in_world<'a, 'b>(slices: &'a [IoSlice<'b>], least: usize) -> &'a [IoSlice<'b>] {
    let lengths = slices.iter().map(|slice| slice.len());
    let part = part_in_world(lengths.fold(0, usize::saturating_add), least);
    let mut moved = 0_usize;
    let is_part = |slice: &&IoSlice<'_>| {
        let begins = moved;
        moved = moved.saturating_add(slice.len());
        begins < part
    };
    &slices[..slices.iter().take_while(is_part).count()]
}

/// In place of a listening TCP socket.
pub(in crate::net) fn listen(
    world: &World,
    address: &SocketAddr,
    backlog: i32,
) -> io::Result<OwnedFd> {
    take_descriptor()?;
    may_fail(&[Errno::NOBUFS, Errno::ADDRINUSE])?;
    world.on_network(|network, _| network.listen(host(), address, backlog))
}

/// What the kernel knows a Unix-domain address of the caller's host by, which is bound now, or else is to be reached;
/// none outside of worlds. An abstract one begins with a zero.
pub(in crate::net) fn local_name(
    address: &[u8],
    is_bound: bool,
) -> Option<io::Result<SocketAddrUnix>> {
    let world = world()?;
    Some(world.on_network(|network, _| network.local_name(host(), address, is_bound)))
}

/// The Unix-domain address that an abstract name stands for in this world.
pub(in crate::net) fn local_address(name: &[u8]) -> Option<Vec<u8>> {
    let world = world()?;
    let number = sim::decode_local(name)?;
    world.on_network(|network, _| network.local_address(number))
}

/// Removes a socket file of the caller's host, if it is in a world and there is such a file.
pub(crate) fn remove_socket_file(path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    world().is_some_and(|world| {
        world.on_network(|network, _| network.remove_socket_file(host(), path))
    })
}

/// In place of a UDP socket.
pub(in crate::net) fn bind(world: &World, address: &SocketAddr) -> io::Result<OwnedFd> {
    take_descriptor()?;
    may_fail(&[Errno::NOBUFS, Errno::ADDRINUSE])?;
    world.on_network(|network, _| network.bind(host(), address))
}

/// In place of connecting a UDP socket.
pub(in crate::net) fn connect_datagrams(
    world: &World,
    socket: BorrowedFd<'_>,
    to: &SocketAddr,
) -> io::Result<()> {
    world.on_network(|network, _| network.connect_datagrams(host(), socket, *to))
}

/// In place of sending a datagram; to where the socket is connected if nothing else is said.
#[cold]
pub(in crate::net) fn send_datagram(
    world: &World,
    socket: BorrowedFd<'_>,
    to: Option<SocketAddr>,
    bytes: &[u8],
) -> rustix::io::Result<usize> {
    may_fail(&[Errno::NOBUFS, Errno::PERM])?;
    world.on_network(|network, plan| network.send_datagram(plan, host(), socket, to, bytes))
}

/// In place of a TCP connection. `of` takes each socket over, also one that comes when its caller has given up.
pub(in crate::net) fn connect<S: Send + 'static>(
    world: &World,
    address: &SocketAddr,
    until: Option<Instant>,
    of: fn(OwnedFd) -> S,
) -> io::Result<S> {
    crate::cancel::check()?;
    take_descriptor()?;
    may_fail(&[Errno::NOBUFS, Errno::ADDRNOTAVAIL, Errno::NETUNREACH])?;
    let (tell, mut told) = oneshot::channel();
    let answer = Box::new(move |answer: io::Result<OwnedFd>| {
        // Who has given up closes what it gets.
        _ = tell.send(answer.map(of));
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
    if may_fail(&[Errno::AGAIN]).is_err() {
        let text = format!("look up {name}: temporary failure in name resolution");
        return Err(io::Error::other(text));
    }
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

/// Which end of a connection of a world that socket is; 0 if it is none.
pub(in crate::net) fn end_of(socket: BorrowedFd<'_>) -> u32 {
    match sim::is_any() {
        false => 0,
        true => sim::own_end(socket).unwrap_or(0),
    }
}

/// In place of sending from that end: how much was, unless the kernel is to do it.
#[cold]
pub(in crate::net) fn send_now(end: u32, bytes: &[u8]) -> Option<usize> {
    world()?.on_network(|network, plan| network.send_now(plan, end, bytes))
}

/// Whether that end would find nothing to receive, which saves asking the kernel.
#[cold]
pub(in crate::net) fn has_nothing(end: u32) -> bool {
    world().is_some_and(|world| world.on_network(|network, _| network.streams().has_nothing(end)))
}

/// That end has received so many bytes.
#[cold]
pub(in crate::net) fn took(end: u32, bytes: usize) {
    if let Some(world) = world() {
        world.on_network(|network, _| network.streams().took(end, bytes));
    }
}

/// The kernel has been asked to do something that concerns connections of this world.
#[cold]
pub(in crate::net) fn ask() {
    if let Some(world) = world() {
        world.on_network(|network, _| network.streams().ask());
    }
}

/// Somebody has a socket of this world in hand, and may do anything with it at any time.
#[cold]
pub(in crate::net) fn ask_always() {
    if let Some(world) = world() {
        world.on_network(|network, _| network.streams().ask_always());
    }
}

/// The kernel has been told that an end receives, or sends, no more.
#[cold]
pub(in crate::net) fn shut(end: u32, reading: bool, writing: bool) {
    if let Some(world) = world() {
        world.on_network(|network, _| network.streams().shut(end, reading, writing));
    }
}

/// Bytes that an end has sent and that are on their way.
#[cold]
pub(in crate::net) fn in_flight(end: u32) -> usize {
    world().map_or(0, |world| {
        world.on_network(|network, _| network.streams().in_flight(end))
    })
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

/// Whether the socket is of a world, whose connections have no options of TCP.
pub(in crate::net) fn has_no_options(socket: BorrowedFd<'_>) -> bool {
    sim::is_any() && sim::is_simulated(socket)
}

/// What an option of TCP is set to, or is, where the socket is of a world, which has no such options.
pub(in crate::net) fn option<T>(
    socket: impl AsFd,
    outcome: rustix::io::Result<T>,
    usual: T,
) -> io::Result<T> {
    match outcome {
        Err(_) if has_no_options(socket.as_fd()) => Ok(usual),
        outcome => Ok(outcome?),
    }
}
