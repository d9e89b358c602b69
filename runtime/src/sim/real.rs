//! What is real in a world: whether code there may have it, and a report of where it wanted to.

use std::{cell::RefCell, ffi::CStr, os::unix::ffi::OsStrExt, thread};

use super::{sweep, world::own_id};
use crate::{
    driver::sim,
    scheduler::on_coroutine,
    sys::trace::{Frame, Trace},
};

thread_local! {
    /// Those who may have what is real, by id.
    static ALLOWED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Lets `f` have what is real, in a world of a program with [`interpose!`](super::interpose): sockets, files and
/// threads of std and others, and child processes. Clocks stay the world's.
///
/// For what has no say in what happens there: a table that is read once, a file of what was seen. What differs from run
/// to run is the caller's to keep away from the rest, or the same seed is another trace. It is for the caller alone: to
/// other coroutines all that stays denied while `f` waits. Elsewhere this calls `f`.
///
/// # Examples
/// ```
/// use maniple::sim;
///
/// sim::interpose!();
///
/// # fn main() {
/// sim::check(0..2, |_| {
///     let table = sim::real(|| std::fs::read("Cargo.toml")).unwrap();
///     assert!(!table.is_empty());
/// });
/// let failure = sim::run(7, |_| drop(std::fs::read("Cargo.toml"))).unwrap_err();
/// assert!(failure.what().contains("the file Cargo.toml is real"));
/// # }
/// ```
pub fn real<R>(f: impl FnOnce() -> R) -> R {
    struct Allowed(u64);
    impl Drop for Allowed {
        fn drop(&mut self) {
            ALLOWED.with_borrow_mut(|all| {
                if let Some(at) = all.iter().rposition(|id| *id == self.0) {
                    all.swap_remove(at);
                }
            });
        }
    }
    let id = own_id();
    ALLOWED.with_borrow_mut(|all| all.push(id));
    let _allowed = Allowed(id);
    f()
}

/// Whether a coroutine of a world calls, and may not have this. Then its seed has failed.
#[doc(hidden)]
pub fn denies(call: &'static str, what: &str) -> bool {
    let denied = is_denied();
    if denied {
        report(call, what);
    }
    denied
}

/// The same of a file, to be opened with these flags. Of none the kernel has something to say.
#[doc(hidden)]
pub fn denies_file(call: &'static str, path: Option<&CStr>, flags: libc::c_int) -> bool {
    let Some(path) = path.map(CStr::to_bytes) else {
        return false;
    };
    let denied = is_denied() && !is_for_all(path, flags);
    if denied {
        report(call, &format!("the file {}", path.escape_ascii()));
    }
    denied
}

/// Allocators and destructors of thread-locals call as well, so nothing here takes for granted that it is there.
fn is_denied() -> bool {
    if !sim::is_any() || sim::current().is_none() {
        return false;
    }
    let Some(id) = on_coroutine(|task| task.map(|task| task.origin.id)) else {
        return false;
    };
    let allowed = ALLOWED.try_with(|all| all.try_borrow().map_or(true, |all| all.contains(&id)));
    !allowed.unwrap_or(true)
}

/// Whether it is not of any disk, or what std reads to say where a panic was.
fn is_for_all(path: &[u8], flags: libc::c_int) -> bool {
    let begins = |with: &[&str]| with.iter().any(|with| path.starts_with(with.as_bytes()));
    let ends = |with: &[&str]| with.iter().any(|with| path.ends_with(with.as_bytes()));
    if begins(&["/dev/", "/proc/", "/sys/"]) {
        return true;
    }
    let is_read = flags & libc::O_ACCMODE == libc::O_RDONLY;
    let is_own = || {
        std::env::current_exe().is_ok_and(|own| own.as_os_str().as_bytes() == path)
            || path.windows(3).any(|part| part == b".so")
    };
    is_read && (begins(&["/usr/lib/debug/"]) || ends(&[".debug", ".dwo", ".dwp"]) || is_own())
}

#[cold]
fn report(call: &'static str, what: &str) {
    let mut trace = Trace::with_room(MOST_FRAMES);
    backtrace::trace(|frame| match frame.ip().addr() {
        0 => false,
        address => trace.add(address),
    });
    // Names take more stack than a coroutine may have.
    let named = real(|| thread::Builder::new().spawn(move || trace.frames()));
    let frames = named.ok().and_then(|named| named.join().ok());
    let frames = frames.unwrap_or_default();
    sweep::fail_here(format!(
        "{what} is real and this is a simulated world, which has none; it was wanted, by {call} of the C library,{}",
        places(&frames, call)
    ));
}

/// Frames of a trace; further out are the runtime's own.
const MOST_FRAMES: usize = 64;

/// Places that are told of.
const MOST_PLACES: usize = 5;

/// Where the call came from, innermost first, without what is std's or ours.
fn places(frames: &[Frame], call: &str) -> String {
    let called = frames.iter().position(|frame| frame.function == call);
    let callers = &frames[called.map_or(0, |at| at + 1)..];
    let places: Vec<String> = callers
        .iter()
        .filter_map(|frame| Some((frame, frame.file.as_deref()?, frame.line?)))
        .filter(|(_, file, _)| !is_std(file) && !is_ours(file))
        .take(MOST_PLACES)
        .map(|(frame, file, line)| format!("\n  at {file}:{line}, in {}", frame.function))
        .collect();
    match places.is_empty() {
        true => " at a place of which the program has no lines".to_owned(),
        false => places.concat(),
    }
}

/// Whether it is a file of the standard library, or of what that is built with.
fn is_std(file: &str) -> bool {
    let inside = [
        "/library/std/",
        "/library/core/",
        "/library/alloc/",
        "/library/backtrace/",
    ];
    file.starts_with("/rustc/")
        || file.starts_with("/rust/deps/")
        || inside.iter().any(|part| file.contains(part))
}

/// Whether it is a file of this crate, or of the switch between stacks that it is on.
fn is_ours(file: &str) -> bool {
    let own = file!().trim_end_matches("sim/real.rs");
    file.contains(own) || file.contains("/corosensei-")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn backtraces_and_what_is_of_no_disk_are_for_all() {
        let read = libc::O_RDONLY;
        let own = std::env::current_exe().unwrap();
        for path in [
            own.to_str().unwrap(),
            "/proc/self/maps",
            "/dev/urandom",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib/debug/.build-id/ab/cd.debug",
            "/sys/fs/cgroup/cpu.max",
        ] {
            assert!(is_for_all(path.as_bytes(), read), "{path}");
        }
        assert!(is_for_all(b"/dev/null", libc::O_RDWR));
        assert!(!is_for_all(b"/lib/libc.so.6", libc::O_RDWR));
        for path in ["Cargo.toml", "/etc/hosts", "/tmp/proc/self", ""] {
            assert!(!is_for_all(path.as_bytes(), read), "{path}");
        }
    }

    #[test]
    fn places_are_those_of_the_callers_own_code() {
        let frame = |function: &str, file: &str, line| Frame {
            function: function.to_owned(),
            file: Some(file.to_owned()),
            line: Some(line),
        };
        let frames = [
            frame("backtrace::trace", "/registry/backtrace/src/lib.rs", 3),
            frame("open64", "tests/real.rs", 9),
            frame("std::fs::File::open", "/rustc/0/library/std/src/fs.rs", 8),
            frame("service::load", "src/service.rs", 7),
            frame("run<service>", &format!("/root/{}", file!()), 6),
        ];
        assert_eq!(
            places(&frames, "open64"),
            "\n  at src/service.rs:7, in service::load"
        );
        assert!(places(&[], "open64").contains("no lines"));
    }
}
