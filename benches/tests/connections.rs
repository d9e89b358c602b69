//! `capacity connections` as its users run it: a few hundred real connections, and refusals.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_maniple-bench");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["capacity", "connections"]).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn two_hundred_connections_are_held_served_and_closed() {
    // Of this run alone: another may go on beside it.
    let name = format!("connections-{}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let json = folder.join("connections.json");
    let output = run(&[
        "--count=201",
        "--processes=2",
        "--server=maniple,may",
        "--hold=0.05",
        "--trickle=2000",
        &format!("--json={}", json.display()),
        &format!("--plot={}", folder.display()),
    ]);
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    assert!(
        table.contains("2 processes on either side, of up to 101 each"),
        "{table}"
    );

    let drawing = std::fs::read_to_string(folder.join("connections.svg")).unwrap();
    assert!(drawing.contains("may_minihttp"), "{drawing}");
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let attempts = report["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{table}");
    for (attempt, server) in attempts.iter().zip(["maniple", "may_minihttp"]) {
        assert_eq!(attempt["server"], server);
        assert_eq!(attempt["connections"], 201);
        assert!(table.contains(&format!("| {server}")), "{table}");
        let figures = &attempt["survived"];
        let number = |name: &str| {
            figures[name]
                .as_f64()
                .unwrap_or_else(|| panic!("{server}: no {name}: {attempt}"))
        };
        assert!(
            number("requests") + number("skipped") >= 2000.0,
            "{attempt}"
        );
        assert!(number("server_cpu_seconds") > 0.0);
        assert!(
            number("trickle_seconds") > 0.9,
            "a rate that was exceeded: {attempt}"
        );
        assert!(0.0 < number("p50_us") && number("p50_us") <= number("max_us"));
        let curve = figures["curve"].as_array().unwrap();
        assert_eq!(curve.last().unwrap()["connections"], 201);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_descriptor_limit_that_leaves_nothing_is_one_line() {
    let script = format!("ulimit -n 32 && exec {PROGRAM} capacity connections --count=10");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("RLIMIT_NOFILE is 32"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    for (argument, cause) in [
        ("--count=0", "'0'"),
        ("--server=nginx", "'nginx'"),
        ("--trickle=0", "from 1"),
        ("--hold=-1", "from 0"),
        ("--hold=soon", "not a number"),
        ("--processes=0", "'0'"),
    ] {
        let output = run(&[argument]);
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{argument}");
        assert!(error.contains(cause), "{argument}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
