//! Waiting for one descriptor: whether its owner wants that, for how long, and what a cut wait leaves behind.

use std::{
    ffi::c_int,
    iter,
    os::fd::BorrowedFd,
    ptr,
    time::{Duration, Instant},
};

use maniple::{
    cancel::Interrupt,
    hook::{self, Ended},
};

use crate::{caller, guess, raw};

/// What a call waits for.
#[derive(Clone, Copy)]
pub(crate) enum For {
    Reading,
    Writing,
}

impl For {
    fn events(self) -> u32 {
        match self {
            For::Reading => libc::POLLIN as u32,
            For::Writing => libc::POLLOUT as u32,
        }
    }

    fn timeout_option(self) -> c_int {
        match self {
            For::Reading => libc::SO_RCVTIMEO,
            For::Writing => libc::SO_SNDTIMEO,
        }
    }
}

/// Repeats `attempt`, which does not wait, until it does not have to, or may not. `in_kernel` does it where there is
/// nothing to wait for with: it is one that never waits for long, such as a file.
#[inline]
pub(crate) fn until_done(
    fd: c_int,
    what: For,
    mut attempt: impl FnMut() -> raw::Result,
    in_kernel: impl FnOnce() -> raw::Result,
) -> raw::Result {
    if let Err(interrupt) = hook::check() {
        return cut(fd, interrupt);
    }
    let reads = matches!(what, For::Reading);
    let waits_first = reads && guess::is_in_vain(fd);
    if !waits_first {
        let first = attempt();
        if first != raw::WOULD_WAIT {
            match reads {
                true => guess::tried(fd, true),
                false if first > 0 => guess::sent(fd),
                false => {}
            }
            hook::spend();
            return first;
        }
    }
    if is_nonblocking(fd) {
        hook::spend();
        return match waits_first {
            true => attempt(),
            false => raw::WOULD_WAIT,
        };
    }
    if reads && !waits_first {
        guess::tried(fd, false);
    }
    let until = until(fd, what);
    let mut pause = Pause::default();
    loop {
        let waited = match wait(fd, what, until) {
            Ended::Refused(libc::EPERM) => return in_kernel(),
            Ended::Refused(libc::EBADF) => return -(libc::EBADF as raw::Result),
            waited => pause.unless_watched(waited, until),
        };
        match waited {
            Ended::TimedOut => return raw::WOULD_WAIT,
            Ended::Cut(interrupt) => return cut(fd, interrupt),
            _ => {}
        }
        let again = attempt();
        if again != raw::WOULD_WAIT {
            if !reads && again > 0 {
                guess::sent(fd);
            }
            return again;
        }
    }
}

/// Suspends the coroutine until the descriptor may be ready.
pub(crate) fn wait(fd: c_int, what: For, until: Option<Instant>) -> Ended {
    if fd < 0 {
        return Ended::Refused(libc::EBADF);
    }
    // SAFETY: the caller's, who has it open for as long as the call lasts; if not, the kernel refuses the number.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    hook::wait_for(iter::once((fd, what.events())), until)
}

/// Whether its owner has made the descriptor non-blocking, and so does not want to wait.
pub(crate) fn is_nonblocking(fd: c_int) -> bool {
    // SAFETY: takes a number, and changes nothing.
    let flags = unsafe { raw::fcntl(fd, libc::F_GETFL, 0) };
    flags >= 0 && flags as c_int & libc::O_NONBLOCK != 0
}

/// When the socket's own patience for a call that begins now is over, if it has an end.
pub(crate) fn until(fd: c_int, what: For) -> Option<Instant> {
    let mut time = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let mut length = size_of::<libc::timeval>() as libc::socklen_t;
    let option = what.timeout_option();
    let to = (&raw mut time).cast();
    // SAFETY: room for the option's value, and its length.
    let got = unsafe { raw::getsockopt(fd, libc::SOL_SOCKET, option, to, &raw mut length) };
    if got < 0 || (time.tv_sec == 0 && time.tv_usec == 0) {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let patience = Duration::new(seconds, time.tv_usec as u32 * 1000);
    hook::now().checked_add(patience)
}

/// What a call on a descriptor returns that was cut short: its connection is of no use any more.
#[cold]
pub(crate) fn cut(fd: c_int, interrupt: Interrupt) -> raw::Result {
    end_connection(fd);
    caller::cut(interrupt)
}

/// Shuts a connection down, since it may be in the middle of anything, and takes away what has come: the next to use
/// it, by whatever pool, gets an error or an end, and never the answer to a call that was cut. What is no connection
/// stays as it is.
#[cold]
pub(crate) fn end_connection(fd: c_int) {
    let is_connection = match option(fd, libc::SO_TYPE) {
        Some(libc::SOCK_DGRAM | libc::SOCK_RAW) | None => false,
        Some(_) => option(fd, libc::SO_ACCEPTCONN) == Some(0),
    };
    if !is_connection {
        return;
    }
    // SAFETY: takes numbers.
    unsafe { raw::shutdown(fd, libc::SHUT_RDWR) };
    // Nothing comes in any more: of TCP the kernel resets the connection then, and others fail to send.
    let mut taken = [0_u8; 4096];
    let (to, length, nobody) = (taken.as_mut_ptr(), taken.len(), ptr::null_mut());
    for _ in 0..MOST_TAKEN / length {
        // SAFETY: room for so many bytes, of ours.
        let got =
            unsafe { raw::recvfrom(fd, to, length, libc::MSG_DONTWAIT, nobody, ptr::null_mut()) };
        if got <= 0 {
            break;
        }
    }
}

/// Whether it is one end of a `socketpair`, by which loops that watch several descriptors wake themselves. What has
/// connected to somebody has a peer with a name.
#[cold]
pub(crate) fn wakes_its_own(fd: c_int) -> bool {
    // SAFETY: zero is nothing in each of its fields.
    let mut peer: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let is_unnamed = |of: unsafe fn(c_int, *mut u8, *mut libc::socklen_t) -> raw::Result| {
        let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: room for a name, and its length.
        let got = unsafe { of(fd, (&raw mut peer).cast(), &raw mut length) };
        got >= 0
            && c_int::from(peer.sun_family) == libc::AF_UNIX
            && length as usize == size_of::<libc::sa_family_t>()
    };
    [raw::getsockname, raw::getpeername]
        .into_iter()
        .all(is_unnamed)
}

/// More than a socket's queue holds.
const MOST_TAKEN: usize = 64 << 20;

/// An option of a socket that is a number; `None` if it is no socket.
fn option(fd: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    let to = (&raw mut value).cast();
    // SAFETY: room for the option's value, and its length.
    let got = unsafe { raw::getsockopt(fd, libc::SOL_SOCKET, name, to, &raw mut length) };
    (got >= 0).then_some(value)
}

/// Ever longer looks away, for what the kernel tells no events of.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_micros(100))
    }
}

impl Pause {
    const LONGEST: Duration = Duration::from_millis(10);

    /// What has ended a wait; a pause, if the kernel would not watch what was to be waited for.
    pub(crate) fn unless_watched(&mut self, waited: Ended, until: Option<Instant>) -> Ended {
        match waited {
            Ended::Refused(_) => self.take(until),
            waited => waited,
        }
    }

    /// Suspends the coroutine for a while, but not past `until`.
    pub(crate) fn take(&mut self, until: Option<Instant>) -> Ended {
        let now = hook::now();
        if until.is_some_and(|until| until <= now) {
            return Ended::TimedOut;
        }
        let end = now + self.next();
        let end = until.map_or(end, |until| until.min(end));
        match hook::wait_for(iter::empty(), Some(end)) {
            Ended::TimedOut => Ended::Ready,
            ended => ended,
        }
    }

    /// Suspends the coroutine for a while, whatever is cancelled.
    #[cfg(not(any(target_env = "musl", target_feature = "crt-static")))]
    pub(crate) fn take_whole(&mut self) {
        hook::sleep_until(hook::now() + self.next());
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }
}
