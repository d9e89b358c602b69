//! `connect` and `accept`, which have no flag that keeps them from waiting: for the length of the call the descriptor
//! is made non-blocking, and then as it was.

use std::{
    ffi::c_int,
    hint::spin_loop,
    sync::atomic::{AtomicBool, Ordering},
};

use libc::{sockaddr, socklen_t};
use maniple::hook::{self, Ended};

use crate::{
    caller::{is_on, is_plain, may_wait},
    patience::{For, Pause, cut, is_nonblocking, until, wait},
    raw::{self, told},
};

/// connect(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, peer: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: passed on to the caller.
    let ask = || unsafe { raw::connect(fd, peer, length) };
    if is_plain() || is_nonblocking(fd) || !may_wait() {
        return told(ask()) as c_int;
    }
    told(connect_waiting(fd, ask)) as c_int
}

fn connect_waiting(fd: c_int, ask: impl Fn() -> raw::Result) -> raw::Result {
    const UNDER_WAY: raw::Result = -(libc::EINPROGRESS as raw::Result);
    if let Err(interrupt) = hook::check() {
        return cut(fd, interrupt);
    }
    let mut until_when = None;
    let mut pause = Pause::default();
    // A Unix-domain socket whose listener has no room says so, and does not begin.
    loop {
        match without_blocking(fd, &ask) {
            raw::WOULD_WAIT => {}
            UNDER_WAY => break,
            done => {
                hook::spend();
                return done;
            }
        }
        let until = *until_when.get_or_insert_with(|| until(fd, For::Writing));
        match pause.take(until) {
            Ended::TimedOut => return raw::WOULD_WAIT,
            Ended::Cut(interrupt) => return cut(fd, interrupt),
            _ => {}
        }
    }
    let until = until(fd, For::Writing);
    loop {
        match pause.unless_watched(wait(fd, For::Writing, until), until) {
            Ended::TimedOut => return UNDER_WAY,
            Ended::Cut(interrupt) => return cut(fd, interrupt),
            _ => {}
        }
        if raw::poll_now(fd, libc::POLLOUT) != 0 {
            return -pending_error(fd);
        }
    }
}

/// The socket's error, which asking takes; 0 if there is none.
fn pending_error(fd: c_int) -> raw::Result {
    let mut error: c_int = 0;
    let mut length = size_of::<c_int>() as socklen_t;
    let to = (&raw mut error).cast();
    // SAFETY: room for the option's value, and its length.
    let got = unsafe { raw::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, to, &raw mut length) };
    if got < 0 { -got } else { error as raw::Result }
}

/// Makes the descriptor non-blocking for the length of a call that does not wait then.
fn without_blocking(fd: c_int, ask: impl Fn() -> raw::Result) -> raw::Result {
    // SAFETY: takes numbers. The flags are the ones that it has, and one more.
    unsafe {
        let flags = raw::fcntl(fd, libc::F_GETFL, 0);
        if flags < 0 {
            return flags;
        }
        raw::fcntl(
            fd,
            libc::F_SETFL,
            flags as usize | libc::O_NONBLOCK as usize,
        );
        let done = ask();
        raw::fcntl(fd, libc::F_SETFL, flags as usize);
        done
    }
}

/// accept(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, peer: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { accept4(fd, peer, length, 0) }
}

/// accept4(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(
    fd: c_int,
    peer: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    let ask = || unsafe { raw::accept4(fd, peer, length, flags) };
    if is_plain() || !may_wait() {
        return told(accept_plainly(fd, ask)) as c_int;
    }
    told(accept_waiting(fd, ask)) as c_int
}

/// Accepts by blocking the thread, unless the listener's owner does not want that.
fn accept_plainly(fd: c_int, ask: impl Fn() -> raw::Result) -> raw::Result {
    loop {
        let accepted = ask();
        if accepted != raw::WOULD_WAIT || !is_on() {
            return accepted;
        }
        // A coroutine's flag, or the owner's?
        let _alone = Alone::with_flags();
        if is_nonblocking(fd) || until(fd, For::Reading).is_some() {
            return accepted;
        }
    }
}

/// Several may accept from one listener, and a connection goes to one of them. So each asks without waiting. The flag
/// for that is the listener's, and must not be taken for its owner's: it is there only while nobody else may look.
fn accept_waiting(fd: c_int, ask: impl Fn() -> raw::Result) -> raw::Result {
    if let Err(interrupt) = hook::check() {
        return cut_listener(interrupt);
    }
    let mut patience = None;
    let mut pause = Pause::default();
    loop {
        // A listener without connections is left as it is: others, and other processes, may be asking.
        if raw::poll_now(fd, libc::POLLIN) != 0 {
            let accepted = {
                let _alone = Alone::with_flags();
                match is_nonblocking(fd) {
                    true => return ask(),
                    false => without_blocking(fd, &ask),
                }
            };
            if accepted != raw::WOULD_WAIT {
                hook::spend();
                return accepted;
            }
        } else {
            let _alone = Alone::with_flags();
            if is_nonblocking(fd) {
                return raw::WOULD_WAIT;
            }
        }
        let until = *patience.get_or_insert_with(|| until(fd, For::Reading));
        match pause.unless_watched(wait(fd, For::Reading, until), until) {
            Ended::TimedOut => return raw::WOULD_WAIT,
            Ended::Cut(interrupt) => return cut_listener(interrupt),
            _ => {}
        }
    }
}

/// A listener outlives the one who has waited for it.
fn cut_listener(interrupt: maniple::cancel::Interrupt) -> raw::Result {
    crate::caller::cut(interrupt)
}

/// The right to look at a listener's flags, or to change them for the length of a call. Nobody waits who has it.
struct Alone;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Alone {
    fn with_flags() -> Self {
        // Pairs with the release in `drop`.
        let mut tries = 0_u32;
        while TAKEN.swap(true, Ordering::Acquire) {
            tries += 1;
            match tries.is_multiple_of(64) {
                false => spin_loop(),
                // Its thread may not have a core.
                // SAFETY: takes nothing.
                true => _ = unsafe { raw::sched_yield() },
            }
        }
        Self
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}
