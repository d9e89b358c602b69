//! What clones of a client, and its responses, share.

use std::time::Duration;

use super::pool::Pool;
use crate::transport::{ClientTls, Connector};

pub(super) struct Shared {
    pub(super) pool: Pool,
    /// To where, if not to the host of the URL.
    pub(super) connector: Option<Connector>,
    pub(super) security: ClientTls,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) max_body_bytes: u64,
    /// That are followed for one request.
    pub(super) max_redirects: usize,
}
