//! Gives memory back to the kernel that coroutines do not need while they wait.
//!
//! A stack keeps every page that it ever touched, though a coroutine that waits needs only those of its
//! suspended frames. Therefore each worker sweeps over its own coroutines from time to time. It takes notice
//! of those that wait, and of those that still do at the next sweep it gives back the pages below their
//! frames. They were then suspended all the while, and the worker itself looks at them between two turns,
//! so nothing runs on these stacks meanwhile.
//!
//! # What it costs
//!
//! Nothing to a coroutine: see [`Still::sight`](crate::coroutine::Still::sight). A worker sweeps when it is
//! about to sleep, or else every so many rounds, in batches between which it looks for other work. Once
//! everything that waits is trimmed, it does not wake up for this again before a coroutine has run.
//!
//! The free stacks of pools that stay unused go the same way.

use std::{
    cell::Cell,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{Worker, watermark::keeps_pages};
use crate::{
    coroutine::{Sighting, Sweep},
    sys::memory,
};

/// What a worker remembers of its sweeps. Times are of the coarse clock.
pub(super) struct Trimmer {
    /// How long a coroutine must have waited; `None` if nothing is ever trimmed.
    after: Option<Duration>,
    /// The sweep under way, or the last one.
    sweep: Cell<Sweep>,
    /// Coroutines that it has yet to look at.
    left: Cell<usize>,
    /// Whether it has found any that the next one may trim.
    found: Cell<bool>,
    /// The worker's turn when it began.
    since: Cell<u64>,
    /// When the next one may begin.
    due: Cell<Duration>,
    /// The turn since which all that wait are trimmed.
    stacks_settled: Cell<u64>,
    /// When to look at the free stacks.
    pools_due: Cell<Duration>,
    /// The turn since which no free stack keeps memory.
    pools_settled: Cell<u64>,
    /// Coroutines that the worker had begun when it last looked at its free stacks.
    begun: Cell<u64>,
    busy_rounds: Cell<u32>,
    /// Until then there is nothing to do, whatever runs, by the worker's own clock: it need not read this one's.
    quiet_until: Cell<Option<Instant>>,
}

/// What a worker that is about to sleep should know.
pub(super) enum Tidy {
    /// There is nothing to give back before a coroutine runs.
    Done,
    /// There may be, from this time on.
    At(Instant),
    /// There is, now.
    Unfinished,
}

/// Looks in one batch, at some 0.1 µs each.
const LOOKS: usize = 256;

/// Stacks that are trimmed in one batch, at some microseconds each.
const TRIMS: usize = 32;

/// Free stacks of each size that give up their memory in one batch.
const DISCARDS: usize = 64;

/// The least time between two sweeps for each coroutine that was looked at: 200 times what a look takes.
const PACE: Duration = Duration::from_micros(20);

/// Free stacks keep their memory for so many times as long as waiting coroutines.
const POOL_PATIENCE: u32 = 6;

/// Rounds of a worker that does not come to sleep, between two batches.
const BUSY_ROUNDS: u32 = 64;

/// As a turn: none yet.
const NEVER: u64 = u64::MAX;

impl Trimmer {
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self {
            after,
            sweep: Cell::new(Sweep::Odd),
            left: Cell::new(0),
            found: Cell::new(false),
            since: Cell::new(0),
            due: Cell::new(Duration::ZERO),
            stacks_settled: Cell::new(0),
            pools_due: Cell::new(Duration::ZERO),
            pools_settled: Cell::new(0),
            begun: Cell::new(0),
            busy_rounds: Cell::new(0),
            quiet_until: Cell::new(None),
        }
    }

    /// Gives back a batch, if it is time to, before the worker sleeps, whose own this is.
    #[inline]
    pub(super) fn tidy(&self, worker: &Worker) -> Tidy {
        let turn = worker.home.turn.load(Ordering::Relaxed);
        let stacks_are_settled = self.stacks_settled.get() == turn;
        let pools_are_settled = self.pools_settled.get() == turn;
        if stacks_are_settled && pools_are_settled {
            return Tidy::Done;
        }
        if let Some(until) = self.quiet_until.get()
            && !stacks_are_settled
            && !pools_are_settled
            && worker.recent() < until
        {
            return Tidy::At(until);
        }
        match self.after {
            None => Tidy::Done,
            Some(after) => self.tidy_up(worker, turn, after),
        }
    }

    /// Does the work of [`tidy`](Self::tidy) in one of many rounds.
    #[inline]
    pub(super) fn tidy_while_busy(&self, worker: &Worker) {
        let rounds = self.busy_rounds.get().wrapping_add(1);
        self.busy_rounds.set(rounds);
        if rounds.is_multiple_of(BUSY_ROUNDS) {
            self.tidy(worker);
        }
    }

    fn tidy_up(&self, worker: &Worker, turn: u64, after: Duration) -> Tidy {
        if self.left.get() > 0 {
            self.sweep_on(worker);
            return Tidy::Unfinished;
        }
        let now = coarse_now();
        self.quiet_until.set(None);
        let mut next = Duration::MAX;
        if self.stacks_settled.get() != turn {
            if now >= self.due.get() {
                self.begin_sweep(worker, turn, now, after);
                return Tidy::Unfinished;
            }
            next = self.due.get();
        }
        if self.pools_settled.get() != turn {
            if now >= self.pools_due.get() {
                self.shrink_pools(worker, turn, now, after * POOL_PATIENCE);
                return Tidy::Unfinished;
            }
            next = next.min(self.pools_due.get());
        }
        let at = worker.recent().checked_add(next - now);
        // What is settled is so until a coroutine runs.
        if self.stacks_settled.get() != turn && self.pools_settled.get() != turn {
            self.quiet_until.set(at);
        }
        at.map_or(Tidy::Done, Tidy::At)
    }

    fn begin_sweep(&self, worker: &Worker, turn: u64, now: Duration, after: Duration) {
        let coroutines = worker.home.live.load(Ordering::Relaxed);
        let pace = PACE.saturating_mul(coroutines.try_into().unwrap_or(u32::MAX));
        self.due.set(now + after.max(pace));
        self.sweep.set(self.sweep.get().next());
        self.since.set(turn);
        self.found.set(false);
        self.left.set(coroutines);
        self.sweep_on(worker);
    }

    /// One batch of the sweep under way.
    #[cold]
    fn sweep_on(&self, worker: &Worker) {
        worker.home.rest(|rest| {
            let (mut unused, mut bytes) = (Vec::new(), 0);
            for _ in 0..LOOKS.min(self.left.get()) {
                let Some(task) = rest.next_in_turn() else {
                    self.left.set(0);
                    break;
                };
                self.left.set(self.left.get() - 1);
                match task.sight(self.sweep.get()) {
                    Sighting::First => self.found.set(true),
                    Sighting::Again(pages) => match pages.resident() {
                        Ok(0) | Err(_) => {}
                        Ok(_) if keeps_pages(&task) => {}
                        Ok(resident) => {
                            bytes += resident;
                            unused.push(pages);
                        }
                    },
                    Sighting::Done => {}
                }
                if unused.len() == TRIMS {
                    break;
                }
            }
            // Memory that is locked stays.
            if !unused.is_empty() && memory::give_back(&unused).is_ok() {
                worker.scheduler.slabs.trimmed(unused.len(), bytes);
            }
        });
        if self.left.get() == 0 && !self.found.get() {
            self.stacks_settled.set(self.since.get());
        } else {
            self.stacks_settled.set(NEVER);
        }
    }

    /// A batch of the free stacks that went unused for `patience`.
    #[cold]
    fn shrink_pools(&self, worker: &Worker, turn: u64, now: Duration, patience: Duration) {
        let slabs = &worker.scheduler.slabs;
        let due = slabs.shrink(now, patience, DISCARDS);
        if due.is_some_and(|due| due <= now) {
            self.pools_due.set(now);
            return;
        }
        let begun = worker.counts.begun.get();
        let unused = self.begun.replace(begun) == begun;
        let mut at_hand = worker.stacks.borrow_mut();
        match due {
            None if at_hand.is_empty() => self.pools_settled.set(turn),
            due => self.pools_due.set(due.unwrap_or(now + patience)),
        }
        if unused {
            at_hand.give_back_all();
        }
    }
}

/// A monotonic clock that is some milliseconds behind and costs next to nothing to read.
fn coarse_now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::try_from(now).unwrap_or_default()
}
