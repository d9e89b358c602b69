//! How far a world may go, and why one has ended by itself.

use std::{fmt, time::Duration};

/// How far a world may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Turns at one and the same time before it counts as a standstill.
    pub(crate) turns_at_once: u64,
    /// How long it lasts at most, by its own clock.
    pub(crate) longest: Duration,
    /// Real time in which nothing goes on.
    pub(crate) patience: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            turns_at_once: 1_000_000,
            longest: Duration::from_secs(24 * 60 * 60),
            patience: Duration::from_secs(60),
        }
    }
}

/// Why a world has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything waits, and nothing will come.
    Deadlock,
    /// Coroutines take turns without end, and time stands still.
    Standstill(u64),
    /// Time has passed beyond its limit.
    TooLong(Duration),
    /// Turns have been taken beyond theirs.
    TooManyTurns,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Deadlock => "deadlock: everything waits, and neither a timer nor the network will end that",
            End::Standstill(turns) => {
                return write!(
                    f,
                    "standstill: coroutines took {turns} turns while time stood still; a loop that waits for something \
                     must sleep, or wait for the event itself, and one over calls that fail must end"
                );
            }
            End::TooLong(longest) => {
                return write!(f, "the scenario has not ended within {longest:?} of its time");
            }
            End::TooManyTurns => "the scenario has taken more turns than it may",
        })
    }
}
