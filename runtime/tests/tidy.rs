//! Holds the sources against the table of ARCHITECTURE.md, whose layers they lean on downwards, and against a few
//! habits that readers rely on.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Imports between different modules of one layer, or against the direction, each with its reason.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    (
        "config",
        "stack",
        "the limits of stacks are part of the settings",
    ),
    (
        "net",
        "cancel",
        "a cut wait is told by the cancel module's errors",
    ),
    ("net", "offload", "names are looked up on the offload pool"),
    (
        "offload",
        "cancel",
        "a job inherits its caller's cancellation",
    ),
    ("offload", "time", "a job inherits its caller's deadline"),
    ("cancel", "time", "both enter a scope that has a deadline"),
    ("cancel", "sync", "a token is waited for as a channel"),
];

/// Layers whose modules may lean on each other: the small ones below the wait, which never call back, and the face.
const CLOSE: [u32; 6] = [0, 1, 2, 3, 4, 7];

struct Source {
    /// Its path below `src`, without `.rs`.
    name: String,
    text: String,
}

impl Source {
    /// The text without what only tests see.
    fn shipped(&self) -> &str {
        let tests = self
            .text
            .find("#[cfg(all(test")
            .or(self.text.find("#[cfg(test)]\nmod"));
        &self.text[..tests.unwrap_or(self.text.len())]
    }

    /// The modules named after `crate::`, also inside a group.
    fn imports(&self) -> Vec<String> {
        let code: Vec<_> = self
            .shipped()
            .lines()
            .map(|line| line.split("//").next().unwrap())
            .collect();
        let code = code.join("\n");
        let mut paths = Vec::new();
        for (at, prefix) in code.match_indices("crate::") {
            // `$crate::` in a macro is the user's path to the face of the crate.
            if code[..at].ends_with('$') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                paths.push(rest.to_owned());
                continue;
            };
            let (mut depth, mut path) = (0, String::new());
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => paths.push(std::mem::take(&mut path)),
                    _ if depth == 0 => path.push(character),
                    _ => {}
                }
            }
            paths.push(path);
        }
        let ends = |c: char| !c.is_alphanumeric() && c != '_';
        let first = |path: &String| path.trim().split(ends).next().unwrap().to_owned();
        paths.iter().map(first).collect()
    }

    /// Lines of code that are `unsafe` in the way that `is` tells from them and what is above, and where none of
    /// `words` stands in so many lines before.
    fn unexplained(&self, is: fn(&[&str]) -> bool, before: usize, words: &[&str]) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let stated = |line: &&str| words.iter().any(|word| line.contains(word));
        (0..lines.len())
            .filter(|&at| !lines[at].trim_start().starts_with("//") && is(&lines[..=at]))
            .filter(|&at| !lines[at.saturating_sub(before)..=at].iter().any(stated))
            .map(|at| format!("{}.rs:{}", self.name, at + 1))
            .collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
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
    let (src, mut found) = (root().join("src"), Vec::new());
    walk(&src, &mut found);
    assert!(found.len() > 20, "the sources are found");
    let read = |path: PathBuf| Source {
        name: path
            .strip_prefix(&src)
            .unwrap()
            .with_extension("")
            .to_str()
            .unwrap()
            .to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    found.into_iter().map(read).collect()
}

/// What the runtime's table says: the layer of each file.
fn table() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap();
    let from = text.find("## `runtime/`").expect("the runtime's section");
    let to = text.find("## `server/").expect("the server's section");
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
    assert!(files.len() > 20, "the table is read");
    files
}

/// The first part of a file's path, by which others import it.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap()
}

/// Whether the file is a face that only re-exports, or compiled by tests alone: no part of the layers.
fn stands_apart(file: &str) -> bool {
    ["sync/mod", "net/mod", "stack/child", "driver/promises"].contains(&file)
}

#[test]
fn every_file_stands_in_the_table() {
    let (mut table, mut missing) = (table(), Vec::new());
    for source in sources() {
        if table.remove(&source.name).is_none() && !stands_apart(&source.name) {
            missing.push(source.name);
        }
    }
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    assert!(table.is_empty(), "in the table alone: {table:?}");
}

#[test]
fn modules_import_downwards_and_from_named_neighbours() {
    let layers: BTreeMap<String, u32> = table()
        .into_iter()
        .map(|(file, layer)| (module(&file).to_owned(), layer))
        .collect();
    let mut neighbours = NEIGHBOURS.to_vec();
    let mut wrong = Vec::new();
    for source in sources() {
        let own = module(&source.name);
        let own_layer = layers[own];
        for used in source.imports() {
            let Some(&layer) = layers.get(&used).filter(|_| used != own) else {
                continue;
            };
            neighbours.retain(|(from, to, _)| (*from, *to) != (own, used.as_str()));
            let named = NEIGHBOURS
                .iter()
                .any(|(from, to, _)| (*from, *to) == (own, used.as_str()));
            let close = layer == own_layer && CLOSE.contains(&layer);
            if layer >= own_layer && !close && !named {
                wrong.push(format!(
                    "{} ({own_layer}) uses {used} ({layer})",
                    source.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(neighbours.is_empty(), "no longer imported: {neighbours:?}");
}

/// The names in backquotes that are sentences, as tests have them, in the table of what may run where.
fn promised_tests() -> Vec<String> {
    let text = fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap();
    let from = text
        .find("## What may run where")
        .expect("the table is there");
    let section = text[from..].split("\n## ").next().unwrap();
    let held_by = section.lines().filter_map(|line| line.rsplit(" | ").next());
    let quoted = held_by.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted
        .filter(|name| name.matches('_').count() > 2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_may_run_where_is_held_by_tests_that_there_are() {
    let promised = promised_tests();
    assert!(promised.len() > 15, "the table is read: {promised:?}");
    let mut text: String = sources().into_iter().map(|source| source.text).collect();
    for entry in fs::read_dir(root().join("tests/promises")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    // Or in a macro that makes one of each name.
    let missing = |name: &&String| {
        !text.contains(&format!("fn {name}()")) && !text.contains(&format!("{name}:\n"))
    };
    let missing: Vec<_> = promised.iter().filter(missing).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn nothing_above_the_driver_says_what_it_waits_with() {
    let below = |source: &Source| ["driver", "sys"].contains(&module(&source.name));
    for source in sources().into_iter().filter(|source| !below(source)) {
        for line in source.text.lines() {
            let code = line.split("//").next().unwrap().to_lowercase();
            let kinds = ["epoll", "timerfd", "io_uring"];
            let found = kinds.iter().find(|kind| code.contains(**kind));
            assert_eq!(found, None, "{}.rs: {line}", source.name);
        }
    }
}

#[test]
fn every_file_says_what_lives_there() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{}.rs", source.name);
    }
}

#[test]
fn no_line_is_over_120_columns() {
    for source in sources() {
        let long = source.text.lines().find(|line| line.chars().count() > 120);
        assert_eq!(long, None, "{}.rs", source.name);
    }
}

#[test]
fn every_unsafe_block_has_its_reason() {
    fn is_block(lines: &[&str]) -> bool {
        let line = lines[lines.len() - 1].trim_start();
        line.contains("unsafe {") || line.starts_with("unsafe impl")
    }
    for source in sources() {
        let found = source.unexplained(is_block, 8, &["SAFETY:", "# Safety"]);
        assert!(found.is_empty(), "unsafe without a reason: {found:?}");
    }
}

#[test]
fn every_unsafe_function_states_its_contract() {
    /// A method of a trait's implementation keeps the contract that the trait states.
    fn is_own_function(lines: &[&str]) -> bool {
        let opens = |line: &&&str| {
            let line = line.trim_start();
            line.starts_with("impl") || line.starts_with("unsafe impl")
        };
        lines[lines.len() - 1].contains("unsafe fn ")
            && !lines
                .iter()
                .rev()
                .find(opens)
                .is_some_and(|line| line.contains(" for "))
    }
    for source in sources() {
        let found = source.unexplained(is_own_function, 16, &["# Safety", "SAFETY", "As ["]);
        assert!(found.is_empty(), "unsafe without a contract: {found:?}");
    }
}
