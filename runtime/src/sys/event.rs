//! Thin wrappers of what the kernel offers to wait with: an event counter and `ppoll`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

/// Wakes a thread that waits in `epoll_wait` on this counter, edge-triggered: it is read at its end alone.
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self(bell.map_err(|errno| refused("eventfd", errno))?))
    }

    pub(crate) fn ring(&self) {
        // The counter could only be full after 2^64 rings; each write is an edge of its own.
        if let Err(errno) = rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
            debug_assert_eq!(errno, Errno::AGAIN);
        }
    }

    /// Waits until it has been rung so often since it was made; false if that is not so by `until`.
    ///
    /// Called once. A ring counts when its caller needs the bell no more.
    pub(crate) fn has_rung(
        &self,
        times: u64,
        until: Instant,
        now: impl Fn() -> Instant,
    ) -> io::Result<bool> {
        let mut heard = 0;
        loop {
            let mut counter = [0; 8];
            match rustix::io::read(&self.0, &mut counter) {
                Ok(_) => heard += u64::from_ne_bytes(counter),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if heard >= times {
                debug_assert_eq!(heard, times, "each ring ends a sleep");
                return Ok(true);
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(false);
            }
            poll_any(&mut [to_poll(self.as_fd(), Direction::Read)], Some(left))?;
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A descriptor and what [`poll_any`] waits for on it.
pub(crate) fn to_poll(fd: BorrowedFd<'_>, direction: Direction) -> PollFd<'_> {
    let events = match direction {
        Direction::Read => PollFlags::IN | PollFlags::RDHUP,
        Direction::Write => PollFlags::OUT,
    };
    PollFd::from_borrowed_fd(fd, events)
}

/// Blocks the thread until one of the descriptors is ready, fails or hangs up, and returns which. `None` once
/// `timeout` has passed, and after a signal, whenever that comes.
pub(crate) fn poll_any(
    fds: &mut [PollFd<'_>],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    let timeout = timeout.map(timespec);
    match poll(fds, timeout.as_ref()) {
        Ok(_) => Ok(fds.iter().position(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What a runtime cannot be without, and the kernel did not give.
#[cold]
pub(crate) fn refused(what: &str, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    let hint = match errno {
        Errno::PERM | Errno::ACCESS | Errno::NOSYS => {
            "; a filter of system calls (seccomp, SystemCallFilter=) may be in the way"
        }
        Errno::MFILE | Errno::NFILE => "; a worker takes three descriptors: raise `ulimit -n`",
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!("begin a runtime: {what}: {error}{hint}"),
    )
}

/// A duration as the kernel takes it; one too long to express becomes the longest.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
