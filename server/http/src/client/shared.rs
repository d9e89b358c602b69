//! What clones of a client, and its responses, share.

use std::time::Duration;

use super::pool::Pool;

pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) max_body_bytes: u64,
}
