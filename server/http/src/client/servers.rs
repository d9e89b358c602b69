//! Services that several servers provide: which there are, and how a client calls them.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::StatusCode;
use maniple::group::Hedger;
use maniple_parts::{
    endpoints::{Endpoint, Endpoints, Listening, PickError, Want},
    resilience::{Retry, RetryBudget},
};

use super::{call::Call, error::ClientError, phase::Phase, pool::Closer, url::Url};
use crate::middleware::CallCounts;

/// Servers that provide a service together, and how they are called: see [`Builder::servers`](super::Builder::servers).
///
/// Clones are the same servers, with the same budget.
#[derive(Clone)]
pub struct Servers {
    endpoints: Endpoints,
    pub(super) retry: Retry,
    pub(super) hedger: Option<Arc<Hedger>>,
    fails: fn(StatusCode) -> bool,
}

impl Servers {
    /// Those of the set. A call is tried three times, with short pauses and a budget of 20 retries for 100 calls, and never a
    /// second time at the same moment.
    pub fn new(endpoints: Endpoints) -> Self {
        let pauses = Duration::from_millis(1)..=Duration::from_millis(100);
        Self {
            endpoints,
            retry: Retry::new().backoff(pauses).budget(&RetryBudget::new(20)),
            hedger: None,
            fails: |status| status.is_server_error(),
        }
    }

    /// How often a call is tried, with which pauses and from which budget. `Retry::new().attempts(1)` never tries again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Asks a second server where the first is slow, and takes the answer that comes first; the other call is cancelled. Only what
    /// may be asked twice is: idempotent methods, without a body that is made while it is sent. Give it a
    /// [bound](Hedger::at_most): its second attempts are not paid from the budget of retries. Default: none.
    pub fn hedger(mut self, hedger: impl Into<Arc<Hedger>>) -> Self {
        self.hedger = Some(hedger.into());
        self
    }

    /// Which statuses speak against a server, so that it may be left out. Default: 5xx.
    pub fn failures(mut self, fails: fn(StatusCode) -> bool) -> Self {
        self.fails = fails;
        self
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("endpoints", &self.endpoints)
            .field("retry", &self.retry)
            .field("hedges", &self.hedger.is_some())
            .finish()
    }
}

/// A service of a client.
#[derive(Debug)]
pub(super) struct Service {
    /// The host of its URLs.
    host: String,
    pub(super) servers: Servers,
    pub(super) counts: Arc<CallCounts>,
    _listening: Listening,
}

impl Service {
    pub(super) fn new(host: String, servers: Servers, closer: Closer) -> Self {
        let name = host.clone();
        let close = move |endpoint: &Endpoint| {
            closer.close(|kept| leads_to(kept, &name, endpoint.address()));
        };
        Self {
            counts: CallCounts::new(&host),
            _listening: servers.endpoints.on_leave(close),
            host,
            servers,
        }
    }

    /// Gives a call to one of the servers.
    pub(super) fn pick<'a>(
        &self,
        want: &Want,
        url: &Url<'a>,
    ) -> Result<(Box<Call>, To<'a>), ClientError> {
        let picked = self.servers.endpoints.pick_as(want);
        let picked = picked.map_err(|error| {
            let (host, phase) = (self.host.clone(), Phase::Queue);
            match error {
                PickError::TimedOut => ClientError::Timeout { host, phase },
                PickError::Cancelled => ClientError::Cancelled { host, phase },
                error => ClientError::NoServer { host, error },
            }
        })?;
        let to = To::server(picked.address(), url);
        Ok((Box::new(Call::new(picked, self.servers.fails)), to))
    }
}

/// All services of a client.
#[derive(Debug, Default)]
pub(super) struct Services(pub(super) Vec<Service>);

impl Services {
    /// The one that a URL names by its host. With a port it names that host.
    pub(super) fn of(&self, url: &Url<'_>) -> Option<&Service> {
        if self.0.is_empty() || url.port_is_named {
            return None;
        }
        let is_of = |service: &&Service| service.host.eq_ignore_ascii_case(url.authority);
        self.0.iter().find(is_of)
    }
}

/// Where a request goes.
pub(super) struct To<'a> {
    /// By what its connections are kept.
    pub(super) origin: Cow<'a, str>,
    /// Host and port, if it is not the host of the URL.
    pub(super) address: Option<String>,
}

impl<'a> To<'a> {
    /// The host that the URL names.
    pub(super) fn host_of(url: &Url<'a>) -> Self {
        Self {
            origin: Cow::Borrowed(url.origin),
            address: None,
        }
    }

    /// A server that has the URL's name beside others.
    pub(super) fn server(address: &str, url: &Url<'_>) -> Self {
        let address = with_port(address, url.is_secure);
        let origin = match url.is_secure {
            true => secure_origin(url.authority, &address),
            false => address.to_string(),
        };
        Self {
            origin: Cow::Owned(origin),
            address: Some(address.into_owned()),
        }
    }
}

/// What a certificate is to be for is another thing than where the server is.
fn secure_origin(host: &str, address: &str) -> String {
    format!("https://{} at {address}", host.to_ascii_lowercase())
}

/// Whether connections that are kept by that origin lead to the server of a service.
fn leads_to(origin: &str, host: &str, address: &str) -> bool {
    origin == &*with_port(address, false)
        || origin.starts_with("https://")
            && origin == secure_origin(host, &with_port(address, true))
}

fn with_port(address: &str, is_secure: bool) -> Cow<'_, str> {
    let last = address.rsplit_once(':').map(|(_, last)| last);
    match last {
        // The end of an IPv6 address is in brackets.
        Some(last) if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) => {
            Cow::Borrowed(address)
        }
        _ => Cow::Owned(format!("{address}:{}", if is_secure { 443 } else { 80 })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_the_port_of_the_scheme_if_none_is_named() {
        for (address, plain, secure) in [
            ("10.0.0.7", "10.0.0.7:80", "10.0.0.7:443"),
            ("10.0.0.7:9001", "10.0.0.7:9001", "10.0.0.7:9001"),
            ("[::1]", "[::1]:80", "[::1]:443"),
            ("[::1]:9001", "[::1]:9001", "[::1]:9001"),
            ("prices-1", "prices-1:80", "prices-1:443"),
        ] {
            assert_eq!(with_port(address, false), plain);
            assert_eq!(with_port(address, true), secure);
            for url in ["http://Prices/", "https://prices/"] {
                let url = Url::parse(url).unwrap();
                let to = To::server(address, &url);
                assert!(leads_to(&to.origin, "prices", address), "{}", to.origin);
                assert!(!leads_to(&to.origin, "prices", "10.0.0.8"), "{}", to.origin);
            }
        }
    }
}
