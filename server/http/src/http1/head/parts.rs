//! Where the parts of a head are in the bytes that it was read from, and what those parts are there.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// Where the parts of a request's head are in the buffer it was parsed from.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// Whether that is `HEAD`, whose answer has no body.
    pub(crate) of_head: bool,
    /// The request target as it was sent.
    pub(crate) target: Range<usize>,
    /// The path within the target.
    pub(crate) path: Range<usize>,
    /// What follows the `?`, if there is one.
    pub(crate) query: Option<Range<usize>>,
    pub(crate) http_11: bool,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    /// Where the field lines begin.
    pub(super) fields: usize,
    /// Length in bytes, the empty line included.
    pub(crate) length: usize,
}

impl Head {
    /// Where its field lines are, with the empty line behind them.
    #[inline]
    pub(crate) fn field_lines(&self) -> Range<usize> {
        self.fields..self.length
    }

    /// The path, given the bytes that the head was parsed from; all ASCII.
    #[inline]
    pub(crate) fn path_in<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        match &bytes[self.path.clone()] {
            // An absolute URI may have none (RFC 9110, 4.2.3).
            b"" => b"/",
            path => path,
        }
    }

    /// The target as a [`Uri`], which finds the same path and query.
    pub(crate) fn uri_in(&self, bytes: &[u8]) -> Uri {
        let target = Uri::try_from(&bytes[self.target.clone()]);
        target.expect("the parser lets only URIs through")
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// One field line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// All fields, given the bytes that they were found in.
pub(crate) fn header_map(bytes: &[u8], fields: &[Field]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(&bytes[field.name.clone()]);
        let value = HeaderValue::from_bytes(&bytes[field.value.clone()]);
        headers.append(
            name.expect("the parser lets only names through"),
            value.expect("the parser lets only values through"),
        );
    }
    headers
}

/// A part of a target, all of which is ASCII.
#[inline]
pub(crate) fn ascii(part: &[u8]) -> &str {
    std::str::from_utf8(part).expect("the parser lets only ASCII into targets")
}
