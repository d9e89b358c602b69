//! How a connection to where a URL is asked is made: straight, by a connector, or through a proxy.
//!
//! ```text
//!   resolve ──► connect, to whichever address answers first ──► agree with the proxy ──► shake hands
//!   (Resolve)   (Connect)                                        (Connect)                (Tls)
//! ```

use std::{io, net::SocketAddr};

use http::StatusCode;
use maniple::net::ToSocketAddrs;
use maniple_parts::endpoints::Want;

use super::{
    error::ClientError,
    phase::Phase,
    proxy::{Kind, Proxy},
    servers::{Service, To},
    shared::Shared,
    url::Url,
};
use crate::transport::{Transport, Unsecured};

/// What is spoken over a connection that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, or HTTP/1.1 if the server agrees on no other.
    #[cfg(feature = "http2")]
    Http2,
    /// Another protocol.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "nobody does"))]
    Other,
}

impl Shared {
    /// A connection, and whether it leads to a proxy that passes requests on rather than to the host. Where the caller
    /// speaks something else than requests over it, it leads to the host.
    pub(crate) fn reach(
        &self,
        url: &Url<'_>,
        speaks: Speaks,
    ) -> Result<(Transport, bool), ClientError> {
        self.check_scheme(url)?;
        if let Some(service) = self.services.of(url) {
            return self.reach_one_of(service, url, speaks);
        }
        let proxy = self.proxies.of(url).filter(|_| self.connector.is_none());
        let passes_on =
            |proxy: &Proxy| !proxy.is_socks() && !url.is_secure && speaks == Speaks::Http1;
        let forwards = proxy.is_some_and(|proxy| passes_on(proxy));
        let mut stream = match proxy {
            Some(proxy) => self.connect_by_proxy(proxy, url, forwards)?,
            None => self.connect_straight(url)?,
        };
        if url.is_secure {
            stream = self.secure(stream, url.name(), url.origin, speaks)?;
        }
        self.limit(&stream, url.origin)?;
        Ok((stream, forwards))
    }

    /// The same, to a server that stands for the URL's host if it is one of several.
    pub(super) fn reach_to(
        &self,
        to: &To<'_>,
        url: &Url<'_>,
        speaks: Speaks,
    ) -> Result<(Transport, bool), ClientError> {
        let Some(address) = &to.address else {
            return self.reach(url, speaks);
        };
        let addresses = self.resolve(address)?;
        let connected = self.in_time(|| Transport::connect_tcp(&addresses));
        let mut stream = connected.map_err(|error| ClientError::connect(address, error))?;
        if url.is_secure {
            stream = self.secure(stream, url.name(), &to.origin, speaks)?;
        }
        self.limit(&stream, &to.origin)?;
        Ok((stream, false))
    }

    /// For another protocol: the call is over once there is a connection.
    fn reach_one_of(
        &self,
        service: &Service,
        url: &Url<'_>,
        speaks: Speaks,
    ) -> Result<(Transport, bool), ClientError> {
        let want = Want::new();
        service.counts.call();
        service
            .servers
            .retry
            .run(ClientError::is_of_the_server, |number| {
                service.counts.attempt(number);
                let (mut call, to) = service.pick(&want, url)?;
                let reached = self.reach_to(&to, url, speaks);
                match &reached {
                    Ok(_) => call.answered(StatusCode::SWITCHING_PROTOCOLS),
                    Err(error) => call.failed(error),
                }
                reached
            })
    }

    fn limit(&self, stream: &Transport, host: &str) -> Result<(), ClientError> {
        let limited = stream.set_read_timeout(self.timeout);
        limited
            .and_then(|()| stream.set_write_timeout(self.timeout))
            .map_err(|error| ClientError::connect(host, error))
    }

    pub(super) fn check_scheme(&self, url: &Url<'_>) -> Result<(), ClientError> {
        match self.security.refusal() {
            Some(reason) if url.is_secure => Err(ClientError::Url {
                url: url.origin.to_owned(),
                reason: reason.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn connect_straight(&self, url: &Url<'_>) -> Result<Transport, ClientError> {
        if let Some(connector) = &self.connector {
            let connected = match self.limits.connect {
                timeout if timeout.is_zero() => Err(io::ErrorKind::TimedOut.into()),
                timeout => connector.connect(timeout),
            };
            return connected.map_err(|error| {
                let to = connector.address().to_string();
                ClientError::connect(&to, error)
            });
        }
        let host = url.address();
        let addresses = self.resolve(&host)?;
        let connected = self.in_time(|| Transport::connect_tcp(&addresses));
        connected.map_err(|error| ClientError::connect(&host, error))
    }

    fn connect_by_proxy(
        &self,
        proxy: &Proxy,
        url: &Url<'_>,
        forwards: bool,
    ) -> Result<Transport, ClientError> {
        if proxy.kind == Kind::Https
            && let Some(reason) = self.security.refusal()
        {
            return Err(ClientError::Url {
                url: format!("https://{}", proxy.address),
                reason: reason.to_owned(),
            });
        }
        let address = match proxy.kind {
            Kind::Socks => self.resolve(&url.address())?.into_iter().next(),
            _ => None,
        };
        let addresses = self.resolve(&proxy.address)?;
        let connected = self.in_time(|| Transport::connect_tcp(&addresses));
        let mut stream = connected.map_err(|error| ClientError::connect(&proxy.address, error))?;
        if proxy.kind == Kind::Https {
            stream = self.secure(stream, &proxy.name, &proxy.address, Speaks::Http1)?;
        }
        if !forwards {
            let mut refused = None;
            let opened = self.in_time(|| match proxy.open_way(&stream, url, address) {
                Ok(()) => Ok(()),
                Err(error) => {
                    refused = Some(error);
                    Err(io::ErrorKind::Other.into())
                }
            });
            if let Err(error) = opened {
                let late = || ClientError::connect(&proxy.address, error);
                return Err(refused.unwrap_or_else(late));
            }
        }
        Ok(stream)
    }

    fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, ClientError> {
        if let Some(addresses) = self.pinned(host) {
            return Ok(addresses);
        }
        let look_up = || host.to_socket_addrs();
        let addresses = match self.limits.resolve {
            Some(limit) => maniple::timeout(limit, look_up)
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => look_up(),
        };
        let addresses = addresses.map_err(|error| ClientError::resolve(host, error))?;
        if addresses.is_empty() {
            let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(ClientError::resolve(host, none));
        }
        Ok(addresses)
    }

    /// Within the time for connecting.
    fn in_time<T>(&self, connects: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.limits.connect.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        maniple::timeout(self.limits.connect, connects)
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn secure(
        &self,
        below: Transport,
        name: &str,
        host: &str,
        speaks: Speaks,
    ) -> Result<Transport, ClientError> {
        let secured = match speaks {
            #[cfg(feature = "http2")]
            Speaks::Http2 => self.security.secure_for_http2(below, name),
            _ => self.security.secure(below, name),
        };
        secured.map_err(|unsecured| match unsecured {
            Unsecured::Late => ClientError::timeout(host, Phase::Tls),
            Unsecured::Refused(error) => ClientError::Tls {
                host: host.to_owned(),
                error,
            },
            Unsecured::Broken(error) => ClientError::tls(host, error),
        })
    }
}
