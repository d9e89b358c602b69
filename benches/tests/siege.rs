//! `siege` as users run it, small and short.

use std::process::Command;

#[test]
fn a_server_serves_others_beside_clients_that_idle_dawdle_and_reset() {
    let output = Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .args(["siege", "--connections", "200", "--seconds", "3"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    assert!(text.contains("verdict: sound"), "{text}");
    let connected = text.lines().find_map(|line| {
        let (count, _) = line.split_once(" connected, ")?;
        count.parse::<u32>().ok()
    });
    // Each came, and those that reset came again.
    assert!(connected.is_some_and(|count| count > 200), "{text}");
}
