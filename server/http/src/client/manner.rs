//! How requests are put over a client's connections.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// What connections of a client have in common: those that lead to servers, and those that lead to a proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// How long a request may take to leave.
    pub(super) send: Option<Duration>,
    /// How long the answer's head may take from then on.
    pub(super) answer: Option<Duration>,
    /// What tells the time that is left.
    pub(super) deadline: Option<HeaderName>,
    /// Whether a proxy is to pass requests on, so that they name the host.
    pub(super) forwards: bool,
    /// What that proxy is told.
    pub(super) credentials: Option<HeaderValue>,
}

impl Manner {
    pub(super) fn bounds_phases(&self) -> bool {
        self.send.is_some() || self.answer.is_some()
    }
}
