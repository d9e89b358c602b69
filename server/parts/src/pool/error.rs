//! Why a job was not accepted, and why one that was has no result.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex},
};

use crate::lines::panic_message;

/// Why a job was not accepted. Each case names the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full and the policy is [`WhenFull::Reject`](super::WhenFull::Reject), or [`WhenFull::RunHere`](super::WhenFull::RunHere) and the submitter runs
    /// [`MAX_RUN_HERE`](super::MAX_RUN_HERE) jobs already, each for the one before.
    #[error(
        "pool `{pool}` is busy and its queue of {limit} is full: try later, or raise queue or workers"
    )]
    Full {
        /// The pool's name.
        pool: Arc<str>,
        /// Jobs that the queue holds.
        limit: usize,
    },
    /// The pool is drained or draining, or its runtime has ended.
    #[error("pool `{pool}` is closed")]
    Closed {
        /// The pool's name.
        pool: Arc<str>,
    },
    /// The submitter was cancelled.
    #[error("submitting to pool `{pool}` was cancelled")]
    Cancelled {
        /// The pool's name.
        pool: Arc<str>,
    },
    /// The submitter's deadline passed.
    #[error("submitting to pool `{pool}` ran into the deadline")]
    Elapsed {
        /// The pool's name.
        pool: Arc<str>,
    },
}

/// Why a job has no result. Each case names the pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job panicked. The worker goes on.
    #[error("a job of pool `{pool}` panicked: {panic}")]
    Panicked {
        /// The pool's name.
        pool: Arc<str>,
        /// What it panicked with.
        panic: Panic,
    },
    /// The job was cancelled or withdrawn, by [`Ticket::cancel`](super::Ticket::cancel), by who waited for it, or by a drain; or
    /// the pool's runtime ended.
    #[error("a job of pool `{pool}` was cancelled")]
    Cancelled {
        /// The pool's name.
        pool: Arc<str>,
    },
    /// The deadline passed: the submitter's, while the job was queued or ran, or that of who waited for it.
    #[error("a job of pool `{pool}` ran into its deadline")]
    Elapsed {
        /// The pool's name.
        pool: Arc<str>,
    },
    /// The job was dropped from the queue for a newer one: [`WhenFull::DropOldest`](super::WhenFull::DropOldest).
    #[error("a job of pool `{pool}` was dropped from the full queue for a newer one")]
    Dropped {
        /// The pool's name.
        pool: Arc<str>,
    },
}

/// What a job panicked with.
pub struct Panic {
    message: String,
    /// Never locked by two: the lock makes the error `Sync`.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(super) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self {
            message: panic_message(&*payload),
            payload: Mutex::new(payload),
        }
    }

    /// The payload, for [`std::panic::resume_unwind`].
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message).finish()
    }
}
