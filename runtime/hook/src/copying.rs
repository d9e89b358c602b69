//! `sendfile` and `splice`, which have no way not to wait for a blocking socket. A coroutine's call fails, as for what
//! cannot be copied so, and callers read and write instead: std's `io::copy` does. From file to file it is a call on
//! files.

use std::ffi::{c_int, c_uint};

use libc::{off_t, size_t, ssize_t};

use crate::{
    caller::{is_plain, may_wait},
    files,
    patience::is_nonblocking,
    raw::{self, told},
};

/// sendfile(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: passed on to the caller, who waits.
    let copy = move || unsafe { raw::sendfile(to, from, offset, count) };
    if is_plain() || !may_wait() {
        return told(copy());
    }
    if waits(to) {
        return raw::fail(libc::EINVAL);
    }
    told(match files::are_offloaded() && !raw::can_wait(to) {
        // SAFETY: as above.
        true => unsafe { files::call_elsewhere(copy) },
        false => copy(),
    })
}

/// sendfile(2), by the name that std calls it.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[cfg(target_env = "gnu")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: passed on to the caller.
    unsafe { sendfile(to, from, offset, count) }
}

/// splice(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    from: c_int,
    from_offset: *mut i64,
    to: c_int,
    to_offset: *mut i64,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    if !is_plain() && may_wait() && (waits(from) || waits(to)) {
        return raw::fail(libc::EINVAL);
    }
    // SAFETY: passed on to the caller.
    told(unsafe { raw::splice(from, from_offset, to, to_offset, count, flags) })
}

/// Whether a call on it may have to wait for somebody, and its owner lets it.
fn waits(fd: c_int) -> bool {
    raw::can_wait(fd) && !is_nonblocking(fd)
}
