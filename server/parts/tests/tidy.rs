//! Holds the sources against their layers: a part imports from those below it, and none from HTTP.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the bottom up; a part imports from rows above its own.
const LAYERS: &[&[&str]] = &[&["lines"], &["hub", "pool"], &["actor"]];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    assert!(found.len() > 10, "the sources are found");
    found
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

/// What the code names of this crate's root.
fn imports(code: &str) -> Vec<String> {
    let name = |path: &str| {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
        path[..end.unwrap_or(path.len())].to_owned()
    };
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        // Items of the outer braces, whatever stands in inner ones.
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    found.push(name(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn imports_are_read_in_groups_too() {
    assert_eq!(
        imports("use crate::{\n    A, pool::{B, C},\n    d::E,\n};"),
        ["A", "pool", "d"]
    );
    assert_eq!(imports("use crate::hub::{A};\ncrate::b::c()"), ["hub", "b"]);
}

#[test]
fn modules_import_downwards() {
    for path in sources() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let allowed = layer(&own).unwrap_or_else(|| panic!("{own} has no layer"));
        for used in imports(&code(&path)) {
            let below = layer(&used).is_some_and(|layer| layer < allowed);
            assert!(below || used == own, "{own} imports {used}");
        }
    }
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
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}
