//! A connection to a server, which many calls share, and which is made anew when it is gone; or one to each of several.

use std::{fmt, io, sync::Arc, time::Duration};

use http::uri::{Authority, Scheme};
use maniple::{cancel, sync::AcquireError};
use maniple_parts::endpoints::Want;
#[cfg(feature = "tls")]
use maniple_server::tls::ClientConfig;
use maniple_server::{
    http2::{Link, LinkSettings},
    transport::{Connector, Dialed},
};

pub use crate::servers::Servers;
use crate::{
    servers::{Attempt, Line, Lines},
    status::{Code, Status},
};

/// Calls to one server, over one connection of HTTP/2; or to [several](Channel::over), over one to each. Clones share it.
///
/// It connects with the first call, and anew with the first after the connection has gone. Calls from a coroutine wait as
/// everything there; those of a plain thread need a runtime to run the connection: see [`Channel::to`].
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    /// The authority, if it is one.
    host: Option<Authority>,
    to: To,
}

enum To {
    One(Line),
    Several(Servers, Lines),
}

#[derive(Clone)]
struct Settings {
    authority: String,
    servers: Option<Servers>,
    connector: Option<Connector>,
    #[cfg(feature = "tls")]
    tls: Option<ClientConfig>,
    max_message: usize,
    connect_timeout: Duration,
    compress: bool,
    link: LinkSettings,
}

impl Channel {
    /// To `host:port`, in plain text.
    pub fn to(authority: impl Into<String>) -> Self {
        Self::of(authority.into(), None)
    }

    /// To servers that provide a service together, in plain text. `name` is what each is told that it is, and what its certificate is
    /// to be for.
    ///
    /// Each call goes to one of them, as the set balances, and what it comes to is told to the set, which leaves out servers that fail.
    /// A call that its server has not looked at is made again, at another as long as there is one: it could not be connected to, it
    /// refused the call, or it was about to go. One that may have been carried out is made again only where
    /// [`Caller::with_repeats`](crate::Caller::with_repeats) allows that, and calls with streams are not once they have begun. How
    /// often says [`Servers::retry`]. The connection to a server that leaves the set ends with its last call.
    ///
    /// # Examples
    /// ```
    /// use maniple_grpc::{Caller, Channel, channel::Servers};
    /// use maniple_parts::endpoints::Endpoints;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let set = Endpoints::builder("prices").build(["10.0.0.7:50051", "10.0.0.8:50051"])?;
    /// let channel = Channel::over("prices.internal", Servers::new(set));
    /// let caller = Caller::new(channel).with_repeats(true);
    /// # drop(caller);
    /// # Ok(())
    /// # }
    /// ```
    pub fn over(name: impl Into<String>, servers: Servers) -> Self {
        Self::of(name.into(), Some(servers))
    }

    fn of(authority: String, servers: Option<Servers>) -> Self {
        Self::with(Settings {
            authority,
            servers,
            connector: None,
            #[cfg(feature = "tls")]
            tls: None,
            max_message: 4 * 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
            compress: false,
            link: LinkSettings::new().name("gRPC connection"),
        })
    }

    /// The same, and a connection of its own, by TLS with these settings. They must offer HTTP/2, by
    /// `alpn(["h2"])`; a server that does not agree to that is `UNAVAILABLE`. With the feature `tls`.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_grpc::Channel;
    /// use maniple_server::tls::ClientConfig;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = ClientConfig::builder().system_roots().alpn(["h2"]).build()?;
    /// let channel = Channel::to("example.net:443").tls(config);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(self, config: ClientConfig) -> Self {
        self.changed(|settings| settings.tls = Some(config))
    }

    /// The same, and a connection of its own, by a connector: to a Unix-domain socket, or within the process. The host and port are
    /// what the server is told that it is.
    pub fn connector(self, connector: Connector) -> Self {
        self.changed(|settings| settings.connector = Some(connector))
    }

    /// The same, and a connection of its own, with such a limit to the bytes of an answer. Default: 4 MiB.
    pub fn max_message_bytes(self, bytes: usize) -> Self {
        self.changed(|settings| settings.max_message = bytes)
    }

    /// The same, and a connection of its own, which must be made in such a time. Default: 10 s.
    pub fn connect_timeout(self, time: Duration) -> Self {
        self.changed(|settings| settings.connect_timeout = time)
    }

    /// The same, and a connection of its own, on which messages are compressed by gzip or are not. Default: not.
    pub fn compress(self, compress: bool) -> Self {
        self.changed(|settings| settings.compress = compress)
    }

    /// The same, and a connection of its own, on which the server is asked whether it is there (`PING`) after each `every`
    /// in which calls are under way. One that has not answered after `patience` is gone: its calls are `UNAVAILABLE`. Default:
    /// it is not asked.
    ///
    /// So a call without a deadline does not wait for ever for a host that is dead. Servers of others end a connection that
    /// asks more often than they allow, which is every 5 minutes with their defaults.
    pub fn keep_alive(self, every: Duration, patience: Duration) -> Self {
        self.changed(|settings| {
            settings.link = settings.link.clone().keep_alive(every, patience);
        })
    }

    /// The same, and it is asked without calls, too, for what is between to keep the connection.
    pub fn keep_alive_when_idle(self, yes: bool) -> Self {
        self.changed(|settings| {
            settings.link = settings.link.clone().keep_alive_when_idle(yes);
        })
    }

    fn changed(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        change(&mut settings);
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                host: settings.authority.parse().ok(),
                to: match &settings.servers {
                    None => To::One(Line::default()),
                    Some(servers) => To::Several(servers.clone(), Lines::new(servers)),
                },
                settings,
            }),
        }
    }

    pub(crate) fn authority(&self) -> &str {
        &self.shared.settings.authority
    }

    /// How its URLs begin.
    pub(crate) fn place(&self) -> Result<(Option<Scheme>, Option<Authority>), Status> {
        let wrong = || {
            Status::new(
                Code::InvalidArgument,
                "the channel leads to no host and port",
            )
        };
        let authority = self.shared.host.clone().ok_or_else(wrong)?;
        #[cfg(feature = "tls")]
        if self.shared.settings.tls.is_some() {
            return Ok((Some(Scheme::HTTPS), Some(authority)));
        }
        Ok((Some(Scheme::HTTP), Some(authority)))
    }

    pub(crate) fn limit(&self) -> usize {
        self.shared.settings.max_message
    }

    pub(crate) fn compresses(&self) -> bool {
        self.shared.settings.compress
    }

    /// The servers, if there may be several.
    pub(crate) fn servers(&self) -> Option<&Servers> {
        self.shared.settings.servers.as_ref()
    }

    /// A connection that takes requests, as far as is known, and the call as its server's set has it.
    pub(crate) fn link(&self, want: &Want) -> Result<(Link, Option<Attempt>), Unlinked> {
        match &self.shared.to {
            To::One(line) => {
                let link = self.link_by(line, self.authority());
                let link = link.map_err(|status| Unlinked::at(status, true))?;
                Ok((link, None))
            }
            To::Several(servers, lines) => {
                let picked = servers.pick(want);
                let mut attempt = picked.map_err(|status| Unlinked::at(status, false))?;
                match self.link_by(&lines.to(&attempt), attempt.address()) {
                    Ok(link) => Ok((link, Some(attempt))),
                    Err(status) => {
                        attempt.failed(&status);
                        Err(Unlinked::at(status, true))
                    }
                }
            }
        }
    }

    fn link_by(&self, line: &Line, address: &str) -> Result<Link, Status> {
        if let Some(open) = line.open_one() {
            return Ok(open);
        }
        let waiting = "waiting for a connection that another makes";
        let _turn = line.connecting.acquire().map_err(|cut| match cut {
            AcquireError::Elapsed => Status::new(Code::DeadlineExceeded, waiting),
            AcquireError::Cancelled | AcquireError::Closed => Status::new(Code::Cancelled, waiting),
        })?;
        if let Some(open) = line.open_one() {
            return Ok(open);
        }
        let made = self.connect(address)?;
        line.set(Some(made.clone()));
        Ok(made)
    }

    /// The connection to the only server is of no use any more.
    pub(crate) fn forget(&self) {
        if let To::One(line) = &self.shared.to {
            line.set(None);
        }
    }

    fn connect(&self, address: &str) -> Result<Link, Status> {
        let unavailable = |error: io::Error| {
            let status = Status::of_io(&error);
            match status.code() {
                Code::Cancelled | Code::DeadlineExceeded if cancel::check().is_err() => status,
                _ => Status::new(Code::Unavailable, format!("connect to {address}: {error}")),
            }
        };
        let settings = &self.shared.settings;
        let dialed = maniple::timeout(settings.connect_timeout, || settings.dial(address));
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let dialed = dialed
            .map_err(late)
            .and_then(|made| made)
            .map_err(unavailable)?;
        let link = settings.link.clone();
        let link = link.handshake_timeout(settings.connect_timeout);
        Link::open(dialed, &link).map_err(unavailable)
    }
}

/// Why there is no connection.
pub(crate) struct Unlinked {
    pub(crate) status: Status,
    /// Whether there may be one to another server.
    pub(crate) is_of_the_server: bool,
}

impl Unlinked {
    fn at(status: Status, is_of_the_server: bool) -> Self {
        Self {
            status,
            is_of_the_server,
        }
    }
}

impl Settings {
    fn dial(&self, address: &str) -> io::Result<Dialed> {
        let dialed = match &self.connector {
            Some(connector) => Dialed::by(connector, self.connect_timeout)?,
            None => Dialed::tcp(address)?,
        };
        #[cfg(feature = "tls")]
        if let Some(config) = &self.tls {
            let (secured, alpn) = dialed.secure(config, host_of(&self.authority))?;
            return match alpn.as_deref() {
                Some(b"h2") => Ok(secured),
                _ => Err(io::Error::other(
                    "HTTP/2 was not agreed on in the handshake",
                )),
            };
        }
        Ok(dialed)
    }
}

/// The name without the port, and without what is around an address of IPv6.
#[cfg(feature = "tls")]
fn host_of(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("authority", &self.shared.settings.authority)
            .finish_non_exhaustive()
    }
}
