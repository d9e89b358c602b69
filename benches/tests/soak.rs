//! `soak` as users run it, for a few seconds.

use std::process::Command;

#[test]
fn a_server_is_sound_after_some_seconds_of_clients_that_do_wrong() {
    let output = Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .args(["soak", "--seconds", "20", "--clients", "36"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    assert!(text.contains("verdict: sound"), "{text}");
    // Each kind of conversation has taken place.
    let kinds = text
        .lines()
        .filter(|line| line.contains(": ") && line.starts_with("  "));
    assert!(kinds.count() >= 18, "{text}");
}
