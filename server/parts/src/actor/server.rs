//! What readers, senders, the acceptor and the actor's loop share; and the acceptor.

use std::{
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    cancel::{CancelToken, is_cancelled_error},
    log_limit::LogLimit,
    log_within,
    net::{TcpListener, TcpStream},
    panics,
    sync::{
        Mutex, OwnedSemaphorePermit, Semaphore,
        channel::{Sender, bounded},
    },
    task,
};

use super::{
    codec::Codec,
    outbox::{ConnId, Laggard},
    queue::{Bounds, Tail, queue},
    wire::{Closed, Reader, Wire, Writer},
};
use crate::{
    MOST_LINES,
    pool::{Pool, panic_message},
};

/// What the low layer tells the high one.
pub(super) enum Event<C: Codec> {
    Opened(Arc<Wire>, SocketAddr, Tail<C::Out>),
    Received(ConnId, C::In),
    Closed(ConnId, Closed),
    /// To look for connections that ended without a way to say so: [`Shared::report_unserved`].
    Unserved,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) local_addr: SocketAddr,
    pub(super) limits: Limits,
    pub(super) laggard: Laggard,
    /// Begins the drain.
    pub(super) stop: CancelToken,
    /// Ends all reading and writing at once.
    pub(super) abort: CancelToken,
    /// One permit for each connection, had until its socket is closed.
    pub(super) places: Arc<Semaphore>,
    pub(super) accepted: AtomicU64,
    /// Connections whose sockets are open.
    pub(super) open: AtomicUsize,
    /// Events that wait for the actor, or for room in its queue.
    pub(super) backlog: AtomicUsize,
    /// Senders that have not ended: connections with something to send, or that could have.
    pub(super) senders: AtomicUsize,
    /// Connections that ended with nobody who could wait to report it.
    pub(super) unserved: Mutex<Vec<(ConnId, Closed)>>,
    /// Whether there are any: looked at with each event.
    pub(super) has_unserved: AtomicBool,
}

impl Shared {
    /// Has the actor told, without waiting for room in the queue.
    pub(super) fn report_unserved<C: Codec>(
        &self,
        events: &Sender<Event<C>>,
        conn: ConnId,
        reason: Closed,
    ) {
        let mut unserved = self.unserved.lock();
        unserved.push((conn, reason));
        self.has_unserved.store(true, Ordering::Release);
        drop(unserved);
        // If there is no room, events are yet to come, and the look that follows each of them. If nobody is there to
        // receive, nobody is there to be told.
        let _ = events.try_send(Event::Unserved);
    }

    /// Those that the actor knows; others are yet to be opened.
    pub(super) fn take_unserved(&self, knows: impl Fn(ConnId) -> bool) -> Vec<(ConnId, Closed)> {
        // Pairs with the store above: it comes before the attempt to send, and this after an event was received,
        // both under the queue's lock.
        if !self.has_unserved.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut unserved = self.unserved.lock();
        let (known, others) = std::mem::take(&mut *unserved)
            .into_iter()
            .partition(|(conn, _)| knows(*conn));
        *unserved = others;
        self.has_unserved
            .store(!unserved.is_empty(), Ordering::Release);
        known
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) events: usize,
    pub(super) outgoing: Bounds,
    pub(super) message: usize,
    /// So many messages in so much time.
    pub(super) rate: Option<(u32, Duration)>,
    pub(super) write_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) drain_grace: Duration,
}

/// Accepts connections and has them served.
pub(super) struct Acceptor<C: Codec> {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: TcpListener,
    pub(super) codec: C,
    pub(super) events: Sender<Event<C>>,
    pub(super) pool: Option<Pool>,
    pub(super) notice: fn(u64) -> Option<C::Out>,
}

impl<C: Codec> Acceptor<C> {
    /// Until the server drains, or its listener fails for good, which drains it.
    pub(super) fn run(self) -> io::Result<()> {
        let shared = &self.shared;
        let mut pause = SHORTEST_PAUSE;
        let ended = loop {
            match shared.stop.run(|| self.accept()) {
                Ok(Ok((stream, peer, place))) => {
                    pause = SHORTEST_PAUSE;
                    self.begin(stream, peer, place);
                }
                Err(_) => break Ok(()),
                Ok(Err(error)) if is_cancelled_error(&error) => break Ok(()),
                Ok(Err(error)) if is_final(&error) => {
                    let text = format!("accept on {}: {error}", shared.local_addr);
                    break Err(io::Error::new(error.kind(), text));
                }
                Ok(Err(error)) => {
                    // Out of descriptors or memory, most likely: those in use must be given back first.
                    static RATE: LogLimit = LogLimit::new(1);
                    let (name, address) = (&shared.name, shared.local_addr);
                    log_within!(RATE, warn, "{name}: accept on {address}: {error}");
                    if shared.stop.run(|| maniple::sleep(pause)).is_err() {
                        break Ok(());
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        shared.stop.cancel();
        ended
    }

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        // Never closed, so an error says that the wait was cut short.
        let place = self.shared.places.clone().acquire_owned();
        let place = place.map_err(|_| io::Error::from(maniple::cancel::Cancelled))?;
        let (stream, peer) = self.listener.accept()?;
        Ok((stream, peer, place))
    }

    fn begin(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let Limits {
            outgoing,
            idle_timeout,
            ..
        } = self.shared.limits;
        // Errors say that the peer is gone already, which the reader will find.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(idle_timeout));
        let id = ConnId(self.shared.accepted.fetch_add(1, Ordering::Relaxed));
        let clones = || (self.codec.clone(), self.codec.clone());
        let (encoder, decoder) = match catch_unwind(AssertUnwindSafe(clones)) {
            Ok(clones) => clones,
            Err(payload) => {
                static RATE: LogLimit = LogLimit::new(MOST_LINES);
                let (name, text) = (&self.shared.name, panic_message(&*payload));
                log_within!(
                    RATE,
                    error,
                    "{name}, connection {id}: cloning the codec panicked: {text}"
                );
                panics::discard(payload);
                return;
            }
        };
        let wire = Arc::new(Wire::new(id, stream, self.shared.clone(), place));
        let (tail, head) = queue(outgoing, self.shared.laggard, C::size);
        let (ended, sender_ended) = bounded(0);
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        let writer = Writer {
            wire: wire.clone(),
            shared: self.shared.clone(),
            codec: encoder,
            queue: head,
            notice: self.notice,
            has_begun: false,
            _ended: ended,
        };
        if self
            .events
            .send(Event::Opened(wire.clone(), peer, tail))
            .is_err()
        {
            return;
        }
        let reader = Reader {
            wire,
            shared: self.shared.clone(),
            codec: decoder,
            events: Some(self.events.clone()),
            sender_ended,
        };
        // One that cannot begin is dropped, and that tells the actor.
        self.start("sender", id, move || writer.run());
        self.start("reader", id, move || reader.run());
    }

    fn start(&self, role: &str, id: ConnId, body: impl FnOnce() + Send + 'static) {
        let name = &self.shared.name;
        let started = match &self.pool {
            // Detached: it reports to the actor. A drain must not wait for room in the pool.
            Some(pool) => match self.shared.stop.run(|| pool.submit(body).map(drop)) {
                Ok(submitted) => submitted.map_err(|error| error.to_string()),
                Err(cancelled) => Err(cancelled.to_string()),
            },
            None => task::Builder::new()
                .name(format!("{name}-{id}-{role}"))
                .spawn(body)
                .map(drop)
                .map_err(|error| error.to_string()),
        };
        static RATE: LogLimit = LogLimit::new(MOST_LINES);
        if let Err(error) = started {
            log_within!(RATE, warn, "{name}: connection {id} has no {role}: {error}");
        }
    }
}

/// How long to leave an accept alone that failed; doubled while it goes on failing.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether the listener itself is unusable, so that no later accept can succeed (accept(2)).
fn is_final(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    const EINVAL: i32 = 22;
    const ENOTSOCK: i32 = 88;
    matches!(error.raw_os_error(), Some(EBADF | EINVAL | ENOTSOCK))
}
