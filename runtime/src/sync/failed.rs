//! Why a channel's call that may wait had no success, whatever the channel; each call has an error type to say so.

use super::channel::{RecvError, RecvTimeoutError, SendError, SendTimeoutError};
use crate::error::Interrupt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Disconnected,
    /// The call's time limit passed, or its scope's deadline.
    Timeout,
    Cancelled,
}

impl From<Interrupt> for Failed {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => Failed::Cancelled,
            Interrupt::Elapsed => Failed::Timeout,
        }
    }
}

impl From<Failed> for RecvError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Disconnected => RecvError::Disconnected,
            Failed::Timeout => RecvError::Elapsed,
            Failed::Cancelled => RecvError::Cancelled,
        }
    }
}

impl From<Failed> for RecvTimeoutError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Disconnected => RecvTimeoutError::Disconnected,
            Failed::Timeout => RecvTimeoutError::Timeout,
            Failed::Cancelled => RecvTimeoutError::Cancelled,
        }
    }
}

impl Failed {
    /// The error of a send, with the message that was not sent.
    pub(super) fn of<T>(self, message: T) -> SendError<T> {
        match self {
            Failed::Disconnected => SendError::Disconnected(message),
            Failed::Timeout => SendError::Elapsed(message),
            Failed::Cancelled => SendError::Cancelled(message),
        }
    }

    /// As `of`, of a send that had a time limit.
    pub(super) fn in_time_of<T>(self, message: T) -> SendTimeoutError<T> {
        match self {
            Failed::Disconnected => SendTimeoutError::Disconnected(message),
            Failed::Timeout => SendTimeoutError::Timeout(message),
            Failed::Cancelled => SendTimeoutError::Cancelled(message),
        }
    }
}
