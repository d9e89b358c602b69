//! The turns of a world, as lines and as a number that tells one course of them from others.

use std::{fmt, panic::Location};

use super::host::HostId;

/// A turn of a coroutine, for the trace.
pub(crate) struct Turn<'a> {
    /// Whose.
    pub(crate) id: u64,
    pub(crate) of: usize,
    pub(crate) drawn: usize,
    pub(crate) host: HostId,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) name: Option<&'a dyn fmt::Display>,
    pub(crate) waited_for: &'a dyn fmt::Display,
}

impl fmt::Display for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 of {:<3} ", self.of)?;
        if let Some(name) = self.name {
            write!(f, "{name:#} ")?;
        }
        write!(f, "({}) after: {}", self.spawned_at, self.waited_for)
    }
}

/// What has happened, as a number.
pub(super) struct Trace {
    pub(super) hash: u64,
    pub(super) turns: u64,
}

impl Trace {
    /// FNV-1a, a word at a time.
    pub(super) fn add(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(23);
    }
}
