//! What a drain reports: of a server, of a pool, of all that takes in work and may be told to end.

/// How a drain went. A drain takes in nothing new, lets what is under way end by itself for a time, and then cancels
/// the rest. A [`Runtime`](crate::Runtime) does not drain, it is shut down; what that leaves is in its
/// [`ShutdownReport`](crate::runtime::ShutdownReport).
///
/// The crate that drains says what it counts: requests and connections of a server, jobs of a pool.
///
/// # Examples
/// ```
/// let mut report = maniple::drain::DrainReport::default();
/// report.finished = 12;
/// assert!(report.is_clean());
/// report.cancelled = 1;
/// assert!(!report.is_clean());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// What ended by itself after the drain began: requests that were answered, jobs, also panicked ones, an actor's
    /// connections.
    pub finished: u64,
    /// What had nothing to do, and was closed: a server's connections between two requests.
    pub idle: u64,
    /// What waited for its turn, and never began: a pool's jobs that were still queued when the time was over, or had
    /// been cancelled by then.
    pub withdrawn: u64,
    /// What was cut short: it went on when the time was over, or the caller that waited for it gave up.
    pub cancelled: u64,
    /// What goes on all the same, since it does not heed its cancellation.
    pub left: u64,
}

impl DrainReport {
    /// Whether nothing was cut short, withdrawn or left.
    pub fn is_clean(&self) -> bool {
        (self.withdrawn, self.cancelled, self.left) == (0, 0, 0)
    }
}
