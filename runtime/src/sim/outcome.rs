//! What a world has come to.

use std::{fmt, time::Duration};

/// What a world has come to whose scenario has ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub(super) seed: u64,
    pub(super) lasted: Duration,
    pub(super) trace: u64,
    pub(super) turns: u64,
}

impl Run {
    /// Of which seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How long the scenario took, by the world's clock.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// A hash of who had a turn when, in which order: the same for the same seed of the same program.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// How many turns of coroutines that were.
    pub fn turns(&self) -> u64 {
        self.turns
    }
}

/// Why a seed has failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(super) run: Run,
    pub(super) what: String,
    /// It came to no end, and may do so again.
    pub(super) is_endless: bool,
}

impl Failure {
    /// How far it came.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What failed: the message of a panic, or how the world ended, with the dump.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run {
            seed,
            lasted,
            trace,
            ..
        } = self.run;
        write!(
            f,
            "seed {seed} failed at {lasted:?} of its world's time (trace {trace:016x}): {}",
            self.what
        )
    }
}

impl std::error::Error for Failure {}
