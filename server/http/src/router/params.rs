//! The path parameters of the request in hand, in tables that are used again for the next.

use std::{borrow::Cow, ops::Range};

use percent_encoding::percent_decode_str;

use crate::http1::head::ascii;

/// Names and values. Names are copied here, few bytes each, so that a request need not know its route.
#[derive(Debug, Default)]
pub(crate) struct Params {
    names: String,
    entries: Vec<(Range<usize>, Value)>,
}

/// A part of the head, or decoded text.
#[derive(Debug)]
enum Value {
    Raw(Range<usize>),
    Decoded(String),
}

impl Params {
    /// Adds a parameter whose value is at `at` in the head.
    pub(crate) fn push(&mut self, name: &str, value: &str, at: usize) {
        let begin = self.names.len();
        self.names.push_str(name);
        let value = match percent_decode_str(value).into() {
            Cow::Borrowed(_) => Value::Raw(at..at + value.len()),
            Cow::Owned(bytes) => Value::Decoded(String::from_utf8_lossy(&bytes).into_owned()),
        };
        self.entries.push((begin..self.names.len(), value));
    }

    /// Sets a parameter that is decoded already.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let value = Value::Decoded(value.to_owned());
        let mut entries = self.entries.iter_mut();
        if let Some((_, before)) = entries.find(|(at, _)| &self.names[at.clone()] == name) {
            *before = value;
            return;
        }
        let begin = self.names.len();
        self.names.push_str(name);
        self.entries.push((begin..self.names.len(), value));
    }

    /// Those that hold for another head, too.
    pub(crate) fn without_parts_of_heads(mut self) -> Self {
        self.entries
            .retain(|(_, value)| matches!(value, Value::Decoded(_)));
        self
    }

    /// The value of that name, given the head that it may be a part of.
    pub(crate) fn get<'a>(&'a self, name: &str, head: &'a [u8]) -> Option<&'a str> {
        let mut entries = self.iter(head);
        entries.find(|&(other, _)| other == name).map(|of| of.1)
    }

    /// Names and values in their order, given the head that they may be parts of.
    pub(crate) fn iter<'a>(
        &'a self,
        head: &'a [u8],
    ) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.entries.iter().map(move |(at, value)| {
            let value = match value {
                Value::Raw(at) => ascii(&head[at.clone()]),
                Value::Decoded(text) => text,
            };
            (&self.names[at.clone()], value)
        })
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.entries.is_empty() {
            self.names.clear();
            self.entries.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name_and_decoded() {
        let head = b"GET /ann/a%20b/x%ff";
        let mut params = Params::default();
        params.push("who", "ann", 5);
        params.push("what", "a%20b", 9);
        params.push("odd", "x%ff", 15);
        assert_eq!(params.get("who", head), Some("ann"));
        assert_eq!(params.get("what", head), Some("a b"));
        assert_eq!(params.get("odd", head), Some("x\u{fffd}"));
        assert_eq!(params.get("wh", head), None);
        params.clear();
        assert_eq!(params.get("who", head), None);
    }
}
