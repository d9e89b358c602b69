//! Holds ARCHITECTURE.md's table against the sources: every file stands in it, and neighbours of one layer
//! lean on each other only where a reason is written down here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Imports between different modules of one layer, each with its reason.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    (
        "config",
        "stack",
        "limits of stacks are part of the settings",
    ),
    (
        "net",
        "cancel",
        "a cut wait is told by the cancel module's errors",
    ),
    ("net", "offload", "names are looked up on the offload pool"),
    ("cancel", "time", "both enter a scope that has a deadline"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path below `src` without `.rs`, and the text, of each source.
fn sources() -> BTreeMap<String, String> {
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
    walk(&root().join("src"), &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root().join("src")).unwrap();
            let name = name.to_str().unwrap().trim_end_matches(".rs").to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// What the runtime's table says: the layer of each file.
fn table() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap();
    let from = text.find("## `runtime/`").expect("the runtime's section");
    let to = text.find("## `server/`").expect("the server's section");
    let mut files = BTreeMap::new();
    for row in text[from..to].lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Ok(layer) = cells[1].parse::<u32>() else {
            continue;
        };
        for name in cells[2].split('`').skip(1).step_by(2) {
            match name.split_once("/{") {
                None => _ = files.insert(name.to_owned(), layer),
                Some((folder, inside)) => {
                    for file in inside.trim_end_matches('}').split(',') {
                        files.insert(format!("{folder}/{}", file.trim()), layer);
                    }
                }
            }
        }
    }
    files
}

fn module(file: &str) -> &str {
    file.split('/').next().unwrap()
}

/// The code without comments and without what only tests see.
fn code(text: &str) -> String {
    let tests = text
        .find("#[cfg(all(test")
        .or(text.find("#[cfg(test)]\nmod"));
    text[..tests.unwrap_or(text.len())]
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Module names that directly follow `crate::`, also inside a group.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        if code[..at].ends_with('$') {
            continue;
        }
        let (mut depth, mut name) = (0, String::new());
        for character in code[at + prefix.len()..].chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => found.push(std::mem::take(&mut name)),
                _ if depth <= 1 => name.push(character),
                _ => {}
            }
            if depth == 0
                && (character == '}' || !(character.is_alphanumeric() || character == '_'))
            {
                break;
            }
        }
        found.push(name);
    }
    let word = |path: &String| {
        let end = |c: char| !c.is_alphanumeric() && c != '_';
        path.trim().split(end).next().unwrap().to_owned()
    };
    found
        .iter()
        .map(word)
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
#[ignore = "the table does not name sys/recycle yet"]
fn every_file_stands_in_the_table() {
    let (table, sources) = (table(), sources());
    assert!(table.len() > 20, "the table is read: {table:?}");
    let missing: Vec<_> = sources
        .keys()
        // The two faces that only re-export.
        .filter(|file| !["sync/mod", "net/mod"].contains(&file.as_str()))
        .filter(|file| !table.contains_key(*file))
        // What only tests compile is no part of the crate.
        .filter(|file| file.as_str() != "stack/child")
        .collect();
    let gone: Vec<_> = table
        .keys()
        .filter(|file| !sources.contains_key(*file))
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in the table: {missing:?}; not in the sources: {gone:?}"
    );
}

#[test]
fn a_module_imports_from_lower_layers_and_named_neighbours() {
    let table = table();
    let layer = |module_name: &str| {
        table
            .iter()
            .find(|(file, _)| module(file) == module_name)
            .map(|(_, layer)| *layer)
    };
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let own = module(&file);
        let own_layer = layer(own).unwrap_or_else(|| panic!("{file} has no layer"));
        for used in imports(&code(&text)) {
            let named = NEIGHBOURS
                .iter()
                .any(|(from, to, _)| *from == own && *to == used);
            let Some(used_layer) = layer(&used).filter(|_| used != own && !named) else {
                continue;
            };
            // Below the wait there are small neighbours which never call back.
            let close = own_layer == used_layer && (own_layer < 5 || own_layer == 7);
            if used_layer >= own_layer && !close {
                wrong.push(format!("{file} ({own_layer}) uses {used} ({used_layer})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_named_neighbour_is_leant_on() {
    let sources = sources();
    for (from, to, reason) in NEIGHBOURS {
        let leans = |(file, text): (&String, &String)| {
            module(file) == *from && imports(&code(text)).iter().any(|used| used == to)
        };
        assert!(
            sources.iter().any(leans),
            "{from} no longer imports {to} ({reason})"
        );
    }
}

#[test]
fn no_line_is_over_120_columns() {
    for (file, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            assert!(
                line.chars().count() <= 120,
                "{file}.rs:{} is too long",
                at + 1
            );
        }
    }
}

#[test]
fn every_unsafe_function_states_its_contract() {
    for (file, text) in sources() {
        let text = shipped(&text);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.trim_start();
            let declared = !line.starts_with("//") && line.contains("unsafe fn ");
            let context = lines[at.saturating_sub(16)..=at].iter();
            let stated = ["# Safety", "SAFETY", "As ["];
            // A method of a trait's implementation keeps the contract that the trait states.
            let inherited = lines[..at]
                .iter()
                .rev()
                .find(|line| line.starts_with("impl") || line.starts_with("unsafe impl"))
                .is_some_and(|line| line.contains(" for "));
            assert!(
                !declared
                    || inherited
                    || context
                        .into_iter()
                        .any(|line| stated.iter().any(|word| line.contains(word))),
                "{file}.rs:{} is unsafe without a contract",
                at + 1
            );
        }
    }
}

fn shipped(text: &str) -> &str {
    let tests = text
        .find("#[cfg(all(test")
        .or(text.find("#[cfg(test)]\nmod"));
    &text[..tests.unwrap_or(text.len())]
}
