//! What a worker does that has nothing to run: it looks around, tidies up, and sleeps.

use std::{cell::Cell, sync::Arc, time::Duration};

use super::{Worker, now, refusal::REFUSED_PATIENCE, snapshot::count, trim::Tidy, worker::sooner};

impl Worker {
    pub(super) fn sleep(&self) {
        let scheduler = &*self.scheduler;
        let alone = scheduler.workers() == 1;
        if !alone && self.sleeper.spin(&self.home.parker) {
            self.timers.begin_round();
            self.take_inbox();
            return;
        }
        let tidy_at = match self.trimmer.tidy(self) {
            Tidy::Done => None,
            Tidy::At(at) => Some(at),
            Tidy::Unfinished => {
                self.poll(Some(Duration::ZERO));
                self.awake_since.set(self.recent());
                return;
            }
        };
        let fell_asleep = (!alone).then(now);
        if let Some(now) = fell_asleep {
            scheduler.compare_load(self.awake_since.get(), now);
        }
        let has_work = || {
            scheduler.has_work_to_steal()
                || !self.home.assigned.lock().is_empty()
                || !self.home.offered.is_empty()
                || !scheduler.requests[self.index].is_empty()
                || scheduler.is_stopping()
        };
        let waited = Cell::new(false);
        let wait = |search_in| {
            waited.set(true);
            count(&self.counts.sleeps);
            let refused = self.has_refused.get().then_some(REFUSED_PATIENCE);
            let next = sooner(self.timers.next(), tidy_at);
            let timeout = next.map(|at| at.saturating_duration_since(now()));
            self.poll(sooner(sooner(timeout, refused), search_in));
        };
        let parker = &self.home.parker;
        scheduler.idle.sleep(parker, &self.sleeper, has_work, wait);
        if !waited.get() {
            // Something had come before, so no poll has ended this round.
            self.timers.begin_round();
        }
        let before = self.counts.woken_from_elsewhere.get();
        self.take_inbox();
        let woken = self.counts.woken_from_elsewhere.get() != before;
        if let Some(at) = fell_asleep {
            let now = now();
            self.awake_since.set(now);
            if woken {
                self.sleeper.note_sleep(now - at);
            }
        }
    }

    /// Waits, for as long as the shutdown does, for those who are about to ring; else keeps what they look at for
    /// good.
    pub(super) fn await_rings(&self) {
        let until = self.scheduler.ending.give_up_at();
        if !self.sleeper.hear_rings(&self.home.parker, until, now) {
            let _kept_for_good = Arc::into_raw(self.home.remote().clone());
        }
    }
}
