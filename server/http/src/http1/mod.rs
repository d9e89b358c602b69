//! HTTP/1.1 on the wire (RFC 9112), without I/O: bytes in, meaning out, and back.
//!
//! Nothing here knows a socket or a coroutine. What a peer may send wrongly ends in a [`Reject`]: the
//! status to answer with; the connection is closed after it, since where the next message begins cannot
//! be known.

pub(crate) mod accepted;
pub(crate) mod chunk;
pub(crate) mod condition;
pub(crate) mod conversation;
pub(crate) mod head;
pub(crate) mod range;
pub(crate) mod reference;
pub(crate) mod reply;
pub(crate) mod response;
mod scan;
pub(crate) mod target;

use http::StatusCode;

/// A message that must not be acted upon, and what to tell its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
}

impl Reject {
    pub(crate) const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }
}
