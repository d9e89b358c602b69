//! One thread, many connections: `select` says which of them are ready, out of the first
//! 1024.
//!
//! Before each wait two sets of bits go to the kernel, a bit for each descriptor: who may
//! be read from, who may be written to. A set has room for the descriptors 0 to 1023 and no
//! more. That is what bounds this model: with about a thousand clients it is full, whatever
//! the machine.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    ptr,
};

use super::{
    super::{Client, Model, Service},
    Host, LISTENER, Sessions,
};
use crate::{
    site::{Door, Site},
    work::backend::COUNT,
};

fn serve(site: &Site) -> io::Result<()> {
    let mut door = Door::new(site.listen()?)?;
    let mut sessions = Sessions::new(site.backends, Select);
    loop {
        let more = sessions.turn();
        // ① The sets are made anew for each wait: the kernel leaves in them only what is ready.
        let (mut readable, mut writable) = (Set::new(), Set::new());
        let mut watched = vec![(LISTENER, door.as_fd().as_raw_fd())];
        readable.insert(door.as_fd().as_raw_fd());
        for one in sessions.watched() {
            let descriptor = one.connection.as_raw_fd();
            if one.reads {
                readable.insert(descriptor);
            }
            if one.writes {
                writable.insert(descriptor);
            }
            watched.push((one.whose, descriptor));
        }
        match select(&watched, &mut readable, &mut writable, more) {
            Ok(()) => {}
            // The sets are as they were, so that everybody would seem to be ready.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // ② Who was watched is asked for one by one: the kernel says how many are ready,
        // but not who.
        for (whose, descriptor) in watched {
            if readable.contains(descriptor) || writable.contains(descriptor) {
                match whose {
                    LISTENER => sessions.accept(&mut door),
                    whose => sessions.on_event(whose),
                }
            }
        }
    }
}

/// Leaves in the sets what is ready; waits for it, or only looks if there is `more` to do.
fn select(
    watched: &[(u64, RawFd)],
    readable: &mut Set,
    writable: &mut Set,
    more: bool,
) -> io::Result<()> {
    let highest = watched.iter().map(|(_, descriptor)| *descriptor).max();
    let mut at_once = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let (none, timeout) = (ptr::null_mut(), &raw mut at_once);
    let timeout = if more { timeout } else { ptr::null_mut() };
    let (reads, writes) = (&raw mut readable.0, &raw mut writable.0);
    // SAFETY: the sets and the time outlive the call, and no descriptor is beyond a set:
    // `Set::insert` lets none in.
    match unsafe { libc::select(highest.unwrap_or(0) + 1, reads, writes, none, timeout) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A bit for each descriptor below `FD_SETSIZE`, a number fixed when the C library was built.
struct Set(libc::fd_set);

const SIZE: RawFd = libc::FD_SETSIZE as RawFd;

impl Set {
    fn new() -> Self {
        // SAFETY: this is plain bits, for which all zeros is the empty set.
        Self(unsafe { mem::zeroed() })
    }

    fn insert(&mut self, descriptor: RawFd) {
        assert!(
            (0..SIZE).contains(&descriptor),
            "{descriptor} is beyond the set"
        );
        // SAFETY: the bit is within the set.
        unsafe { libc::FD_SET(descriptor, &mut self.0) }
    }

    fn contains(&self, descriptor: RawFd) -> bool {
        // SAFETY: the bit is within the set, by what is asked first.
        (0..SIZE).contains(&descriptor) && unsafe { libc::FD_ISSET(descriptor, &self.0) }
    }
}

struct Select;

impl Host for Select {
    /// ③ A descriptor beyond the set cannot be watched: in C, `FD_SET` would write past its
    /// end. The kernel gives the lowest free number, so a few are kept from clients, or a
    /// backend that comes back could not be watched.
    fn watch(&mut self, connection: BorrowedFd<'_>, whose: u64) -> io::Result<()> {
        let beyond = if whose < LISTENER {
            SIZE
        } else {
            SIZE - COUNT as RawFd
        };
        if connection.as_raw_fd() >= beyond {
            return Err(io::Error::other("select can watch no descriptor from 1024"));
        }
        Ok(())
    }
}

pub(in super::super) const MODEL: Model = Model {
    number: 9,
    name: "select",
    title: "Multiplexing with select",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("select.rs"), include_str!("mod.rs")],
    serve,
};
