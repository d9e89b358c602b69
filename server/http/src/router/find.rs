//! Which entry a path has, among those of the routes.

use http::Method;

use super::{Router, entry::Endpoint};
use crate::http1::head::ascii;

impl Router {
    /// Finds what answers a path, which is ASCII; `param` is called with each path parameter's name and value.
    #[inline]
    pub(super) fn find(
        &self,
        method: &Method,
        path: &[u8],
        param: impl FnMut(&str, &str),
    ) -> &Endpoint {
        let same_length = self.literal.get(path.len());
        match same_length.and_then(|paths| paths.iter().find(|(literal, _)| **literal == *path)) {
            Some((_, entry)) => self.entries[*entry].find(method),
            None => self.find_among_all(method, ascii(path), param),
        }
    }

    fn find_among_all(
        &self,
        method: &Method,
        path: &str,
        mut param: impl FnMut(&str, &str),
    ) -> &Endpoint {
        let Ok(matched) = self.paths.at(path) else {
            return &self.nowhere;
        };
        for (name, value) in matched.params.iter() {
            param(name, value);
        }
        self.entries[*matched.value].find(method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    fn router() -> Router {
        Router::new()
            .get("/", |_: &mut Request| "root")
            .post("/", |_: &mut Request| "posted")
            .get("/a/{x}/{*rest}", |_: &mut Request| "deep")
    }

    #[test]
    fn parameters_are_given_by_name() {
        let router = router();
        let mut values = Vec::new();
        let found = router.find(&Method::GET, b"/a/1/2/3", |name, value| {
            values.push((name.to_owned(), value.to_owned()));
        });
        assert!(found.template.is_some());
        let expected = [("x", "1"), ("rest", "2/3")];
        assert_eq!(
            values,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_rest_has_at_least_one_byte() {
        let router = Router::new().get("/files/{*rest}", |_: &mut Request| "files");
        for (path, is_found) in [
            ("/files/a", true),
            ("/files/a/", true),
            ("/files//", true),
            ("/files/", false),
            ("/files", false),
        ] {
            let found = router.find(&Method::GET, path.as_bytes(), |_, _| {});
            assert_eq!(found.template.is_some(), is_found, "{path}");
        }
    }

    #[test]
    fn a_path_that_is_written_out_is_found_before_all_others() {
        let routes = [
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
        ];
        let mut router = Router::new();
        for route in routes {
            router = router.get(route, move |_: &mut Request| route);
        }
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
            let found = router.find(&Method::GET, path.as_bytes(), |name, value| {
                note(&mut direct, name, value);
            });
            let expected = router.find_among_all(&Method::GET, path, |name, value| {
                note(&mut among_all, name, value);
            });
            assert_eq!(direct, among_all, "{path}");
            assert_eq!(found.template, expected.template, "{path}");
        }
    }
}
