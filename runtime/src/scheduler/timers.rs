//! A worker's timers: who is to be woken when, and what time it is.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use super::now;
use crate::{
    coroutine::{self, Fired, Ready, Running, Timed},
    driver::sim,
    wheel::{Key, Wheel},
};

pub(super) struct Timers {
    wheel: RefCell<Wheel<Timed>>,
    /// Timers that fired before their coroutine's wait was over, to be armed again.
    early: RefCell<Vec<Timed>>,
    /// The wheel's next expiry, and when that is, while it is known: none fires before. A poll looks here, not there.
    next: Cell<Option<(u64, Instant)>>,
    clock: Clock,
}

impl Timers {
    pub(super) fn start() -> Self {
        Self {
            wheel: RefCell::new(Wheel::new(0)),
            early: RefCell::new(Vec::new()),
            next: Cell::new(None),
            clock: Clock::start(),
        }
    }

    /// A new round: the next to ask reads the clock.
    #[inline]
    pub(super) fn begin_round(&self) {
        self.clock.tick();
    }

    /// The time as of this round, read at most once in it.
    #[inline]
    pub(super) fn recent(&self) -> Instant {
        self.clock.recent()
    }

    pub(super) fn len(&self) -> usize {
        self.wheel.borrow().len()
    }

    /// Sees to it that the running coroutine's wait, which is about to begin, ends at `deadline`.
    #[inline]
    pub(super) fn set_alarm(&self, task: Running<'_>, deadline: Instant) {
        let due = self.clock.tick_at_or_after(deadline);
        coroutine::set_alarm(
            task,
            due,
            |due, timed| {
                if self.next.get().is_some_and(|(next, _)| due < next) {
                    self.next.set(None);
                }
                self.wheel.borrow_mut().insert(due, timed)
            },
            |timer| self.disarm(timer),
        );
    }

    #[inline]
    pub(super) fn disarm(&self, timer: Key) -> Option<Timed> {
        self.next.set(None);
        self.wheel.borrow_mut().remove(timer)
    }

    /// None fires before this.
    #[inline]
    pub(super) fn next(&self) -> Option<Instant> {
        if self.next.get().is_none() {
            let next = self.wheel.borrow().next_expiry();
            self.next
                .set(next.map(|tick| (tick, self.clock.time_of(tick))));
        }
        self.next.get().map(|(_, at)| at)
    }

    /// Ends the waits that are due, and hands on whose they were.
    #[inline]
    pub(super) fn fire(&self, ready: impl FnMut(Ready)) {
        if self.wheel.borrow().is_empty() {
            return;
        }
        if self.next().is_some_and(|next| next <= self.recent()) {
            self.fire_due(ready);
        }
    }

    fn fire_due(&self, mut ready: impl FnMut(Ready)) {
        let present = self.clock.ticks_until(self.recent());
        self.next.set(None);
        let mut wheel = self.wheel.borrow_mut();
        let mut early = self.early.borrow_mut();
        wheel.advance(
            present,
            &mut |timed: Timed| match coroutine::fire(timed, present) {
                Fired::Early(timed) => early.push(timed),
                Fired::Due(task) => ready(task),
                Fired::Late => {}
            },
        );
        for timed in early.drain(..) {
            coroutine::arm_again(timed, |due, timed| wheel.insert(due, timed));
        }
    }
}

/// Turns instants into the wheel's ticks, and has a reading that is shared by a round.
struct Clock {
    start: Instant,
    /// A tick has two to this power of nanoseconds.
    tick_shift: u32,
    recent: Cell<Option<Instant>>,
}

/// 65.5 µs: fine enough for a millisecond's precision, coarse enough that bursts share a tick.
const TICK_NANOS_SHIFT: u32 = 16;

impl Clock {
    fn start() -> Self {
        let tick_shift = match sim::is_any() && sim::current().is_some() {
            false => TICK_NANOS_SHIFT,
            // In a world a timer fires at its very time.
            true => 0,
        };
        Self {
            start: now(),
            tick_shift,
            recent: Cell::new(None),
        }
    }

    /// A new round: the next to ask reads the clock.
    #[inline]
    fn tick(&self) {
        self.recent.set(None);
    }

    #[inline]
    fn recent(&self) -> Instant {
        match self.recent.get() {
            Some(recent) => recent,
            None => {
                let read = now();
                self.recent.set(Some(read));
                read
            }
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        since
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(since.subsec_nanos().into())
    }

    #[inline]
    fn tick_at_or_after(&self, at: Instant) -> u64 {
        (self.nanos(at).saturating_sub(1) >> self.tick_shift) + 1
    }

    #[inline]
    fn ticks_until(&self, at: Instant) -> u64 {
        self.nanos(at) >> self.tick_shift
    }

    fn time_of(&self, tick: u64) -> Instant {
        let nanos = tick.saturating_mul(1 << self.tick_shift);
        self.start
            .checked_add(Duration::from_nanos(nanos))
            .unwrap_or_else(|| now() + Duration::from_secs(3600))
    }
}
