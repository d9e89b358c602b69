//! How many second attempts there may be: a share of the calls of late. Without a clock.

use std::time::{Duration, Instant};

/// A share of the calls in a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    pub(super) percent: u32,
    pub(super) window: Duration,
}

/// Calls and second attempts: all of them, and those in the window.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) hedges: u64,
    pub(super) refused: u64,
    pub(super) won: u64,
    parts: [(u32, u32); PARTS],
    /// When the newest part began, and where it is.
    began: Option<Instant>,
    newest: usize,
}

const PARTS: usize = 10;

impl Counts {
    pub(super) const fn new() -> Self {
        Self {
            calls: 0,
            hedges: 0,
            refused: 0,
            won: 0,
            parts: [(0, 0); PARTS],
            began: None,
            newest: 0,
        }
    }

    pub(super) fn call(&mut self, cap: Option<Cap>, now: Instant) {
        self.calls += 1;
        if let Some(cap) = cap {
            self.move_to(cap.window, now);
            let (calls, _) = &mut self.parts[self.newest];
            *calls = calls.saturating_add(1);
        }
    }

    /// Whether there may be a second attempt; it is counted. One in each window may be in any case: where there are few
    /// calls, a share of them is nothing.
    pub(super) fn may_hedge(&mut self, cap: Option<Cap>, now: Instant) -> bool {
        if let Some(cap) = cap {
            self.move_to(cap.window, now);
            let sum = |(calls, hedges): (u64, u64), part: &(u32, u32)| {
                (calls + u64::from(part.0), hedges + u64::from(part.1))
            };
            let (calls, hedges) = self.parts.iter().fold((0, 0), sum);
            if hedges >= (calls * u64::from(cap.percent) / 100).max(1) {
                self.refused += 1;
                return false;
            }
            let (_, hedges) = &mut self.parts[self.newest];
            *hedges = hedges.saturating_add(1);
        }
        self.hedges += 1;
        true
    }

    /// Forgets what is too old. Time that runs back counts as none.
    fn move_to(&mut self, window: Duration, now: Instant) {
        let part = (window / PARTS as u32).max(Duration::from_nanos(1));
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        let steps = passed.as_nanos() / part.as_nanos();
        if steps == 0 {
            return;
        }
        for _ in 0..steps.min(PARTS as u128) {
            self.newest = (self.newest + 1) % PARTS;
            self.parts[self.newest] = (0, 0);
        }
        // Behind by less than a part, or, after a long silence, by nothing.
        let whole = u32::try_from(steps)
            .ok()
            .map(|steps| part.saturating_mul(steps));
        self.began = whole
            .and_then(|whole| began.checked_add(whole))
            .or(Some(now));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn second_attempts_are_a_share_of_the_calls_of_late_and_one_in_any_case() {
        let second = Duration::from_secs(1);
        let cap = Some(Cap {
            percent: 10,
            window: second,
        });
        let (mut counts, begin) = (Counts::new(), Instant::now());
        let mut made = |calls: u32, at: Instant| {
            (0..calls).for_each(|_| counts.call(cap, at));
            (0..1000).filter(|_| counts.may_hedge(cap, at)).count()
        };
        assert_eq!(made(0, begin), 1);
        assert_eq!(made(100, begin), 9, "with the one before");
        assert_eq!(made(50, begin + second / 2), 5);
        // The first hundred are forgotten.
        assert_eq!(made(0, begin + second * 11 / 10), 0);
        assert_eq!(made(50, begin + second * 11 / 10), 5);
        assert_eq!(made(0, begin + 3600 * second), 1);
        assert_eq!(made(0, begin), 0, "time that runs back brings nothing");
        let free = (0..1000).filter(|_| counts.may_hedge(None, begin)).count();
        assert_eq!(free, 1000);
    }
}
