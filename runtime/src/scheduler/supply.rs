//! New coroutines on their way to the worker that begins them: spawned here, offered by others, or stolen.

use std::sync::atomic::Ordering;

use super::{Worker, run_queue::Queued};
use crate::coroutine::Unstarted;

/// Work is not handed over for a smaller difference than this in the number of coroutines: to wake the other worker
/// costs a system call.
const MARGIN: usize = 8;

/// Rounds after which new work from other threads goes before a worker's own.
const OTHERS_EVERY: u32 = 32;

impl Worker {
    /// Queues a task that any worker may begin.
    #[inline]
    pub(crate) fn spawn(&self, task: Unstarted) {
        if self.scheduler.workers() == 1 {
            self.spawn_local(task);
        } else {
            self.spawn_shared(task);
        }
    }

    /// Kept out of line: with one worker nobody comes by.
    #[inline(never)]
    fn spawn_shared(&self, task: Unstarted) {
        match self.queue.share(task) {
            Queued::Next => self.scheduler.offer(),
            Queued::Behind => self.scheduler.wake_one(),
            Queued::No(task) => {
                self.scheduler.injector.push(task);
                self.scheduler.wake_one();
            }
        }
    }

    /// Queues a task for the worker with the fewest coroutines, if this one has many more.
    pub(crate) fn spawn_least_loaded(&self, task: Unstarted) {
        let own = self.home.live.load(Ordering::Relaxed);
        match self.scheduler.fewest() {
            Some((home, fewest)) if own > fewest + fewest / 8 + MARGIN => {
                self.scheduler.offer_to(home, task);
            }
            _ => self.spawn(task),
        }
    }

    /// Queues a task that must begin here.
    pub(crate) fn spawn_local(&self, task: Unstarted) {
        self.queue.push_local(task);
    }

    pub(super) fn next_unstarted(&self) -> Option<Unstarted> {
        let rounds = self.home.rounds.load(Ordering::Relaxed).wrapping_add(1);
        self.home.rounds.store(rounds, Ordering::Relaxed);
        if rounds.is_multiple_of(OTHERS_EVERY)
            && let Some(task) = self.take_from_others()
        {
            return Some(task);
        }
        self.queue
            .pop_unstarted()
            .or_else(|| self.take_from_others())
    }

    /// New work from other threads: what only this worker may begin, what it should, what any may.
    pub(super) fn take_from_others(&self) -> Option<Unstarted> {
        if let Some(task) = self.home.assigned.lock().pop_front() {
            return Some(task);
        }
        [&self.home.offered, &self.scheduler.injector]
            .into_iter()
            .find_map(|from| self.queue.take_batch(from))
    }

    /// Brings some other worker's new coroutines here.
    pub(super) fn steal(&self) -> bool {
        let stealers = &self.scheduler.stealers;
        if stealers.len() == 1 {
            return false;
        }
        for offset in 1..stealers.len() {
            let victim = &stealers[(self.index + offset) % stealers.len()];
            if self.queue.steal(victim) {
                return true;
            }
        }
        // What another was offered it has had time to come to.
        if !self.sleeper.has_searched() {
            return false;
        }
        let mut offered = self.scheduler.remotes.iter().map(|home| &home.offered);
        match offered.find_map(|from| self.queue.take_batch(from)) {
            Some(task) => {
                self.queue.share_again(task);
                true
            }
            None => false,
        }
    }
}
