//! Paths that a route would have with a `/` more or less at their end.

use std::borrow::Cow;

use http::{HeaderValue, StatusCode, header::LOCATION};

use super::handler::Handler;
use crate::{request::Request, response::Response};

/// What becomes of a path that no route has, but one would with a `/` at its end, or without the one that it has: for
/// [`Router::trailing_slash`](crate::Router::trailing_slash).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrailingSlash {
    /// It is another path: 404, or the fallback.
    #[default]
    Strict,
    /// Its client is sent to the path that there is, with its query: 308, so that it asks by the same method and with the
    /// same body.
    Redirect,
    /// The route answers as if it had been asked for as it is written.
    Ignore,
}

/// The same path with a `/` more or less at its end, if there is one.
pub(super) fn other(path: &str) -> Option<Cow<'_, str>> {
    // Two at the beginning would be a host's name to the client that is sent there.
    if !path.starts_with('/') || path.starts_with("//") {
        return None;
    }
    match path.strip_suffix('/') {
        Some("") => None,
        Some(shorter) => Some(Cow::Borrowed(shorter)),
        None => Some(Cow::Owned(format!("{path}/"))),
    }
}

/// Sends a client to another path.
pub(super) struct Moved {
    pub(super) to: String,
}

impl Moved {
    pub(super) fn new(path: &str, query: Option<&str>) -> Self {
        let to = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        Self { to }
    }
}

impl Handler for Moved {
    fn call(&self, _: &mut Request) -> Response {
        let mut response = Response::new(StatusCode::PERMANENT_REDIRECT);
        // A target that came through the parser has nothing that a field may not have.
        if let Ok(to) = HeaderValue::from_str(&self.to) {
            response.headers_mut().insert(LOCATION, to);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_slash_more_or_less() {
        for (path, expected) in [
            ("/a", Some("/a/")),
            ("/a/", Some("/a")),
            ("/a//", Some("/a/")),
            ("/", None),
            ("//evil.example/", None),
            ("//", None),
            ("*", None),
            ("host:443", None),
        ] {
            assert_eq!(other(path).as_deref(), expected, "{path}");
        }
    }
}
