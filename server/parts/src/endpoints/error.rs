//! Why there is nobody to call.

/// Why there is nobody to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// The list is empty, or all that is in it has a weight of 0.
    #[error("there are no servers")]
    Empty,
    /// All that may be called have as many calls as they may have at a time; and as many calls [wait](super::Builder::queue) as may
    /// wait.
    #[error("all servers have as many calls as they may have")]
    Full,
    /// No server had a place in the time that a call may [wait](super::Builder::queue), or until the caller's deadline.
    #[error("no server had a place in time")]
    TimedOut,
    /// The caller's scope was cancelled while the call waited for a place.
    #[error("cancelled while all servers had as many calls as they may have")]
    Cancelled,
    /// After an outage few are back, and this call was held off from them: see
    /// [`Builder::recovery`](super::Builder::recovery).
    #[error("held off, since too few servers are back")]
    Recovering,
}

/// Why a call has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// It was not made.
    #[error(transparent)]
    Pick(#[from] PickError),
    /// It was made, and failed.
    #[error("{0}")]
    Call(E),
}

impl<E> CallError<E> {
    /// What the call returned, if it was made.
    pub fn call(self) -> Option<E> {
        match self {
            CallError::Pick(_) => None,
            CallError::Call(error) => Some(error),
        }
    }
}

/// Why a list was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// It has more servers than there may be.
    #[error("a list of {given} servers, of which there may be {most}")]
    TooMany {
        /// How many it has.
        given: usize,
        /// How many there may be.
        most: usize,
    },
}
