//! Go beside the others: left out or a row with its cause where there is no toolchain, and every contender where there is.

use std::process::Command;

/// What such a run prints; without a PATH there is no toolchain on it.
fn run(arguments: &str, has_path: bool) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maniple-bench"));
    command.args(arguments.split(' '));
    if !has_path {
        command.env("PATH", "");
    }
    let run = command.output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}\n{errors}");
    text
}

#[test]
fn without_a_toolchain_go_is_left_out_and_a_line_says_so() {
    let text = run("compare startup --rounds=1", false);
    assert!(
        text.contains("\ngo is left out: there is no go on the PATH\n"),
        "{text}"
    );
    assert!(!text.contains("\n| go "), "{text}");
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
        let text = run(arguments, false);
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
        let text = run(arguments, true);
        assert!(text.contains("\ngo1."), "{arguments}: {text}");
        for trouble in ["failed", "ended at", "left out"] {
            assert!(!text.contains(trouble), "{arguments}: {text}");
        }
    }
}
