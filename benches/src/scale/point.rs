//! One point of a line: an operation, how many do it at a time, and how often.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::capacity::quantity::{Bytes, count};

/// What one child process measures.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Point {
    pub(super) engine: Engine,
    pub(super) operation: Operation,
    pub(super) count: u64,
    /// How often each does it; as often as suits the clock, unless given.
    #[serde(skip)]
    pub(super) rounds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Engine {
    Maniple,
    May,
    /// The current-thread runtime.
    Tokio,
}

/// What each of many coroutines does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Operation {
    /// Yields to the others.
    Yield,
    /// Sleeps: a timer is armed and fires.
    TimerFire,
    /// Waits for a permit without a timeout, to tell what of the next one is the timer's.
    Permit,
    /// Waits for a permit with a timeout, and gets it in time: a timer is armed and cancelled.
    TimerCancel,
    /// Sends eight bytes over a loopback TCP connection to another, and receives them back.
    Connection,
}

/// CPU time of the process and time that passed, per operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) cpu_nanos: f64,
    pub(super) wall_nanos: f64,
}

impl Point {
    /// How often each coroutine does it: many times if they are few, so that the clock has enough to count.
    pub(super) fn rounds(&self) -> u64 {
        if let Some(rounds) = self.rounds {
            return rounds;
        }
        let (operations, least, most) = match self.operation {
            Operation::Yield => (500_000, 8, 20_000),
            Operation::TimerFire => (50_000, 3, 100),
            Operation::Permit | Operation::TimerCancel => (100_000, 3, 2_000),
            Operation::Connection => (30_000, 3, 300),
        };
        (operations / self.count.max(1)).clamp(least, most)
    }

    /// All operations of all coroutines.
    pub(super) fn operations(&self) -> u64 {
        self.count.saturating_mul(self.rounds())
    }

    /// How long a timer runs: so long that all can be armed before the first fires.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_micros(self.count).max(Duration::from_millis(1))
    }

    /// Stacks, or tasks, that it needs.
    pub(super) fn coroutines(&self) -> u64 {
        match self.operation {
            Operation::Connection => self.count.saturating_mul(2),
            _ => self.count,
        }
    }

    /// About the memory that it takes.
    pub(super) fn forecast(&self) -> Bytes {
        let each: u64 = match self.operation {
            // With the kernel's records of two sockets.
            Operation::Connection => 32 << 10,
            _ => 10 << 10,
        };
        Bytes(self.count.saturating_mul(each))
    }

    /// Descriptors that it needs: the two ends of each connection.
    pub(super) fn descriptors(&self) -> u64 {
        match self.operation {
            Operation::Connection => self
                .count
                .saturating_mul(2)
                .saturating_add(OTHER_DESCRIPTORS),
            _ => OTHER_DESCRIPTORS,
        }
    }
}

impl Operation {
    /// As the heading of a table and the axis of a plot have it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Operation::Yield => "yield",
            Operation::TimerFire => "timer armed and fired",
            Operation::Permit => "permit waited for",
            Operation::TimerCancel => "permit, and a timer armed and cancelled",
            Operation::Connection => "request over loopback",
        }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = name(self.engine);
        write!(
            f,
            "{engine}, {}, {}",
            self.operation.title(),
            count(self.count)
        )
    }
}

pub(super) fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// 10, 100, ... from the first decade that is not below `from` up to `to`, which comes last.
pub(super) fn decades(from: u64, to: u64) -> Vec<u64> {
    let powers = std::iter::successors(Some(1_u64), |power| power.checked_mul(10));
    let mut counts: Vec<u64> = powers
        .filter(|&power| power >= from && power < to)
        .collect();
    counts.push(to);
    counts
}

/// Connections for which so many descriptors suffice.
pub(super) fn most_connections(descriptors: u64) -> u64 {
    descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2
}

/// Standard streams, the listener, epoll sets.
const OTHER_DESCRIPTORS: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn point(operation: Operation, count: u64) -> Point {
        Point {
            engine: Engine::Maniple,
            operation,
            count,
            rounds: None,
        }
    }

    #[test]
    fn counts_grow_tenfold_up_to_the_last() {
        assert_eq!(decades(10, 1000), [10, 100, 1000]);
        assert_eq!(decades(10, 9_984), [10, 100, 1000, 9_984]);
        assert_eq!(decades(5, 5), [5]);
        assert_eq!(decades(500, 2_000), [1000, 2000]);
    }

    #[test]
    fn few_do_it_more_often_and_many_at_least_some_times() {
        for operation in Operation::value_variants() {
            let rounds = |count| point(*operation, count).rounds();
            assert!(rounds(10) > rounds(10_000), "{operation:?}");
            assert!(rounds(u64::MAX) >= 3, "{operation:?}");
        }
    }

    #[test]
    fn connections_fit_the_descriptors_that_they_were_computed_from() {
        let most = most_connections(20_000);
        assert!(point(Operation::Connection, most).descriptors() <= 20_000);
        assert!(point(Operation::Connection, most + 1).descriptors() > 20_000);
        assert_eq!(most_connections(3), 0);
    }

    #[test]
    fn timers_run_long_enough_for_all_to_be_armed() {
        assert_eq!(
            point(Operation::TimerFire, 10).pause(),
            Duration::from_millis(1)
        );
        assert_eq!(
            point(Operation::TimerFire, 1_000_000).pause(),
            Duration::from_secs(1)
        );
    }
}
