//! Where below a directory a request's path leads, if it leads there at all.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use percent_encoding::percent_decode_str;

/// A place below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Relative, and without `.` and `..`; empty for the directory itself.
    pub(crate) path: PathBuf,
    /// It ended with `/`, so it is to be a directory.
    pub(crate) is_directory: bool,
}

/// The place of a path as it was sent, without its first `/`. `None` if there is none: a segment is empty, `.` or `..`, has
/// a `/`, a `\` or a NUL in it once decoded, or begins with `.` and `hidden` is not set.
///
/// `.well-known` at the beginning is no hidden one (RFC 8615).
pub(crate) fn place(sent: &str, hidden: bool) -> Option<Place> {
    let mut path = PathBuf::new();
    if sent.is_empty() {
        return Some(Place {
            path,
            is_directory: true,
        });
    }
    let (sent, is_directory) = match sent.strip_suffix('/') {
        Some(before) => (before, true),
        None => (sent, false),
    };
    for (index, segment) in sent.split('/').enumerate() {
        let name: Vec<u8> = percent_decode_str(segment).collect();
        let is_well_known = index == 0 && name == b".well-known";
        let is_refused = name.is_empty()
            || name == b"."
            || name == b".."
            || name.iter().any(|byte| b"/\\\0".contains(byte))
            || (name[0] == b'.' && !hidden && !is_well_known);
        if is_refused {
            return None;
        }
        path.push(OsString::from_vec(name));
    }
    Some(Place { path, is_directory })
}

/// What is left of a path behind the segments that the template of its route has before its `{*rest}`; of a route without one
/// nothing, or its last `/`.
pub(super) fn below<'p>(path: &'p str, template: &str) -> &'p str {
    let Some(at) = template.find("{*") else {
        return "";
    };
    let before = template[..at].matches('/').count();
    path.splitn(before + 1, '/').nth(before).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_below_or_nowhere() {
        for (sent, expected) in [
            ("", Some(("", true))),
            ("a", Some(("a", false))),
            ("a/", Some(("a", true))),
            ("a/b.txt", Some(("a/b.txt", false))),
            ("a%20b/%C3%A9", Some(("a b/\u{e9}", false))),
            ("%61", Some(("a", false))),
            ("a%", Some(("a%", false))),
            ("a%2", Some(("a%2", false))),
            ("%252e%252e/x", Some(("%2e%2e/x", false))),
            ("a...b", Some(("a...b", false))),
            (".well-known/x", Some((".well-known/x", false))),
            ("..", None),
            ("../x", None),
            ("a/../x", None),
            ("a/..", None),
            ("%2e%2e/x", None),
            ("%2E./x", None),
            (".%2e/x", None),
            ("./x", None),
            ("%2e", None),
            ("a%2fb", None),
            ("a%2Fb", None),
            ("..%2f..%2fetc%2fpasswd", None),
            ("a%5cb", None),
            ("a\\b", None),
            ("a%00", None),
            ("%00", None),
            ("/etc/passwd", None),
            ("/", None),
            ("//", None),
            ("a//b", None),
            ("a//", None),
            (".git/config", None),
            ("a/.env", None),
            ("a/.well-known", None),
            ("%2egit", None),
        ] {
            let place = place(sent, false);
            let expected = expected.map(|(path, is_directory)| Place {
                path: path.into(),
                is_directory,
            });
            assert_eq!(place, expected, "{sent}");
        }
        assert!(place(".env", true).is_some());
        assert!(place("..", true).is_none());
        assert!(place("...", true).is_some());
    }

    #[test]
    fn what_is_below_a_route_is_behind_its_prefix() {
        for (path, template, expected) in [
            ("/static/a/b", "/static/{*path}", "a/b"),
            ("/of/ann/a", "/of/{who}/{*path}", "a"),
            ("/a", "/{*path}", "a"),
            ("/static/", "/static/", ""),
            ("/static", "/static", ""),
            ("/x/a//b", "/x/{*path}", "a//b"),
        ] {
            assert_eq!(below(path, template), expected, "{path} {template}");
        }
    }
}
