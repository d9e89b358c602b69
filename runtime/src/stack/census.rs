//! How many stacks there are, and how many there have been at once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A snapshot of the stacks of one runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StackStats {
    /// Stacks outside the slabs: those that coroutines run on, and the few that each worker keeps
    /// at hand.
    pub(crate) live: usize,
    /// The most that `live` has been.
    pub(crate) high_water: usize,
    /// Free stacks whose touched pages are still backed by memory.
    pub(crate) warm: usize,
    /// Free stacks whose memory was given back.
    pub(crate) cold: usize,
    /// Mappings that stacks are carved from.
    pub(crate) regions: usize,
    /// Address space of those mappings, in bytes.
    pub(crate) mapped: usize,
    /// How often a suspended coroutine's stack was trimmed.
    pub(crate) trimmed: u64,
    /// Bytes that were given back so.
    pub(crate) trimmed_bytes: u64,
    /// How many coroutines could not begin for want of a stack.
    pub(crate) refused: u64,
}

/// Counts the stacks that are lent out, against a limit.
///
/// The counters guard no other memory, so `Relaxed` suffices: the stacks themselves pass through a
/// mutex.
#[derive(Debug)]
pub(super) struct Census {
    limit: usize,
    live: AtomicUsize,
    high_water: AtomicUsize,
    trimmed: AtomicU64,
    trimmed_bytes: AtomicU64,
    refused: AtomicU64,
}

impl Census {
    pub(super) const fn new(limit: usize) -> Census {
        Census {
            limit,
            live: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
            trimmed: AtomicU64::new(0),
            trimmed_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Grants as many of `wanted` stacks as the limit leaves, perhaps none.
    pub(super) fn lend(&self, wanted: usize) -> usize {
        let mut granted = 0;
        let before = self
            .live
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| {
                granted = wanted.min(self.limit.saturating_sub(live));
                Some(live + granted)
            });
        let (Ok(live) | Err(live)) = before;
        self.high_water.fetch_max(live + granted, Ordering::Relaxed);
        granted
    }

    /// Takes back stacks that [`Census::lend`] granted.
    pub(super) fn take_back(&self, count: usize) {
        self.live.fetch_sub(count, Ordering::Relaxed);
    }

    /// Counts suspended stacks that gave back so many bytes in all.
    pub(super) fn trimmed(&self, stacks: usize, bytes: usize) {
        self.trimmed.fetch_add(stacks as u64, Ordering::Relaxed);
        self.trimmed_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What [`Census::trimmed`] counted: stacks, and bytes.
    pub(super) fn trimmed_so_far(&self) -> (u64, u64) {
        (
            self.trimmed.load(Ordering::Relaxed),
            self.trimmed_bytes.load(Ordering::Relaxed),
        )
    }

    /// Counts a coroutine that could not begin.
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn high_water(&self) -> usize {
        self.high_water.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_granted_than_the_limit_leaves() {
        let census = Census::new(10);
        assert_eq!(census.lend(8), 8);
        assert_eq!(census.lend(8), 2);
        assert_eq!(census.lend(8), 0);
        census.take_back(3);
        assert_eq!(census.lend(1), 1);
        assert_eq!(census.live(), 8);
        assert_eq!(census.high_water(), 10);
    }
}
