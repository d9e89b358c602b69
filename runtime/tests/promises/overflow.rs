//! What a fault on a coroutine's stack leads to: a report that names the coroutine for an overflow, and for any
//! other fault whatever would have happened without the runtime.
//!
//! Each case dies in a process of its own: the ignored tests here are those children.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use super::child;

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

fn dies(test: &str) -> (ExitStatus, String) {
    let output = child(&format!("overflow::{test}"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status, text)
}

/// Each frame holds a page, so that debug and optimised builds overflow alike.
#[inline(never)]
fn dig(depth: u64) -> u64 {
    let mut frame = std::hint::black_box([depth; 64]);
    if depth < u64::MAX {
        frame[0] += dig(depth + 1);
    }
    std::hint::black_box(frame)[0]
}

fn fault() {
    // SAFETY: none: the fault is what is tested.
    let read = unsafe { std::ptr::null::<u64>().wrapping_add(1).read_volatile() };
    std::hint::black_box(read);
}

const SPAWN_LINE: u32 = line!() + 9;

#[test]
#[ignore = "overflows its stack: a child of the tests below"]
fn overflowing_child() {
    maniple::run(|| {
        let deep = maniple::task::Builder::new()
            .name("digger")
            .stack_size(256 << 10);
        let digger = deep.spawn(|| dig(0)).unwrap();
        drop(digger.join());
    });
}

#[test]
#[ignore = "overflows the stack of a connection: a child of the test below"]
fn overflowing_in_a_connection_child() {
    maniple::run(|| {
        let peer = "[2001:db8::1]:4711".parse().unwrap();
        let serving = maniple::task::Builder::new().connection_from(peer);
        drop(serving.spawn(|| dig(0)).unwrap().join());
    });
}

#[test]
#[ignore = "overflows the stack of a group's child: a child of the test below"]
fn overflowing_in_a_group_child() {
    maniple::run(|| {
        let depth = 0;
        let _: Result<u64, maniple::JoinError> =
            maniple::group(|g| g.spawn_named("borrower", || dig(depth)).join());
    });
}

#[test]
#[ignore = "overflows a stack of two workers: a child of the test below"]
fn overflowing_on_every_worker_child() {
    let runtime = maniple::Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        for digger in maniple::task::spawn_on_workers(|_| dig(0)) {
            drop(digger.join());
        }
    });
}

#[test]
#[ignore = "dies of a null pointer: a child of the test below"]
fn faulting_child() {
    maniple::run(|| maniple::spawn(fault).join().unwrap());
}

#[test]
#[ignore = "dies in its own handler: a child of the test below"]
fn faulting_under_a_handler_child() {
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: both are async-signal-safe, and the bytes are a constant's.
        unsafe {
            let text = b"the earlier handler ran\n";
            libc::write(2, text.as_ptr().cast(), text.len());
            libc::_exit(42);
        }
    }
    // SAFETY: the handler calls async-signal-safe functions alone, on the alternate stack.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
    }
    maniple::run(|| maniple::spawn(fault).join().unwrap());
}

#[test]
fn an_overflow_says_who_where_how_large_and_what_to_do_and_aborts() {
    let (status, text) = dies("overflowing_child");
    assert_eq!(status.signal(), Some(SIGABRT), "{text}");
    let place = format!("overflow.rs:{SPAWN_LINE}:");
    for part in [
        "stack overflow",
        "digger",
        place.as_str(),
        "256 KiB",
        "stack_size",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn an_overflow_says_whose_connection_it_was() {
    let (status, text) = dies("overflowing_in_a_connection_child");
    assert_eq!(status.signal(), Some(SIGABRT), "{text}");
    assert!(
        text.contains("'connection from [2001:db8::1]:4711' (id "),
        "{text}"
    );
}

#[test]
fn an_overflow_in_a_groups_child_names_the_child() {
    let (status, text) = dies("overflowing_in_a_group_child");
    assert_eq!(status.signal(), Some(SIGABRT), "{text}");
    assert!(
        text.contains("stack overflow") && text.contains("borrower"),
        "{text}"
    );
}

#[test]
fn overflows_on_two_workers_at_once_still_abort() {
    let (status, text) = dies("overflowing_on_every_worker_child");
    assert_eq!(status.signal(), Some(SIGABRT), "{text}");
    assert!(text.contains("stack overflow"), "{text}");
}

#[test]
fn a_null_pointer_is_no_overflow_and_dies_by_its_own_signal() {
    let (status, text) = dies("faulting_child");
    assert_eq!(status.signal(), Some(SIGSEGV), "{text}");
    assert!(!text.contains("stack overflow"), "{text}");
}

#[test]
fn a_handler_that_was_there_before_the_runtime_gets_other_faults() {
    let (status, text) = dies("faulting_under_a_handler_child");
    assert_eq!(status.code(), Some(42), "{text}");
    assert!(text.contains("the earlier handler ran"), "{text}");
}
