//! Holds the sources against their map in ARCHITECTURE.md.

use maniple_tidy::Crate;

fn topics() -> Crate {
    Crate::read(env!("CARGO_MANIFEST_DIR"), "../..", "`server/topics/`")
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let complaints = topics().complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn files_say_what_lives_in_them() {
    for source in topics().sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}
