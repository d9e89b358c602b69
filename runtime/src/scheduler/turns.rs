//! Turns of coroutines: the first and the next, how many operations that need not wait are in one, and what is noted
//! around it.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use log::Level;

use super::{Worker, ledger::Aside, now, snapshot::count, watermark, yield_turn};
use crate::{
    coroutine::{Host, Looks, Ready, Still, Timed, Unstarted, looks},
    stack::Stack,
    sys::later,
    waiter::Claimed,
    wheel::Key,
};

/// Operations without a suspension that a coroutine gets per turn.
pub(super) const BUDGET: u32 = 128;

impl Worker {
    /// Always inlined, for the reason that `suspend` gives.
    #[inline(always)]
    pub(super) fn resume(&self, next: Ready) {
        self.resume_within(next, BUDGET);
    }

    /// A turn, with so many operations that need not wait.
    #[inline(always)]
    pub(super) fn resume_within(&self, next: Ready, budget: u32) {
        self.budget.set(budget);
        let next = match looks().any() {
            false => next,
            true => self.look_before(next),
        };
        self.home.resume(next, self);
    }

    /// What is noted before a turn: its time, if that is wanted.
    #[cold]
    #[inline(never)]
    fn look_before(&self, next: Ready) -> Ready {
        let looks = looks();
        if looks.depths() {
            let paint = self.scheduler.config.paint_stacks;
            self.home
                .rest(|rest| watermark::before_turn(&rest.of(&next), paint));
        }
        self.turn_since.set(looks.times().then(now));
        next
    }

    #[inline]
    pub(super) fn begin(&self, task: Unstarted) {
        self.begin_within(task, BUDGET);
    }

    /// Its first turn, with so many operations that need not wait.
    #[inline(always)]
    pub(super) fn begin_within(&self, task: Unstarted, budget: u32) {
        let stack = if task.needs_stack() {
            match self.acquire_stack(task.header().origin.class) {
                Ok(stack) => Some(stack),
                Err(error) => return self.refuse(task, error),
            }
        } else {
            None
        };
        count(&self.counts.begun);
        self.resume_within(self.home.begin(task, stack), budget);
    }

    /// Has the running coroutine leave its stack while it unwinds: see [`ledger`](super::ledger).
    #[cold]
    #[inline(never)]
    pub(super) fn without_panics(&self, leave: impl FnOnce()) {
        let aside = self.ledgers.borrow_mut().lay_aside();
        if let Aside::Left(Some(error)) = &aside {
            tell_of_missing_ledger(error);
        }
        leave();
        self.ledgers.borrow_mut().take_up(aside);
    }

    /// Takes away what an ended coroutine has left of its count: a panic hook that panics after a wait replaces
    /// an unwinding by another, and both are caught as one.
    #[cold]
    fn strike_off(&self) {
        let mut ledgers = self.ledgers.borrow_mut();
        match ledgers.lay_aside() {
            Aside::Laid(_) => {}
            left @ Aside::Left(_) => ledgers.take_up(left),
        }
    }

    /// Counts an operation that succeeded at once; gives way when there were many in this turn.
    #[inline]
    pub(crate) fn spend(&self) {
        let left = self.budget.get();
        if left > 0 {
            self.budget.set(left - 1);
        } else {
            give_way();
        }
    }
}

impl Host for Worker {
    #[inline]
    fn look(&self, task: &Still<'_>, looks: Looks, ended: bool) {
        if let Some(begun) = self.turn_since.take()
            && !ended
        {
            let record = &task.record;
            let now = now();
            record.since.set(Some(now));
            record.ran.set(record.ran.get() + (now - begun));
            count(&record.turns);
        }
        if looks.depths() {
            watermark::after_turn(self.id(), task, ended);
        }
    }

    #[inline]
    fn take_stack(&self, stack: Stack) {
        if std::thread::panicking() {
            self.strike_off();
        }
        self.stacks.borrow_mut().release(stack);
    }

    #[inline]
    fn disarm(&self, timer: Key) -> Option<Timed> {
        self.timers.disarm(timer)
    }

    #[inline]
    fn ready(&self, claimed: Claimed) {
        Worker::ready(self, claimed);
    }
}

/// Once in the process.
#[cold]
fn tell_of_missing_ledger(error: &io::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        // Its wait has begun: a logger that waits here would do so twice at a time.
        let line = format!(
            "a coroutine waits while it unwinds, and the thread that would keep its panic apart could not be \
             started: others on its worker are taken for unwinding meanwhile: {error}"
        );
        later::say(Level::Error, line);
    }
}

/// Kept out of line, with the registers that it saves: every operation that need not wait comes by here.
#[cold]
#[inline(never)]
fn give_way() {
    if let Some(worker) = Worker::current() {
        worker.gave_way.set(true);
    }
    yield_turn();
}
