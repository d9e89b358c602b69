//! Which part of a request an instruction belongs to: by the functions that it was inlined into.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt};

use anyhow::{Context, Result};

use crate::servers::kernel::Call;

/// A part of the work for a request, in the order in which a request meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Events,
    Switch,
    Socket,
    Parse,
    Route,
    Handler,
    Serialise,
    Connection,
    Clock,
    Libc,
    Other,
}

impl Part {
    pub(super) const ALL: [Self; 11] = [
        Self::Events,
        Self::Switch,
        Self::Socket,
        Self::Parse,
        Self::Route,
        Self::Handler,
        Self::Serialise,
        Self::Connection,
        Self::Clock,
        Self::Libc,
        Self::Other,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Events => "events: the driver around epoll",
            Self::Switch => "switch: waits, the scheduler, timers, stacks",
            Self::Socket => "socket: the ways to read and write",
            Self::Parse => "parse: head, framing, limits",
            Self::Route => "route",
            Self::Handler => "handler, and its result as a response",
            Self::Serialise => "serialise: head, date, body",
            Self::Connection => "bookkeeping: the connection's loop, buffers, drain",
            Self::Clock => "clock: readings and their arithmetic",
            Self::Libc => "C library: memory moved, clock read",
            Self::Other => "other",
        }
    }
}

/// A function, and the file that it is written in.
#[derive(Clone, Debug, Default)]
struct Frame {
    function: String,
    file: String,
}

/// The innermost frame that one of these names decides; the library's own code counts for its caller.
const RULES: [(&str, Part); 32] = [
    ("server/http/src/http1/head.rs", Part::Parse),
    ("server/http/src/http1/chunk.rs", Part::Parse),
    ("server/http/src/body.rs", Part::Parse),
    ("server/http/src/request.rs", Part::Parse),
    ("server/http/src/server/exchange.rs", Part::Parse),
    ("/httparse-", Part::Parse),
    ("/http-", Part::Parse),
    ("/memchr-", Part::Parse),
    ("server/http/src/router/handler.rs", Part::Handler),
    ("server/http/src/router/", Part::Route),
    ("/matchit-", Part::Route),
    ("benches/src/servers/maniple.rs", Part::Handler),
    ("server/http/src/response.rs", Part::Handler),
    ("server/http/src/http1/response.rs", Part::Serialise),
    ("server/http/src/server/date.rs", Part::Serialise),
    ("/httpdate-", Part::Serialise),
    ("/itoa-", Part::Serialise),
    ("server/http/src/", Part::Connection),
    ("runtime/src/driver/", Part::Events),
    ("/rustix-", Part::Socket),
    ("runtime/src/net/", Part::Socket),
    ("runtime/src/time.rs", Part::Clock),
    ("library/std/src/time.rs", Part::Clock),
    ("library/std/src/sys/pal/unix/time.rs", Part::Clock),
    ("library/std/src/sys/time/", Part::Clock),
    ("library/core/src/time.rs", Part::Clock),
    ("runtime/src/", Part::Switch),
    ("/corosensei-", Part::Switch),
    ("/crossbeam-", Part::Switch),
    ("std::time::", Part::Clock),
    ("maniple::", Part::Switch),
    ("maniple_server::", Part::Connection),
];

fn part_of(frames: &[Frame]) -> Part {
    let decided = frames.iter().find_map(|frame| {
        let named = |name: &str| frame.file.contains(name) || frame.function.contains(name);
        RULES.iter().find(|(name, _)| named(name))
    });
    decided.map_or(Part::Other, |&(_, part)| part)
}

/// The kind of system call that this code makes, if it were one. Names come without their modules.
fn call_of(frames: &[Frame]) -> Option<Call> {
    let within = |beginnings: &[&str]| {
        frames.iter().any(|frame| {
            frame.file.contains("/rustix-")
                && beginnings
                    .iter()
                    .any(|&beginning| frame.function.starts_with(beginning))
        })
    };
    match () {
        () if within(&["epoll_wait", "epoll_pwait"]) => Some(Call::Wait),
        () if within(&["recv", "read"]) => Some(Call::Read),
        () if within(&["send", "write"]) => Some(Call::Write),
        () => None,
    }
}

/// Instructions by part, and system calls by kind.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) instructions: BTreeMap<Part, f64>,
    pub(super) calls: BTreeMap<Call, f64>,
}

impl Parts {
    /// Of the instructions of this program, each with how often it ran.
    pub(super) fn of(each: impl IntoIterator<Item = (u64, f64)>) -> Result<Self> {
        let base = base()?;
        let memory = File::open("/proc/self/mem").context("looking at this program's code")?;
        let mut parts = Self::default();
        for (place, count) in each {
            let address = base + place;
            let frames = frames_at(address);
            *parts.instructions.entry(part_of(&frames)).or_default() += count;
            let mut bytes = SYSCALL;
            memory
                .read_exact_at(&mut bytes, address)
                .context("reading this program's code")?;
            if bytes == SYSCALL
                && let Some(call) = call_of(&frames)
            {
                *parts.calls.entry(call).or_default() += count;
            }
        }
        Ok(parts)
    }
}

/// The instruction that calls the kernel.
#[cfg(target_arch = "x86_64")]
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `svc 0`.
#[cfg(not(target_arch = "x86_64"))]
const SYSCALL: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];

/// The function at an address and those that it was inlined into, innermost first.
fn frames_at(address: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    // It looks in front of what it is given, which it takes for where a call returns to.
    backtrace::resolve((address + 1) as *mut _, |symbol| {
        let file = symbol
            .filename()
            .map(|file| file.to_string_lossy().into_owned());
        frames.push(Frame {
            function: symbol
                .name()
                .map(|name| name.to_string())
                .unwrap_or_default(),
            file: file.unwrap_or_default(),
        });
    });
    frames
}

/// Where this program's file begins in memory.
fn base() -> Result<u64> {
    let program = std::env::current_exe().context("finding this program")?;
    let maps = std::fs::read_to_string("/proc/self/maps").context("reading /proc/self/maps")?;
    maps.lines()
        .find(|line| line.ends_with(&*program.to_string_lossy()))
        .and_then(|line| u64::from_str_radix(line.split_once('-')?.0, 16).ok())
        .context("this program is not in /proc/self/maps")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(files: &[(&str, &str)]) -> Vec<Frame> {
        let frame = |&(function, file): &(&str, &str)| Frame {
            function: function.to_owned(),
            file: file.to_owned(),
        };
        files.iter().map(frame).collect()
    }

    #[test]
    fn the_librarys_code_counts_for_whom_it_is_inlined_into() {
        let inlined = frames(&[
            ("core::ptr::read", "/rustc/0/library/core/src/ptr/mod.rs"),
            ("parse", "server/http/src/http1/head.rs"),
            ("turn", "server/http/src/server/conn.rs"),
        ]);
        assert_eq!(part_of(&inlined), Part::Parse);
        assert_eq!(part_of(&inlined[2..]), Part::Connection);
        assert_eq!(part_of(&inlined[..1]), Part::Other);
    }

    #[test]
    fn calls_are_told_by_the_functions_that_make_them() {
        let made_by = |function| {
            call_of(&frames(&[
                ("syscall4", "/rustix-1/src/backend/linux_raw/arch/x86_64.rs"),
                (function, "/rustix-1/src/backend/linux_raw/net/syscalls.rs"),
                ("read_exact", "library/std/src/io/mod.rs"),
            ]))
        };
        assert_eq!(made_by("recv<u8>"), Some(Call::Read));
        assert_eq!(made_by("send"), Some(Call::Write));
        assert_eq!(made_by("epoll_wait"), Some(Call::Wait));
        assert_eq!(made_by("futex"), None);
    }

    #[test]
    fn this_programs_code_is_found_where_it_says() {
        let function: fn() -> Result<u64> = base;
        let names: Vec<_> = frames_at(function as usize as u64)
            .into_iter()
            .map(|frame| frame.function)
            .collect();
        assert!(names.iter().any(|name| name.contains("base")), "{names:?}");
        assert!((function as usize as u64) > base().unwrap());
    }
}
