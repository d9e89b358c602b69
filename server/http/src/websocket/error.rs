//! Why nothing was received or sent.

use std::io;

use super::frame::Fault;

/// Why nothing was received or sent, or no connection made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One side has sent a Close frame: nothing can be sent behind it.
    #[error("the WebSocket is closed")]
    Closed,
    /// The peer broke the protocol, and was told so with 1002.
    #[error("the peer of the WebSocket broke the protocol: {0}")]
    Protocol(&'static str),
    /// The peer sent a text that is none, and was told so with 1007.
    #[error("the peer of the WebSocket sent a text that is not UTF-8")]
    NotUtf8,
    /// The peer sent a message or a frame that is over the limit, and was told so with 1009.
    #[error("the peer of the WebSocket sent more than {limit} bytes at once, the limit")]
    TooLarge {
        /// The limit that it is over.
        limit: usize,
    },
    /// The peer did not answer a Ping or a Close in time.
    #[error("the peer of the WebSocket did not answer a {0} in time")]
    Unanswered(&'static str),
    /// The peer did not take what there was in a queue with [`Lag::Disconnect`](super::Lag::Disconnect), and was
    /// disconnected.
    #[error("the peer of the WebSocket fell behind and was disconnected")]
    Lagged,
    /// The server did not switch to the protocol; what it answered, or what is wrong with that or with the URL.
    #[error("no WebSocket at {url}: {reason}")]
    Refused {
        /// What was to be connected to.
        url: String,
        /// What came in between.
        reason: String,
    },
    /// The connection failed or ended without a Close frame, or the caller's wait was cut short.
    #[error("WebSocket: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether the connection can still be used: only the caller's wait was cut short.
    pub fn is_interruption(&self) -> bool {
        match self {
            Error::Io(error) => {
                maniple::cancel::is_cancelled_error(error)
                    || error.kind() == io::ErrorKind::TimedOut
            }
            _ => false,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Protocol(text) => Error::Protocol(text),
            Fault::NotUtf8 => Error::NotUtf8,
            Fault::TooLarge(limit) => Error::TooLarge { limit },
        }
    }
}
