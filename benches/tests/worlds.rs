//! `worlds` as users run it.

use std::process::Command;

#[test]
fn each_world_and_each_test_has_a_figure() {
    let output = Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .args("worlds --rounds 1 --minutes 1 --messages 2000 --exchanges 10".split(' '))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    let rows = [
        "1000 ms",
        "100 ms",
        "1",
        "10",
        "100",
        "TCP, 10 exchanges",
        "HTTP, 10 exchanges",
        "HTTP, one exchange",
    ];
    for row in rows {
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with(&format!("| {row} ")));
        let line = line.unwrap_or_else(|| panic!("{row}: {text}"));
        let cell = line.split('|').nth(2).unwrap().trim();
        let figure: f64 = cell.split(' ').next().unwrap().parse().unwrap();
        assert!(figure > 0.0, "{line}");
    }
}
