//! Holds the sources of the programs against their maps in ARCHITECTURE.md: the benches and the server models.
//!
//! Here rather than beside them, since a test there would build all their peers first.

use maniple_tidy::Crate;

fn complaints(folder: &str) -> Vec<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let up = "../".repeat(folder.matches('/').count() + 1);
    Crate::read(&format!("{root}/{folder}"), &up, &format!("`{folder}/`")).complaints()
}

#[test]
fn the_benches_import_as_their_map_says() {
    assert_eq!(complaints("benches"), [""; 0]);
}

#[test]
fn the_models_import_as_their_map_says() {
    assert_eq!(complaints("examples/models"), [""; 0]);
}
