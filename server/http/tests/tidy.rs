//! Holds the sources against their layers: a file imports from lower ones, and the protocol from none.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the bottom up; a module imports from rows above its own.
const LAYERS: &[&[&str]] = &[
    &["http1"],
    &["date", "line"],
    &["respond"],
    &["body", "drain", "out", "params", "refusal"],
    &["scratch"],
    &["request"],
    &["router"],
    &["server"],
];

/// Stand beside the layers and use the protocol alone.
const BESIDE: &[&str] = &["client", "fuzzing"];

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 15, "the sources are found");
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The first part of a file's path within the crate.
fn module(path: &Path) -> String {
    let own = path.strip_prefix(src()).unwrap().iter().next().unwrap();
    own.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The code without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let tests = text.find("#[cfg(test)]\nmod").unwrap_or(text.len());
    let lines = text[..tests].lines();
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that the code names.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            // One item a line, indented once, or all in one line, as rustfmt writes it.
            Some(group) => {
                let items = group.split_once("};").map_or(group, |(items, _)| items);
                match items.contains('\n') {
                    true => found.extend(items.lines().filter_map(|line| {
                        let item = line.strip_prefix("    ")?;
                        item.starts_with(char::is_alphabetic).then_some(item)
                    })),
                    false => found.extend(items.split(", ")),
                }
            }
            None => found.push(rest),
        }
    }
    let name = |path: &str| {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
        path[..end.unwrap_or(path.len())].to_owned()
    };
    found.into_iter().map(name).collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn modules_import_downwards() {
    let conn = imports(&code(&src().join("server/conn.rs")));
    assert!(conn.contains(&"http1".to_owned()) && conn.contains(&"scratch".to_owned()));
    for path in sources() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let allowed = match BESIDE.contains(&own.as_str()) {
            true => 1,
            false => layer(&own).unwrap_or_else(|| panic!("{own} has no layer")),
        };
        for used in imports(&code(&path)) {
            let below = layer(&used).is_some_and(|layer| layer < allowed);
            assert!(below || used == own, "{own} imports {used}");
        }
    }
}

#[test]
fn the_protocol_knows_no_sockets_and_no_runtime() {
    for path in sources() {
        if module(&path) == "http1" {
            let code = code(&path);
            for unwanted in ["maniple", "std::net", "std::io", "std::thread", "Instant"] {
                assert!(!code.contains(unwanted), "{}: {unwanted}", path.display());
            }
        }
    }
}

#[test]
fn files_say_what_lives_in_them() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}
