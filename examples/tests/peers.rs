//! The scenes of `peers`, each checked twice: by itself, for its order, and here for what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

#[test]
fn a_second_instance_says_who_is_first() {
    let says = play("guard");
    let first = between(&says, "process ", " listens on");
    assert!(
        says.contains("a second one ends with exit status: 1"),
        "{says}"
    );
    assert!(
        says.contains(&format!("is in use: process {first} (peers)")),
        "{says}"
    );
    assert!(
        says.contains("a successor without SO_REUSEADDR: Address already in use"),
        "{says}"
    );
    assert!(says.contains("at once"), "{says}");
    assert!(says.contains("no lock at all"), "{says}");
}

#[test]
fn a_killed_process_is_seen_and_a_stopped_one_is_not() {
    let says = play("death");
    assert!(
        says.contains("it is stopped: a write still succeeds"),
        "{says}"
    );
    assert!(
        says.contains("the connection that was idle: closed (EOF) after"),
        "{says}"
    );
    assert!(
        says.contains("the connection with unread bytes: reset (RST) after"),
        "{says}"
    );
    assert!(
        says.contains("the connection not yet accepted: reset (RST) after"),
        "{says}"
    );
    assert!(says.contains("a new connection: refused"), "{says}");
}

#[test]
fn a_client_waits_for_its_server_and_finds_the_next() {
    let says = play("order");
    let servers = all_between(&says, "process ", " begins to serve");
    let connected = all_between(&says, "connected to process ", " at attempt");
    assert_eq!(servers.len(), 2, "{says}");
    assert_eq!(connected, servers, "{says}");
    assert!(says.matches("Connection refused").count() >= 6, "{says}");
    assert!(says.contains("connected to itself"), "{says}");
}

#[test]
fn a_stopped_process_is_found_by_its_silence_and_not_by_keepalive() {
    let says = play("beats");
    let connected = all_between(&says, "connected to process ", " at attempt");
    // More than two if a busy machine made it seem stopped before it was.
    assert!(connected.len() >= 2, "{says}");
    assert!(
        says.contains(&format!("lost process {}: silent for 500ms", connected[0])),
        "{says}"
    );
    assert!(says.contains("connected, but not greeted"), "{says}");
    assert!(says.contains("the kernel has answered a probe"), "{says}");
}

#[test]
fn long_connections_save_handshakes_and_stay_where_they_are() {
    let says = play("long");
    assert!(
        says.contains("handshakes 1, sockets left in TIME-WAIT 1\n"),
        "{says}"
    );
    assert!(says.contains("handshakes 200, "), "{says}");
    assert!(
        says.contains("congestion window of a new connection: "),
        "{says}"
    );
    let shares = all_between(&says, "it answers ", " of 200");
    assert_eq!(shares.len(), 2, "{says}");
    assert_eq!(shares[0], "0", "{says}");
    assert!((1..200).contains(&shares[1].parse().unwrap()), "{says}");
}

#[test]
fn a_holder_that_is_no_instance_of_this_program_is_named_too() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--listen", &address]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), stderr.lines().count()),
        (Some(1), 1),
        "{stderr}"
    );
    let holder = format!("{address} is in use: process {} ", std::process::id());
    assert!(stderr.contains(&holder), "{stderr}");
}

#[test]
fn what_was_not_sent_whole_is_not_answered() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut says = BufReader::new(server.stdout.take().unwrap());
    says.read_line(&mut first).unwrap();
    let address = first.trim_end().rsplit(' ').next().unwrap();
    for cut in [
        "take 18446744073709551615\nonly this",
        "take 4\nabc",
        "ping",
        "ping 7",
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(cut.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(
            answers.lines().count(),
            1,
            "more than a greeting for {cut:?}: {answers}"
        );
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

fn play(scene: &str) -> String {
    let output = run(&["--demo", "--scene", scene]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(arguments)
        .output()
        .unwrap()
}

fn between<'a>(says: &'a str, before: &str, after: &str) -> &'a str {
    all_between(says, before, after)[0]
}

/// In each line that has both, what stands between them.
fn all_between<'a>(says: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    says.lines()
        .filter_map(|line| line.split_once(before)?.1.split_once(after))
        .map(|(between, _)| between)
        .collect()
}
