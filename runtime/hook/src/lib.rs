//! Drivers as they are: blocking calls of the C library that suspend the coroutine which makes them.
//!
//! Database drivers, HTTP clients and C libraries wait in `recv`, `poll`, `connect`, `clock_nanosleep`. A program that
//! is linked with this crate has these calls from here. Made by a coroutine of [`maniple`], they suspend it and its
//! worker goes on; made by anybody else, they are the system call as it is. Crates are neither changed nor wrapped.
//!
//! ```
//! use std::{io::{Read, Write}, net::{TcpListener, TcpStream}, time::Duration};
//!
//! fn main() -> std::io::Result<()> {
//!     maniple_hook::install!();
//!     // Client and server are std's, and share one thread.
//!     let runtime = maniple::Runtime::builder().workers(1).build()?;
//!     runtime.run(|| {
//!         let listener = TcpListener::bind("127.0.0.1:0")?;
//!         let address = listener.local_addr()?;
//!         let server = maniple::spawn(move || {
//!             let (mut stream, _peer) = listener.accept()?;
//!             std::thread::sleep(Duration::from_millis(5));
//!             stream.write_all(b"hello")
//!         });
//!         let mut told = String::new();
//!         TcpStream::connect(address)?.read_to_string(&mut told)?;
//!         assert_eq!(told, "hello");
//!         server.join().expect("it ends")
//!     })
//! }
//! ```
//!
//! # Who installs it
//!
//! The program, as the first thing in its `main`, by [`install!`]; never a library, since it is the program that
//! answers for what its threads do. Without that line each call is the kernel's.
//!
//! # What is hooked
//!
//! `recv`, `send`, `read`, `write` and their families, `connect`, `accept`, `poll`, `select`, `epoll_wait`; `sleep`,
//! `usleep`, `nanosleep`, `clock_nanosleep`; `getaddrinfo`; `waitpid`, `waitid`, `pthread_join`; `sendfile` and
//! `splice`. [`names`] lists them.
//!
//! Calls on files (`open`, `fsync`, `rename`, `flock`) are left as they are, but where [`files::offload`] is asked for.
//!
//! Locks are not, nor what parks a thread: a lock of std's that is held over a hooked wait, and asked for by another
//! coroutine of the same worker, stops that worker for good, as it would with any other wait of maniple's. So that this
//! does not pass in silence, [`install!`] has workers watched. See the chapter *Your drivers, unmodified* of the book.
//!
//! # Deadlines and cancellation
//!
//! They end a hooked call with the error `ETIMEDOUT` or `ECANCELED`, never `EINTR`, and nothing unwinds. A connection
//! whose call was cut is shut down, and so are those that it polled, as libpq does: the answer that was waited for may
//! come yet. The next to use it gets an error, and no pool hands it on. Sleeps and `pthread_join` are
//! not cut. A socket's own `SO_RCVTIMEO` and `SO_SNDTIMEO` end a call as in the kernel, and leave the connection as it
//! is.

#![deny(missing_docs)]

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("maniple-hook runs on Linux on x86-64 and aarch64 only");

mod caller;
mod children;
mod connection;
mod contents;
mod copying;
mod file_locks;
pub mod files;
mod guess;
#[cfg(not(any(target_env = "musl", target_feature = "crt-static")))]
mod names;
mod paths;
mod patience;
mod raw;
mod readiness;
mod symbols;
mod time;
mod transfer;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use maniple::inspect;

pub use symbols::{NotOurs, names, names_on_files};

/// Has coroutines of this process suspended by the calls of the C library that would block their workers.
///
/// [`install!`] does this, says more clearly what is wrong, and has workers watched. Called again, it changes
/// nothing.
///
/// # Errors
/// If the process calls others under some of the names. Nothing is hooked then.
pub fn install() -> Result<(), NotOurs> {
    if caller::is_on() {
        return Ok(());
    }
    symbols::check()?;
    #[cfg(not(any(target_env = "musl", target_feature = "crt-static")))]
    names::real();
    caller::turn_on();
    Ok(())
}

/// Hooks the calls of the C library, in this one line at the beginning of `main`, and has workers watched.
///
/// In a library it does not compile: its users' programs decide.
///
/// # The watch
/// Who keeps a worker for a second, as one does that waits for a lock of std's, is told of in the log, target
/// `maniple::stall`, as by [`watch_stalls`](maniple::inspect::watch_stalls). That takes a thread that looks four
/// times a second, and nothing of the workers. It stands back while there is a watch of the program's own, with
/// whatever limit, and while nobody hears of it: a logger has to be set that takes warnings. `install!(unwatched)` has
/// none. There is none, either, where no thread can be started, or the kernel lacks membarrier(2).
///
/// # Panics
/// If the process calls others under some of the names, with a message that says which.
///
/// # Examples
/// ```
/// maniple_hook::install!();
/// ```
#[macro_export]
macro_rules! install {
    () => {{
        $crate::install!(unwatched);
        $crate::watch();
    }};
    (unwatched) => {{
        const _: () = ::std::assert!(
            ::std::cfg!(test)
                || ::std::option_env!("CARGO_BIN_NAME").is_some()
                || !$crate::is_of_library(
                    ::std::module_path!(),
                    ::std::option_env!("CARGO_PKG_NAME")
                ),
            "maniple_hook::install! belongs into the `main` of a program"
        );
        if let ::std::result::Result::Err(not_ours) = $crate::install() {
            ::std::panic!("{not_ours}");
        }
    }};
}

/// Has workers watched, once in a process. For [`install!`] alone.
#[doc(hidden)]
pub fn watch() {
    static IS_ON: AtomicBool = AtomicBool::new(false);
    if !IS_ON.swap(true, Ordering::Relaxed) {
        // Where it cannot be, the program does without.
        _ = inspect::watch_stalls_unasked(Duration::from_secs(1));
    }
}

/// Whether code is the library's of a package: its crate has the package's name. For [`install!`] alone.
#[doc(hidden)]
pub const fn is_of_library(path: &str, package: Option<&str>) -> bool {
    let Some(package) = package else {
        return false;
    };
    let (path, package) = (path.as_bytes(), package.as_bytes());
    let mut at = 0;
    while at < package.len() {
        let expected = if package[at] == b'-' {
            b'_'
        } else {
            package[at]
        };
        if at >= path.len() || path[at] != expected {
            return false;
        }
        at += 1;
    }
    path.len() == at || path[at] == b':'
}

#[cfg(test)]
mod tests {
    use super::is_of_library;

    #[test]
    fn the_code_of_a_library_is_known_by_the_name_of_its_package() {
        assert!(is_of_library("my_service::start", Some("my-service")));
        assert!(is_of_library("my_service", Some("my-service")));
        assert!(!is_of_library("my_services", Some("my-service")));
        assert!(!is_of_library("rust_out", Some("my-service")));
        assert!(!is_of_library("my_service", None));
    }
}
