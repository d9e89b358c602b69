//! A connection to a server, which many calls share, and which is made anew when it is gone.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{Connection, SendRequest},
};
use http::uri::{Authority, Scheme};
use maniple::{cancel, future::Poller, sync::oneshot, task, time::now};
#[cfg(feature = "tls")]
use maniple_server::tls::ClientConfig;
use maniple_server::transport::{Connector, Dialed, Polled};

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
    current: Mutex<Option<SendRequest<Bytes>>>,
    /// Calls under way.
    calls: Arc<AtomicUsize>,
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
    keep_alive: Option<KeepAlive>,
}

/// When the server is asked whether it is there.
#[derive(Clone, Copy, Debug)]
struct KeepAlive {
    every: Duration,
    patience: Duration,
    when_idle: bool,
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
            keep_alive: None,
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
            settings.keep_alive = Some(KeepAlive {
                every: every.max(LEAST_KEEP_ALIVE),
                patience,
                when_idle: false,
            });
        })
    }

    /// The same, and it is asked without calls, too, for what is between to keep the connection.
    pub fn keep_alive_when_idle(self, yes: bool) -> Self {
        self.changed(|settings| {
            if let Some(keep_alive) = &mut settings.keep_alive {
                keep_alive.when_idle = yes;
            }
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
                calls: Arc::default(),
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

    /// Counts a call as under way until that is dropped.
    pub(crate) fn count(&self) -> Counted {
        let calls = self.shared.calls.clone();
        calls.fetch_add(1, Ordering::Relaxed);
        Counted(calls)
    }

    /// Never held over a wait.
    fn current(&self) -> MutexGuard<'_, Option<SendRequest<Bytes>>> {
        let current = self.shared.current.lock();
        current.unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that takes a request now.
    pub(crate) fn ready(&self, poller: &Poller) -> Result<SendRequest<Bytes>, Status> {
        if let Some(ready) = self.ready_of_current(poller)? {
            return Ok(ready);
        }
        let _turn = self.shared.connecting.lock();
        cancel::check().map_err(|cut| Status::of_io(&cut.into()))?;
        if let Some(ready) = self.ready_of_current(poller)? {
            return Ok(ready);
        }
        let made = self.connect()?;
        *self.current() = Some(made.clone());
        Ok(made)
    }

    fn ready_of_current(&self, poller: &Poller) -> Result<Option<SendRequest<Bytes>>, Status> {
        let current = self.current().clone();
        let Some(mut send) = current else {
            return Ok(None);
        };
        let ready = poller.wait(None, |context| send.poll_ready(context));
        match ready.map_err(|error| Status::of_io(&error))? {
            Ok(()) => Ok(Some(send)),
            Err(_) => {
                *self.current() = None;
                Ok(None)
            }
        }
    }

    /// The connection is of no use any more.
    pub(crate) fn forget(&self) {
        *self.current() = None;
    }

    fn connect(&self) -> Result<SendRequest<Bytes>, Status> {
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
        let (ready, shaken) = oneshot::channel();
        let named = task::Builder::new().name("gRPC connection");
        let (limit, keep_alive) = (settings.connect_timeout, settings.keep_alive);
        let calls = self.shared.calls.clone();
        let driving = named.spawn(move || drive(dialed, limit, keep_alive, &calls, ready));
        driving.map_err(unavailable)?;
        match shaken.recv() {
            Ok(Ok(send)) => Ok(send),
            Ok(Err(error)) => Err(unavailable(error)),
            Err(_) => Err(unavailable(io::ErrorKind::ConnectionAborted.into())),
        }
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

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a connection until its end. It ends with the last who could call over it.
fn drive(
    dialed: Dialed,
    limit: Duration,
    keep_alive: Option<KeepAlive>,
    calls: &AtomicUsize,
    ready: oneshot::Sender<io::Result<SendRequest<Bytes>>>,
) {
    let (wire, poller) = (Polled::new(dialed), Poller::new());
    let Some(mut connection) = shake_hands(&wire, &poller, limit, ready) else {
        return;
    };
    let interest = || wire.interest();
    let pings = keep_alive.zip(connection.ping_pong());
    let mut pings = pings.map(|(settings, ping_pong)| Pings::new(settings, ping_pong));
    let ended = loop {
        let until = pings.as_ref().map(Pings::due);
        let polled = poller.wait_beside(until, interest, |context| {
            let ended = Pin::new(&mut *connection).poll(context);
            match &mut pings {
                Some(pings) if ended.is_pending() => pings.poll(context).map_ok(|()| None),
                _ => ended.map(|ended| Ok(Some(ended))),
            }
        });
        match polled {
            Ok(Ok(Some(ended))) => break ended.map_err(|error| error.to_string()),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => break Err(error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && cancel::check().is_ok() => {
                let is_calling = calls.load(Ordering::Relaxed) > 0;
                if pings
                    .as_mut()
                    .is_some_and(|pings| pings.is_late(is_calling))
                {
                    break Err("the server does not answer a PING".to_owned());
                }
            }
            // All that is under way ends with the connection.
            Err(error) => break Err(error.to_string()),
        }
    };
    if let Err(error) = ended {
        maniple::panics::catch(|| log::debug!("gRPC connection: {error}"));
    }
}

/// Tells `ready` what came of it. A frame of its own, and boxes, so that little is left on the stack of who waits for hours.
#[inline(never)]
fn shake_hands(
    wire: &Polled,
    poller: &Poller,
    limit: Duration,
    ready: oneshot::Sender<io::Result<SendRequest<Bytes>>>,
) -> Option<Box<Connection<Polled, Bytes>>> {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADS);
    let mut handshake = Box::pin(builder.handshake(wire.clone()));
    let until = now().checked_add(limit);
    let interest = || wire.interest();
    let shaken = poller.wait_beside(until, interest, |context| handshake.as_mut().poll(context));
    let (told, connection) = match shaken {
        Ok(Ok((send, connection))) => (Ok(send), Some(Box::new(connection))),
        Ok(Err(error)) => (Err(io::Error::other(error)), None),
        Err(error) => (Err(error), None),
    };
    ready.send(told).ok().and(connection)
}

/// Asks the server whether it is there.
struct Pings {
    settings: KeepAlive,
    ping_pong: PingPong,
    /// When the next is due, or the answer to the last.
    due: Instant,
    is_out: bool,
}

impl Pings {
    fn new(settings: KeepAlive, ping_pong: PingPong) -> Self {
        Self {
            settings,
            ping_pong,
            due: after(settings.every),
            is_out: false,
        }
    }

    fn due(&self) -> Instant {
        self.due
    }

    /// Whether the time has passed for an answer. If none is waited for, it is asked.
    fn is_late(&mut self, is_calling: bool) -> bool {
        if self.due > now() {
            return false;
        }
        if self.is_out {
            return true;
        }
        let is_asked = is_calling || self.settings.when_idle;
        self.is_out = is_asked && self.ping_pong.send_ping(Ping::opaque()).is_ok();
        self.due = after(match self.is_out {
            true => self.settings.patience,
            false => self.settings.every,
        });
        false
    }

    /// Ready when the connection failed, or an answer has put off the next question.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if !self.is_out {
            return Poll::Pending;
        }
        self.ping_pong.poll_pong(context).map_ok(|_| {
            self.is_out = false;
            self.due = after(self.settings.every);
        })
    }
}

/// So much from now, or in a time that never comes.
fn after(time: Duration) -> Instant {
    let never = Duration::from_secs(100 * 365 * 24 * 3600);
    now() + time.min(never)
}

/// More often than this is a flood.
const LEAST_KEEP_ALIVE: Duration = Duration::from_millis(100);

/// Bytes of an answer that may come before they are read, of all answers, and of a head.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const HEADS: u32 = 64 * 1024;

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("authority", &self.shared.settings.authority)
            .finish_non_exhaustive()
    }
}
