//! Locks of files that are waited for, where the program asks for it: by asking again and again.

use std::ffi::c_int;

use maniple::hook::Ended;

use crate::{
    caller, files,
    patience::Pause,
    raw::{self, told},
};

/// flock(2).
#[unsafe(no_mangle)]
pub extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    // SAFETY: takes numbers.
    let ask = move |operation| unsafe { raw::flock(fd, operation) };
    let is_at_once = operation & (libc::LOCK_NB | libc::LOCK_UN) != 0;
    told(match !is_at_once && files::are_offloaded() {
        true => until_locked(move || ask(operation | libc::LOCK_NB)),
        false => ask(operation),
    }) as c_int
}

/// fcntl(2). C passes what the command takes, if anything, where a third argument would be.
///
/// # Safety
/// That is what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, value: usize) -> c_int {
    // SAFETY: passed on to the caller, who waits.
    let ask = move |command| unsafe { raw::fcntl(fd, command, value) };
    let at_once = match command {
        libc::F_GETOWN => return owner(fd),
        libc::F_SETLKW => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_OFD_SETLK,
        _ => return told(ask(command)) as c_int,
    };
    told(match files::are_offloaded() {
        true => until_locked(move || ask(at_once)),
        false => ask(command),
    }) as c_int
}

/// fcntl(2), by glibc's name for it where files are large.
///
/// # Safety
/// As for [`fcntl`].
#[cfg(target_env = "gnu")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, value: usize) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { fcntl(fd, command, value) }
}

/// The process that signals of a descriptor go to, or a group as a negative number, which the kernel's own answer would
/// mix up with errors.
fn owner(fd: c_int) -> c_int {
    /// Of fcntl(2).
    #[repr(C)]
    struct Owner {
        kind: c_int,
        id: c_int,
    }
    const F_GETOWN_EX: c_int = 16;
    const F_OWNER_PGRP: c_int = 2;
    let mut found = Owner { kind: 0, id: 0 };
    // SAFETY: room for the answer.
    match unsafe { raw::fcntl(fd, F_GETOWN_EX, (&raw mut found).expose_provenance()) } {
        0 if found.kind == F_OWNER_PGRP => -found.id,
        0 => found.id,
        error => told(error) as c_int,
    }
}

/// Asks for a lock until there is one, or an error, or the wait is cut.
fn until_locked(ask: impl Fn() -> raw::Result + Copy + 'static) -> raw::Result {
    const HELD: raw::Result = -(libc::EACCES as raw::Result);
    let mut pause = Pause::default();
    loop {
        // A server of files may take its time to say.
        // SAFETY: the caller of the hooked call waits.
        match unsafe { files::call_elsewhere(ask) } {
            raw::WOULD_WAIT | HELD => {}
            answer => return answer,
        }
        if let Ended::Cut(interrupt) = pause.take(None) {
            return caller::cut(interrupt);
        }
    }
}
