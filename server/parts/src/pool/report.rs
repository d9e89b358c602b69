//! The numbers that a pool tells of itself.

use std::time::Duration;

/// A pool's numbers; made by [`Pool::stats`](super::Pool::stats).
///
/// At each moment before its runtime ends, `submitted` is the sum of `queued`, `running`, `done`, `panicked`,
/// `cancelled`, `expired` and `dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that were accepted; also those whose submitters wait for room.
    pub submitted: u64,
    /// Jobs that wait for a worker.
    pub queued: u64,
    /// Jobs that run now.
    pub running: u64,
    /// Jobs that returned.
    pub done: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that were withdrawn, or cut short by cancellation.
    pub cancelled: u64,
    /// Jobs whose deadline passed before or while they ran.
    pub expired: u64,
    /// Jobs dropped from the queue for newer ones.
    pub dropped: u64,
    /// Submissions refused because the queue was full; not in `submitted`.
    pub rejected: u64,
    /// Jobs that their submitters ran themselves.
    pub run_by_submitters: u64,
    /// The longest that a job has waited until its turn came, also one that by then was cancelled or expired.
    pub longest_wait: Duration,
    /// How many jobs each worker has taken up.
    pub per_worker: Vec<u64>,
}
