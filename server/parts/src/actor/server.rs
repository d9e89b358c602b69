//! A server and the handle to it: what starts, what drains, and in which order all ends.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use maniple::{cancel::shield, drain::DrainReport, net::TcpListener, sync::channel::bounded, task};

use super::{
    Actor, acceptor::Acceptor, codec::Codec, error::ServeError, outbox::Outbox, shared::Shared,
    state::State,
};
use crate::pool::Pool;

/// A server that listens: connections below, and the actor that owns all state above.
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
    pub(super) shared: Arc<Shared>,
    pub(super) listener: TcpListener,
    pub(super) codec: C,
    pub(super) actor: A,
    pub(super) tick: Option<Duration>,
    pub(super) pool: Option<Pool>,
}

impl<C: Codec, A: Actor<In = C::In, Out = C::Out>> Server<C, A> {
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
        let mut drain = DrainReport::default();
        let before = shared.accepted.load(Ordering::Relaxed);
        let open = shared.senders.load(Ordering::Relaxed) as u64;
        let (ran, accepted) = shield(|| {
            let over = maniple::time::now() + shared.limits.drain_grace;
            let mut ran = ran
                .and_then(|()| state.begin_drain())
                .and_then(|()| state.drain(over));
            if ran.is_err() || !shared.wait_for_the_last(over) {
                drain.cancelled = shared.senders.load(Ordering::Relaxed) as u64;
                shared.abort.cancel();
                let over = maniple::time::now() + AFTER_ABORT;
                if ran.is_ok() {
                    ran = state.drain(over);
                }
            }
            // Connections hold on to their places through it, and readers find nobody to report to.
            let (actor, messages) = (state.actor, state.messages);
            drop((state.outbox, state.events));
            shared.wait_for_the_last(maniple::time::now() + AFTER_ABORT);
            (
                ran.map(|()| (actor, messages)),
                // It ends at once, since it was told to stop.
                acceptor.join(),
            )
        });
        let (actor, messages) = ran?;
        if let Ok(Err(error)) = accepted {
            return Err(failed(error));
        }
        drain.left = shared.senders.load(Ordering::Relaxed) as u64;
        let ended = open + shared.accepted.load(Ordering::Relaxed) - before;
        drain.finished = ended.saturating_sub(drain.cancelled);
        let report = Report {
            connections: shared.accepted.load(Ordering::Relaxed),
            messages,
            drain,
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

/// How long connections may take to end once they were cut at the end of a drain.
const AFTER_ABORT: Duration = Duration::from_secs(2);

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
    /// How the drain went, in connections: `finished` were closed with all sent, `cancelled` were cut when the grace
    /// time was over.
    pub drain: DrainReport,
}
