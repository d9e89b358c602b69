//! Go beside the others: left out or a row with its cause where there is no toolchain, and every contender where there is.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What such a run prints, with this `PATH` or the test's own.
fn run(arguments: &str, path: Option<&str>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maniple-bench"));
    command.args(arguments.split(' '));
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let run = command.output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}\n{errors}");
    text
}

/// A folder for a `PATH`, with a toolchain that tells this version and builds nothing.
fn toolchain(version: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("go-{version}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let script =
        format!("#!/bin/sh\n[ $1 = version ] && echo go version go{version} linux/amd64\n");
    fs::write(folder.join("go"), script).unwrap();
    fs::set_permissions(folder.join("go"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Go has no row, and one line says why.
fn is_left_out(text: &str, cause: &str) {
    let line = format!("\ngo is left out: {cause}\n");
    assert_eq!(text.matches(&line).count(), 1, "{text}");
    assert!(!text.contains("\n| go "), "{text}");
    assert!(!text.contains("failed"), "{text}");
}

#[test]
fn without_a_toolchain_go_is_left_out_and_a_line_says_so() {
    let text = run("compare startup --rounds=1", Some(""));
    is_left_out(&text, "there is no go on the PATH");
}

#[test]
fn with_a_toolchain_that_is_too_old_go_is_left_out_and_a_line_says_so() {
    let old = toolchain("1.22.0");
    let path = old.to_str();
    let cause = "go1.22.0 is too old, 1.25 or later is needed";
    is_left_out(&run("compare startup --rounds=1", path), cause);
    // Two tables, one line.
    let both = "compare http --connections=2,4 --pipeline-connections=0 --seconds=0.02 --rounds=1";
    is_left_out(&run(both, path), cause);
    let text = run("compare startup --only=go,epoll --rounds=1", path);
    assert!(text.contains(&format!("go failed: {cause}")), "{text}");
}

#[test]
fn without_a_toolchain_who_asks_for_go_gets_the_cause() {
    let cause = "there is no go on the PATH";
    let fanout = "compare fanout --only=go,epoll --leaders=2 --seconds=0.05 --rounds=1";
    let micro = "micro --engines=go,limit --only=ping-pong --workers=1 --rounds=1";
    let stacks = "capacity stacks --engine=go,tokio --count=10 --touch=1";
    for (arguments, row, note) in [
        (fanout, "| go ", "go failed: "),
        (micro, "| ping-pong ", "ping-pong on go failed: "),
        (stacks, "| go ", "go, 1 page: ended at 0: "),
    ] {
        let text = run(arguments, Some(""));
        assert!(text.contains(row), "{text}");
        assert!(text.contains(&format!("{note}{cause}")), "{text}");
    }
}

#[test]
#[ignore = "needs Go's toolchain, which takes a minute for the first build"]
fn with_a_toolchain_go_takes_part_in_everything() {
    for arguments in [
        "compare http --only=go --connections=4 --pipeline-connections=2 --seconds=0.1 --rounds=1",
        "compare latency --only=go --connections=4 --seconds=0.1 --peak-seconds=0.1 --rounds=1",
        "compare skew --only=go --seconds=0.2 --rounds=1",
        "compare startup --only=go --rounds=1",
        "compare fanout --only=go,go-join --leaders=4 --seconds=0.1 --rounds=1",
        "micro --engines=go --workers=2 --rounds=1",
        "capacity stacks --engine=go --count=1000",
        "capacity connections --server=go --count=16 --hold=0.1",
    ] {
        let text = run(arguments, None);
        assert!(text.contains("\ngo1."), "{arguments}: {text}");
        for trouble in ["failed", "ended at", "left out"] {
            assert!(!text.contains(trouble), "{arguments}: {text}");
        }
    }
}
