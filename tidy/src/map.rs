//! The map: the layer of each file, and what is excepted.

use std::collections::{BTreeMap, BTreeSet};

use crate::names;

#[derive(Debug)]
pub(crate) struct Map {
    /// Each file's layer, and its row.
    files: BTreeMap<String, (u32, usize)>,
    /// The row, and the files from and to which it excepts imports.
    pub(crate) exceptions: Vec<(String, Vec<String>, Vec<String>)>,
    /// What is wrong with the map itself.
    pub(crate) complaints: Vec<String>,
}

impl Map {
    pub(crate) fn parse(text: &str, heading: &str, all: &BTreeSet<String>) -> Self {
        let from = text
            .find(&format!("## {heading}"))
            .unwrap_or_else(|| panic!("no heading {heading}"));
        let section = text[from + 3..].split("\n## ").next().unwrap_or_default();
        let mut map = Self {
            files: BTreeMap::new(),
            exceptions: Vec::new(),
            complaints: Vec::new(),
        };
        let mut folders = Vec::new();
        for (row, line) in section.lines().enumerate() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, first, second, third, ..] = cells[..] else {
                continue;
            };
            if let Ok(layer) = first.parse() {
                let (wide, single): (Vec<_>, Vec<_>) = without_remarks(second)
                    .split("`")
                    .skip(1)
                    .step_by(2)
                    .map(|name| format!("`{name}`"))
                    .partition(|name| name.ends_with("*`"));
                for name in single.iter().flat_map(|name| names(name, all)) {
                    map.enter(name, (layer, row), all);
                }
                folders.extend(wide.into_iter().map(|name| (name, (layer, row))));
            } else if first.starts_with('`') {
                let reason = third;
                if reason.is_empty() {
                    map.complaints.push(format!("no reason is given: {line}"));
                }
                map.exceptions
                    .push((line.to_owned(), names(first, all), names(second, all)));
            }
        }
        // Of a folder within a folder the inner one is meant.
        folders.sort_by_key(|(name, _): &(String, _)| std::cmp::Reverse(name.len()));
        for (name, place) in folders {
            let rest: Vec<String> = names(&name, all)
                .into_iter()
                .filter(|file| !map.has(file))
                .collect();
            if rest.is_empty() {
                map.complaints.push(format!("{name} stands for no file"));
            }
            for file in rest {
                map.enter(file, place, all);
            }
        }
        assert!(map.files.len() > 5, "no table under {heading}");
        map
    }

    fn enter(&mut self, name: String, place: (u32, usize), all: &BTreeSet<String>) {
        if !all.contains(&name) {
            self.complaints
                .push(format!("{name} is in a table, and no file"));
        }
        if self.files.insert(name.clone(), place).is_some() {
            self.complaints
                .push(format!("{name} is in the table twice"));
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Why a file must not import another.
    pub(crate) fn forbids(&self, from: &str, to: &str) -> Option<String> {
        let (&(own, row), &(other, others_row)) = (self.files.get(from)?, self.files.get(to)?);
        let folder = |file: &str| file.split_once('/').map(|(folder, _)| folder.to_owned());
        let is_near = row == others_row || folder(from).is_some_and(|own| Some(own) == folder(to));
        let is_allowed = other < own || (other == own && is_near);
        (!is_allowed).then(|| format!("layer {own} from layer {other}"))
    }
}

/// The cell without what stands in parentheses.
fn without_remarks(cell: &str) -> String {
    let mut depth = 0;
    cell.chars()
        .filter(|&character| {
            depth += i32::from(character == '(');
            let is_outside = depth == 0;
            depth -= i32::from(character == ')');
            is_outside
        })
        .collect()
}
