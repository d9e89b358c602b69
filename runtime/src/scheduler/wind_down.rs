//! A worker's last rounds.

use std::time::Duration;

use super::{
    Worker, now, ready,
    refusal::REFUSED_PATIENCE,
    worker::{SLICE, sooner},
};
use crate::{coroutine::Header, driver::sim, error::Cause};

/// For so long beyond the grace time what has not begun may still be told to drop what it owns.
const LATE: Duration = Duration::from_millis(100);

impl Worker {
    /// The last rounds: everything is cancelled, nothing new begins, until all has ended, or the
    /// grace time is over: false, and what is left has been reported.
    pub(super) fn wind_down(&self) -> bool {
        self.home.rest(|rest| rest.for_each(|task| shut_down(task)));
        let give_up_at = self.scheduler.ending.give_up_at();
        let standby = self.scheduler.standby.take_all();
        standby.into_iter().for_each(|task| self.spawn_local(task));
        loop {
            self.timers.begin_round();
            self.take_inbox();
            self.run_requests();
            for _ in 0..SLICE {
                let Some(task) = self.queue.pop_ready() else {
                    break;
                };
                self.resume(task);
            }
            // So many at a time, for what they own may spawn further ones, without end.
            let mut more = true;
            for _ in 0..SLICE {
                let Some(task) = self.next_unstarted() else {
                    more = false;
                    break;
                };
                // On a stack of its own, where what it owns may lock and wait as it is dropped.
                shut_down(task.header());
                self.begin(task);
            }
            self.begin_refused();
            if self.home.is_empty() && !self.has_refused.get() && !more {
                return true;
            }
            let left = give_up_at.saturating_duration_since(now());
            if left.is_zero() && (!more || now() >= give_up_at + LATE) {
                break;
            }
            if more || !self.queue.is_empty() {
                if sim::is_any() {
                    sim::note_round();
                }
                self.poll(Some(Duration::ZERO));
            } else if self.home.parker.announce() && self.scheduler.requests[self.index].is_empty()
            {
                let refused = self.has_refused.get().then_some(REFUSED_PATIENCE);
                let next = self.timers.next();
                let next = next.map(|at| at.saturating_duration_since(now()));
                let timer = sooner(next, refused);
                self.poll(Some(left.min(timer.unwrap_or(left))));
            }
        }
        let report = |task: &Header| self.scheduler.ending.report(task, false);
        self.home.rest(|rest| rest.for_each(|task| report(task)));
        for task in self.refused.take() {
            report(task.header());
        }
        // What destructors spawned up to the end is not theirs to hold up any more.
        while let Some(task) = self.queue.pop_unstarted() {
            report(task.header());
        }
        false
    }
}

/// Cancels a coroutine because its runtime ends. The children of another are cancelled with that one, or kept
/// by its shields.
pub(super) fn shut_down(task: &Header) {
    if task.leader().is_none() {
        task.waiter.own_scope().cancel(Cause::Shutdown, &mut ready);
    }
}
