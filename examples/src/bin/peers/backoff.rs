//! Pauses between attempts: twice as long each time up to a cap, and each at random below that.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Capped exponential back-off with full jitter.
///
/// Each pause lies anywhere between nothing and its bound, so that clients that failed together do not
/// come together again. A fixed share of the bound would keep them in step, only later each time.
#[derive(Debug)]
pub struct Backoff {
    bounds: RangeInclusive<Duration>,
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// `bounds` are the bound of the first pause and that of the longest.
    pub fn new(bounds: RangeInclusive<Duration>, rng: fastrand::Rng) -> Backoff {
        Backoff {
            bounds,
            failures: 0,
            rng,
        }
    }

    /// Counts a failure; the pause before the next attempt.
    pub fn failed(&mut self) -> Duration {
        let factor = 2_u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let bound = self.bounds.start().saturating_mul(factor);
        self.below(bound.min(*self.bounds.end()))
    }

    /// A pause as after one failure, which it does not count.
    pub fn first(&mut self) -> Duration {
        self.below(*self.bounds.start())
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn below(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(self.rng.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(20);
    const CAP: Duration = Duration::from_millis(100);

    #[test]
    fn bounds_double_up_to_the_cap_and_pauses_lie_anywhere_below() {
        let seed = fastrand::u64(..);
        let mut backoffs: Vec<_> = (0..1000)
            .map(|n| Backoff::new(FIRST..=CAP, fastrand::Rng::with_seed(seed.wrapping_add(n))))
            .collect();
        for bound_ms in [20, 40, 80, 100, 100, 100] {
            let bound = Duration::from_millis(bound_ms);
            let pauses: Vec<_> = backoffs.iter_mut().map(Backoff::failed).collect();
            assert!(pauses.iter().all(|&pause| pause <= bound), "seed {seed}");
            // Of a thousand, none in a quarter would be luck of 1 in 10^124.
            for quarter in 0..4 {
                let (from, to) = (bound * quarter / 4, bound * (quarter + 1) / 4);
                let within = |pause: &&Duration| (from..=to).contains(pause);
                assert!(pauses.iter().any(|pause| within(&pause)), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_success_begins_it_anew() {
        let mut backoff = Backoff::new(FIRST..=CAP, fastrand::Rng::with_seed(1));
        (0..200).for_each(|_| assert!(backoff.failed() <= CAP));
        assert_eq!(backoff.failures(), 200);
        backoff.reset();
        assert!(backoff.failed() <= FIRST);
        assert_eq!(backoff.failures(), 1);
    }
}
