//! Pauses of who tries until it succeeds, and what chance has to do with them.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    ops::RangeInclusive,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Pauses of who does not give up: a connection that is to be there again, a place in a registry.
///
/// Their bound doubles from one failure to the next. Each is drawn from the upper half of its bound ("equal jitter"): many
/// processes lose the same server at once, and are not to come back at once. In a simulated world they are the seed's.
/// For calls of which there are a few attempts, [`Retry`](super::Retry) is the thing.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use maniple_parts::resilience::Backoff;
///
/// let second = Duration::from_secs(1);
/// let mut backoff = Backoff::new(second..=10 * second);
/// assert!((second / 2..=second).contains(&backoff.pause()));
/// assert!((second..=2 * second).contains(&backoff.pause()));
/// backoff.reset();
/// assert!(backoff.pause() <= second);
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    bounds: RangeInclusive<Duration>,
    next: Duration,
}

impl Backoff {
    /// The bound of the first pause, and that of the longest. If the latter is shorter, each pause has it.
    pub fn new(bounds: RangeInclusive<Duration>) -> Self {
        let next = *bounds.start().min(bounds.end());
        Self { bounds, next }
    }

    /// The last attempt has led somewhere: the next pause is the first again.
    pub fn reset(&mut self) {
        self.next = *self.bounds.start().min(self.bounds.end());
    }

    /// The pause after one more failure, for which the caller is to sleep.
    pub fn pause(&mut self) -> Duration {
        let bound = self.next;
        self.next = bound.saturating_mul(2).min(*self.bounds.end());
        bound / 2 + up_to(bound / 2)
    }
}

/// So long, give or take a tenth, by chance: what many processes do every so often they are not to do all at once.
pub fn about(time: Duration) -> Duration {
    (time - time / 10).saturating_add(up_to(time / 5))
}

/// A time from none to that one.
pub(super) fn up_to(most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(match nanos {
        u64::MAX => nanos,
        _ => drawn() % (nanos + 1),
    })
}

/// A number that differs from call to call and from process to process; in a simulated world, from seed to seed.
fn drawn() -> u64 {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let own = || STATE.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    maniple::sim::random().unwrap_or_else(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(3);

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(FIRST..=LONGEST);
        let first = backoff.pause();
        assert!((FIRST / 2..=FIRST).contains(&first), "{first:?}");
        for _ in 0..100 {
            assert!(backoff.pause() <= LONGEST);
        }
        assert!(backoff.pause() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }

    #[test]
    fn bounds_that_contradict_and_those_without_end_are_borne() {
        let mut short = Backoff::new(LONGEST..=FIRST);
        assert!((0..9).all(|_| short.pause() <= FIRST));
        let mut endless = Backoff::new(Duration::MAX..=Duration::MAX);
        assert!((0..9).all(|_| endless.pause() >= Duration::MAX / 2));
        assert_eq!(
            Backoff::new(Duration::ZERO..=Duration::ZERO).pause(),
            Duration::ZERO
        );
    }

    #[test]
    fn about_is_a_tenth_away_at_most() {
        for _ in 0..100 {
            let time = about(Duration::from_secs(10)).as_secs_f64();
            assert!((9.0..=11.0).contains(&time), "{time}");
        }
        assert_eq!(about(Duration::ZERO), Duration::ZERO);
        assert!(about(Duration::MAX) > Duration::MAX / 2);
    }
}
