//! `scale` as users run it: a parent, its children, and the tables that come out.

use std::{
    fs,
    process::{Command, Output},
};

fn bench(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_maniple-bench"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_operation_has_a_figure_for_every_engine() {
    let folder = std::env::temp_dir().join(format!("maniple-scale-{}", std::process::id()));
    let command = format!(
        "scale --from 5 --to 10 --rounds 1 --plot {}",
        folder.display()
    );
    let text = printed(&bench(&command));
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| 10 "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 5, "{text}");
    for cell in rows.iter().flat_map(|row| &row[1..]) {
        let nanos: f64 = cell
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap_or_else(|_| panic!("{text}"));
        assert!(nanos > 0.0, "{text}");
    }
    let svg = fs::read_to_string(folder.join("scale.svg")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    for part in [
        "CPU ns per yield",
        "CPU ns per request over loopback",
        "tokio",
    ] {
        assert!(svg.contains(part), "{part}");
    }
}

#[test]
fn a_point_prints_its_figures() {
    let text = printed(&bench("scale-point maniple timer-cancel 50"));
    let figures: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(figures["cpu_nanos"].as_f64().unwrap() > 0.0, "{text}");
}

#[test]
fn a_range_that_is_empty_is_refused() {
    let output = bench("scale --from 1000 --to 10");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("--from 1000 is more than --to 10"),
        "{error}"
    );
}
