//! What all connections of a server share: its routes, limits and timeouts, and who is connected.

use std::{sync::Arc, time::Duration};

use super::{drain::Registry, http2::Http2, lookout::Disconnects};
use crate::{body::BodyLimits, http1::head::Limits, router::Router};

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) body_limits: BodyLimits,
    /// Bytes a second of an answer that a client must take in the long run.
    pub(crate) slowest_answer: u64,
    pub(crate) life: Life,
    pub(crate) disconnects: Disconnects,
    pub(crate) registry: Arc<Registry>,
    pub(crate) http2: Http2,
}

/// How long a connection is kept at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) requests: u64,
    pub(crate) age: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
}
