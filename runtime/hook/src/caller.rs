//! Who calls: somebody whom a hooked call may suspend, or anybody else, who gets the system call as it is.

use std::{
    ffi::c_int,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use maniple::{
    cancel::{self, Interrupt},
    hook,
};

use crate::raw;

/// Set by `install`, and taken back in a forked child, which has no workers.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Whether the caller is certainly nobody to suspend: a plain thread, an offload thread, a worker's own loop.
#[inline(always)]
pub(crate) fn is_plain() -> bool {
    !hook::is_coroutine()
}

/// Whether the caller, a coroutine, may be suspended where it is.
#[inline]
pub(crate) fn may_wait() -> bool {
    IS_ON.load(Ordering::Relaxed) && hook::may_wait()
}

/// Whether calls are hooked in this process.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// From now on coroutines are suspended.
pub(crate) fn turn_on() {
    extern "C" fn in_child() {
        IS_ON.store(false, Ordering::Relaxed);
    }
    // SAFETY: a function that touches an atomic alone.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    IS_ON.store(true, Ordering::Relaxed);
}

/// What a call returns that may not begin, or go on.
pub(crate) fn cut(interrupt: Interrupt) -> raw::Result {
    let error: c_int = match interrupt {
        Interrupt::Cancelled => libc::ECANCELED,
        Interrupt::Elapsed => libc::ETIMEDOUT,
    };
    -(error as raw::Result)
}

/// What an error of the runtime's says of how a wait was cut, if it was.
pub(crate) fn interrupt_of(error: &io::Error) -> Option<Interrupt> {
    match error.kind() {
        io::ErrorKind::TimedOut => Some(Interrupt::Elapsed),
        _ if cancel::is_cancelled_error(error) => Some(Interrupt::Cancelled),
        _ => None,
    }
}
