//! Further attempts, with pauses.

use std::{ops::RangeInclusive, time::Duration};

use maniple::{cancel, time};

use super::{backoff::up_to, budget::RetryBudget};

/// How often to try, and how long to pause before: made once, used for many calls.
///
/// Pauses are drawn between nothing and a bound that doubles with each attempt ("full jitter"), so that callers which failed
/// together do not come back together.
///
/// Only what may be done twice should be tried twice. An error that comes after the service may have acted (a time limit, a
/// connection that broke off) does not tell whether it has.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it runs something"]
pub struct Retry {
    attempts: u32,
    backoff: RangeInclusive<Duration>,
    budget: Option<RetryBudget>,
}

/// Whether to try again after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It would fail again, or may not be done twice.
    No,
    /// After a pause.
    Yes,
    /// After at least so long, as the service says by `Retry-After`, for instance. If that is longer than the
    /// [longest pause](Retry::backoff) there is no further attempt: what a service says is no reason to wait for a year.
    After(Duration),
}

impl From<bool> for Again {
    fn from(again: bool) -> Self {
        match again {
            true => Again::Yes,
            false => Again::No,
        }
    }
}

impl Retry {
    /// Three attempts, with pauses from 10 ms to 1 s, without a budget.
    pub fn new() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(10)..=Duration::from_secs(1),
            budget: None,
        }
    }

    /// How many attempts there are at most, the first among them. Default: 3.
    ///
    /// # Panics
    /// If it is 0.
    pub fn attempts(mut self, attempts: u32) -> Self {
        assert!(attempts > 0, "a call without an attempt");
        self.attempts = attempts;
        self
    }

    /// The bound of the first pause, and that of the longest. Default: 10 ms to 1 s.
    pub fn backoff(mut self, bounds: RangeInclusive<Duration>) -> Self {
        self.backoff = bounds;
        self
    }

    /// What retries are paid from, with all others who have a clone of it. Default: none, so that there may be as many as
    /// attempts allow.
    pub fn budget(mut self, budget: &RetryBudget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Calls `attempt` with 1, 2 and so on until it succeeds, or `again` or the settings say that there is no further one.
    ///
    /// There is no further attempt either once the caller's scope is cancelled, or its deadline would pass within the pause:
    /// the error is better had at once.
    ///
    /// # Errors
    /// That of the last attempt.
    pub fn run<T, E, A: Into<Again>>(
        &self,
        again: impl Fn(&E) -> A,
        mut attempt: impl FnMut(u32) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(budget) = &self.budget {
            budget.earn();
        }
        let mut number = 1;
        loop {
            let error = match attempt(number) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let least = match again(&error).into() {
                Again::No => return Err(error),
                Again::Yes => Duration::ZERO,
                Again::After(least) => least,
            };
            let is_too_long = least > *self.backoff.end();
            if number >= self.attempts || is_too_long || cancel::check().is_err() {
                return Err(error);
            }
            let pause = least.saturating_add(self.pause(number));
            if time::remaining().is_some_and(|left| left <= pause) {
                return Err(error);
            }
            let may = |budget: &RetryBudget| budget.spend(time::coarse_now());
            if !self.budget.as_ref().is_none_or(may) {
                return Err(error);
            }
            match pause {
                Duration::ZERO => maniple::yield_now(),
                pause => maniple::sleep(pause),
            }
            number += 1;
        }
    }

    /// Of attempt `number`, which failed.
    fn pause(&self, number: u32) -> Duration {
        let doubled = 1_u32.checked_shl(number - 1).unwrap_or(u32::MAX);
        let bound = self.backoff.start().saturating_mul(doubled);
        up_to(bound.min(*self.backoff.end()))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_drawn_below_a_bound_that_doubles() {
        let (first, last) = (Duration::from_millis(10), Duration::from_millis(50));
        let retry = Retry::new().backoff(first..=last);
        for (number, bound) in [(1, 10), (2, 20), (3, 40), (4, 50), (33, 50), (u32::MAX, 50)] {
            let bound = Duration::from_millis(bound);
            let pauses: Vec<_> = (0..200).map(|_| retry.pause(number)).collect();
            let (least, most) = (pauses.iter().min(), pauses.iter().max());
            assert!(
                *most.unwrap() <= bound && *most.unwrap() > bound / 2,
                "{most:?}"
            );
            assert!(*least.unwrap() < bound / 2, "{least:?}");
        }
        let none = Retry::new().backoff(Duration::ZERO..=Duration::MAX);
        assert_eq!(none.pause(9), Duration::ZERO);
        let long = Retry::new().backoff(Duration::MAX..=Duration::MAX);
        assert_eq!(long.pause(1), Duration::from_nanos(u64::MAX));
    }
}
