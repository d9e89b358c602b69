//! Holds the sources of a crate against its map in ARCHITECTURE.md: which file may import which.
//!
//! The map is the table under the crate's heading: `| layer | files | what lives there |`. A file imports from lower
//! layers and, of its own layer, from its own folder and row; and no files import each other in a circle. `folder/*` stands for the files of
//! a folder that are named nowhere else. What is beside that rule stands in a table of its own there, with its reason:
//! `| from | to | why |`.
//!
//! An import counts for the file that defines what is imported, however many re-exports lie between, and so does a path
//! in the code. A file that only hands on what its children define does not depend on them.

mod code;
mod graph;
mod map;
mod prose;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use code::Code;
use map::Map;

/// A crate's sources, and what its map says of them.
#[derive(Debug)]
pub struct Crate {
    sources: Vec<Source>,
    map: Map,
}

/// A file of a crate.
#[derive(Debug)]
pub struct Source {
    /// Its path below `src`, without `.rs`.
    pub name: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// The code: without comments, tests, and what stands in texts.
    pub fn code(&self) -> String {
        code::shipped(&self.text)
    }

    /// Public enums, and structs whose fields are all public, that are closed: a case or a field more breaks users.
    pub fn closed_types(&self) -> Vec<String> {
        code::closed_types(&self.code())
    }

    /// Comments that send readers elsewhere instead of saying it, or whose subject is nobody in particular: a line each.
    pub fn vague_sentences(&self) -> Vec<String> {
        let lines = self.text.lines().enumerate();
        let vague = lines.filter_map(|(at, line)| {
            let comment = line.split_once("//")?.1.trim_start_matches(['/', '!']);
            let advice = prose::fault(comment.trim_start())?;
            Some(format!(
                "{}.rs:{}: {advice}: {}",
                self.name,
                at + 1,
                line.trim()
            ))
        });
        vague.collect()
    }
}

impl Crate {
    /// The crate in that folder, whose map stands under that heading of the ARCHITECTURE.md in the folder `root`.
    ///
    /// # Panics
    /// If one of them is not there.
    pub fn read(manifest: &str, root: &str, heading: &str) -> Self {
        let manifest = Path::new(manifest);
        let text = fs::read_to_string(manifest.join(root).join("ARCHITECTURE.md"))
            .expect("ARCHITECTURE.md is read");
        let sources = sources(&manifest.join("src"));
        let names = sources.iter().map(|source| source.name.clone()).collect();
        Self {
            map: Map::parse(&text, heading, &names),
            sources,
        }
    }

    /// Its files.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// What is wrong with the map or the imports, a line each.
    pub fn complaints(&self) -> Vec<String> {
        let code: BTreeMap<&str, Code> = self
            .sources
            .iter()
            .map(|source| (source.name.as_str(), Code::read(&source.name, &source.text)))
            .collect();
        let for_tests = graph::compiled_by_tests_alone(&code);
        let mut found = self.map.complaints.clone();
        for name in code.keys().filter(|name| !for_tests.contains(**name)) {
            if !self.map.has(name) {
                found.push(format!("{name} is in no table"));
            }
        }
        let mut edges = graph::imports(&code, &for_tests);
        for (row, from, to) in &self.map.exceptions {
            let before = edges.len();
            edges
                .retain(|(importer, imported)| !(from.contains(importer) && to.contains(imported)));
            if edges.len() == before {
                found.push(format!(
                    "nothing imports any more what a table excepts: {row}"
                ));
            }
        }
        for (from, to) in &edges {
            if let Some(why) = self.map.forbids(from, to) {
                found.push(format!("{from} imports {to}: {why}"));
            }
        }
        for circle in graph::circles(&edges) {
            let inside =
                |(from, to): &&(String, String)| circle.contains(from) && circle.contains(to);
            let ways: Vec<String> = edges
                .iter()
                .filter(inside)
                .map(|(from, to)| format!("{from} -> {to}"))
                .collect();
            found.push(format!("a circle: {}", ways.join(", ")));
        }
        found
    }
}

/// All files below a folder.
///
/// # Panics
/// If it cannot be read, or there are none.
pub fn sources(src: &Path) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the folder is read") {
            let path = entry.expect("the entry is read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(src, &mut found);
    assert!(!found.is_empty(), "no sources in {}", src.display());
    found.sort();
    let read = |path: PathBuf| Source {
        name: path
            .strip_prefix(src)
            .expect("it lies there")
            .with_extension("")
            .to_str()
            .expect("a name in ASCII")
            .to_owned(),
        text: fs::read_to_string(&path).expect("the source is read"),
    };
    found.into_iter().map(read).collect()
}

/// Names of files in backquotes, as sets in braces or one by one.
fn names(cell: &str, all: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for name in cell.split('`').skip(1).step_by(2) {
        if let Some(folder) = name.strip_suffix('*') {
            found.extend(all.iter().filter(|file| file.starts_with(folder)).cloned());
        } else if let Some((folder, inside)) = name.split_once('{') {
            let files = inside.trim_end_matches('}').split(',');
            found.extend(files.map(|file| format!("{folder}{}", file.trim())));
        } else {
            found.push(name.to_owned());
        }
    }
    found
}
