//! The loop around the actor: one coroutine owns it, and calls it with one event after the other.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use maniple::{
    cancel::shield,
    panics,
    sync::channel::{Receiver, RecvTimeoutError},
};

use super::{
    Actor,
    codec::Codec,
    error::{Closed, ServeError},
    event::Event,
    outbox::Outbox,
    shared::{ConnId, Shared},
};
use crate::lines::panic_message;

pub(super) struct State<C: Codec, A: Actor<In = C::In, Out = C::Out>> {
    pub(super) shared: Arc<Shared>,
    pub(super) actor: A,
    pub(super) outbox: Outbox<C::Out>,
    pub(super) events: Receiver<Event<C>>,
    pub(super) tick: Option<Duration>,
    pub(super) messages: u64,
}

/// What the next event is.
enum Next<C: Codec> {
    Event(Event<C>),
    Tick,
    /// The server is to drain, or the caller is cancelled.
    Drain,
}

impl<C: Codec, A: Actor<In = C::In, Out = C::Out>> State<C, A> {
    /// Until the server is to drain.
    pub(super) fn run(&mut self) -> Result<(), ServeError> {
        let mut next_tick = self.tick.map(|period| maniple::time::now() + period);
        let mut has_ticked = false;
        loop {
            let next = self.next(next_tick, has_ticked);
            has_ticked = matches!(next, Next::Tick);
            match next {
                Next::Event(event) => self.handle(event)?,
                Next::Drain => return Ok(()),
                Next::Tick => {
                    self.call("tick", |actor, out| actor.tick(out))?;
                    // Those that were missed are not made up for.
                    next_tick = self.tick.map(|period| maniple::time::now() + period);
                }
            }
            if self.outbox.wants_drain() {
                return Ok(());
            }
        }
    }

    fn next(&self, tick: Option<Instant>, has_ticked: bool) -> Next<C> {
        // Events may never pause, and a tick is due all the same. Nor may ticks: an event and the drain have their turn.
        if !has_ticked && tick.is_some_and(|tick| tick <= maniple::time::now()) {
            return Next::Tick;
        }
        let waited = self.shared.stop.run(|| match tick {
            Some(tick) => self.events.recv_deadline(tick),
            None => self
                .events
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        });
        match waited {
            Ok(Ok(event)) => Next::Event(event),
            Ok(Err(RecvTimeoutError::Timeout))
                if tick.is_some_and(|tick| tick <= maniple::time::now()) =>
            {
                Next::Tick
            }
            Ok(Err(_)) | Err(_) => Next::Drain,
        }
    }

    /// Ends all reading.
    pub(super) fn begin_drain(&mut self) -> Result<(), ServeError> {
        self.call("draining", |actor, out| actor.draining(out))?;
        self.outbox.end_all();
        Ok(())
    }

    /// Handles what is on its way, until all readers have ended or it is `over`.
    pub(super) fn drain(&mut self, over: Instant) -> Result<(), ServeError> {
        loop {
            match self.events.recv_deadline(over) {
                Ok(event) => {
                    let is_new = matches!(event, Event::Opened(..));
                    self.handle(event)?;
                    if is_new {
                        self.outbox.end_all();
                    }
                }
                Err(_) => return Ok(()),
            }
        }
    }

    fn handle(&mut self, event: Event<C>) -> Result<(), ServeError> {
        self.handle_alone(event)?;
        for (conn, reason) in self.shared.take_unserved(|conn| self.outbox.knows(conn)) {
            self.closed(conn, reason)?;
        }
        Ok(())
    }

    fn handle_alone(&mut self, event: Event<C>) -> Result<(), ServeError> {
        if let Event::Received(..) | Event::Closed(..) = event {
            self.shared.backlog.fetch_sub(1, Ordering::Relaxed);
        }
        match event {
            Event::Unserved => Ok(()),
            Event::Opened(wire, peer, queue) => {
                let conn = wire.id;
                self.outbox.enter(wire, queue);
                self.call("opened", |actor, out| actor.opened(conn, peer, out))
            }
            // What the actor has closed it need not hear any more.
            Event::Received(conn, _) if !self.outbox.is_open(conn) => Ok(()),
            Event::Received(conn, message) => {
                self.messages += 1;
                self.call("received", |actor, out| actor.received(conn, message, out))
            }
            Event::Closed(conn, reason) => self.closed(conn, reason),
        }
    }

    fn closed(&mut self, conn: ConnId, reason: Closed) -> Result<(), ServeError> {
        let called = self.call("closed", |actor, out| actor.closed(conn, reason, out));
        self.outbox.leave(conn);
        called
    }

    /// Calls the actor. Shielded: an event is handled whole.
    fn call(
        &mut self,
        event: &'static str,
        call: impl FnOnce(&mut A, &mut Outbox<C::Out>),
    ) -> Result<(), ServeError> {
        let (actor, outbox) = (&mut self.actor, &mut self.outbox);
        catch_unwind(AssertUnwindSafe(|| shield(|| call(actor, outbox))))
            .map_err(|payload| self.panicked(event, payload))
    }

    #[cold]
    fn panicked(&self, event: &'static str, payload: Box<dyn Any + Send>) -> ServeError {
        let message = panic_message(&*payload);
        panics::discard(payload);
        ServeError::Panicked {
            server: self.shared.name.clone(),
            event,
            message,
        }
    }
}
