//! Why a join has no result to give.

use std::{any::Any, fmt, io};

use crate::{
    coroutine::{Failure, TaskRef},
    error::{Cause, Interrupt},
    panics::Payload,
    wait,
};

/// Why a join has no result to give.
pub struct JoinError {
    kind: JoinErrorKind,
}

enum JoinErrorKind {
    Panicked(Payload),
    Cancelled(Option<Cause>),
    Elapsed,
    Failed,
    NoStack(io::Error),
}

impl JoinError {
    /// Why `task` has no value.
    pub(crate) fn of(task: &TaskRef, failure: Failure) -> Self {
        match failure {
            Failure::Panicked(payload) => Self::panicked(payload),
            Failure::Interrupted(Interrupt::Cancelled) => Self {
                kind: JoinErrorKind::Cancelled(task.header().waiter.own_scope().cause()),
            },
            Failure::Interrupted(Interrupt::Elapsed) => Self {
                kind: JoinErrorKind::Elapsed,
            },
            Failure::NoStack(error) => Self {
                kind: JoinErrorKind::NoStack(error),
            },
        }
    }

    /// The wait for the coroutine was cut short.
    pub(crate) fn interrupted(interrupt: Interrupt) -> Self {
        Self {
            kind: match interrupt {
                Interrupt::Cancelled => JoinErrorKind::Cancelled(wait::cause()),
                Interrupt::Elapsed => JoinErrorKind::Elapsed,
            },
        }
    }

    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        Self {
            kind: JoinErrorKind::Panicked(Payload::new(payload)),
        }
    }

    /// A group's child whose error has become its group's.
    pub(crate) fn failed() -> Self {
        Self {
            kind: JoinErrorKind::Failed,
        }
    }

    /// Whether the coroutine panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, JoinErrorKind::Panicked(_))
    }

    /// Whether the coroutine, or the wait for it, was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, JoinErrorKind::Cancelled(_))
    }

    /// Why the coroutine, or the wait for it, was cancelled, if it was and the cause is known.
    ///
    /// # Examples
    /// ```
    /// use maniple::cancel::Cause;
    /// let parked = maniple::spawn(maniple::park);
    /// parked.cancel();
    /// assert_eq!(parked.join().unwrap_err().cause(), Some(Cause::Handle));
    /// ```
    pub fn cause(&self) -> Option<Cause> {
        match self.kind {
            JoinErrorKind::Cancelled(cause) => cause,
            _ => None,
        }
    }

    /// Whether a deadline passed, the coroutine's or that of the wait for it.
    pub fn is_elapsed(&self) -> bool {
        matches!(self.kind, JoinErrorKind::Elapsed)
    }

    /// The panic's payload, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    /// If the coroutine did not panic.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.kind {
            JoinErrorKind::Panicked(payload) => payload.into_inner(),
            _ => panic!("the coroutine did not panic: {self}"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            JoinErrorKind::Panicked(payload) => {
                write!(f, "coroutine panicked: {}", payload.message())
            }
            JoinErrorKind::Cancelled(None) => f.write_str("coroutine was cancelled"),
            JoinErrorKind::Cancelled(Some(cause)) => write!(f, "coroutine was cancelled {cause}"),
            JoinErrorKind::Elapsed => f.write_str("coroutine's deadline has passed"),
            JoinErrorKind::Failed => f.write_str("coroutine failed; its group returns the error"),
            JoinErrorKind::NoStack(error) => write!(f, "coroutine could not begin: {error}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        match error.kind {
            JoinErrorKind::Cancelled(_) => Interrupt::Cancelled.into(),
            JoinErrorKind::Elapsed => Interrupt::Elapsed.into(),
            JoinErrorKind::NoStack(error) => error,
            JoinErrorKind::Panicked(_) | JoinErrorKind::Failed => {
                io::Error::other(error.to_string())
            }
        }
    }
}
