//! What a pool is made of, once its settings have been looked at.

/// What a submission does while the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Waits for room: back-pressure. Cancellation and the submitter's deadline cut it.
    Wait,
    /// Is refused: [`SubmitError::Full`](super::SubmitError::Full).
    Reject,
    /// Takes the place of the oldest job in the queue, whose ticket says [`JobError::Dropped`](super::JobError::Dropped).
    DropOldest,
    /// Runs the job itself, which slows the submitter down. A job that runs like this may submit in its turn, up to
    /// [`MAX_RUN_HERE`] deep, since each takes up the submitter's stack; beyond that it is refused:
    /// [`SubmitError::Full`](super::SubmitError::Full).
    RunHere,
}

/// So many jobs, each submitted by the one before, may run in one submitter: [`WhenFull::RunHere`].
pub const MAX_RUN_HERE: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) workers: usize,
    pub(super) queue: usize,
    pub(super) when_full: WhenFull,
}
