//! Balance: whether some workers have much to do while others sleep.
//!
//! Then what waits for its next piece of work without a coroutine, as connections can, had better let any worker take
//! it: coroutines stay where they began.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::now;

/// What the workers of a runtime have seen of each other's load.
pub(super) struct Balance {
    start: Instant,
    /// Until so many milliseconds after the start, load counts as uneven.
    uneven_until: AtomicU64,
}

/// A worker that has not come to rest for longer, while another slept, says that load is uneven.
const UNEVEN_AFTER: Duration = Duration::from_millis(1);

/// For how long that holds.
const UNEVEN_FOR: Duration = Duration::from_secs(10);

impl Balance {
    pub(super) fn new() -> Self {
        Self {
            start: now(),
            uneven_until: AtomicU64::new(0),
        }
    }

    /// Notes that load is uneven, if a worker that has worked since then should have shared its work.
    #[inline]
    pub(super) fn compare(
        &self,
        worked_since: Instant,
        now: Instant,
        others_sleep: impl FnOnce() -> bool,
    ) {
        if now.saturating_duration_since(worked_since) > UNEVEN_AFTER && others_sleep() {
            self.note_uneven(now);
        }
    }

    #[cold]
    fn note_uneven(&self, now: Instant) {
        let until = self.millis(now + UNEVEN_FOR);
        // Not written to each time: everybody reads it.
        if until > self.uneven_until.load(Ordering::Relaxed) + 1000 {
            self.uneven_until.store(until, Ordering::Relaxed);
        }
    }

    /// Whether some worker had much to do lately while another slept.
    #[inline]
    pub(super) fn is_imbalanced(&self, now: impl FnOnce() -> Instant) -> bool {
        let until = self.uneven_until.load(Ordering::Relaxed);
        until > 0 && self.millis(now()) < until
    }

    fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.start).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}
