//! The calls that std waits in, by its symbols: std moves.

use std::process::Command;

/// Calls of the C library that may wait for somebody.
const WAITING: &[&str] = &[
    "accept",
    "accept4",
    "clock_nanosleep",
    "close",
    "connect",
    "copy_file_range",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "fcntl",
    "fdatasync",
    "flock",
    "fsync",
    "futex",
    "getaddrinfo",
    "gethostbyname",
    "ioctl",
    "msgrcv",
    "nanosleep",
    "open",
    "open64",
    "openat64",
    "pause",
    "poll",
    "ppoll",
    "pread",
    "pread64",
    "preadv",
    "pselect",
    "pthread_cond_timedwait",
    "pthread_cond_wait",
    "pthread_join",
    "pthread_mutex_lock",
    "pthread_rwlock_rdlock",
    "pthread_rwlock_wrlock",
    "pwrite64",
    "pwritev",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "select",
    "sem_wait",
    "send",
    "sendfile",
    "sendfile64",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "sigwait",
    "sigwaitinfo",
    "sleep",
    "splice",
    "syscall",
    "tee",
    "usleep",
    "vmsplice",
    "wait",
    "wait4",
    "waitid",
    "waitpid",
    "write",
    "writev",
];

/// Those that std calls, and that are left as they are.
const LEFT: &[(&str, &str)] = &[
    ("close", "waits for a socket that lingers alone"),
    (
        "fcntl",
        "waits for a lock of a file, which std never asks for by it",
    ),
    ("ioctl", "sets flags and asks for lengths"),
    ("pause", "is not called by what returns"),
    (
        "syscall",
        "is how std parks a thread, whose word is the thread's",
    ),
    ("copy_file_range", "is of files"),
    ("fdatasync", "is of files"),
    ("flock", "is of files"),
    ("fsync", "is of files"),
    ("open64", "is of files"),
    ("openat64", "is of files"),
    ("pread64", "is of files"),
    ("preadv", "is of files"),
    ("pwrite64", "is of files"),
    ("pwritev", "is of files"),
];

#[test]
fn every_call_that_std_waits_in_is_hooked_or_known_to_be_left() {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let root = run(
        &std::env::var("RUSTC").unwrap_or("rustc".into()),
        &["--print", "sysroot"],
    );
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = format!("{}/lib/rustlib/{target}/lib", root.trim());
    let mut files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_std = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("libstd-") && name.ends_with(".so")
    };
    let std = files.find(is_std).expect("std as a shared library");
    let symbols = run("nm", &["-D", "--undefined-only", std.to_str().unwrap()]);
    let called = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let called: Vec<_> = called.map(|name| name.split('@').next().unwrap()).collect();
    assert!(called.contains(&"malloc"), "the symbols are read");
    let hooked = maniple_hook::names();
    for name in WAITING.iter().filter(|name| called.contains(name)) {
        let is_left = LEFT.iter().any(|(left, _)| left == name);
        assert!(
            hooked.contains(name) != is_left,
            "{name}: hooked, or left for a reason"
        );
    }
    for (left, _) in LEFT {
        assert!(called.contains(left), "std does not call {left} any more");
    }
}
