//! Holds the sources of the programs against their maps in ARCHITECTURE.md: the benches and the server models.
//!
//! Here rather than beside them, since a test there would build all their peers first.

use std::{collections::BTreeSet, fs, path::Path};

use maniple_tidy::{Crate, sources};

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

/// The folders of all crates, as the workspace lists them.
fn crates() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).expect("members");
    let members = members.split(']').next().unwrap_or_default();
    let folders = members.split('"').skip(1).step_by(2);
    folders.map(str::to_owned).collect()
}

#[test]
fn comments_say_it_themselves_and_name_their_subject() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = crates();
    assert!(crates.len() > 6, "the crates are found: {crates:?}");
    let sources = crates.iter().flat_map(|folder| {
        let sources = sources(&root.join(folder).join("src")).into_iter();
        sources.map(move |source| (folder, source))
    });
    // The rule itself has to say what it forbids.
    let sources = sources.filter(|(folder, _)| *folder != "tidy");
    let vague = sources.flat_map(|(folder, source)| {
        let vague = source.vague_sentences().into_iter();
        vague.map(move |line| format!("{folder}/src/{line}"))
    });
    let vague: Vec<_> = vague.collect();
    assert!(vague.is_empty(), "{vague:#?}");
}

/// What may grow says so, and what may not stands in the book with its reason.
#[test]
fn closed_types_are_those_that_the_decisions_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let decisions = fs::read_to_string(root.join("docs/src/decisions.md")).unwrap();
    let rule = decisions
        .split("**What may grow says so.**")
        .nth(1)
        .expect("the rule");
    let rule = rule.split("\n\n**").next().unwrap();
    let table = rule.lines().filter(|line| line.starts_with('|'));
    let named: BTreeSet<String> = table
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    let closed: BTreeSet<String> = [
        "runtime",
        "runtime/hook",
        "server/discovery",
        "server/http",
        "server/parts",
        "server/supervise",
        "server/tls",
        "server/topics",
        "tracing",
    ]
    .iter()
    .flat_map(|folder| sources(&root.join(folder).join("src")))
    .flat_map(|source| source.closed_types())
    .collect();
    assert_eq!(closed, named);
}
