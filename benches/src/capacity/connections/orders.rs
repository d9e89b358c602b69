//! What the parent tells a client process, and what that answers: one line of JSON each.
//!
//! All clients are told the same, and the next only once all have answered: so that every figure belongs to a moment
//! at which nothing else goes on.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Connect until so many connections are open, each of which has had an answer.
    Open { until: usize },
    /// Watch the connections, and send nothing.
    Hold { seconds: f64 },
    /// Send requests at a fixed rate, over all connections in turn.
    Trickle { requests: u64, per_second: f64 },
    /// Close all connections, and wait for the server to close its ends.
    Close,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Report {
    /// What was ordered is done.
    Done,
    Trickled(Trickled),
}

/// Answers to requests that were sent at a fixed rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Trickled {
    pub(super) answered: u64,
    /// Requests that were due on a connection whose previous request was not yet answered, and were not sent.
    pub(super) skipped: u64,
    /// Nanoseconds from the moment at which a request was due to its answer, with how many took that long.
    pub(super) latencies: Vec<(u64, u64)>,
}

/// Latencies to three digits, from a nanosecond to [`PATIENCE`] and beyond.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are valid")
}

impl Trickled {
    pub(super) fn new(skipped: u64, latencies: &Histogram<u64>) -> Self {
        let recorded = latencies.iter_recorded();
        Self {
            answered: latencies.len(),
            skipped,
            latencies: recorded
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        }
    }

    /// Adds what this client saw to what others did.
    pub(super) fn record(&self, all: &mut Histogram<u64>) {
        for &(nanoseconds, times) in &self.latencies {
            all.saturating_record_n(nanoseconds, times);
        }
    }
}

/// How long a server may take for one answer, or one close, before it counts as failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_way_to_the_parent() {
        let mut seen = histogram();
        for nanoseconds in [1, 1000, 1_000_000, 999_000_000_000] {
            seen.saturating_record(nanoseconds);
        }
        let line = serde_json::to_string(&Report::Trickled(Trickled::new(3, &seen))).unwrap();
        let Report::Trickled(trickled) = serde_json::from_str(&line).unwrap() else {
            panic!("{line}");
        };
        assert_eq!((trickled.answered, trickled.skipped), (4, 3));
        let mut all = histogram();
        trickled.record(&mut all);
        trickled.record(&mut all);
        assert_eq!(all.len(), 8);
        for quantile in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(
                all.value_at_quantile(quantile),
                seen.value_at_quantile(quantile)
            );
        }
    }

    #[test]
    fn an_order_is_one_line() {
        for order in [
            Order::Open { until: 7 },
            Order::Hold { seconds: 0.5 },
            Order::Trickle {
                requests: 9,
                per_second: 1e4,
            },
            Order::Close,
        ] {
            let line = serde_json::to_string(&order).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        }
    }
}
