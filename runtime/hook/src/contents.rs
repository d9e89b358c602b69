//! What is in files: read and written at offsets, synced, cut, copied; and what belongs to one that is open.

use std::ffi::{c_int, c_uint};

use libc::{gid_t, iovec, mode_t, off_t, size_t, ssize_t, timespec, uid_t};
use maniple::hook;

use crate::{
    caller,
    files::{self, calls},
    raw::{self, told},
};

/// pread(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread(fd: c_int, to: *mut u8, length: size_t, at: off_t) -> ssize_t {
    if !files::are_offloaded() || length == 0 || at < 0 {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::pread(fd, to, length, at) });
    }
    if let Err(interrupt) = hook::check() {
        return told(caller::cut(interrupt));
    }
    // SAFETY: passed on to the caller.
    let got = unsafe { files::read_elsewhere(fd, to, length, Some(at)) };
    hook::spend();
    told(got)
}

calls! {
    /// pwrite(2).
    pwrite(fd: c_int, from: *const u8, length: size_t, at: off_t) -> ssize_t =
        raw::pwrite(fd, from, length, at);
    /// preadv(2).
    preadv(fd: c_int, slices: *const iovec, count: c_int, at: off_t) -> ssize_t =
        raw::preadv(fd, slices, count, at);
    /// pwritev(2).
    pwritev(fd: c_int, slices: *const iovec, count: c_int, at: off_t) -> ssize_t =
        raw::pwritev(fd, slices, count, at);
    /// fsync(2).
    fsync(fd: c_int) -> c_int = raw::fsync(fd);
    /// fdatasync(2).
    fdatasync(fd: c_int) -> c_int = raw::fdatasync(fd);
    /// syncfs(2).
    syncfs(fd: c_int) -> c_int = raw::syncfs(fd);
    /// ftruncate(2).
    ftruncate(fd: c_int, length: off_t) -> c_int = raw::ftruncate(fd, length);
    /// fallocate(2).
    fallocate(fd: c_int, mode: c_int, at: off_t, length: off_t) -> c_int =
        raw::fallocate(fd, mode, at, length);
    /// copy_file_range(2).
    copy_file_range(
        from: c_int,
        from_offset: *mut i64,
        to: c_int,
        to_offset: *mut i64,
        count: size_t,
        flags: c_uint
    ) -> ssize_t = raw::copy_file_range(from, from_offset, to, to_offset, count, flags);
    /// fchmod(2).
    fchmod(fd: c_int, mode: mode_t) -> c_int = raw::fchmod(fd, mode);
    /// fchown(2).
    fchown(fd: c_int, owner: uid_t, group: gid_t) -> c_int = raw::fchown(fd, owner, group);
    /// futimens(3).
    futimens(fd: c_int, times: *const timespec) -> c_int =
        raw::utimensat(fd, std::ptr::null(), times, 0);
}

/// The same by the names that glibc has for what is as large as a file may be.
#[cfg(target_env = "gnu")]
pub(crate) mod large {
    use super::*;

    calls! {
        /// pwrite(2).
        pwrite64(fd: c_int, from: *const u8, length: size_t, at: i64) -> ssize_t =
            raw::pwrite(fd, from, length, at);
        /// preadv(2).
        preadv64(fd: c_int, slices: *const iovec, count: c_int, at: i64) -> ssize_t =
            raw::preadv(fd, slices, count, at);
        /// pwritev(2).
        pwritev64(fd: c_int, slices: *const iovec, count: c_int, at: i64) -> ssize_t =
            raw::pwritev(fd, slices, count, at);
        /// ftruncate(2).
        ftruncate64(fd: c_int, length: i64) -> c_int = raw::ftruncate(fd, length);
        /// fallocate(2).
        fallocate64(fd: c_int, mode: c_int, at: i64, length: i64) -> c_int =
            raw::fallocate(fd, mode, at, length);
    }

    /// pread(2).
    ///
    /// # Safety
    /// Its pointers are what the manual page of the C function says.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn pread64(fd: c_int, to: *mut u8, length: size_t, at: i64) -> ssize_t {
        // SAFETY: passed on to the caller.
        unsafe { pread(fd, to, length, at) }
    }

    /// Defines what C code calls that was compiled with `_FORTIFY_SOURCE`.
    macro_rules! fortified {
        ($($name:ident)*) => { $(
            /// pread(2), which does not go beyond the buffer's size.
            ///
            /// # Safety
            /// Its pointers are what the manual page of the C function says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name(
                fd: c_int,
                to: *mut u8,
                length: size_t,
                at: i64,
                size: size_t,
            ) -> ssize_t {
                if length > size {
                    // SAFETY: ends the process, as the C library does.
                    unsafe { libc::abort() };
                }
                // SAFETY: passed on to the caller.
                unsafe { pread(fd, to, length, at) }
            }
        )* };
    }

    fortified! { __pread_chk __pread64_chk }
}
