//! Calls on files and folders by their names: opening, looking, making, renaming, removing.

use std::ffi::{c_char, c_int, c_uint};

use libc::{AT_FDCWD, gid_t, mode_t, off_t, size_t, ssize_t, stat as Stat, timespec, uid_t};

use crate::{
    files::{self, calls},
    raw::{self, told},
};

/// open(2). C passes a mode, if any, where a third argument would be.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { openat(AT_FDCWD, path, flags, mode) }
}

/// openat(2). C passes a mode, if any, where a fourth argument would be.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    let mode = match files::makes_files(flags) {
        true => mode,
        false => 0,
    };
    if !files::are_offloaded() {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::openat(folder, path, flags, mode) }) as c_int;
    }
    // SAFETY: passed on to the caller.
    told(unsafe { files::open_elsewhere(folder, path, flags, mode) }) as c_int
}

/// creat(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    // SAFETY: passed on to the caller.
    unsafe { openat(AT_FDCWD, path, flags, mode) }
}

calls! {
    /// stat(2).
    stat(path: *const c_char, found: *mut Stat) -> c_int = raw::fstatat(AT_FDCWD, path, found, 0);
    /// lstat(2).
    lstat(path: *const c_char, found: *mut Stat) -> c_int =
        raw::fstatat(AT_FDCWD, path, found, libc::AT_SYMLINK_NOFOLLOW);
    /// access(2).
    access(path: *const c_char, mode: c_int) -> c_int = raw::faccessat(AT_FDCWD, path, mode);
    /// readlink(2).
    readlink(path: *const c_char, to: *mut c_char, length: size_t) -> ssize_t =
        raw::readlinkat(AT_FDCWD, path, to, length);
    /// readlinkat(2).
    readlinkat(folder: c_int, path: *const c_char, to: *mut c_char, length: size_t) -> ssize_t =
        raw::readlinkat(folder, path, to, length);
    /// rename(2).
    rename(from: *const c_char, to: *const c_char) -> c_int =
        raw::renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
    /// renameat(2).
    renameat(from_folder: c_int, from: *const c_char, to_folder: c_int, to: *const c_char) -> c_int =
        raw::renameat2(from_folder, from, to_folder, to, 0);
    /// unlink(2).
    unlink(path: *const c_char) -> c_int = raw::unlinkat(AT_FDCWD, path, 0);
    /// unlinkat(2).
    unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int =
        raw::unlinkat(folder, path, flags);
    /// rmdir(2).
    rmdir(path: *const c_char) -> c_int = raw::unlinkat(AT_FDCWD, path, libc::AT_REMOVEDIR);
    /// mkdir(2).
    mkdir(path: *const c_char, mode: mode_t) -> c_int = raw::mkdirat(AT_FDCWD, path, mode);
    /// mkdirat(2).
    mkdirat(folder: c_int, path: *const c_char, mode: mode_t) -> c_int =
        raw::mkdirat(folder, path, mode);
    /// mkfifo(3).
    mkfifo(path: *const c_char, mode: mode_t) -> c_int =
        raw::mknodat(AT_FDCWD, path, mode | libc::S_IFIFO, 0);
    /// link(2).
    link(from: *const c_char, to: *const c_char) -> c_int =
        raw::linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
    /// linkat(2).
    linkat(
        from_folder: c_int,
        from: *const c_char,
        to_folder: c_int,
        to: *const c_char,
        flags: c_int
    ) -> c_int = raw::linkat(from_folder, from, to_folder, to, flags);
    /// symlink(2).
    symlink(target: *const c_char, path: *const c_char) -> c_int =
        raw::symlinkat(target, AT_FDCWD, path);
    /// symlinkat(2).
    symlinkat(target: *const c_char, folder: c_int, path: *const c_char) -> c_int =
        raw::symlinkat(target, folder, path);
    /// chmod(2).
    chmod(path: *const c_char, mode: mode_t) -> c_int = raw::fchmodat(AT_FDCWD, path, mode);
    /// chown(2).
    chown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int =
        raw::fchownat(AT_FDCWD, path, owner, group, 0);
    /// lchown(2).
    lchown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int =
        raw::fchownat(AT_FDCWD, path, owner, group, libc::AT_SYMLINK_NOFOLLOW);
    /// fchownat(2).
    fchownat(
        folder: c_int,
        path: *const c_char,
        owner: uid_t,
        group: gid_t,
        flags: c_int
    ) -> c_int = raw::fchownat(folder, path, owner, group, flags);
    /// truncate(2).
    truncate(path: *const c_char, length: off_t) -> c_int = raw::truncate(path, length);
}

/// fstatat(2). What it says of a descriptor alone is in memory.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstatat(
    folder: c_int,
    path: *const c_char,
    found: *mut Stat,
    flags: c_int,
) -> c_int {
    // SAFETY: passed on to the caller, who waits.
    let look = move || unsafe { raw::fstatat(folder, path, found, flags) };
    // SAFETY: as above.
    told(match unsafe { is_of_descriptor(path, flags) } {
        true => look(),
        // SAFETY: as above.
        false => unsafe { files::call(look) },
    }) as c_int
}

/// statx(2). What it says of a descriptor alone is in memory.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statx(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    found: *mut libc::statx,
) -> c_int {
    // SAFETY: passed on to the caller, who waits.
    let look = move || unsafe { raw::statx(folder, path, flags, mask, found) };
    // SAFETY: as above.
    told(match unsafe { is_of_descriptor(path, flags) } {
        true => look(),
        // SAFETY: as above.
        false => unsafe { files::call(look) },
    }) as c_int
}

/// Whether a call is on the descriptor itself.
///
/// # Safety
/// The path, if there is one, is there.
unsafe fn is_of_descriptor(path: *const c_char, flags: c_int) -> bool {
    // SAFETY: passed on to the caller.
    flags & libc::AT_EMPTY_PATH != 0 && (path.is_null() || unsafe { *path } == 0)
}

/// utimensat(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn utimensat(
    folder: c_int,
    path: *const c_char,
    times: *const timespec,
    flags: c_int,
) -> c_int {
    // The kernel would take the folder's descriptor for the file; `futimens` does.
    if path.is_null() && cfg!(target_env = "gnu") {
        return raw::fail(libc::EINVAL) as c_int;
    }
    // SAFETY: passed on to the caller, who waits.
    told(unsafe { files::call(move || raw::utimensat(folder, path, times, flags)) }) as c_int
}

/// The same by the names that glibc has for what is as large as a file may be, and renaming with flags.
#[cfg(target_env = "gnu")]
pub(crate) mod large {
    use super::*;

    calls! {
        /// stat(2).
        stat64(path: *const c_char, found: *mut Stat) -> c_int =
            raw::fstatat(AT_FDCWD, path, found, 0);
        /// lstat(2).
        lstat64(path: *const c_char, found: *mut Stat) -> c_int =
            raw::fstatat(AT_FDCWD, path, found, libc::AT_SYMLINK_NOFOLLOW);
        /// truncate(2).
        truncate64(path: *const c_char, length: i64) -> c_int = raw::truncate(path, length);
        /// renameat2(2).
        renameat2(
            from_folder: c_int,
            from: *const c_char,
            to_folder: c_int,
            to: *const c_char,
            flags: c_uint
        ) -> c_int = raw::renameat2(from_folder, from, to_folder, to, flags);
    }

    /// fstatat(2).
    ///
    /// # Safety
    /// Its pointers are what the manual page of the C function says.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn fstatat64(
        folder: c_int,
        path: *const c_char,
        found: *mut Stat,
        flags: c_int,
    ) -> c_int {
        // SAFETY: passed on to the caller.
        unsafe { fstatat(folder, path, found, flags) }
    }

    /// open(2).
    ///
    /// # Safety
    /// Its pointers are what the manual page of the C function says.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: passed on to the caller.
        unsafe { openat(AT_FDCWD, path, flags, mode) }
    }

    /// openat(2).
    ///
    /// # Safety
    /// Its pointers are what the manual page of the C function says.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn openat64(
        folder: c_int,
        path: *const c_char,
        flags: c_int,
        mode: mode_t,
    ) -> c_int {
        // SAFETY: passed on to the caller.
        unsafe { openat(folder, path, flags, mode) }
    }

    /// creat(2).
    ///
    /// # Safety
    /// Its pointers are what the manual page of the C function says.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
        // SAFETY: passed on to the caller.
        unsafe { creat(path, mode) }
    }

    /// Defines what C code calls that was compiled with `_FORTIFY_SOURCE`, and has no mode.
    macro_rules! fortified {
        ($($name:ident($($folder:ident)?);)*) => { $(
            /// Opening without a mode, so of what is there.
            ///
            /// # Safety
            /// Its pointers are what the manual page of the C function says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name(
                $($folder: c_int,)?
                path: *const c_char,
                flags: c_int,
            ) -> c_int {
                if files::makes_files(flags) {
                    // SAFETY: ends the process, as the C library does.
                    unsafe { libc::abort() };
                }
                let _folder = AT_FDCWD;
                $(let _folder = $folder;)?
                // SAFETY: passed on to the caller.
                unsafe { openat(_folder, path, flags, 0) }
            }
        )* };
    }

    fortified! {
        __open_2();
        __open64_2();
        __openat_2(folder);
        __openat64_2(folder);
    }
}
