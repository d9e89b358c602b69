//! The examples that are one file, as a user meets them: the built binary.

use std::net::TcpListener;
use std::process::Command;

#[test]
fn million_parks_and_ends_as_many_as_it_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_million"))
        .args(["--count", "2000"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(stdout.contains("2000 parked"), "{stdout}");
    assert!(stdout.contains("all ended"), "{stdout}");
}

#[test]
fn a_busy_port_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_netqueues"))
        .args(["--listen", &address])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(&address) && stderr.contains("in use"),
        "{stderr}"
    );
}
