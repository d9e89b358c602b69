//! The paths of routes, and which of them a request has.

use crate::http1::head::ascii;

/// Paths, each with the place of its entry.
#[derive(Default)]
pub(super) struct Paths {
    all: matchit::Router<usize>,
    /// Those that are written out in full, by their length. What they match, they match before any other, so that they
    /// need not be looked for among all.
    literal: Vec<Vec<(Box<[u8]>, usize)>>,
}

impl Paths {
    /// Adds a path, or says why not.
    pub(super) fn add(&mut self, path: &str, entry: usize) -> Result<(), String> {
        self.all
            .insert(path, entry)
            .map_err(|error| error.to_string())?;
        if !path.contains(['{', '}']) {
            let least = path.len() + 1;
            self.literal
                .resize_with(self.literal.len().max(least), Vec::new);
            self.literal[path.len()].push((path.as_bytes().into(), entry));
        }
        Ok(())
    }

    /// The entry of what matches a path, which is ASCII; `param` is called with each path parameter's name and value.
    #[inline(always)]
    pub(super) fn find(&self, path: &[u8], param: impl FnMut(&str, &str)) -> Option<usize> {
        let same_length = self.literal.get(path.len());
        match same_length.and_then(|paths| paths.iter().find(|(literal, _)| **literal == *path)) {
            Some((_, entry)) => Some(*entry),
            None => self.find_among_all(ascii(path), param),
        }
    }

    fn find_among_all(&self, path: &str, mut param: impl FnMut(&str, &str)) -> Option<usize> {
        let matched = self.all.at(path).ok()?;
        for (name, value) in matched.params.iter() {
            param(name, value);
        }
        Some(*matched.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(routes: &[&str]) -> Paths {
        let mut paths = Paths::default();
        for (entry, route) in routes.iter().enumerate() {
            paths.add(route, entry).unwrap();
        }
        paths
    }

    #[test]
    fn parameters_are_given_by_name() {
        let paths = paths(&["/", "/a/{x}/{*rest}"]);
        let mut values = Vec::new();
        let found = paths.find(b"/a/1/2/3", |name, value| {
            values.push((name.to_owned(), value.to_owned()));
        });
        assert_eq!(found, Some(1));
        let expected = [("x", "1"), ("rest", "2/3")];
        assert_eq!(
            values,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_rest_has_at_least_one_byte() {
        let paths = paths(&["/files/{*rest}"]);
        for (path, is_found) in [
            ("/files/a", true),
            ("/files/a/", true),
            ("/files//", true),
            ("/files/", false),
            ("/files", false),
        ] {
            let found = paths.find(path.as_bytes(), |_, _| {});
            assert_eq!(found.is_some(), is_found, "{path}");
        }
    }

    #[test]
    fn a_path_that_is_written_out_is_found_before_all_others() {
        let paths = paths(&[
            "/",
            "/a",
            "/b",
            "/ab",
            "/{x}",
            "/a/{x}",
            "/a/b",
            "/a/{x}/c",
            "/a/b/c",
            "/a/b/{*rest}",
            "/c/{*rest}",
            "/c/d",
            "/e/",
            "/{x}/f",
        ]);
        let mut parts = vec![String::new()];
        for _ in 0..4 {
            let longer = |path: &String| {
                ["/", "/a", "/b", "/ab", "/c", "/d", "/e", "/f"].map(|part| format!("{path}{part}"))
            };
            parts.extend(parts.iter().flat_map(longer).collect::<Vec<_>>());
        }
        for path in parts.iter().filter(|path| !path.is_empty()) {
            let (mut direct, mut among_all) = (Vec::new(), Vec::new());
            let note = |into: &mut Vec<_>, name: &str, value: &str| {
                into.push((name.to_owned(), value.to_owned()));
            };
            let found = paths.find(path.as_bytes(), |name, value| {
                note(&mut direct, name, value);
            });
            let expected = paths.find_among_all(path, |name, value| {
                note(&mut among_all, name, value);
            });
            assert_eq!(direct, among_all, "{path}");
            assert_eq!(found, expected, "{path}");
        }
    }
}
