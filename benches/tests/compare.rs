//! Short runs of whole comparisons: every contender starts, serves what it is asked for, and has a row.

use std::{fs, process::Command};

/// The output and the JSON of a comparison in which nothing failed.
fn compare(name: &str, arguments: &[&str]) -> (String, String) {
    let file = std::env::temp_dir().join(format!("{name}-{}.json", std::process::id()));
    let run = Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .args(["compare", name, "--rounds=1"])
        .args(arguments)
        // Without Go, whatever this machine has.
        .env("PATH", "")
        .arg(format!("--json={}", file.display()))
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}\n{errors}");
    assert!(!text.contains(" failed: "), "{text}");
    let json = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    (text, json)
}

#[test]
fn skew_measures_each_server_in_each_case() {
    let (text, json) = compare("skew", &["--seconds=0.1", "--warm-up=0.05"]);
    for server in ["maniple", "may_minihttp", "hyper", "threads"] {
        let rows = text.matches(&format!("\n| {server} ")).count();
        assert_eq!(rows, 3, "{server}: {text}");
    }
    // A thread serves its own connection and no other.
    let alone = "threads: the most frequent thread, or goroutine, served 1 (1..1) connections";
    assert!(text.contains(alone), "{text}");
    assert_eq!(json.matches("\"seen\":").count(), 12);
}

#[test]
fn latency_measures_each_server_at_both_rates() {
    let (text, json) = compare(
        "latency",
        &[
            "--only=maniple,threads,epoll",
            "--connections=4",
            "--load=0.2",
            "--seconds=0.1",
            "--warm-up=0.05",
            "--peak-seconds=0.1",
        ],
    );
    for server in ["maniple", "threads", "epoll"] {
        let rows = text.matches(&format!("\n| {server} ")).count();
        assert_eq!(rows, 2, "{server}: {text}");
    }
    assert!(text.contains("20 % of each server's own peak"), "{text}");
    assert_eq!(json.matches("\"seen\":").count(), 6);
}

#[test]
fn startup_measures_each_server() {
    let (text, json) = compare("startup", &[]);
    for server in [
        "maniple",
        "may_minihttp",
        "hyper",
        "axum",
        "threads",
        "epoll",
    ] {
        let rows = text.matches(&format!("\n| {server} ")).count();
        assert_eq!(rows, 1, "{server}: {text}");
    }
    assert_eq!(json.matches("\"seen\":").count(), 6);
}

#[test]
fn streams_measures_each_server() {
    let (text, json) = compare(
        "streams",
        &[
            "--websockets=4",
            "--subscribers=8",
            "--period-ms=10",
            "--seconds=0.2",
            "--warm-up=0.1",
        ],
    );
    for server in [
        "maniple-websocket",
        "tungstenite-on-maniple",
        "tokio-tungstenite",
        "epoll-websocket",
        "maniple-events",
        "axum-events",
        "epoll-events",
    ] {
        let rows = text.matches(&format!("\n| {server} ")).count();
        assert_eq!(rows, 1, "{server}: {text}");
    }
    assert_eq!(json.matches("\"seen\":").count(), 7);
}

#[test]
fn client_measures_each_client_and_what_an_idle_connection_takes() {
    let short = ["--seconds=0.1", "--callers=4", "--idle=20"];
    let (text, json) = compare("client", &short);
    for client in [
        "maniple",
        "hyper",
        "hyper-connections",
        "reqwest",
        "ureq",
        "ureq-on-maniple",
    ] {
        let rows = text.matches(&format!("\n| {client} ")).count();
        assert_eq!(rows, 1, "{client}: {text}");
    }
    for pooled in ["maniple", "hyper", "reqwest"] {
        let line = format!("\n{pooled}: an idle connection takes ");
        assert!(text.contains(&line), "{text}");
    }
    assert_eq!(json.matches("\"seen\":").count(), 6);
}
