//! What happens to a model beyond its capacity: what breaks first, and how.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::tally::{Failure, Seen};

/// A load beyond capacity, as it ended.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Beyond {
    pub(super) offered_per_second: f64,
    /// Requests that were answered in time, of all.
    pub(super) answered_share: f64,
    pub(super) verdict: Verdict,
    /// From the end of the load to an answer; `None` if there was none for some seconds.
    pub(super) afterwards_ms: Option<f64>,
}

/// What broke first.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Nothing: all was answered about as fast as ever.
    Held,
    /// All was answered, but late: it queued.
    Queued,
    /// Requests ended so, the first after so many seconds.
    Broke { first: Failure, seconds: f64 },
    /// The model ended.
    Died(String),
}

impl Verdict {
    /// From what was seen, the calm load's p99 and why the model ended if it did.
    pub(super) fn of(seen: &Seen, calm_p99_ms: Option<f64>, died: Option<String>) -> Self {
        if let Some(cause) = died {
            return Self::Died(cause);
        }
        let all = seen.answered + seen.failed();
        let matters = seen.failed() as f64 > MATTERS * all as f64;
        // In the order in which they were met.
        if let Some(first) = seen.failures.first().filter(|_| matters) {
            return Self::Broke {
                first: first.kind,
                seconds: first.first_seconds,
            };
        }
        let calm = calm_p99_ms.unwrap_or(0.0).max(LONGEST_CALM_MS);
        match seen.p99_ms {
            Some(p99) if p99 > calm * LATE => Self::Queued,
            _ => Self::Held,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::Queued => f.write_str("queued"),
            Self::Broke { first, seconds } => {
                let what = match first {
                    Failure::TimedOut => "queued until it timed out",
                    Failure::Unconnected => "queue of connections full",
                    other => return write!(f, "{other} after {seconds:.1} s"),
                };
                write!(f, "{what}, after {seconds:.1} s")
            }
            Self::Died(cause) => write!(f, "ended: {cause}"),
        }
    }
}

impl Beyond {
    pub(super) fn of(
        offered_per_second: f64,
        seen: &Seen,
        verdict: Verdict,
        afterwards: Option<Duration>,
    ) -> Self {
        let all = seen.answered + seen.failed();
        Self {
            offered_per_second,
            answered_share: seen.answered as f64 / all.max(1) as f64,
            verdict,
            afterwards_ms: afterwards.map(|time| time.as_secs_f64() * 1e3),
        }
    }
}

/// The share of failed requests that is more than an accident.
const MATTERS: f64 = 0.01;
/// How many times its calm p99 a model may take before it is said to queue.
const LATE: f64 = 3.0;
/// The longest that the slowest backend takes with those before it: less is no queue.
const LONGEST_CALM_MS: f64 = 80.0;

#[cfg(test)]
mod tests {
    use super::{super::tally::Failures, *};

    fn seen(answered: u64, p99_ms: f64, failures: &[(Failure, u64, f64)]) -> Seen {
        let failures = failures
            .iter()
            .map(|&(kind, count, first_seconds)| Failures {
                kind,
                count,
                first_seconds,
            });
        Seen {
            answered,
            p99_ms: Some(p99_ms),
            failures: failures.collect(),
            ..Seen::default()
        }
    }

    #[test]
    fn what_broke_first_is_the_first_and_not_the_most_frequent() {
        let failures = [(Failure::Closed, 30, 0.25), (Failure::TimedOut, 500, 1.0)];
        let seen = seen(1000, 900.0, &failures);
        let verdict = Verdict::of(&seen, Some(50.0), None);
        let expected = Verdict::Broke {
            first: Failure::Closed,
            seconds: 0.25,
        };
        assert_eq!(verdict, expected);
        assert_eq!(verdict.to_string(), "closed after 0.2 s");
        let died = Verdict::of(&seen, Some(50.0), Some("killed by signal 9".into()));
        assert_eq!(died.to_string(), "ended: killed by signal 9");
        let beyond = Beyond::of(9.0, &seen, verdict, None);
        assert!((beyond.answered_share - 1000.0 / 1530.0).abs() < 1e-9);
    }

    #[test]
    fn who_answers_all_late_has_queued() {
        let of = |p99, calm| Verdict::of(&seen(100, p99, &[]), calm, None);
        assert_eq!(of(700.0, Some(60.0)), Verdict::Queued);
        assert_eq!(of(700.0, Some(600.0)), Verdict::Held);
        assert_eq!(of(100.0, Some(10.0)), Verdict::Held);
        assert_eq!(of(241.0, None), Verdict::Queued);
    }

    #[test]
    fn a_failure_among_hundreds_is_an_accident() {
        let of = |count| {
            let failures = [(Failure::Reset, count, 0.1)];
            Verdict::of(&seen(10_000, 20.0, &failures), None, None)
        };
        assert_eq!(of(50), Verdict::Held);
        assert!(matches!(of(200), Verdict::Broke { .. }));
    }
}
