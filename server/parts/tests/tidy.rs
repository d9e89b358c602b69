//! Holds the sources against their map in ARCHITECTURE.md, and against what readers rely on.

use std::{fs, path::Path};

use maniple_tidy::Crate;

fn parts() -> Crate {
    Crate::read(env!("CARGO_MANIFEST_DIR"), "../..", "`server/parts/`")
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let complaints = parts().complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn parts_know_no_http() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    for unwanted in ["http", "maniple-server"] {
        let mut lines = manifest.lines();
        assert!(!lines.any(|line| line.starts_with(unwanted)), "{unwanted}");
    }
}

#[test]
fn files_say_what_lives_in_them() {
    for source in parts().sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}
