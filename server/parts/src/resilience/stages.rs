//! One deadline, divided over the stages of what is to be done by then.

use std::{
    fmt,
    time::{Duration, Instant},
};

use maniple::time::{self, Elapsed};

/// Divides the time that there is over stages that come one after the other: each may have its share of what is left, so that
/// the first leaves something for the last. Time that a stage does not need is for those behind it.
///
/// # Examples
/// ```
/// use maniple_parts::resilience::Stages;
/// use std::time::Duration;
///
/// maniple::run(|| {
///     // Three quarters for the search, the rest for the page.
///     let mut stages = Stages::within(Duration::from_millis(80), [3, 1]);
///     let hits = stages.run(|| maniple::sleep(Duration::from_secs(60)));
///     assert!(hits.is_err(), "too slow, but there is time for another page");
///     assert_eq!(stages.run(|| "nothing found in time"), Ok("nothing found in time"));
/// });
/// ```
#[derive(Clone)]
pub struct Stages {
    end: Option<Instant>,
    /// Of the stages that are to come, the next one last.
    shares: Vec<u32>,
}

impl Stages {
    /// Divides the time until the deadline of the caller's scope. Without one, stages have no bounds.
    pub fn new(shares: impl IntoIterator<Item = u32>) -> Self {
        let left = time::remaining();
        Self::until(left.and_then(|left| time::now().checked_add(left)), shares)
    }

    /// Divides so much time, or what there is until the caller's deadline if that is less.
    pub fn within(time: Duration, shares: impl IntoIterator<Item = u32>) -> Self {
        let most = time::remaining().map_or(time, |left| left.min(time));
        Self::until(time::now().checked_add(most), shares)
    }

    fn until(end: Option<Instant>, shares: impl IntoIterator<Item = u32>) -> Self {
        let mut shares: Vec<u32> = shares.into_iter().collect();
        shares.reverse();
        Self { end, shares }
    }

    /// How long the next stage may take, if it began now: its share of what is left. All of that if there is no share for
    /// it. `None` without a deadline.
    pub fn budget(&self) -> Option<Duration> {
        let left = self.end?.saturating_duration_since(time::now());
        let Some(own) = self.shares.last() else {
            return Some(left);
        };
        let all: u64 = self.shares.iter().map(|share| u64::from(*share)).sum();
        Some(match all {
            0 => left,
            all => left.mul_f64(f64::from(*own) / all as f64),
        })
    }

    /// Runs the next stage within its share.
    ///
    /// # Errors
    /// [`Elapsed`] if a wait in `stage` that cannot return an error was cut short by the end of its share, as for
    /// [`maniple::timeout`].
    pub fn run<T>(&mut self, stage: impl FnOnce() -> T) -> Result<T, Elapsed> {
        let budget = self.budget();
        self.shares.pop();
        match budget {
            Some(budget) => maniple::timeout(budget, stage),
            None => Ok(stage()),
        }
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stages")
            .field("left", &self.shares.len())
            .field("budget", &self.budget())
            .finish()
    }
}
