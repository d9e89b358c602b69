//! How slow a server is of late: a mean that rises at once and falls slowly, without a clock.

use std::time::Duration;

/// A moving mean of times that jumps to each that is longer ("peak EWMA", as in Finagle), and otherwise forgets the past at
/// the pace of [`MEMORY`]. So one slow answer is enough to turn calls away, and some seconds without one bring them back.
#[derive(Debug, Default)]
pub(super) struct Latency {
    seconds: f64,
    /// When it was that.
    noted: Duration,
}

/// After so long, a third of what was is left.
const MEMORY: Duration = Duration::from_secs(10);

impl Latency {
    /// An answer took so long.
    pub(super) fn note(&mut self, now: Duration, took: Duration) {
        let took = took.as_secs_f64();
        let faded = self.at(now);
        self.seconds = match took > faded {
            true => took,
            false => faded + took * (1.0 - self.left(now)),
        };
        self.noted = self.noted.max(now);
    }

    /// A call failed after so long. It counts as no quicker than what was before: who fails fast is not to look quick.
    pub(super) fn note_failure(&mut self, now: Duration, took: Duration) {
        let usual = Duration::from_secs_f64(self.at(now));
        self.note(now, took.max(usual));
    }

    /// A call was given up after so long. That says something only if it is longer than usual.
    pub(super) fn note_cut(&mut self, now: Duration, took: Duration) {
        if took.as_secs_f64() > self.at(now) {
            self.note(now, took);
        }
    }

    /// In seconds; less and less where nothing comes in.
    pub(super) fn at(&self, now: Duration) -> f64 {
        self.seconds * self.left(now)
    }

    fn left(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.noted).as_secs_f64();
        (-passed / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let mut latency = Latency::default();
        for at in 0..1000 {
            latency.note(at * 10 * MILLI, 5 * MILLI);
        }
        let usual = latency.at(10 * SECOND);
        assert!((0.0049..0.0051).contains(&usual), "{usual}");
        latency.note(10 * SECOND, 100 * MILLI);
        assert!(latency.at(10 * SECOND) >= 0.0999);
        latency.note(11 * SECOND, 5 * MILLI);
        assert!(
            latency.at(11 * SECOND) > 0.08,
            "one good answer is not enough"
        );
        for at in 0..600 {
            latency.note(11 * SECOND + at * 100 * MILLI, 5 * MILLI);
        }
        assert!(latency.at(71 * SECOND) < 0.006);
    }

    #[test]
    fn who_is_not_asked_is_forgiven() {
        let mut latency = Latency::default();
        latency.note(Duration::ZERO, SECOND);
        assert!(latency.at(60 * SECOND) < 0.003);
        assert!(latency.at(Duration::MAX) >= 0.0);
    }

    #[test]
    fn a_fast_failure_does_not_look_quick() {
        let mut latency = Latency::default();
        latency.note(SECOND, 10 * MILLI);
        for _ in 0..40 {
            latency.note_failure(SECOND, MILLI);
        }
        assert!((latency.at(SECOND) - 0.01).abs() < 1e-6);
        latency.note_cut(SECOND, MILLI);
        assert!((latency.at(SECOND) - 0.01).abs() < 1e-6);
        latency.note_failure(SECOND, SECOND);
        assert!(latency.at(SECOND) > 0.9, "a slow one does look slow");
    }
}
