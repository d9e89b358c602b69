//! Waiting for processes and threads to end. A process that is named is waited for by a descriptor of its own; of any
//! child, and of a thread, one has to ask, ever more rarely, at most 10 ms late.

use std::ffi::c_int;

use libc::{id_t, idtype_t, pid_t, rusage, siginfo_t};
use maniple::hook::{self, Ended};

use crate::{
    caller::{self, is_plain, may_wait},
    patience::{self, For, Pause},
    raw::{self, told},
};

/// waitpid(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitpid(process: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    // SAFETY: passed on to the caller.
    unsafe { wait4(process, status, options, std::ptr::null_mut()) }
}

/// wait4(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait4(
    process: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    // SAFETY: passed on to the caller.
    let ask = |options| unsafe { raw::wait4(process, status, options, usage) };
    if is_plain() || options & libc::WNOHANG != 0 || !may_wait() {
        return told(ask(options)) as pid_t;
    }
    let ends_only = options & (libc::WUNTRACED | libc::WCONTINUED) == 0;
    let own = Ending::of(process).filter(|_| ends_only);
    let found = until_found(own.as_ref().map(|own| own.0), || {
        match ask(options | libc::WNOHANG) {
            0 => None,
            found => Some(found),
        }
    });
    told(found) as pid_t
}

/// wait3(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
    // SAFETY: passed on to the caller.
    unsafe { wait4(-1, status, options, usage) }
}

/// wait(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait(status: *mut c_int) -> pid_t {
    // SAFETY: passed on to the caller.
    unsafe { waitpid(-1, status, 0) }
}

/// waitid(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitid(
    kind: idtype_t,
    id: id_t,
    info: *mut siginfo_t,
    options: c_int,
) -> c_int {
    let none = std::ptr::null_mut();
    if is_plain() || options & libc::WNOHANG != 0 || !may_wait() {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::waitid(kind, id, info, options, none) }) as c_int;
    }
    let ends_only = options & (libc::WSTOPPED | libc::WCONTINUED) == 0;
    let own = match kind {
        libc::P_PID if ends_only => pid_t::try_from(id).ok().and_then(Ending::of),
        _ => None,
    };
    let fd = match kind {
        libc::P_PIDFD if ends_only => c_int::try_from(id).ok(),
        _ => own.as_ref().map(|own| own.0),
    };
    let found = until_found(fd, || {
        // SAFETY: zero is nothing in each of its fields.
        let mut own: siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: room for the answer.
        let asked = unsafe { raw::waitid(kind, id, &raw mut own, options | libc::WNOHANG, none) };
        // No child is ready if it does not say which.
        // SAFETY: of a child that has ended or changed, or zero.
        if asked == 0 && unsafe { own.si_pid() } == 0 {
            return None;
        }
        if asked == 0 && !info.is_null() {
            // SAFETY: passed on to the caller.
            unsafe { *info = own };
        }
        Some(asked)
    });
    told(found) as c_int
}

/// Asks until there is an answer, and waits for the descriptor in between, if there is one.
fn until_found(fd: Option<c_int>, mut ask: impl FnMut() -> Option<raw::Result>) -> raw::Result {
    if let Err(interrupt) = hook::check() {
        return caller::cut(interrupt);
    }
    let mut pause = Pause::default();
    loop {
        if let Some(found) = ask() {
            hook::spend();
            return found;
        }
        let waited = match fd.map(|fd| patience::wait(fd, For::Reading, None)) {
            None | Some(Ended::Refused(_)) => pause.take(None),
            Some(waited) => waited,
        };
        if let Ended::Cut(interrupt) = waited {
            return caller::cut(interrupt);
        }
    }
}

/// A descriptor that is readable once its process has ended.
struct Ending(c_int);

impl Ending {
    /// `None` if the number is not a single process's.
    fn of(process: pid_t) -> Option<Self> {
        // SAFETY: takes numbers.
        let fd = (process > 0).then(|| unsafe { raw::pidfd_open(process, 0) });
        fd.filter(|fd| *fd >= 0).map(|fd| Self(fd as c_int))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // SAFETY: its own.
        unsafe { raw::close(self.0) };
    }
}

/// pthread_join(3). No cancellation ends it early: who joins goes on to use what the thread has left.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[cfg(not(any(target_env = "musl", target_feature = "crt-static")))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_join(
    thread: libc::pthread_t,
    value: *mut *mut libc::c_void,
) -> c_int {
    unsafe extern "C" {
        fn pthread_tryjoin_np(thread: libc::pthread_t, value: *mut *mut libc::c_void) -> c_int;
        fn pthread_timedjoin_np(
            thread: libc::pthread_t,
            value: *mut *mut libc::c_void,
            until: *const libc::timespec,
        ) -> c_int;
    }
    if is_plain() || !may_wait() {
        // SAFETY: passed on to the caller. Without a time it waits for as long as it takes.
        return unsafe { pthread_timedjoin_np(thread, value, std::ptr::null()) };
    }
    let mut pause = Pause::default();
    loop {
        // SAFETY: passed on to the caller.
        match unsafe { pthread_tryjoin_np(thread, value) } {
            libc::EBUSY => pause.take_whole(),
            joined => return joined,
        }
    }
}
