//! The table of drivers in the book, held against what is tried here.

use std::{fs, path::Path};

#[path = "../examples/table.rs"]
mod table;

#[test]
fn the_books_table_is_what_was_tried() {
    let chapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/src/drivers.md");
    let chapter = fs::read_to_string(chapter).unwrap();
    let table = table::table();
    for line in table.lines() {
        assert!(
            chapter.lines().any(|other| claim(other) == claim(line)),
            "the book has it otherwise, `cargo run --example table` has it right: {line}"
        );
    }
    let named = table.lines().count();
    let rows = chapter
        .lines()
        .skip_while(|line| !line.starts_with("| crate | version |"));
    assert_eq!(
        rows.take_while(|line| line.starts_with('|')).count(),
        named,
        "and no more"
    );
    assert!(named > 15, "{table}");
}

/// A row, but for the calls of a shared library: another version of it, on another system, may have others.
fn claim(row: &str) -> Vec<&str> {
    let mut cells: Vec<_> = row.split('|').map(str::trim).collect();
    if cells.len() > 3 && !cells[3].starts_with("std") {
        cells.remove(3);
    }
    cells
}
