//! `soak` as users run it, for a few seconds.

use std::process::Command;

fn soak(more: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .args(["soak", "--seconds", "20", "--clients", "36"])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    assert!(text.contains("verdict: sound"), "{text}");
    text.into_owned()
}

/// Kinds of conversations that have taken place.
fn kinds(text: &str) -> usize {
    let kinds = text.lines().filter_map(|line| {
        let (before, _) = line.strip_prefix("  ")?.split_once(": ")?;
        before.split_whitespace().nth(1)
    });
    kinds.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn a_server_is_sound_after_some_seconds_of_clients_that_do_wrong() {
    let text = soak(&[]);
    assert_eq!(kinds(&text), 22, "{text}");
}

#[test]
fn it_is_with_tls_other_certificates_and_processes_that_are_replaced() {
    let text = soak(&["--tls", "--restarts"]);
    assert_eq!(kinds(&text), 25, "{text}");
    assert!(text.contains("2 certificates seen"), "{text}");
}
