//! Who looks after work whose worker does not come to it.
//!
//! A coroutine that is spawned on a worker with nothing else to begin is nearly always begun there, at
//! the spawner's next wait, so nobody is woken for it. But the spawner may compute for seconds. So
//! while any worker is awake, one of those that sleep does so for milliseconds only, and looks
//! whenever it wakes: it fell asleep while others were awake, or was sent on patrol because all others
//! slept deeply.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use super::now;

/// Both counts are left before the one who leaves looks for work, and read after the work was published
/// and a fence, so that either side sees the other. They are not kept where there is but one worker.
pub(super) struct Patrol {
    /// Workers that are asleep or about to be.
    sleeping: AtomicUsize,
    /// Those of them that will wake in milliseconds.
    napping: AtomicUsize,
    start: Instant,
    /// Until so many milliseconds after the start, load counts as uneven.
    uneven_until: AtomicU64,
}

/// A worker that has not come to rest for longer, while another slept, says that load is uneven.
const UNEVEN_AFTER: Duration = Duration::from_millis(1);

/// For how long that holds.
const UNEVEN_FOR: Duration = Duration::from_secs(10);

impl Patrol {
    pub(super) fn new() -> Self {
        Self {
            sleeping: AtomicUsize::new(0),
            napping: AtomicUsize::new(0),
            start: now(),
            uneven_until: AtomicU64::new(0),
        }
    }

    /// Notes that load is uneven, if a worker that has worked since then should have shared its work.
    #[inline]
    pub(super) fn compare(&self, worked_since: Instant, now: Instant) {
        if now.saturating_duration_since(worked_since) > UNEVEN_AFTER && self.any_asleep() {
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
    pub(super) fn is_uneven(&self, now: impl FnOnce() -> Instant) -> bool {
        let until = self.uneven_until.load(Ordering::Relaxed);
        until > 0 && self.millis(now()) < until
    }

    fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.start).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    /// Whether anybody could be woken.
    #[inline]
    pub(super) fn any_asleep(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst) > 0
    }

    /// Whether there are sleepers, none of whom will look for work by itself.
    #[inline]
    pub(super) fn all_sleep_deeply(&self) -> bool {
        self.any_asleep() && self.napping.load(Ordering::SeqCst) == 0
    }

    /// Counts the caller among the sleepers; how many there were.
    pub(super) fn fall_asleep(&self) -> usize {
        self.sleeping.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn wake_up(&self) {
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts the caller among those who nap, for as long as `nap` takes.
    pub(super) fn while_napping(&self, nap: impl FnOnce()) {
        self.napping.fetch_add(1, Ordering::SeqCst);
        nap();
        self.napping.fetch_sub(1, Ordering::SeqCst);
    }
}
