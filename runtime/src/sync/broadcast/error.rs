//! Why a receiver of a broadcast has no message.

use std::io;

use crate::error::{Cancelled, Elapsed, Interrupt};

/// Why [`Receiver::recv`](super::Receiver::recv) has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// So many messages were dropped before this receiver came to them; the next call continues after
    /// them. With [`Lag::DropOldest`](super::Lag::DropOldest) alone.
    #[error("missed {0} messages")]
    Lagged(u64),
    /// The receiver was disconnected since it fell too far behind. With
    /// [`Lag::Disconnect`](super::Lag::Disconnect) alone.
    #[error("disconnected for falling behind")]
    Expelled,
    /// All messages have been received and all senders are gone.
    #[error("receiving on an empty channel without senders")]
    Disconnected,
    /// The scope was cancelled.
    #[error("receiving was cancelled")]
    Cancelled,
    /// The scope's deadline passed.
    #[error("receiving ran into the deadline")]
    Elapsed,
}

/// Why [`Receiver::try_recv`](super::Receiver::try_recv) has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// All messages have been received.
    #[error("receiving on an empty channel")]
    Empty,
    /// The receiver was too slow and has lost messages, as [`RecvError::Lagged`] says.
    #[error("missed {0} messages")]
    Lagged(u64),
    /// The receiver was too slow and is disconnected, as [`RecvError::Expelled`] says.
    #[error("disconnected for falling behind")]
    Expelled,
    /// All senders are gone and nothing is left, as [`RecvError::Disconnected`] says.
    #[error("receiving on an empty channel without senders")]
    Disconnected,
}

/// Why [`Receiver::recv_timeout`](super::Receiver::recv_timeout) has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// No message came in time.
    #[error("receiving timed out")]
    Timeout,
    /// The receiver was too slow and has lost messages, as [`RecvError::Lagged`] says.
    #[error("missed {0} messages")]
    Lagged(u64),
    /// The receiver was too slow and is disconnected, as [`RecvError::Expelled`] says.
    #[error("disconnected for falling behind")]
    Expelled,
    /// All senders are gone and nothing is left, as [`RecvError::Disconnected`] says.
    #[error("receiving on an empty channel without senders")]
    Disconnected,
    /// The scope was cancelled.
    #[error("receiving was cancelled")]
    Cancelled,
}

impl From<TryRecvError> for RecvError {
    fn from(error: TryRecvError) -> Self {
        match error {
            // Only a wait that was cut reports nothing.
            TryRecvError::Empty => RecvError::Elapsed,
            TryRecvError::Lagged(missed) => RecvError::Lagged(missed),
            TryRecvError::Expelled => RecvError::Expelled,
            TryRecvError::Disconnected => RecvError::Disconnected,
        }
    }
}

impl From<Interrupt> for RecvError {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => RecvError::Cancelled,
            Interrupt::Elapsed => RecvError::Elapsed,
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Lagged(missed) => RecvTimeoutError::Lagged(missed),
            RecvError::Expelled => RecvTimeoutError::Expelled,
            RecvError::Disconnected => RecvTimeoutError::Disconnected,
            RecvError::Cancelled => RecvTimeoutError::Cancelled,
            RecvError::Elapsed => RecvTimeoutError::Timeout,
        }
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Cancelled => Cancelled.into(),
            RecvError::Elapsed => Elapsed.into(),
            RecvError::Lagged(_) => io::Error::other(error),
            RecvError::Expelled | RecvError::Disconnected => {
                io::Error::new(io::ErrorKind::BrokenPipe, error)
            }
        }
    }
}
