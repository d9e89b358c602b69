//! Who looks after work whose worker does not come to it.
//!
//! A coroutine that is spawned on a worker with nothing else to begin is nearly always begun there, at
//! the spawner's next wait, so nobody is woken for it. But the spawner may compute for seconds. So
//! while any worker is awake, one of those that sleep does so for milliseconds only, and looks
//! whenever it wakes: it fell asleep while others were awake, or was sent on patrol because all others
//! slept deeply.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Both counts are left before the one who leaves looks for work, and read after the work was published
/// and a fence, so that either side sees the other. They are not kept where there is but one worker.
pub(super) struct Patrol {
    /// Workers that are asleep or about to be.
    sleeping: AtomicUsize,
    /// Those of them that will wake in milliseconds.
    napping: AtomicUsize,
}

impl Patrol {
    pub(super) const fn new() -> Self {
        Self {
            sleeping: AtomicUsize::new(0),
            napping: AtomicUsize::new(0),
        }
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
