//! What clones of a client, and its responses, share.

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};

use super::{
    jar::Jar, manner::Manner, phase::Limits, pool::Pool, proxy::Proxies, servers::Services,
};
use crate::{
    body::Decode,
    transport::{ClientTls, Connector},
};

pub(crate) struct Shared {
    pub(super) pool: Pool,
    #[cfg(feature = "http2")]
    pub(super) links: super::http2::Links,
    /// Hosts of URLs that stand for several servers.
    pub(super) services: Services,
    /// To where, if not to the host of the URL.
    pub(super) connector: Option<Connector>,
    pub(super) security: ClientTls,
    /// Set where cookies are kept.
    pub(super) jar: Option<Jar>,
    pub(super) proxies: Proxies,
    /// Addresses of names, lower case, that are not looked up.
    pub(super) pinned: HashMap<String, Vec<SocketAddr>>,
    pub(super) limits: Limits,
    /// How requests are put to servers.
    pub(super) straight: Arc<Manner>,
    /// How they are put to the proxy of `http` URLs.
    pub(super) forwarded: Arc<Manner>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_body_bytes: u64,
    /// Set where answers are asked for in a coding.
    pub(super) decoding: Option<Decoding>,
    /// That are followed for one request.
    pub(super) max_redirects: usize,
}

impl Shared {
    /// The addresses that were given for the host, which stands in front of its port.
    pub(super) fn pinned(&self, host: &str) -> Option<Vec<SocketAddr>> {
        if self.pinned.is_empty() {
            return None;
        }
        let (name, port) = host.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let addresses = self.pinned.get(&name.to_ascii_lowercase())?;
        let with_port = |address: &SocketAddr| match address.port() {
            0 => SocketAddr::new(address.ip(), port),
            _ => *address,
        };
        Some(addresses.iter().map(with_port).collect())
    }
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
