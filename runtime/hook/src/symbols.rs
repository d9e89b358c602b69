//! Whether the process calls what is defined here, and not the C library's.

use std::{
    error::Error,
    ffi::{CStr, c_void},
    fmt,
};

use crate::{
    children, connection, contents, copying, file_locks, paths, readiness, time, transfer,
};
#[cfg(target_env = "gnu")]
use crate::{contents::large as large_contents, paths::large as large_paths};

/// Calls that the process does not make here; returned by [`install`](crate::install()).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOurs {
    names: Vec<&'static str>,
}

impl NotOurs {
    /// Their names.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "maniple-hook is linked, and the process calls others' {}: a call that waits there would block its worker. \
             The executable itself has to define and export them: it is no shared library that is loaded, its link has \
             no version script, and no --exclude-libs",
            self.names.join(", ")
        )
    }
}

impl Error for NotOurs {}

macro_rules! table {
    ($(#[$attribute:meta])* $table:ident { $($module:ident: $($name:ident),*;)* }) => {
        $(#[$attribute])*
        fn $table() -> Vec<Call> {
            vec![$($((
                // A name has no NUL.
                CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()).unwrap_or_default(),
                $module::$name as *const c_void,
            ),)*)*]
        }
    };
}

table! {
    /// The calls that are hooked, and where.
    table {
        transfer: recv, recvfrom, recvmsg, send, sendto, sendmsg, read, readv, write, writev;
        connection: connect, accept, accept4;
        readiness: poll, ppoll, select, pselect, epoll_wait, epoll_pwait;
        time: nanosleep, clock_nanosleep, usleep, sleep;
        copying: sendfile, splice;
        children: waitpid, waitid, wait, wait3, wait4;
    }
}

table! {
    /// Of them, those on files.
    on_files {
        contents: pread, pwrite, preadv, pwritev, fsync, fdatasync, syncfs, ftruncate, fallocate, copy_file_range,
            fchmod, fchown, futimens;
        file_locks: flock, fcntl;
        paths: open, openat, creat, stat, lstat, fstatat, statx, access, readlink, readlinkat, rename, renameat,
            unlink, unlinkat, rmdir, mkdir, mkdirat, mkfifo, link, linkat, symlink, symlinkat, chmod, chown, lchown,
            fchownat, utimensat, truncate;
    }
}

#[cfg(target_env = "gnu")]
table! {
    /// Those that are hooked with glibc alone.
    of_glibc {
        transfer: __read_chk, __recv_chk, __recvfrom_chk, recvmmsg, sendmmsg;
        readiness: __poll_chk, __ppoll_chk;
        copying: sendfile64;
    }
}

#[cfg(target_env = "gnu")]
table! {
    /// Of those, what is on files.
    on_files_of_glibc {
        large_contents: pread64, pwrite64, preadv64, pwritev64, ftruncate64, fallocate64, __pread_chk, __pread64_chk;
        file_locks: fcntl64;
        large_paths: open64, openat64, creat64, stat64, lstat64, fstatat64, truncate64, renameat2, __open_2, __open64_2,
            __openat_2, __openat64_2;
    }
}

/// The calls that are hooked in this build.
pub fn names() -> Vec<&'static str> {
    names_in(all())
}

/// Those of [`names`] that suspend within [`files::offload`](crate::files::offload) alone. `read`, `write` and their
/// like, which do there on files and elsewhere on what waits for somebody, are not among them.
pub fn names_on_files() -> Vec<&'static str> {
    names_in(all_on_files())
}

type Call = (&'static CStr, *const c_void);

fn names_in(calls: Vec<Call>) -> Vec<&'static str> {
    calls
        .iter()
        .map(|(name, _)| name.to_str().unwrap_or_default())
        .collect()
}

fn all() -> Vec<Call> {
    #[allow(unused_mut)]
    let mut all = table();
    #[cfg(not(any(target_env = "musl", target_feature = "crt-static")))]
    {
        all.push((c"getaddrinfo", crate::names::getaddrinfo as *const c_void));
        all.push((c"pthread_join", children::pthread_join as *const c_void));
    }
    #[cfg(target_env = "gnu")]
    all.extend(of_glibc());
    if cfg!(target_env = "musl") {
        all.retain(|(name, _)| ![c"recvmsg", c"sendmsg"].contains(name));
    }
    all.extend(all_on_files());
    all
}

fn all_on_files() -> Vec<Call> {
    #[allow(unused_mut)]
    let mut all = on_files();
    #[cfg(target_env = "gnu")]
    all.extend(on_files_of_glibc());
    all
}

/// Holds what the process finds under each name against what is defined here.
pub(crate) fn check() -> Result<(), NotOurs> {
    let is_other = |(name, own): &Call| {
        // Without shared libraries there is nothing to look in, and the linker has chosen.
        if cfg!(target_feature = "crt-static") {
            return false;
        }
        // SAFETY: a name, and where to look.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.cast_const();
        // What an older C library has not, no other library calls.
        !found.is_null() && found != *own
    };
    let others = all().into_iter().filter(is_other);
    let names: Vec<_> = others
        .map(|(name, _)| name.to_str().unwrap_or_default())
        .collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(NotOurs { names }),
    }
}
