//! Why a connection was closed, and why a server ended.

use std::io;

use super::codec::CodecError;

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// The peer ended its side; it may still read. A message that it had begun is dropped.
    #[error("the peer ended its side")]
    End,
    /// Reading or writing failed: as a rule, the peer reset the connection.
    #[error("the connection broke: {0}")]
    Failed(#[source] io::Error),
    /// The peer sent what is no message, or the actor sent what cannot be written.
    #[error(transparent)]
    Codec(CodecError),
    /// Nothing came for the idle time.
    #[error("nothing came for too long")]
    Idle,
    /// The outgoing queue was full while the peer took nothing, and laggards are disconnected.
    #[error("the peer fell behind")]
    Lagged,
    /// The peer did not take what was sent within the write timeout.
    #[error("the peer took nothing for too long")]
    WriteTimeout,
    /// The actor closed it.
    #[error("closed by the actor")]
    ByActor,
    /// The server drains, or its runtime ends.
    #[error("the server drains")]
    Drained,
    /// No coroutine could be had for it: out of stacks, or the pool refused.
    #[error("the connection could not be served: {0}")]
    Unserved(String),
}

/// Why a server ended without having been drained. Each case names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The actor panicked. All connections have been cut.
    #[error("server `{server}`: the actor panicked in `{event}`: {message}")]
    Panicked {
        /// The server's name.
        server: String,
        /// The method of [`Actor`](super::Actor).
        event: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The listener failed for good, or its coroutine could not be started.
    #[error("server `{server}`: {error}")]
    Io {
        /// The server's name.
        server: String,
        /// The cause.
        #[source]
        error: io::Error,
    },
}
