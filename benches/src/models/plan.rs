//! Which loads, and how long each.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// What every model meets.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plan {
    /// Connections of the closed loops.
    pub(super) connections: Vec<usize>,
    /// How long each load is measured.
    pub(super) seconds: f64,
    /// How long a request waits for its answer.
    pub(super) patience: Duration,
    /// Connections and length of computing requests.
    pub(super) cpu_connections: usize,
    pub(super) cpu_us: u64,
    /// The rate that is the same for all.
    pub(super) per_second: f64,
    /// How many times its own peak a model is offered in the end.
    pub(super) beyond: f64,
    /// The most that the load can offer without being the one that is late.
    pub(super) most_per_second: f64,
    /// The most connections of an open load.
    pub(super) most_connections: usize,
    /// How long a model has to answer again afterwards.
    pub(super) recovery: Duration,
    pub(super) chat: ChatPlan,
}

/// What every chat room meets.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ChatPlan {
    /// Members of the room whose fan-out is measured.
    pub(super) members: usize,
    pub(super) seconds: f64,
    /// Messages a second at which latency is measured.
    pub(super) per_second: f64,
    /// Members of the room in which one stops reading, that one not counted.
    pub(super) few: usize,
    /// Bytes written to the one that does not read, more than the kernel keeps for it.
    pub(super) stall_bytes: u64,
    /// The longest that this may take.
    pub(super) stall_patience: Duration,
}

impl Plan {
    pub(super) fn new(connections: Option<Vec<usize>>, seconds: Option<f64>, quick: bool) -> Self {
        let seconds = seconds.unwrap_or(if quick { 0.3 } else { 2.5 });
        let default: &[usize] = if quick {
            &[16, 256]
        } else {
            &[1, 16, 256, 2048]
        };
        Self {
            connections: connections.unwrap_or_else(|| default.to_vec()),
            seconds,
            patience: Duration::from_secs(if quick { 1 } else { 5 }),
            cpu_connections: 16,
            cpu_us: 200,
            per_second: 200.0,
            beyond: 2.0,
            most_per_second: 30_000.0,
            most_connections: most_connections(getrlimit(Resource::Nofile).maximum),
            recovery: Duration::from_secs(if quick { 1 } else { 5 }),
            chat: ChatPlan {
                members: if quick { 30 } else { 100 },
                seconds,
                per_second: 50.0,
                few: 8,
                stall_bytes: 12_000_000,
                stall_patience: Duration::from_secs(if quick { 2 } else { 6 }),
            },
        }
    }
}

/// A model that has a process or a thread for each connection, with three connections to backends, must not run the
/// backends out of descriptors.
fn most_connections(descriptors: Option<u64>) -> usize {
    let granted = descriptors.unwrap_or(u64::MAX).saturating_sub(256) / 4;
    usize::try_from(granted)
        .unwrap_or(usize::MAX)
        .clamp(1, 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_has_fewer_and_shorter_loads() {
        let (full, quick) = (Plan::new(None, None, false), Plan::new(None, None, true));
        assert!(quick.connections.len() < full.connections.len());
        assert!(quick.seconds < full.seconds);
        let told = Plan::new(Some(vec![3]), Some(1.5), true);
        assert_eq!((told.connections, told.seconds), (vec![3], 1.5));
    }

    #[test]
    fn connections_leave_descriptors_for_the_backends() {
        assert_eq!(most_connections(None), 4096);
        assert_eq!(most_connections(Some(4256)), 1000);
        assert_eq!(most_connections(Some(10)), 1);
    }
}
