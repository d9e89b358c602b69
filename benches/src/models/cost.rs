//! What each answer cost.

use serde::Serialize;

use super::tree::Used;

/// What one answered request, or one delivered line, cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) cpu_us: f64,
    pub(super) switches: f64,
    /// Threads or processes came and went, and took the count of their switches with them.
    pub(super) more_switches: bool,
}

impl Cost {
    /// At so many a second.
    pub(super) fn of(used: Used, per_second: f64) -> Option<Self> {
        let count = per_second * used.seconds;
        (count > 0.0).then(|| Self {
            cpu_us: used.cpu_seconds * 1e6 / count,
            switches: used.switches as f64 / count,
            more_switches: used.made as f64 / count > MADE_PER_REQUEST,
        })
    }
}

/// More threads and processes made per request than chance, or others on the machine, could account for.
const MADE_PER_REQUEST: f64 = 0.3;
