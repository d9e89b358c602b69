//! Ends of connections alone, of many at once, whatever else happens on them: an epoll set without interest in
//! readiness.
//!
//! The kernel then tells of an end once (`EPOLLET`), also of one that came before, and wakes nobody for bytes. It takes
//! a descriptor out by itself when that is closed.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
};

/// A set that is readable while it has something to tell.
pub(crate) fn new_set() -> rustix::io::Result<OwnedFd> {
    epoll::create(CreateFlags::CLOEXEC)
}

/// Has the set tell of ends of `fd` under that key, in place of a former one.
pub(crate) fn watch(set: BorrowedFd<'_>, fd: BorrowedFd<'_>, key: u64) -> rustix::io::Result<()> {
    // Hang-ups and errors are told of unasked.
    let flags = EventFlags::RDHUP | EventFlags::ET;
    let data = EventData::new_u64(key);
    match epoll::add(set, fd, data, flags) {
        Err(Errno::EXIST) => epoll::modify(set, fd, data, flags),
        added => added,
    }
}

/// Calls `tell` with keys that there is news of, and whether both directions have ended; how many it was. Not always
/// all at once.
pub(crate) fn take(
    set: BorrowedFd<'_>,
    mut tell: impl FnMut(u64, bool),
) -> rustix::io::Result<usize> {
    let mut events = [Event {
        flags: EventFlags::empty(),
        data: EventData::new_u64(0),
    }; EVENTS_AT_ONCE];
    let no_wait = crate::sys::event::timespec(std::time::Duration::ZERO);
    let count = epoll::wait(set, &mut events, Some(&no_wait))?;
    for event in &events[..count] {
        let flags = event.flags;
        let both = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        tell(event.data.u64(), both);
    }
    Ok(count)
}

const EVENTS_AT_ONCE: usize = 64;
