//! What a call is at, and how long each of that may take.

use std::{fmt, time::Duration};

/// What a call is at: [`ClientError::phase`](super::ClientError::phase) says where one ended.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use maniple_server::{Client, client::Phase};
/// let client = Client::builder().connect_timeout(Duration::ZERO).build();
/// let error = client.get("http://127.0.0.1:9/").unwrap_err();
/// assert_eq!(error.phase(), Some(Phase::Connect));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// It waits for a connection, since there are as many as there may be.
    Queue,
    /// The host's name, or the proxy's, is looked up.
    Resolve,
    /// A connection is made, through a proxy to its end.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The request is sent, and of its body not all has left.
    Send,
    /// The request has left, and the head of the answer has not come.
    Answer,
    /// The answer's body comes.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Queue => "waiting for a connection",
            Phase::Resolve => "looking the name up",
            Phase::Connect => "connecting",
            Phase::Tls => "shaking hands",
            Phase::Send => "sending the request",
            Phase::Answer => "waiting for the answer",
            Phase::Body => "reading the answer's body",
        })
    }
}

/// How long each phase may take; that of TLS is among the settings of TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) queue: Option<Duration>,
    pub(super) resolve: Option<Duration>,
    pub(super) connect: Duration,
    pub(super) body: Option<Duration>,
}
