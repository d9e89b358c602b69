//! Holds the sources against their map in ARCHITECTURE.md, and against what readers rely on.

use std::{fs, path::Path};

use maniple_tidy::Crate;

fn supervise() -> Crate {
    Crate::read(env!("CARGO_MANIFEST_DIR"), "../..", "`server/supervise/`")
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let complaints = supervise().complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn a_supervisor_knows_no_protocol() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let needed = manifest.split("[dev-dependencies]").next().unwrap();
    for unwanted in ["http", "maniple-server", "maniple-parts"] {
        let mut lines = needed.lines();
        assert!(!lines.any(|line| line.starts_with(unwanted)), "{unwanted}");
    }
}

#[test]
fn the_plan_starts_and_ends_nothing_itself() {
    for source in supervise().sources() {
        if source.name == "plan" || source.name == "message" {
            let code = source.code();
            for unwanted in ["std::io", "std::process", "std::net", "maniple::", "rustix"] {
                assert!(!code.contains(unwanted), "{}.rs: {unwanted}", source.name);
            }
        }
    }
}

#[test]
fn files_say_what_lives_in_them() {
    for source in supervise().sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}
