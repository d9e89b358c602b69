//! Addresses between std's form and the kernel's, and the two calls that no edge ends the wait for.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr},
    },
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrAny, SocketAddrUnix},
};

use super::{super::simulated, source};
use crate::{
    error::{Elapsed, Interrupt},
    scheduler::{Worker, now},
    sys::socket::bytes_of,
    wait::{self, Interruptible, Reason, Waited},
};

pub(super) fn to_raw(address: &SocketAddr) -> io::Result<SocketAddrUnix> {
    match in_world(address, false) {
        Some(name) => name,
        None => in_service(address),
    }
}

/// Binds a socket to an address.
pub(super) fn bind(socket: impl AsFd, address: &SocketAddr) -> io::Result<()> {
    let raw = match in_world(address, true) {
        Some(name) => name?,
        None => in_service(address)?,
    };
    Ok(rustix::net::bind(socket, &raw)?)
}

/// What stands for an address in the world that the caller is in.
fn in_world(address: &SocketAddr, is_bound: bool) -> Option<io::Result<SocketAddrUnix>> {
    simulated::world()?;
    match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => simulated::local_name(path.as_os_str().as_bytes(), is_bound),
        (None, Some(name)) => simulated::local_name(&[&[0], name].concat(), is_bound),
        (None, None) => None,
    }
}

fn in_service(address: &SocketAddr) -> io::Result<SocketAddrUnix> {
    Ok(match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (None, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
        (None, None) => SocketAddrUnix::new_unnamed(),
    })
}

/// No address at all is that of a socket without a name.
pub(super) fn from_raw(address: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let unnamed = || SocketAddr::from_pathname("");
    let Some(address) = address else {
        return unnamed();
    };
    if address.address_family() != AddressFamily::UNIX {
        return Err(Errno::AFNOSUPPORT.into());
    }
    // Not by rustix, which panics at a name of 108 bytes; any peer may have one.
    match bytes_of(&address) {
        [] => unnamed(),
        [0, name @ ..] => match simulated::local_address(name).as_deref() {
            None => SocketAddr::from_abstract_name(name),
            Some([0, name @ ..]) => SocketAddr::from_abstract_name(name),
            Some(path) => SocketAddr::from_pathname(OsStr::from_bytes(path)),
        },
        path => {
            let path = path.split(|byte| *byte == 0).next().unwrap_or(path);
            // What std has no room for is better unnamed than a connection lost.
            SocketAddr::from_pathname(OsStr::from_bytes(path)).or_else(|_| unnamed())
        }
    }
}

/// Repeats a call on `fd` that a full queue of the *other* socket makes fail, until there is room.
///
/// The kernel tells nobody when a listener's backlog, or the queue of a datagram socket that one is not
/// connected to, has room again: epoll calls the caller's own socket writable all the time. So this waits
/// a little and tries again.
pub(super) fn patiently<T>(
    fd: BorrowedFd<'_>,
    timeout: Option<Duration>,
    mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
) -> io::Result<T> {
    let mut until = None;
    let mut pause = FIRST_PAUSE;
    loop {
        wait::check()?;
        match call(fd) {
            Ok(value) => {
                if let Some(worker) = Worker::of_coroutine() {
                    worker.spend();
                }
                return Ok(value);
            }
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        if until.is_none() {
            until = source::until(timeout);
        }
        let again = now() + pause;
        rest(fd, until.map_or(again, |until| until.min(again)))?;
        if until.is_some_and(|until| until <= again) {
            return Err(Elapsed.into());
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

fn rest(fd: BorrowedFd<'_>, at: Instant) -> Result<(), Interrupt> {
    loop {
        let waited = wait::wait(
            Reason::Writable(fd.as_raw_fd()),
            Some(at),
            Interruptible::Yes,
            |waiter| {
                waiter.claim.arm(true);
                true
            },
            || {},
        );
        match waited {
            Waited::Interrupted(interrupt) => return Err(interrupt),
            Waited::Again => {}
            Waited::TimedOut | Waited::AtOnce | Waited::Notified => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernels_form_and_back() {
        for address in [
            SocketAddr::from_pathname("/tmp/some/path").unwrap(),
            SocketAddr::from_pathname("p".repeat(107)).unwrap(),
            SocketAddr::from_abstract_name(b"name\0with anything").unwrap(),
            SocketAddr::from_pathname("").unwrap(),
        ] {
            let raw = to_raw(&address).unwrap();
            let back = from_raw(Some(raw.into())).unwrap();
            assert_eq!(format!("{back:?}"), format!("{address:?}"));
        }
        assert!(from_raw(None).unwrap().is_unnamed());
    }
}
