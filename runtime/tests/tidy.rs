//! Holds the sources against the layers of ARCHITECTURE.md and a few habits that readers rely on.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file imports from lower layers, and from its own. Names are the first path segment after `crate`.
const LAYERS: &[(&str, u32)] = &[
    ("config", 0),
    ("error", 0),
    ("loom", 0),
    ("sys", 0),
    ("wheel", 1),
    ("stack", 1),
    ("inbox", 1),
    ("strand", 1),
    ("driver", 2),
    ("coroutine", 2),
    ("scheduler", 3),
    ("wait", 4),
    ("cancel", 5),
    ("time", 5),
    ("task", 5),
    ("offload", 5),
    ("sync", 5),
    ("net", 5),
    ("group", 6),
    ("runtime", 7),
];

/// Imports against the direction, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "config",
    "stack",
    "the limits of stacks are part of a runtime's settings, and stacks know no settings",
)];

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 20, "the sources are found");
    found
}

fn module(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(src).unwrap().components().next().unwrap();
    first
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

fn layer(module: &str) -> Option<u32> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// The code without comments and without what only tests see.
fn code(text: &str) -> String {
    let tests = text
        .find("#[cfg(all(test")
        .or(text.find("#[cfg(test)]\nmod"));
    text[..tests.unwrap_or(text.len())]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The first segments of all paths that begin with `crate`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` in a macro is the user's path to the face of the crate.
        if code[..at].ends_with('$') || code[..at].ends_with("pub(") {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut name) = (0, String::new());
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(character),
                    _ => {}
                }
            }
            found.push(name);
        } else {
            found.push(rest.to_owned());
        }
    }
    found
        .iter()
        .map(|path| {
            path.trim()
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap()
                .to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn modules_import_downwards() {
    let mut wrong = Vec::new();
    for path in sources() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let own_layer = layer(&own).unwrap_or_else(|| panic!("{own} has no layer"));
        for used in imports(&code(&fs::read_to_string(&path).unwrap())) {
            let Some(used_layer) = layer(&used) else {
                continue;
            };
            let excepted = EXCEPTIONS
                .iter()
                .any(|(from, to, _)| *from == own && *to == used);
            if used_layer > own_layer && !excepted {
                wrong.push(format!(
                    "{} (layer {own_layer}) uses {used} (layer {used_layer})",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_lives_there() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}

#[test]
fn every_unsafe_block_has_its_reason() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            if trimmed.starts_with("//")
                || !(trimmed.contains("unsafe {") || trimmed.starts_with("unsafe impl"))
            {
                continue;
            }
            let above = lines[at.saturating_sub(8)..=at].iter();
            assert!(
                above
                    .into_iter()
                    .any(|line| line.contains("SAFETY:") || line.contains("# Safety")),
                "{}:{} is unsafe without a reason",
                path.display(),
                at + 1
            );
        }
    }
}
