//! What all connections of a server share: its routes, limits and timeouts, and who is connected.

use std::{sync::Arc, time::Duration};

use super::{drain::Registry, lookout::Disconnects};
use crate::{body::BodyLimits, http1::head::Limits, router::Router};

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) body_limits: BodyLimits,
    pub(crate) disconnects: Disconnects,
    pub(crate) registry: Arc<Registry>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
}
