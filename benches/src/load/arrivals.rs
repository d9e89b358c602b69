//! When requests are due, and on which connection: drawn before the server is known to be fast or slow.

use std::{iter, time::Duration};

use anyhow::{Result, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// How requests of one kind follow each other.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// Independently of each other, so many a second on average, each on a connection that is drawn.
    Poisson { per_second: f64 },
    /// So many at once, in turn on all connections, again and again.
    Bursts { size: usize, every_ms: u64 },
}

impl Pace {
    pub(super) fn check(&self) -> Result<()> {
        match *self {
            Self::Poisson { per_second } => {
                ensure!(
                    per_second.is_finite() && per_second > 0.0,
                    "cannot send {per_second} requests a second"
                );
            }
            Self::Bursts { size, every_ms } => {
                ensure!(
                    size > 0 && every_ms > 0,
                    "bursts of nothing, or all at once"
                );
            }
        }
        Ok(())
    }
}

/// One request that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// Since the load began.
    pub(crate) due: Duration,
    /// Which of the kinds of requests.
    pub(crate) stream: usize,
    /// Which of the connections of that kind.
    pub(crate) connection: usize,
}

/// The arrivals of all streams in the order in which they are due. The same seed gives the same ones.
pub(crate) struct Arrivals {
    /// The next one of each stream, and what makes those after it.
    streams: Vec<iter::Peekable<Box<dyn Iterator<Item = Arrival>>>>,
    until: Duration,
}

impl Arrivals {
    /// Of streams with their numbers of connections, for so long.
    pub(crate) fn new(
        seed: u64,
        streams: impl IntoIterator<Item = (Pace, usize)>,
        until: Duration,
    ) -> Self {
        let mut seeds = Rng::with_seed(seed);
        let streams = streams
            .into_iter()
            .enumerate()
            .map(|(stream, (pace, connections))| {
                // Each has a generator of its own, so that one kind of request does not change what another does.
                let rng = seeds.fork();
                let arrivals: Box<dyn Iterator<Item = Arrival>> = match pace {
                    Pace::Poisson { per_second } => {
                        Box::new(poisson(rng, stream, per_second, connections))
                    }
                    Pace::Bursts { size, every_ms } => {
                        Box::new(bursts(stream, size, every_ms, connections))
                    }
                };
                arrivals.peekable()
            })
            .collect();
        Self { streams, until }
    }

    /// When the next one is due.
    pub(crate) fn next_due(&mut self) -> Option<Duration> {
        self.first().map(|(due, _)| due)
    }

    /// The next one, if it is due by `now`.
    pub(crate) fn next_until(&mut self, now: Duration) -> Option<Arrival> {
        match self.next_due() {
            Some(due) if due <= now => self.next(),
            _ => None,
        }
    }

    fn first(&mut self) -> Option<(Duration, usize)> {
        let nexts = self.streams.iter_mut().enumerate();
        nexts
            .filter_map(|(stream, arrivals)| Some((arrivals.peek()?.due, stream)))
            .min()
            .filter(|(due, _)| *due < self.until)
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let (_, stream) = self.first()?;
        self.streams[stream].next()
    }
}

/// A Poisson process: the gaps are independent and exponentially distributed.
fn poisson(
    mut rng: Rng,
    stream: usize,
    per_second: f64,
    connections: usize,
) -> impl Iterator<Item = Arrival> {
    let mut due = Duration::ZERO;
    iter::repeat_with(move || {
        // `1 - f64()` is above 0, whose logarithm is not finite.
        due += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / per_second);
        Arrival {
            due,
            stream,
            connection: rng.usize(..connections),
        }
    })
}

fn bursts(
    stream: usize,
    size: usize,
    every_ms: u64,
    connections: usize,
) -> impl Iterator<Item = Arrival> {
    (0..).map(move |index: usize| Arrival {
        due: Duration::from_millis((index / size) as u64 * every_ms),
        stream,
        connection: index % connections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAST: Pace = Pace::Poisson {
        per_second: 20_000.0,
    };

    fn arrivals(seed: u64, streams: &[(Pace, usize)]) -> Vec<Arrival> {
        Arrivals::new(seed, streams.iter().copied(), SECOND).collect()
    }

    #[test]
    fn a_seed_stands_for_its_arrivals() {
        let streams = [(FAST, 64)];
        assert_eq!(arrivals(7, &streams), arrivals(7, &streams));
        assert_ne!(arrivals(7, &streams), arrivals(8, &streams));
    }

    #[test]
    fn a_stream_arrives_alike_with_others_after_it() {
        let slow = Pace::Poisson { per_second: 100.0 };
        let mut both = arrivals(7, &[(FAST, 64), (slow, 4)]);
        assert!(both.is_sorted_by_key(|arrival| arrival.due));
        assert!(both.iter().any(|arrival| arrival.stream == 1));
        both.retain(|arrival| arrival.stream == 0);
        assert_eq!(both, arrivals(7, &[(FAST, 64)]));
    }

    #[test]
    fn gaps_are_exponential() {
        let all = arrivals(1, &[(FAST, 64)]);
        let mean = 1.0 / 20_000.0;
        let gaps = all
            .windows(2)
            .map(|pair| (pair[1].due - pair[0].due).as_secs_f64());
        let above = |bound: f64| gaps.clone().filter(|&gap| gap > bound * mean).count() as f64;
        // Of 20,000 draws, with a fixed seed; standard deviations are below 75 of each count.
        for bound in [0.0, 0.5, 1.0, 2.0, 3.0_f64] {
            let expected = 20_000.0 * (-bound).exp();
            let seen = above(bound);
            assert!(
                (seen - expected).abs() < 500.0,
                "{bound}: {seen} {expected}"
            );
        }
    }

    #[test]
    fn every_connection_has_its_share() {
        let mut shares = [0; 8];
        for arrival in arrivals(1, &[(FAST, 8)]) {
            shares[arrival.connection] += 1;
        }
        assert!(
            shares.iter().all(|share| (2200..2800).contains(share)),
            "{shares:?}"
        );
    }

    #[test]
    fn a_burst_is_due_at_once_on_different_connections() {
        let pace = Pace::Bursts {
            size: 3,
            every_ms: 400,
        };
        let seen: Vec<_> = arrivals(1, &[(pace, 4)])
            .iter()
            .map(|arrival| (arrival.due.as_millis(), arrival.connection))
            .collect();
        let expected = [0, 0, 0, 400, 400, 400, 800, 800, 800];
        assert!(seen.iter().map(|(due, _)| *due).eq(expected), "{seen:?}");
        assert!(
            seen.iter()
                .map(|(_, place)| *place)
                .eq((0..9).map(|n| n % 4)),
            "{seen:?}"
        );
    }

    #[test]
    fn what_never_arrives_is_no_pace() {
        let rate = |per_second| Pace::Poisson { per_second };
        for pace in [rate(0.0), rate(-1.0), rate(f64::NAN), rate(f64::INFINITY)] {
            assert!(pace.check().is_err(), "{pace:?}");
        }
        FAST.check().unwrap();
    }
}
