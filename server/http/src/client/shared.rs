//! What clones of a client, and its responses, share.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderValue};

use super::pool::Pool;
use crate::{
    body::Decode,
    transport::{ClientTls, Connector},
};

pub(super) struct Shared {
    pub(super) pool: Pool,
    /// To where, if not to the host of the URL.
    pub(super) connector: Option<Connector>,
    pub(super) security: ClientTls,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) max_body_bytes: u64,
    /// Set where answers are asked for in a coding.
    pub(super) decoding: Option<Decoding>,
    /// That are followed for one request.
    pub(super) max_redirects: usize,
}

/// Answers in a coding.
#[derive(Clone)]
pub(crate) struct Decoding {
    /// What is asked for.
    pub(crate) accepted: HeaderValue,
    /// What reads the body of an answer with these fields, if it travels in one of them.
    pub(crate) decoder: fn(&mut HeaderMap) -> Option<Box<dyn Decode>>,
}

impl fmt::Debug for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decoding").field(&self.accepted).finish()
    }
}
