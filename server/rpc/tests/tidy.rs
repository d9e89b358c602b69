//! Holds the sources against their map in ARCHITECTURE.md.

use maniple_tidy::Crate;

fn rpc() -> Crate {
    Crate::read(env!("CARGO_MANIFEST_DIR"), "../..", "`server/rpc/`")
}

#[test]
fn files_import_as_the_map_says_and_in_no_circle() {
    let complaints = rpc().complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn files_say_what_lives_in_them() {
    for source in rpc().sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}
