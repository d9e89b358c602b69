//! Servers in two layers: readers and senders below, and above them one owner of all state.
//!
//! ```text
//!   low layer, two coroutines a connection          high layer, one coroutine
//!   reader ──► messages ──┐
//!   reader ──► messages ──┴─► events (bounded) ──► Actor: &mut self, no locks
//!   sender ◄── queue (bounded) ◄───────────────────── Outbox: send, close
//! ```
//!
//! The actor is called with one event at a time, so it needs no locks and sees all connections in one order. A
//! connection's events are `opened`, its messages in order, and `closed`, once each way it may end ([`Closed`]).
//!
//! - *Back-pressure.* While the actor is behind, the queue of events fills and readers stop reading. No peer can
//!   have the actor wait: if one does not read, and its outgoing queue is full, that is for [`Laggard`] to decide.
//!   But senders that have had no turn are given one ([`Outbox`]), so a flood slows down its sender, and
//!   costs no other peer its connection. [`Builder::rate`] bounds what one connection may send in the first place.
//! - *The end of a connection.* When the peer ends its side, also if it only half-closes, or breaks the protocol,
//!   `closed` is called and may still send; what is queued by then is written, for at most the write timeout, and
//!   then the connection is closed. A reset ends both ways.
//! - *Panics.* A panic of the actor may leave its state half changed, so it ends the server: all connections are cut
//!   and [`Server::serve`] returns [`ServeError::Panicked`]. A codec's panic ends its connection alone.

mod codec;
mod outbox;
mod queue;
mod server;
mod state;
mod wire;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::{CancelToken, shield},
    net::{TcpListener, ToSocketAddrs},
    sync::{Mutex, Semaphore, channel::bounded},
    task,
};

use crate::pool::{Pool, WhenFull};
pub use codec::{Codec, CodecError, LineCodec};
pub use outbox::{ConnId, Laggard, Outbox};
use queue::Bounds;
use server::{Acceptor, Limits, Shared};
use state::State;
pub use wire::Closed;

/// What a server does: its state, and how events change it.
///
/// The calls come one after the other, from the coroutine or thread that called [`Server::serve`]. They are shielded
/// from cancellation and should not wait: while one does, all connections do, and the drain.
///
/// # Examples
/// See [`Server`].
pub trait Actor {
    /// What is received: the codec's [`Codec::In`].
    type In;
    /// What is sent: the codec's [`Codec::Out`].
    type Out;

    /// A connection was accepted.
    fn opened(&mut self, conn: ConnId, peer: SocketAddr, out: &mut Outbox<Self::Out>) {
        let _ = (conn, peer, out);
    }

    /// A message came.
    fn received(&mut self, conn: ConnId, message: Self::In, out: &mut Outbox<Self::Out>);

    /// Nothing more comes from a connection. If `reason` leaves it able to send, a farewell may still be sent; then it
    /// is closed.
    fn closed(&mut self, conn: ConnId, reason: Closed, out: &mut Outbox<Self::Out>) {
        let _ = (conn, reason, out);
    }

    /// A period of [`Builder::tick`] is over.
    fn tick(&mut self, out: &mut Outbox<Self::Out>) {
        let _ = out;
    }

    /// The server begins to drain: all connections will be closed. Called once; one that was being accepted may still
    /// open after it.
    fn draining(&mut self, out: &mut Outbox<Self::Out>) {
        let _ = out;
    }

    /// With [`Laggard::DropOldest`], what to tell a peer for which so many messages were dropped, in their place.
    /// Called from the connection's sender.
    fn dropped(count: u64) -> Option<Self::Out> {
        let _ = count;
        None
    }
}

/// A server in two layers, that listens.
///
/// # Examples
/// Each line goes to all:
/// ```
/// use maniple_parts::actor::{Closed, ConnId, Server, LineCodec, Actor, Outbox};
/// use std::{collections::BTreeSet, io::{BufRead, BufReader, Write}, net::SocketAddr, sync::Arc};
///
/// #[derive(Default)]
/// struct Hall(BTreeSet<ConnId>);
///
/// impl Actor for Hall {
///     type In = String;
///     type Out = Arc<str>;
///
///     fn opened(&mut self, conn: ConnId, _: SocketAddr, _: &mut Outbox<Arc<str>>) {
///         self.0.insert(conn);
///     }
///
///     fn received(&mut self, _: ConnId, line: String, out: &mut Outbox<Arc<str>>) {
///         let line: Arc<str> = line.into();
///         for &member in &self.0 {
///             out.send(member, line.clone());
///         }
///     }
///
///     fn closed(&mut self, conn: ConnId, _: Closed, _: &mut Outbox<Arc<str>>) {
///         self.0.remove(&conn);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let server = Server::builder("hall", LineCodec::new(80), Hall::default()).bind("127.0.0.1:0")?;
///     let handle = server.handle();
///     let serving = maniple::spawn(move || server.serve());
///
///     let mut stream = maniple::net::TcpStream::connect(handle.local_addr())?;
///     stream.write_all(b"hello\n")?;
///     let mut heard = String::new();
///     BufReader::new(&stream).read_line(&mut heard)?;
///     assert_eq!(heard, "hello\n");
///
///     handle.drain();
///     let (hall, report) = serving.join()??;
///     assert_eq!((hall.0.len(), report.messages), (0, 1));
///     Ok(())
/// })
/// # }
/// ```
pub struct Server<C, A> {
    shared: Arc<Shared>,
    listener: TcpListener,
    codec: C,
    actor: A,
    tick: Option<Duration>,
    pool: Option<Pool>,
}

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

    /// Serves until it has been drained, and returns the actor as it is then. The caller, a coroutine or a plain
    /// thread, becomes the owner of the state. Cancelling it, or its deadline, drains the server.
    ///
    /// # Errors
    /// If the actor panicked, a coroutine could not be started, or the listener failed for good. The actor is dropped
    /// then.
    ///
    /// # Panics
    /// If a message that nobody handles any more panics when it is dropped: all connections are cut then.
    pub fn serve(self) -> Result<(A, Report), ServeError> {
        let shared = self.shared;
        let failed = |error| ServeError::Io {
            server: shared.name.clone(),
            error,
        };
        let (events, received) = bounded(shared.limits.events);
        let acceptor = Acceptor {
            shared: shared.clone(),
            listener: self.listener,
            codec: self.codec,
            events,
            pool: self.pool,
            notice: A::dropped,
        };
        let acceptor = task::Builder::new()
            .name(format!("{}-acceptor", shared.name))
            .spawn(move || acceptor.run())
            .map_err(failed)?;
        let mut state = State {
            shared: shared.clone(),
            actor: self.actor,
            outbox: Outbox::new(),
            events: received,
            tick: self.tick,
            messages: 0,
        };
        let _fall = Fall(&shared);
        let ran = state.run();
        shared.stop.cancel();
        let (ran, aborted, accepted) = shield(|| {
            let over = Instant::now() + shared.limits.drain_grace;
            let mut ran = ran
                .and_then(|()| state.begin_drain())
                .and_then(|()| state.drain(over));
            let mut aborted = 0;
            if ran.is_err() || !shared.wait_for_the_last(over) {
                aborted = shared.senders.load(Ordering::Relaxed);
                shared.abort.cancel();
                let over = Instant::now() + AFTER_ABORT;
                if ran.is_ok() {
                    ran = state.drain(over);
                }
            }
            // Connections hold on to their places through it, and readers find nobody to report to.
            let (actor, messages) = (state.actor, state.messages);
            drop((state.outbox, state.events));
            shared.wait_for_the_last(Instant::now() + AFTER_ABORT);
            (
                ran.map(|()| (actor, messages)),
                aborted,
                // It ends at once, since it was told to stop.
                acceptor.join(),
            )
        });
        let (actor, messages) = ran?;
        if let Ok(Err(error)) = accepted {
            return Err(failed(error));
        }
        let report = Report {
            connections: shared.accepted.load(Ordering::Relaxed),
            messages,
            aborted,
        };
        Ok((actor, report))
    }
}

impl<C, A> Server<C, A> {
    /// The address that it listens on, with the port that was chosen for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// A handle to drain it.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle {
            shared: self.shared.clone(),
        }
    }
}

impl<C, A> fmt::Debug for Server<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.shared.name)
            .field("local_addr", &self.local_addr())
            .finish()
    }
}

/// Ends all that belongs to a server once its owner goes, also if it unwinds: who drops a message calls the user's
/// destructor.
struct Fall<'a>(&'a Shared);

impl Drop for Fall<'_> {
    fn drop(&mut self) {
        self.0.stop.cancel();
        self.0.abort.cancel();
    }
}

impl Shared {
    fn wait_for_the_last(&self, until: Instant) -> bool {
        let all = || self.places.acquire_many(self.limits.connections).is_ok();
        maniple::deadline(until, all) == Ok(true)
    }
}

/// Connections that a server may be set to have.
const MAX_CONNECTIONS: usize = 16 * 1024 * 1024;

/// How long connections may take to end once they were cut at the end of a drain.
const AFTER_ABORT: Duration = Duration::from_secs(2);

/// What is longer counts as this, since instants do not reach to the end of all durations.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Drains a server from anywhere; clones are for the same server.
///
/// # Examples
/// See [`Server`].
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

impl ServerHandle {
    /// Begins to drain, and returns at once: nothing more is accepted or read, what was read is handled, `closed` is
    /// called for each connection, and what is queued is sent. What is open after the grace time is cut.
    pub fn drain(&self) {
        self.shared.stop.cancel();
    }

    /// Whether the server is draining, or has drained.
    pub fn is_draining(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Messages and ends of connections that wait for the actor now, those among them that wait for room in its
    /// queue: how far it is behind.
    pub fn backlog(&self) -> usize {
        self.shared.backlog.load(Ordering::Relaxed)
    }

    /// Connections that are open now, closing ones among them.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }
}

/// What a server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Connections that were accepted.
    pub connections: u64,
    /// Messages that the actor received.
    pub messages: u64,
    /// Connections whose sending had not ended when the grace time of the drain was over; they were cut.
    pub aborted: usize,
}

/// Why a server ended without having been drained. Each case names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The actor panicked. All connections have been cut.
    #[error("server `{server}`: the actor panicked in `{event}`: {message}")]
    Panicked {
        /// The server's name.
        server: String,
        /// The method of [`Actor`].
        event: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The listener failed for good, or its coroutine could not be started.
    #[error("server `{server}`: {error}")]
    Io {
        /// The server's name.
        server: String,
        /// The cause.
        #[source]
        error: io::Error,
    },
}

/// Settings of a server in two layers; made by [`Server::builder`].
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
    /// many times [`Builder::max_message`] may wait.
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
    /// connection ends with [`CodecError::TooLong`].
    pub fn max_message(mut self, bytes: usize) -> Self {
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

    /// How long a peer may send nothing. Default: 1 h. Then the connection ends with [`Closed::Idle`].
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
    /// refuses or drops is closed, with [`Closed::Unserved`].
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
                "max_connections, events, outgoing, outgoing_bytes, max_message and rate must be at least 1",
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
