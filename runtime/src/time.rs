//! Sleeping, deadlines and timeouts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant, SystemTime},
};

pub use crate::error::Elapsed;
use crate::{
    error::Unwind,
    scheduler::{self, on_waiter},
    stay,
    wait::{self, Interruptible, Reason, Waited},
    waiter::Waiter,
};

/// Suspends the caller for at least `duration`; a plain thread blocks.
///
/// Wakes within a millisecond of the time on an idle worker. A cancellation point: in a cancelled
/// scope, or once its deadline passes, it unwinds to the scope's edge; destructors run and no panic
/// message is printed.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// maniple::run(|| maniple::sleep(Duration::from_millis(5)));
/// ```
pub fn sleep(duration: Duration) {
    // An instant too far to express is never reached.
    sleep_up_to(now().checked_add(duration));
}

/// Sleeps until `at`; returns at once if that has passed.
pub fn sleep_until(at: Instant) {
    sleep_up_to(Some(at));
}

fn sleep_up_to(at: Option<Instant>) {
    if let Err(interrupt) = wait::check() {
        return wait::unwind(Reason::Sleep, interrupt);
    }
    loop {
        let waited = wait::wait(
            Reason::Sleep,
            at,
            Interruptible::Yes,
            |waiter| {
                waiter.claim.arm(true);
                true
            },
            || {},
        );
        match waited {
            Waited::TimedOut | Waited::AtOnce | Waited::Notified => return,
            Waited::Interrupted(interrupt) => return wait::unwind(Reason::Sleep, interrupt),
            Waited::Again => {}
        }
    }
}

/// Runs `f` under a deadline `duration` from now.
///
/// The guard is that of [`deadline`].
///
/// # Errors
/// [`Elapsed`] if a wait in `f` that cannot return an error was cut short by this deadline.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// maniple::run(|| {
///     let quick = maniple::timeout(Duration::from_secs(5), || 42);
///     assert_eq!(quick, Ok(42));
///     let slow = maniple::timeout(Duration::from_millis(5), || maniple::sleep(Duration::from_secs(5)));
///     assert!(slow.is_err());
/// });
/// ```
#[inline]
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    match now().checked_add(duration) {
        Some(at) => deadline(at, f),
        None => Ok(f()),
    }
}

/// Runs `f` under a deadline; an earlier one that is already in force stays so.
///
/// Past the deadline every wait in `f`, and in the groups that it makes, is cut short: one that can
/// return an error returns it (I/O: kind `TimedOut`), one that cannot (`sleep`, `yield_now`, `park`,
/// `Condvar::wait`) unwinds to this call. If `f` returns a value it is kept, whatever happened to its
/// waits: nothing that was done is lost. Waiting for a lock is not cut short.
///
/// # Errors
/// [`Elapsed`] if `f` was unwound by this deadline.
///
/// # Panics
/// With the panic of `f`, if it panics.
pub fn deadline<T>(at: Instant, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let earlier = |outer: Option<Instant>| Some(outer.map_or(at, |outer| outer.min(at)));
    let result = stay::under_deadline(earlier, || catch_unwind(AssertUnwindSafe(f)));
    result.or_else(|payload| match payload.downcast_ref::<Unwind>() {
        // The deadline that passed was set here or further in, unless an outer one is as early.
        Some(Unwind::Elapsed(passed)) if at <= *passed => Err(Elapsed),
        _ => resume_unwind(payload),
    })
}

/// What is left until the deadline in force, or `None` if there is none.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// assert_eq!(maniple::time::remaining(), None);
/// maniple::timeout(Duration::from_secs(5), || {
///     assert!(maniple::time::remaining().unwrap() <= Duration::from_secs(5));
/// }).unwrap();
/// ```
pub fn remaining() -> Option<Duration> {
    let deadline = on_waiter(Waiter::deadline)?;
    Some(deadline.saturating_duration_since(now()))
}

/// The clock that sleeps and deadlines go by: [`Instant::now`], and in a [simulated world](crate::sim) the world's.
///
/// Code that is to be simulated asks here, since there `Instant::now` tells of another time.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let begun = maniple::time::now();
/// maniple::sleep(Duration::from_millis(2));
/// assert!(maniple::time::now() - begun >= Duration::from_millis(2));
/// ```
#[inline]
pub fn now() -> Instant {
    scheduler::now()
}

/// The time of day: [`SystemTime::now`], and in a [simulated world](crate::sim) what the caller's host takes for it.
///
/// There every clock begins with the year 2030; the [host's](crate::sim::Host::set_clock) may be wrong, and drift.
///
/// # Examples
/// ```
/// use std::time::SystemTime;
/// assert!(maniple::time::system_now() > SystemTime::UNIX_EPOCH);
/// ```
#[inline]
pub fn system_now() -> SystemTime {
    scheduler::system_now()
}

/// The clock as of the worker's last look at it: cheap, and behind by no more than the time since the worker last
/// polled. On a plain thread, the clock itself. The kernel has the like in `CLOCK_MONOTONIC_COARSE`.
///
/// For deadlines of many seconds that are set on every request.
#[inline]
pub fn coarse_now() -> Instant {
    wait::recent()
}
