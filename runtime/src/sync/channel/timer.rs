//! What a receiver has in a channel's place if its messages come from the clock, or never.

use std::time::{Duration, Instant};

use super::super::failed::Failed;
use crate::{
    scheduler::now,
    sys::spin::SpinLock,
    wait::{self, Interruptible, Reason, Waited},
};

/// When the next message is due, for all clones of a receiver.
pub(super) struct Timer<T> {
    next: SpinLock<Option<Instant>>,
    period: Option<Duration>,
    /// The identity, since only receivers of instants are made; it saves asking what `T` is.
    message: fn(Instant) -> T,
}

impl Timer<Instant> {
    pub(super) fn new(next: Option<Instant>, period: Option<Duration>) -> Self {
        Self {
            next: SpinLock::new(next),
            period,
            message: |due| due,
        }
    }
}

impl<T> Timer<T> {
    pub(super) fn next(&self) -> Option<Instant> {
        *self.next.lock()
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|due| due <= now)
    }

    /// The message that is due at `now`; each one is given out once.
    pub(super) fn take(&self, now: Instant) -> Option<T> {
        let mut next = self.next.lock();
        let due = next.filter(|&due| due <= now)?;
        *next = self.period.and_then(|period| {
            // In step with the first one, unless that would be for the past.
            let in_step = due.checked_add(period).filter(|&in_step| in_step > now);
            in_step.or_else(|| now.checked_add(period))
        });
        Some((self.message)(due))
    }

    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, Failed> {
        wait::check()?;
        loop {
            let time = now();
            if let Some(message) = self.take(time) {
                wait::spend();
                return Ok(message);
            }
            if deadline.is_some_and(|deadline| deadline <= time) {
                wait::spend();
                return Err(Failed::Timeout);
            }
            let until = [self.next(), deadline].into_iter().flatten().min();
            pause(until)?;
        }
    }
}

/// Waits for a message that will not come.
pub(super) fn recv_never<T>(deadline: Option<Instant>) -> Result<T, Failed> {
    wait::check()?;
    loop {
        if deadline.is_some_and(|deadline| deadline <= now()) {
            wait::spend();
            return Err(Failed::Timeout);
        }
        pause(deadline)?;
    }
}

fn pause(until: Option<Instant>) -> Result<(), Failed> {
    let waited = wait::wait(
        Reason::ChannelRecv,
        until,
        Interruptible::Yes,
        |waiter| {
            waiter.claim.arm(true);
            true
        },
        || {},
    );
    match waited {
        Waited::Interrupted(interrupt) => Err(interrupt.into()),
        Waited::AtOnce | Waited::Notified | Waited::TimedOut | Waited::Again => Ok(()),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    #[test]
    fn a_tick_stays_in_step_and_leaves_out_what_nobody_took() {
        let start = now();
        let timer = Timer::new(Some(start + PERIOD), Some(PERIOD));
        assert_eq!(timer.take(start), None);
        let late = start + PERIOD + PERIOD / 2;
        assert_eq!(timer.take(late), Some(start + PERIOD));
        assert_eq!(timer.take(late), None, "each is given out once");
        assert_eq!(timer.next(), Some(start + 2 * PERIOD), "in step");
        let much_later = start + 7 * PERIOD + PERIOD / 2;
        assert_eq!(timer.take(much_later), Some(start + 2 * PERIOD));
        assert_eq!(timer.take(much_later), None);
        assert_eq!(timer.next(), Some(much_later + PERIOD));
    }

    #[test]
    fn a_single_message_is_given_out_once() {
        let start = now();
        let timer = Timer::new(Some(start), None);
        assert_eq!(timer.take(start), Some(start));
        assert_eq!((timer.take(start + PERIOD), timer.next()), (None, None));
    }
}
