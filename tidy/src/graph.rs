//! Which file imports which, by what defines the item, and the circles among them.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::Code;

type Files<'a> = BTreeMap<&'a str, Code>;

/// Files whose module, or one around it, is declared for tests alone.
pub(crate) fn compiled_by_tests_alone(files: &Files<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for code in files.values() {
        for (child, &is_test) in &code.children {
            if is_test {
                let path = [&code.module[..], std::slice::from_ref(child)].concat();
                let below = |other: &&str| files[*other].module.starts_with(&path);
                found.extend(files.keys().copied().filter(below).map(str::to_owned));
            }
        }
    }
    found
}

/// From each file to those that define what it uses.
pub(crate) fn imports(
    files: &Files<'_>,
    left_out: &BTreeSet<String>,
) -> BTreeSet<(String, String)> {
    let tree = Tree::new(files);
    let mut edges = BTreeSet::new();
    for (&name, code) in files {
        if left_out.contains(name) {
            continue;
        }
        let mentioned = code.mentioned();
        let mut modules: BTreeMap<&str, &[String]> = BTreeMap::new();
        let mut targets = Vec::new();
        for used in &code.uses {
            if tree.is_module(&used.path) {
                modules.insert(&used.name, &used.path);
            } else if !used.is_public || mentioned.contains(used.name.as_str()) {
                targets.push(used.path.clone());
            }
        }
        for path in code.paths() {
            let within = match modules.get(path[0].as_str()) {
                Some(module) => Some([module, &path[1..]].concat()),
                None => code.absolute(&path),
            };
            targets.extend(within);
        }
        for target in targets {
            if let Some(file) = tree.definer(&target, 0)
                && file != name
            {
                edges.insert((name.to_owned(), file.to_owned()));
            }
        }
    }
    edges
}

struct Tree<'a> {
    files: &'a Files<'a>,
    modules: BTreeMap<&'a [String], &'a str>,
}

impl<'a> Tree<'a> {
    fn new(files: &'a Files<'a>) -> Self {
        let mut modules = BTreeMap::new();
        for (&name, code) in files {
            // A crate with a library has its root there, whatever programs stand beside it.
            if name != "main" || !files.contains_key("lib") {
                modules.insert(&code.module[..], name);
            }
        }
        Self { files, modules }
    }

    /// Whether the path is a module's, be it one without a file of its own.
    fn is_module(&self, path: &[String]) -> bool {
        self.modules.contains_key(path)
            || self
                .modules
                .keys()
                .any(|module| module.len() > path.len() && module.starts_with(path))
    }

    /// The file that defines what is at the path.
    fn definer(&self, path: &[String], depth: usize) -> Option<&'a str> {
        let length = (0..=path.len())
            .rev()
            .find(|&length| self.is_module(&path[..length]))?;
        let file = self.modules.get(&path[..length]).copied();
        let Some(item) = path.get(length) else {
            return file;
        };
        let file = file?;
        let code = &self.files[file];
        if depth < 16 && item != "*" && !code.defines(item) {
            let named = code
                .uses
                .iter()
                .find(|used| used.name == *item && used.path != path);
            if let Some(named) = named {
                let target = [&named.path[..], &path[length + 1..]].concat();
                return self.definer(&target, depth + 1).or(Some(file));
            }
            for glob in code.uses.iter().filter(|used| used.name == "*") {
                let target = [&glob.path[..glob.path.len() - 1], &path[length..]].concat();
                if let Some(found) = self.definer(&target, depth + 1)
                    && self.files[found].defines(item)
                {
                    return Some(found);
                }
            }
            if length == 0 {
                let exported = self.files.iter().find(|(_, code)| code.defines_macro(item));
                return Some(exported.map_or(file, |(name, _)| name));
            }
        }
        Some(file)
    }
}

/// Sets of files that reach each other.
pub(crate) fn circles(edges: &BTreeSet<(String, String)>) -> Vec<BTreeSet<String>> {
    let reach = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| from == file) {
                if seen.insert(to.clone()) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let files: BTreeSet<&String> = edges.iter().map(|(from, _)| from).collect();
    let reached: BTreeMap<&String, BTreeSet<String>> =
        files.into_iter().map(|file| (file, reach(file))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (&file, below) in &reached {
        if below.contains(file) && !found.iter().any(|circle| circle.contains(file)) {
            let back = |other: &&String| {
                reached
                    .get(other)
                    .is_some_and(|reached| reached.contains(file))
            };
            found.push(below.iter().filter(back).cloned().collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(sources: &[(&'static str, &str)]) -> Vec<(String, String)> {
        let files: Files<'_> = sources
            .iter()
            .map(|&(name, text)| (name, Code::read(name, text)))
            .collect();
        imports(&files, &compiled_by_tests_alone(&files))
            .into_iter()
            .collect()
    }

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn what_the_root_hands_on_counts_for_who_defines_it() {
        let found = edges(&[
            ("lib", "mod a; mod b; pub use a::timeout;"),
            ("a", "pub fn timeout() {}"),
            ("b", "fn f() { crate::timeout() }"),
        ]);
        assert_eq!(found, [pair("b", "a")]);
    }

    #[test]
    fn a_face_depends_on_its_children_only_if_it_names_them() {
        let found = edges(&[
            ("lib", "mod a;"),
            (
                "a/mod",
                "mod b; mod c; pub use b::B; pub(crate) use c::C; struct D(C);",
            ),
            ("a/b", "use super::D; pub struct B(D);"),
            ("a/c", "use crate::a; pub struct C(a::B);"),
        ]);
        assert_eq!(
            found,
            [
                pair("a/b", "a/mod"),
                pair("a/c", "a/b"),
                pair("a/mod", "a/c")
            ]
        );
        assert_eq!(circles(&found.into_iter().collect()).len(), 1);
    }

    #[test]
    fn modules_without_files_and_macros_are_seen_through() {
        let found = edges(&[
            ("main", "mod sys { pub mod list; } mod log; mod a;"),
            ("sys/list", "pub struct List;"),
            ("log", "macro_rules! tell { () => {} }"),
            ("a", "use crate::sys::list::List; fn f() { crate::tell!() }"),
        ]);
        assert_eq!(found, [pair("a", "log"), pair("a", "sys/list")]);
    }

    #[test]
    fn files_of_tests_are_left_out() {
        let found = edges(&[
            ("lib", "mod a; mod b;"),
            ("a", "#[cfg(all(test, loom))] mod models; pub struct A;"),
            ("a/models", "use crate::b::B;"),
            ("b", "use crate::a::A; pub struct B(A);"),
        ]);
        assert_eq!(found, [pair("b", "a")]);
    }
}
