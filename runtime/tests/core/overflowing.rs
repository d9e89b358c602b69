//! A stack overflow names its coroutine; other faults go where they went before.

use std::process::{Command, Output};

fn child(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap()
}

#[test]
#[ignore = "overflows its stack; run by the test below"]
fn overflow_child() {
    #[allow(unconditional_recursion)]
    fn dig(depth: u64) -> u64 {
        std::hint::black_box(dig(std::hint::black_box(depth) + 1) + 1)
    }
    maniple::run(|| {
        let deep = maniple::Builder::new().name("digger").stack_size(64 << 10);
        deep.spawn(|| dig(0)).unwrap().join().unwrap();
    });
}

#[test]
fn an_overflow_names_the_coroutine_and_aborts() {
    use std::os::unix::process::ExitStatusExt;
    let output = child("overflowing::overflow_child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "SIGABRT: {text}");
    for part in [
        "stack overflow",
        "digger",
        "overflowing.rs:",
        "64 KiB",
        "stack_size",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
#[ignore = "dies of a null pointer; run by the test below"]
fn null_pointer_child() {
    maniple::run(|| {
        // SAFETY: none; the fault is what is tested.
        let fault = unsafe { std::ptr::null::<u64>().wrapping_add(1).read_volatile() };
        std::hint::black_box(fault);
    });
}

#[test]
fn another_fault_dies_as_it_would_have() {
    use std::os::unix::process::ExitStatusExt;
    let output = child("overflowing::null_pointer_child");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(11), "SIGSEGV: {text}");
    assert!(!text.contains("stack overflow"), "{text}");
}
