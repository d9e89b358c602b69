//! A second attempt where the first is slow: [`hedge`], and [`Hedger`], which learns what slow is.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    cancel,
    group::{
        decided,
        hedge_cap::{Cap, Counts},
        join::cut_short,
    },
    scheduler::now,
    sys::spin::SpinLock,
    time,
};

/// Calls `attempt`, and a second time if the first has not succeeded after `delay`; the first success wins.
///
/// `attempt` gets the index of the attempt, 0 or 1. The loser is cancelled, and `hedge` returns once it
/// has ended. If the first attempt fails before the delay is over, the second begins at once, unless the
/// caller is cancelled or past its deadline: then there is none. For calls
/// that may be made twice, to services whose slow answers are rare and accidental.
///
/// Elsewhere: "hedged request" in Dean and Barroso's *The Tail at Scale* and gRPC's hedging policy;
/// Go, Java, Kotlin, Eio and Trio have no call for it.
///
/// # Errors
/// The second attempt's, if both fail.
///
/// # Panics
/// With an attempt's panic; the other one is cancelled. Cancellation and deadlines reach both.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let answer = maniple::group::hedge(Duration::from_millis(5), |attempt| {
///     maniple::sleep(Duration::from_millis(if attempt == 0 { 60_000 } else { 1 }));
///     Ok::<_, ()>(attempt)
/// });
/// assert_eq!(answer, Ok(1));
/// ```
pub fn hedge<F, T, E>(delay: Duration, attempt: F) -> Result<T, E>
where
    F: Fn(usize) -> Result<T, E> + Sync,
    T: Send,
    E: Send,
{
    hedge_if(delay, || true, attempt)
}

/// Makes the second attempt only if it may be made when it is due.
fn hedge_if<F, T, E>(delay: Duration, may: impl Fn() -> bool + Sync, attempt: F) -> Result<T, E>
where
    F: Fn(usize) -> Result<T, E> + Sync,
    T: Send,
    E: Send,
{
    let may = &may;
    let begin_second = now().checked_add(delay);
    let (attempt, second_taken) = (&attempt, &AtomicBool::new(false));
    let (mut failed, mut failed_aside) = (None, None);
    let aside = &mut failed_aside;
    // The first success takes the place of a group's first error: it is what ends the group. The first
    // attempt is the leader's, which spares the usual case a switch.
    let undecided = decided(|g| {
        let second = begin_second.map(|at| {
            g.try_spawn(move || {
                time::sleep_until(at);
                if second_taken.swap(true, Ordering::Relaxed) || !may() {
                    return Ok(());
                }
                lost_or_won(attempt(1), aside)
            })
        });
        lost_or_won(attempt(0), &mut failed)?;
        if !second_taken.swap(true, Ordering::Relaxed) {
            if let Some(waits) = second {
                waits.cancel();
            }
            // A caller that is cut has no use for it.
            if cancel::check().is_ok() && may() {
                lost_or_won(attempt(1), &mut failed)?;
            }
        }
        Ok(())
    });
    match undecided {
        Err(value) => Ok(value),
        Ok(()) => Err(failed_aside.or(failed).unwrap_or_else(|| cut_short())),
    }
}

/// Keeps an error, and makes of a success what ends the group.
fn lost_or_won<T, E>(result: Result<T, E>, failed: &mut Option<E>) -> Result<(), T> {
    match result {
        Ok(value) => Err(value),
        Err(error) => {
            *failed = Some(error);
            Ok(())
        }
    }
}

/// Hedges calls of one kind after a delay that it learns: a percentile of how long they took lately.
///
/// It keeps the last 64 times of first attempts. With the default, the 95th percentile, about one call
/// in twenty is made twice, whatever the service's speed. The time of a first attempt that was cancelled
/// counts, since it is a slow one; that of an attempt which failed sooner than the delay does not. To be
/// shared by all who make such calls.
///
/// When *all* answers become slow, the delay is short for a while, and nearly every call is made twice, to a service
/// that has too much to do already: see [`Hedger::at_most`].
///
/// # Examples
/// ```
/// use maniple::group::Hedger;
/// use std::time::Duration;
/// static LOOKUPS: Hedger = Hedger::new(Duration::from_millis(50));
/// let found = LOOKUPS.run(|_attempt| Ok::<_, ()>("found"));
/// assert_eq!(found, Ok("found"));
/// ```
pub struct Hedger {
    initial: Duration,
    percent: usize,
    cap: Option<Cap>,
    times: SpinLock<Ring>,
    counts: SpinLock<Counts>,
}

/// What a [`Hedger`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeStats {
    /// Calls, each counted once.
    pub calls: u64,
    /// Second attempts.
    pub hedges: u64,
    /// Second attempts that succeeded.
    pub won: u64,
    /// Second attempts that were not made, since there were too many.
    pub refused: u64,
}

impl Hedger {
    /// A hedger that uses `initial` as the delay until it has seen 16 calls, and then the 95th percentile.
    #[cfg(not(loom))]
    pub const fn new(initial: Duration) -> Self {
        Self {
            initial,
            percent: 95,
            cap: None,
            times: SpinLock::new(Ring::new()),
            counts: SpinLock::new(Counts::new()),
        }
    }

    /// The same for models, whose lock is no constant.
    #[cfg(loom)]
    pub fn new(initial: Duration) -> Self {
        Self {
            initial,
            percent: 95,
            cap: None,
            times: SpinLock::new(Ring::new()),
            counts: SpinLock::new(Counts::new()),
        }
    }

    /// The percentile that it uses as the delay.
    ///
    /// # Panics
    /// Unless it is from 1 to 100.
    pub const fn percentile(mut self, percent: usize) -> Self {
        assert!(percent >= 1 && percent <= 100);
        self.percent = percent;
        self
    }

    /// Of so many calls in a hundred there may be a second attempt, among those of the last `window`, and one in each
    /// window in any case. Beyond that a slow call waits for its first attempt, and one that fails has failed. Default:
    /// no bound.
    ///
    /// So a service whose answers are all slow gets a tenth more calls, say, and not twice as many. brpc has the same
    /// as `max_backup_ratio`.
    ///
    /// # Examples
    /// ```
    /// use maniple::group::Hedger;
    /// use std::time::Duration;
    /// let hedger = Hedger::new(Duration::ZERO).at_most(10, Duration::from_secs(10));
    /// for _ in 0..1000 {
    ///     // Each asks for a second attempt.
    ///     let failed = hedger.run(|_attempt| Err::<(), _>("down"));
    ///     assert!(failed.is_err());
    /// }
    /// assert_eq!(hedger.stats().hedges, 100);
    /// ```
    pub const fn at_most(mut self, percent: u32, window: Duration) -> Self {
        self.cap = Some(Cap { percent, window });
        self
    }

    /// What it has seen so far.
    pub fn stats(&self) -> HedgeStats {
        let counts = self.counts.lock();
        HedgeStats {
            calls: counts.calls,
            hedges: counts.hedges,
            won: counts.won,
            refused: counts.refused,
        }
    }

    /// The delay that the next call will use.
    pub fn delay(&self) -> Duration {
        // Sorted outside the lock, which is a spinning one.
        let times = *self.times.lock();
        times.percentile(self.percent).unwrap_or(self.initial)
    }

    /// Makes a second attempt like [`hedge`], after the delay that it has learnt.
    ///
    /// # Errors
    /// The second attempt's, if both fail.
    ///
    /// # Panics
    /// Panics as [`hedge`] does.
    pub fn run<F, T, E>(&self, attempt: F) -> Result<T, E>
    where
        F: Fn(usize) -> Result<T, E> + Sync,
        T: Send,
        E: Send,
    {
        let delay = self.delay();
        self.counts.lock().call(self.cap, now());
        let may = || self.counts.lock().may_hedge(self.cap, now());
        hedge_if(delay, may, |index| {
            if index > 0 {
                let result = attempt(index);
                self.counts.lock().won += u64::from(result.is_ok());
                return result;
            }
            let mut timed = Timed {
                hedger: self,
                begun: now(),
                counts_from: delay,
            };
            let result = attempt(index);
            if result.is_ok() {
                timed.counts_from = Duration::ZERO;
            }
            result
        })
    }
}

impl fmt::Debug for Hedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedger")
            .field("percentile", &self.percent)
            .field("delay", &self.delay())
            .field("stats", &self.stats())
            .finish()
    }
}

/// Notes the time of a first attempt, however it ends.
struct Timed<'a> {
    hedger: &'a Hedger,
    begun: Instant,
    counts_from: Duration,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let taken = now().saturating_duration_since(self.begun);
        if taken >= self.counts_from {
            self.hedger.times.lock().push(taken);
        }
    }
}

/// The last times, in microseconds.
#[derive(Clone, Copy)]
struct Ring {
    micros: [u32; KEPT],
    pushed: usize,
}

const KEPT: usize = 64;
/// Fewer tell nothing about a percentile near the end.
const ENOUGH: usize = 16;

impl Ring {
    const fn new() -> Self {
        Self {
            micros: [0; KEPT],
            pushed: 0,
        }
    }

    fn push(&mut self, time: Duration) {
        self.micros[self.pushed % KEPT] = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.pushed = self.pushed.wrapping_add(1);
    }

    fn percentile(mut self, percent: usize) -> Option<Duration> {
        let len = self.pushed.min(KEPT);
        if len < ENOUGH {
            return None;
        }
        let rank = (len * percent).div_ceil(100) - 1;
        let (_, micros, _) = self.micros[..len].select_nth_unstable(rank);
        Some(Duration::from_micros(u64::from(*micros)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_ring_knows_percentiles_of_its_last_times() {
        let mut ring = Ring::new();
        for millis in 1..16 {
            ring.push(Duration::from_millis(millis));
        }
        assert_eq!(ring.percentile(95), None, "too few");
        for millis in (16..=1064).rev() {
            ring.push(Duration::from_millis(millis));
        }
        // The last 64: 16 to 79.
        assert_eq!(ring.percentile(50), Some(Duration::from_millis(47)));
        assert_eq!(ring.percentile(95), Some(Duration::from_millis(76)));
        assert_eq!(ring.percentile(100), Some(Duration::from_millis(79)));
        ring.push(Duration::MAX);
        let most = Duration::from_micros(u64::from(u32::MAX));
        assert_eq!(ring.percentile(100), Some(most));
    }
}
