//! A connection to a server, which many calls share, and which is made anew when it is gone.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::uri::{Authority, Scheme};
use maniple::cancel;
#[cfg(feature = "tls")]
use maniple_server::tls::ClientConfig;
use maniple_server::{
    http2::{Link, LinkSettings},
    transport::{Connector, Dialed},
};

use crate::status::{Code, Status};

/// Calls to one server, over one connection of HTTP/2. Clones share it.
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
    /// Held over the wait for a connection, so that one is made for all.
    connecting: maniple::sync::Mutex<()>,
    current: Mutex<Option<Link>>,
}

#[derive(Clone)]
struct Settings {
    authority: String,
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
        Self::with(Settings {
            authority: authority.into(),
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
                settings,
                connecting: maniple::sync::Mutex::new(()),
                current: Mutex::new(None),
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

    /// Never held over a wait.
    fn current(&self) -> MutexGuard<'_, Option<Link>> {
        let current = self.shared.current.lock();
        current.unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that takes requests, as far as is known.
    pub(crate) fn link(&self) -> Result<Link, Status> {
        if let Some(open) = self.open_one() {
            return Ok(open);
        }
        let _turn = self.shared.connecting.lock();
        cancel::check().map_err(|cut| Status::of_io(&cut.into()))?;
        if let Some(open) = self.open_one() {
            return Ok(open);
        }
        let made = self.connect()?;
        *self.current() = Some(made.clone());
        Ok(made)
    }

    fn open_one(&self) -> Option<Link> {
        let mut current = self.current();
        if current.as_ref().is_some_and(|link| !link.is_open()) {
            *current = None;
        }
        current.clone()
    }

    /// The connection is of no use any more.
    pub(crate) fn forget(&self) {
        *self.current() = None;
    }

    fn connect(&self) -> Result<Link, Status> {
        let unavailable = |error: io::Error| {
            let status = Status::of_io(&error);
            match status.code() {
                Code::Cancelled | Code::DeadlineExceeded if cancel::check().is_err() => status,
                _ => {
                    let text = format!("connect to {}: {error}", self.authority());
                    Status::new(Code::Unavailable, text)
                }
            }
        };
        let settings = &self.shared.settings;
        let dialed = maniple::timeout(settings.connect_timeout, || settings.dial());
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

impl Settings {
    fn dial(&self) -> io::Result<Dialed> {
        let dialed = match &self.connector {
            Some(connector) => Dialed::by(connector, self.connect_timeout)?,
            None => Dialed::tcp(&self.authority)?,
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
