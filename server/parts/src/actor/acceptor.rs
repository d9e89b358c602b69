//! Accepts connections, and has each read and written.

use std::{
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use maniple::{
    cancel::is_cancelled_error,
    log_limit::LogLimit,
    log_within,
    net::{TcpListener, TcpStream},
    panics,
    sync::{
        OwnedSemaphorePermit,
        channel::{Sender, bounded},
    },
    task,
};

use super::{
    codec::Codec,
    event::Event,
    queue::queue,
    reader::Reader,
    settings::Limits,
    shared::{ConnId, Shared},
    wire::Wire,
    writer::Writer,
};
use crate::{
    lines::{MOST_LINES, panic_message},
    pool::Pool,
};

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
