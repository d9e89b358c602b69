//! Why a request over a connection of HTTP/2 came to nothing.

use std::io;

use h2::Reason;
use maniple::cancel::is_cancelled_error;

use super::heads::EXCESS;

/// Why a request over a [`Link`](super::Link) came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The wait was cut short, by a cancellation or by a deadline (kind `TimedOut`). What was waited for may be waited for
    /// again.
    #[error("{0}")]
    Cut(io::Error),
    /// The connection has ended after it was idle for too long, before the request had begun.
    #[error("the connection was idle for too long")]
    Idle,
    /// The server takes no more of the request's body. Its answer may say why.
    #[error("the server takes no more of the request")]
    Closed,
    /// The server has sent too many heads before that of the answer: more than 128, or 64 KiB of them, to a request that waits for
    /// its answer, which ends alone; or more than 1,024 to all those whose answers nobody waits for, and the connection ends.
    #[error("too many interim responses")]
    Interim,
    /// The server ended the request or the connection, the connection failed, or what came is not HTTP/2.
    #[error("{0}")]
    Ended(h2::Error),
}

impl From<h2::Error> for LinkError {
    fn from(error: h2::Error) -> Self {
        let words = error.get_io().and_then(io::Error::get_ref);
        match words.is_some_and(|words| words.to_string() == EXCESS) {
            true => LinkError::Interim,
            false => LinkError::Ended(error),
        }
    }
}

impl LinkError {
    /// Whether the server did not look at the request for certain: it refused the stream, or the stream is beyond the last that
    /// its `GOAWAY` names (RFC 9113, 8.7), or nothing was sent. Any request may then be made again, on another connection.
    pub fn is_unseen(&self) -> bool {
        match self {
            LinkError::Idle => true,
            LinkError::Cut(_) | LinkError::Closed | LinkError::Interim => false,
            LinkError::Ended(error) => {
                let is_refused = error.reason() == Some(Reason::REFUSED_STREAM);
                error.is_remote() && (is_refused || error.is_go_away())
            }
        }
    }

    /// What the end of the request or of the connection was for, if either side said so.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            LinkError::Cut(_) | LinkError::Idle | LinkError::Closed | LinkError::Interim => None,
            LinkError::Ended(error) => error.reason(),
        }
    }

    /// Whether the whole connection ends, and not the request alone.
    pub fn is_go_away(&self) -> bool {
        matches!(self, LinkError::Ended(error) if error.is_go_away())
    }

    /// What the connection failed with, if it did.
    pub fn broken(&self) -> Option<&io::Error> {
        match self {
            LinkError::Cut(_) | LinkError::Idle | LinkError::Closed | LinkError::Interim => None,
            LinkError::Ended(error) => error.get_io(),
        }
    }

    /// Whether the caller's scope was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, LinkError::Cut(error) if is_cancelled_error(error))
    }
}
