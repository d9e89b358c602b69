//! What the C library is asked by std and by others' crates, answered by the world.

#![allow(unsafe_code)]

use std::ffi::CStr;

#[doc(hidden)]
pub use libc;

use super::real;
use crate::driver::sim;

/// Has this program's `clock_gettime` and `getrandom` be the world's, on threads that are in one: for the clocks of
/// std, [`Instant::now`](std::time::Instant::now) and [`SystemTime::now`](std::time::SystemTime::now), for the keys
/// of `HashMap`, and for crates that ask the C library.
///
/// What std or another crate wants of the machine from a coroutine of a world is denied: sockets, files that are
/// opened, made, renamed or removed, threads, child processes, and names that the C library looks up. The call fails
/// with `EPERM`, and its seed with a report that names the place, whatever the code makes of the error.
/// [`real`](super::real()) lets what it runs have all that. Anybody may have the files of `/dev`, `/proc` and `/sys`,
/// and what backtraces are read from.
///
/// To be written once, at the top of a test's file, outside of functions: it defines these functions of the C library
/// anew, for the whole program. Elsewhere they do what they did, by a system call, which takes longer. What asks the
/// kernel itself, without the library, is not reached.
///
/// # Examples
/// ```
/// use maniple::sim;
/// use std::{collections::HashMap, time::{Duration, Instant}};
///
/// sim::interpose!();
///
/// # fn main() {
/// let order = || {
///     let begun = Instant::now();
///     maniple::sleep(Duration::from_secs(3600));
///     assert_eq!(begun.elapsed(), Duration::from_secs(3600));
///     let map: HashMap<u32, ()> = (0..100).map(|key| (key, ())).collect();
///     map.into_keys().collect::<Vec<_>>()
/// };
/// let of_seed = |seed| {
///     let (tell, told) = std::sync::mpsc::channel();
///     sim::run(seed, move |_| tell.send(order()).unwrap()).unwrap();
///     told.recv().unwrap()
/// };
/// assert_eq!(of_seed(7), of_seed(7));
/// assert_ne!(of_seed(7), of_seed(8));
/// # }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! sim_interpose {
    () => {
        #[allow(unsafe_code)]
        const _: () = {
            use ::std::{
                ffi::CStr,
                option::Option::{None, Some},
            };
            use $crate::sim::{
                denies, denies_file,
                libc::{self, c_char, c_int, c_long, c_uint, c_void, size_t, ssize_t, timespec},
                refused,
            };

            $crate::sim_interposed! {
                // The caller has a place for the time there.
                clock_gettime(clock: c_int, time: *mut timespec) -> c_int =
                    match $crate::sim::clock(clock) {
                        Some(shown) => {
                            ((*time).tv_sec, (*time).tv_nsec) = shown;
                            0
                        }
                        None => libc::syscall(libc::SYS_clock_gettime, clock as c_long, time) as c_int,
                    };
                // The caller has so many bytes there, which nobody else looks at meanwhile. They may not have been
                // written yet, so they are first.
                getrandom(to: *mut c_void, length: size_t, flags: c_uint) -> ssize_t = {
                    to.cast::<u8>().write_bytes(0, length);
                    match $crate::sim::fill(::std::slice::from_raw_parts_mut(to.cast(), length)) {
                        true => length as ssize_t,
                        false => libc::syscall(libc::SYS_getrandom, to, length, flags as c_long) as ssize_t,
                    }
                };
                socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int =
                    match denies("socket", "a socket") {
                        true => refused(),
                        false => libc::syscall(
                            libc::SYS_socket, domain as c_long, kind as c_long, protocol as c_long,
                        ) as c_int,
                    };
                socketpair(domain: c_int, kind: c_int, protocol: c_int, to: *mut c_int) -> c_int =
                    match denies("socketpair", "a socket") {
                        true => refused(),
                        false => libc::syscall(
                            libc::SYS_socketpair, domain as c_long, kind as c_long, protocol as c_long, to,
                        ) as c_int,
                    };
                // Of two paths that the caller has there.
                open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
                    $crate::sim::open("open", libc::AT_FDCWD, path, flags, mode);
                openat(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
                    $crate::sim::open("openat", folder, path, flags, mode);
                mkdir(path: *const c_char, mode: c_uint) -> c_int =
                    match denies_file("mkdir", path.as_ref().map(|_| CStr::from_ptr(path)), libc::O_WRONLY) {
                        true => refused(),
                        false => libc::syscall(
                            libc::SYS_mkdirat, libc::AT_FDCWD as c_long, path, mode as c_long,
                        ) as c_int,
                    };
                rmdir(path: *const c_char) -> c_int =
                    match denies_file("rmdir", path.as_ref().map(|_| CStr::from_ptr(path)), libc::O_WRONLY) {
                        true => refused(),
                        false => libc::syscall(
                            libc::SYS_unlinkat, libc::AT_FDCWD as c_long, path, libc::AT_REMOVEDIR as c_long,
                        ) as c_int,
                    };
                unlink(path: *const c_char) -> c_int =
                    match denies_file("unlink", path.as_ref().map(|_| CStr::from_ptr(path)), libc::O_WRONLY) {
                        true => refused(),
                        false => libc::syscall(
                            libc::SYS_unlinkat, libc::AT_FDCWD as c_long, path, 0 as c_long,
                        ) as c_int,
                    };
                rename(from: *const c_char, to: *const c_char) -> c_int =
                    match denies_file("rename", from.as_ref().map(|_| CStr::from_ptr(from)), libc::O_WRONLY) {
                        true => refused(),
                        false => libc::syscall(
                            libc::SYS_renameat2, libc::AT_FDCWD as c_long, from, libc::AT_FDCWD as c_long, to,
                            0 as c_long,
                        ) as c_int,
                    };
            }

            // What takes more than a system call is the library's own, which is behind this program where it is linked
            // dynamically.
            #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
            $crate::sim_interposed! {
                open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
                    $crate::sim::open("open64", libc::AT_FDCWD, path, flags, mode);
                openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int =
                    $crate::sim::open("openat64", folder, path, flags, mode);
                opendir(path: *const c_char) -> *mut libc::DIR =
                    match denies_file("opendir", path.as_ref().map(|_| CStr::from_ptr(path)), libc::O_RDONLY) {
                        true => {
                            refused();
                            ::std::ptr::null_mut()
                        }
                        false => $crate::sim::library::<extern "C" fn(_) -> _>(c"opendir")(path),
                    };
                pthread_create(
                    thread: *mut libc::pthread_t,
                    attributes: *const libc::pthread_attr_t,
                    begin: extern "C" fn(*mut c_void) -> *mut c_void,
                    argument: *mut c_void
                ) -> c_int =
                    match denies("pthread_create", "a thread") {
                        true => libc::EPERM,
                        false => $crate::sim::library::<extern "C" fn(_, _, _, _) -> _>(c"pthread_create")(
                            thread, attributes, begin, argument,
                        ),
                    };
                fork() -> libc::pid_t =
                    match denies("fork", "a child process") {
                        true => refused(),
                        false => $crate::sim::library::<extern "C" fn() -> _>(c"fork")(),
                    };
                posix_spawn(
                    process: *mut libc::pid_t,
                    path: *const c_char,
                    actions: *const libc::posix_spawn_file_actions_t,
                    attributes: *const libc::posix_spawnattr_t,
                    arguments: *const *mut c_char,
                    environment: *const *mut c_char
                ) -> c_int =
                    match denies("posix_spawn", "a child process") {
                        true => libc::EPERM,
                        false => $crate::sim::library::<extern "C" fn(_, _, _, _, _, _) -> _>(c"posix_spawn")(
                            process, path, actions, attributes, arguments, environment,
                        ),
                    };
                posix_spawnp(
                    process: *mut libc::pid_t,
                    file: *const c_char,
                    actions: *const libc::posix_spawn_file_actions_t,
                    attributes: *const libc::posix_spawnattr_t,
                    arguments: *const *mut c_char,
                    environment: *const *mut c_char
                ) -> c_int =
                    match denies("posix_spawnp", "a child process") {
                        true => libc::EPERM,
                        false => $crate::sim::library::<extern "C" fn(_, _, _, _, _, _) -> _>(c"posix_spawnp")(
                            process, file, actions, attributes, arguments, environment,
                        ),
                    };
                getaddrinfo(
                    name: *const c_char,
                    service: *const c_char,
                    hints: *const libc::addrinfo,
                    found: *mut *mut libc::addrinfo
                ) -> c_int =
                    match denies("getaddrinfo", "a look-up of a name") {
                        true => libc::EAI_FAIL,
                        false => $crate::sim::library::<extern "C" fn(_, _, _, _) -> _>(c"getaddrinfo")(
                            name, service, hints, found,
                        ),
                    };
            }
        };
    };
}

/// Functions of the C library, defined anew. For the rows of [`interpose!`](crate::sim::interpose) alone.
#[macro_export]
#[doc(hidden)]
macro_rules! sim_interposed {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $does:expr;)*) => { $(
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        #[allow(clippy::macro_metavars_in_unsafe, reason = "the rows are here, and written for this")]
        unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
            // SAFETY: what the caller promises of its arguments is all that is taken for granted of them, and they go
            // as they are to the call that the library would have made, or to the library's own function of that name
            // and these types. Nothing unwinds: what a world denies is an error for the caller.
            unsafe { $does }
        }
    )* };
}

/// The function of that name in what is linked behind this program.
///
/// # Safety
/// `F` is the type of pointers to it.
///
/// # Panics
/// If there is none, which ends the process.
#[doc(hidden)]
pub unsafe fn library<F: Copy>(name: &CStr) -> F {
    const { assert!(size_of::<F>() == size_of::<*mut libc::c_void>()) };
    // SAFETY: the name ends with a zero. What is found is such a function, as the caller says.
    unsafe {
        let found = libc::dlsym(libc::RTLD_NEXT, name.as_ptr());
        assert!(!found.is_null(), "the C library has no {name:?}");
        std::mem::transmute_copy(&found)
    }
}

/// What `openat` of the C library does, unless a world denies it.
///
/// # Safety
/// The path is null, or ends with a zero.
#[doc(hidden)]
pub unsafe fn open(
    call: &'static str,
    folder: libc::c_int,
    path: *const libc::c_char,
    flags: libc::c_int,
    mode: libc::c_uint,
) -> libc::c_int {
    // Else it was not given, and is anything.
    let makes = flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
    let (mode, flags) = (if makes { mode } else { 0 }, flags | libc::O_LARGEFILE);
    // SAFETY: the call that the library would have made, with the caller's own values.
    unsafe {
        if real::denies_file(call, path.as_ref().map(|_| CStr::from_ptr(path)), flags) {
            return refused();
        }
        let [folder, flags, mode] =
            [folder.into(), flags.into(), mode.into()].map(|word: i64| word as libc::c_long);
        libc::syscall(libc::SYS_openat, folder, path, flags, mode) as libc::c_int
    }
}

/// What a call returns that is denied, with its error.
#[doc(hidden)]
pub fn refused() -> libc::c_int {
    // SAFETY: this thread's own place for errors.
    unsafe { *libc::__errno_location() = libc::EPERM };
    -1
}

/// What a clock of the C library shows in this thread's world, in seconds and nanoseconds; none for unusual ones.
#[doc(hidden)]
pub fn clock(number: libc::c_int) -> Option<(i64, i64)> {
    let since = match number {
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_BOOTTIME
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_MONOTONIC_RAW => sim::monotonic()?,
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => sim::wall()?,
        _ => return None,
    };
    Some((since.as_secs() as i64, since.subsec_nanos().into()))
}

/// Fills the bytes by this thread's world; false if it is in none.
#[doc(hidden)]
pub fn fill(bytes: &mut [u8]) -> bool {
    let Some(world) = sim::current() else {
        return false;
    };
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&world.random().to_ne_bytes()[..part.len()]);
    }
    true
}
