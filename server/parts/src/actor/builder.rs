//! Settings of a server, checked when it binds.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use maniple::{
    cancel::CancelToken,
    net::{TcpListener, ToSocketAddrs},
    sync::{Mutex, Semaphore},
};

use super::{
    Actor,
    codec::Codec,
    server::Server,
    settings::{Bounds, Laggard, Limits},
    shared::Shared,
};
use crate::pool::{Pool, WhenFull};

impl<C: Codec, A: Actor<In = C::In, Out = C::Out>> Server<C, A> {
    /// Settings for a server with this codec and actor. The name stands in its errors, and in the names of its
    /// coroutines: `NAME-CONNECTION-reader` and `NAME-CONNECTION-sender`.
    pub fn builder(name: impl Into<String>, codec: C, actor: A) -> Builder<C, A> {
        Builder {
            name: name.into(),
            codec,
            actor,
            limits: Limits {
                connections: 10_000,
                events: 1024,
                outgoing: Bounds {
                    messages: 256,
                    bytes: 16 * 1024 * 1024,
                },
                message: 64 * 1024,
                rate: None,
                write_timeout: Duration::from_secs(20),
                idle_timeout: Duration::from_secs(3600),
                drain_grace: Duration::from_secs(30),
            },
            laggard: Laggard::Disconnect,
            tick: None,
            pool: None,
        }
    }
}

/// Settings of a server; made by [`Server::builder`].
#[must_use = "a builder does nothing until it binds"]
pub struct Builder<C, A> {
    name: String,
    codec: C,
    actor: A,
    limits: Limits,
    laggard: Laggard,
    tick: Option<Duration>,
    pool: Option<Pool>,
}

impl<C: Codec, A: Actor<In = C::In, Out = C::Out>> Builder<C, A> {
    /// Connections at a time. Default: 10,000, or on a [pool](Builder::on_pool) half as many as it has workers if
    /// that is less; at most 16,777,216. Further ones wait to be accepted.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// Events that wait for the actor; readers wait beyond that. Default: 1,024. Each message is one, so that up to so
    /// many times [`Builder::max_message_bytes`] may wait.
    pub fn events(mut self, events: usize) -> Self {
        self.limits.events = events;
        self
    }

    /// Messages in a connection's outgoing queue, beside up to 16 KiB that are being written. Default: 256.
    pub fn outgoing(mut self, messages: usize) -> Self {
        self.limits.outgoing.messages = messages;
        self
    }

    /// Bytes in a connection's outgoing queue, as [`Codec::size`] counts them. Default: 16 MiB. A single message may be
    /// longer.
    pub fn outgoing_bytes(mut self, bytes: usize) -> Self {
        self.limits.outgoing.bytes = bytes;
        self
    }

    /// What happens when a connection's outgoing queue is full and its peer does not read. Default:
    /// [`Laggard::Disconnect`].
    pub fn laggard(mut self, policy: Laggard) -> Self {
        self.laggard = policy;
        self
    }

    /// Bytes of a message that is not complete, whatever the codec thinks of it. Default: 64 KiB; beyond that the
    /// connection ends with [`CodecError::TooLong`](super::CodecError::TooLong).
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.limits.message = bytes;
        self
    }

    /// Messages that are taken from a connection in so much time. Default: as many as come. So many may come at
    /// once; the reader leaves further ones in the kernel's buffers, which has their sender wait, until it is their
    /// time.
    pub fn rate(mut self, messages: u32, period: Duration) -> Self {
        self.limits.rate = Some((messages, period));
        self
    }

    /// How long a peer may acknowledge nothing of what is sent to it, and how long it may take for all that is left once
    /// the connection closes. Default: 20 s. A slow peer that takes some all the time is waited for. One that is cut gets
    /// a reset, so that a message that breaks off is not taken for whole.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.limits.write_timeout = timeout;
        self
    }

    /// How long a peer may send nothing. Default: 1 h. Then the connection ends with [`Closed::Idle`](super::Closed::Idle).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// How long a drain waits for what is queued to be sent. Default: 30 s. Then the connections are cut.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.limits.drain_grace = grace;
        self
    }

    /// Has [`Actor::tick`] called so long after the last time. Default: never. A late tick is not made up for, and
    /// between two there is an event if one waits, however short the period is.
    pub fn tick(mut self, period: Duration) -> Self {
        self.tick = Some(period);
        self
    }

    /// Has readers and senders run as jobs of a pool rather than in coroutines of their own. They occupy two of its
    /// workers for as long as a connection lasts, so the pool should be for this server alone: with other jobs in it, a
    /// connection may have to wait for its second worker. [`WhenFull::Wait`] suits it: a connection that the pool
    /// refuses or drops is closed, with [`Closed::Unserved`](super::Closed::Unserved).
    pub fn on_pool(mut self, pool: &Pool) -> Self {
        self.pool = Some(pool.clone());
        self
    }

    /// Listens on the address.
    ///
    /// # Errors
    /// If a setting is 0 or does not go with the pool (`InvalidInput`), or the address cannot be resolved or bound;
    /// the message names it.
    pub fn bind(self, address: impl ToSocketAddrs) -> io::Result<Server<C, A>> {
        self.listen(TcpListener::bind(address)?)
    }

    /// Takes over a listener.
    ///
    /// # Errors
    /// If a setting is 0 or does not go with the pool (`InvalidInput`), or the address cannot be resolved or bound;
    /// the message names it.
    pub fn listen(mut self, listener: TcpListener) -> io::Result<Server<C, A>> {
        self.check().map_err(|wrong| {
            let text = format!("server `{}`: {wrong}", self.name);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let limits = &mut self.limits;
        if let Some(pool) = &self.pool {
            limits.connections = limits.connections.min(pool.workers() / 2);
        }
        limits.rate = limits
            .rate
            .map(|(messages, period)| (messages, period.min(NEVER)));
        limits.drain_grace = limits.drain_grace.min(NEVER);
        limits.write_timeout = limits.write_timeout.min(NEVER);
        limits.idle_timeout = limits.idle_timeout.min(NEVER);
        let shared = Shared {
            local_addr: listener.local_addr()?,
            name: self.name,
            limits: self.limits,
            laggard: self.laggard,
            stop: CancelToken::new(),
            abort: CancelToken::new(),
            places: Arc::new(Semaphore::new(self.limits.connections)),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            backlog: AtomicUsize::new(0),
            senders: AtomicUsize::new(0),
            unserved: Mutex::new(Vec::new()),
            has_unserved: AtomicBool::new(false),
        };
        Ok(Server {
            shared: Arc::new(shared),
            listener,
            codec: self.codec,
            actor: self.actor,
            tick: self.tick.map(|period| period.min(NEVER)),
            pool: self.pool,
        })
    }

    fn check(&self) -> Result<(), &'static str> {
        let limits = &self.limits;
        let counts = [
            limits.connections,
            limits.events,
            limits.outgoing.messages,
            limits.outgoing.bytes,
            limits.message,
            limits.rate.map_or(1, |(messages, _)| messages as usize),
        ];
        let times = [limits.write_timeout, limits.idle_timeout];
        if limits.connections > MAX_CONNECTIONS {
            Err("max_connections must be at most 16,777,216")
        } else if counts.contains(&0) {
            Err(
                "max_connections, events, outgoing, outgoing_bytes, max_message_bytes and rate must be at least 1",
            )
        } else if times.contains(&Duration::ZERO) || self.tick == Some(Duration::ZERO) {
            Err("write_timeout, idle_timeout and tick must be longer than zero")
        } else if self.pool.as_ref().is_some_and(|pool| pool.workers() < 2) {
            Err("a connection needs two of the pool's workers")
        } else if self
            .pool
            .as_ref()
            .is_some_and(|pool| pool.when_full() == WhenFull::RunHere)
        {
            Err("with WhenFull::RunHere the acceptor itself would serve a connection")
        } else {
            Ok(())
        }
    }
}

impl<C, A> fmt::Debug for Builder<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish()
    }
}

/// Connections that a server may be set to have.
const MAX_CONNECTIONS: usize = 16 * 1024 * 1024;

/// What is longer counts as this, since instants do not reach to the end of all durations.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
