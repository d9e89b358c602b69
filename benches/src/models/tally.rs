//! What became of requests: how many were answered and how fast, and how the others ended.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// How a request ended that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    /// The connection was refused: nobody listens.
    Refused,
    /// No connection came about in time: the queue of connections to be accepted is full.
    Unconnected,
    /// An answer that says so, with this status.
    Rejected(u16),
    /// The connection was closed without an answer.
    Closed,
    /// The connection was reset.
    Reset,
    /// No answer in time.
    TimedOut,
    /// An answer that is not the right one.
    Wrong,
    /// The load itself could make no connection: out of ports or descriptors.
    Load,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Unconnected => f.write_str("not connected in time"),
            Self::Rejected(status) => write!(f, "answered {status}"),
            Self::Closed => f.write_str("closed"),
            Self::Reset => f.write_str("reset"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Wrong => f.write_str("answered wrongly"),
            Self::Load => f.write_str("not sent: the load had no port or descriptor"),
        }
    }
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Failures {
    pub(super) kind: Failure,
    pub(super) count: u64,
    /// When the first one came, since the counting began.
    pub(super) first_seconds: f64,
}

/// Counts what ends from some moment on.
#[derive(Debug)]
pub(super) struct Tally {
    since: Instant,
    answered: u64,
    latencies_ns: Histogram<u64>,
    /// In the order in which kinds were first met.
    failures: Vec<Failures>,
}

impl Tally {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            since: Instant::now(),
            answered: 0,
            latencies_ns: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            failures: Vec::new(),
        })
    }

    /// Forgets everything, and counts from now on.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.answered = 0;
        self.latencies_ns.reset();
        self.failures.clear();
    }

    pub(super) fn answered(&mut self, waited: Duration) {
        self.answered += 1;
        self.waited(waited);
    }

    /// A request that has waited for so long and is not yet answered: its latency is no less.
    pub(super) fn waited(&mut self, waited: Duration) {
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.latencies_ns.saturating_record(nanos);
    }

    pub(super) fn failed(&mut self, kind: Failure, now: Instant) {
        match self.failures.iter_mut().find(|known| known.kind == kind) {
            Some(known) => known.count += 1,
            None => self.failures.push(Failures {
                kind,
                count: 1,
                first_seconds: now.saturating_duration_since(self.since).as_secs_f64(),
            }),
        }
    }

    /// What was counted, in so many seconds.
    pub(super) fn seen(&self, seconds: f64) -> Seen {
        let at = |quantile| {
            let millis = self.latencies_ns.value_at_quantile(quantile) as f64 / 1e6;
            (!self.latencies_ns.is_empty()).then_some(millis)
        };
        Seen {
            answered: self.answered,
            per_second: self.answered as f64 / seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            failures: self.failures.clone(),
            starved: 0,
            load_late_ms: None,
        }
    }
}

/// What a load saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Seen {
    /// Requests with the right answer.
    pub(super) answered: u64,
    pub(super) per_second: f64,
    /// From the moment at which a request was due; without a figure if nothing was answered.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) p999_ms: Option<f64>,
    /// In the order in which they were first met.
    pub(super) failures: Vec<Failures>,
    /// Connections that waited for an answer from the beginning to the end.
    pub(super) starved: u64,
    /// How late the load itself was, of an open one, by its 99th percentile.
    pub(super) load_late_ms: Option<f64>,
}

impl Seen {
    pub(super) fn failed(&self) -> u64 {
        self.failures.iter().map(|failures| failures.count).sum()
    }

    /// What went wrong, most frequent first; `None` if nothing did.
    pub(super) fn trouble(&self) -> Option<String> {
        let mut failures: Vec<&Failures> = self.failures.iter().collect();
        failures.sort_by_key(|failures| std::cmp::Reverse(failures.count));
        let mut parts: Vec<String> = failures
            .iter()
            .map(|Failures { kind, count, .. }| format!("{count} {kind}"))
            .collect();
        if self.starved > 0 {
            parts.push(format!("{} never answered", self.starved));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_was_answered_and_what_was_not_is_told() {
        let mut tally = Tally::new().unwrap();
        let start = Instant::now();
        tally.failed(Failure::Wrong, start);
        tally.restart(start);
        tally.failed(Failure::TimedOut, start + 5 * MS);
        for waited in 1..=100 {
            tally.answered(waited * MS);
        }
        for _ in 0..2 {
            tally.failed(Failure::Rejected(503), start + 9 * MS);
        }
        let seen = tally.seen(0.5);
        assert_eq!((seen.answered, seen.per_second), (100, 200.0));
        assert!((49.0..51.0).contains(&seen.p50_ms.unwrap()), "{seen:?}");
        assert!((98.0..100.5).contains(&seen.p99_ms.unwrap()), "{seen:?}");
        assert_eq!(seen.failed(), 3);
        assert_eq!(seen.trouble().unwrap(), "2 answered 503, 1 timed out");
        assert_eq!(seen.failures[0].kind, Failure::TimedOut);
        assert!((seen.failures[0].first_seconds - 0.005).abs() < 1e-9);
    }

    #[test]
    fn without_an_answer_there_is_no_latency() {
        let tally = Tally::new().unwrap();
        let mut seen = tally.seen(1.0);
        assert_eq!((seen.answered, seen.p50_ms), (0, None));
        assert_eq!(seen.trouble(), None);
        seen.starved = 7;
        assert_eq!(seen.trouble().unwrap(), "7 never answered");
    }

    #[test]
    fn those_who_still_wait_make_latency_no_better() {
        let mut tally = Tally::new().unwrap();
        tally.answered(MS);
        for _ in 0..9 {
            tally.waited(1000 * MS);
        }
        let seen = tally.seen(1.0);
        assert_eq!(seen.answered, 1);
        assert!(seen.p50_ms.unwrap() > 990.0, "{seen:?}");
    }
}
