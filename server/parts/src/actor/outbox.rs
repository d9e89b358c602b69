//! What the actor talks back through: the open connections and their queues.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{
    error::Closed,
    queue::{Refused, Tail},
    shared::ConnId,
    wire::Wire,
};

/// The actor's way to its connections. None of its calls waits for a peer.
///
/// [`Outbox::send`] gives way to a connection's sender that has had no turn since its queue filled up: so however
/// much is sent in one event, a peer that reads gets it, and an actor that sends more than the senders can
/// write is slowed down with the actor. That wait ends with the sender's turn, and after a second at most.
///
/// # Examples
/// See [`Server`](super::Server).
pub struct Outbox<M> {
    entries: HashMap<ConnId, Entry<M>>,
    wants_drain: bool,
}

struct Entry<M> {
    wire: Arc<Wire>,
    /// `None` once nothing more is to be sent.
    queue: Option<Tail<M>>,
}

impl<M> Outbox<M> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            wants_drain: false,
        }
    }

    /// Queues a message for a connection. Whether it was: not if the connection is closed or closing, is cut
    /// because its queue is full and its peer does not read ([`Laggard::Disconnect`](super::Laggard::Disconnect)), or was never there.
    ///
    /// A queued message is sent unless the peer is too slow, or the connection breaks.
    pub fn send(&mut self, conn: ConnId, message: impl Into<M>) -> bool {
        let Some(entry) = self.entries.get_mut(&conn) else {
            return false;
        };
        let Some(queue) = &entry.queue else {
            return false;
        };
        match queue.send(message.into()) {
            Ok(()) => return true,
            Err(Refused::Lagged) => entry.wire.cut(Closed::Lagged),
            // It has said why.
            Err(Refused::Ended) => {}
        }
        entry.queue = None;
        false
    }

    /// Closes a connection once what is queued for it has been sent. Nothing more is received from it;
    /// [`Actor::closed`](super::Actor::closed) follows, with [`Closed::ByActor`]. Whether it was open.
    pub fn close(&mut self, conn: ConnId) -> bool {
        let Some(entry) = self.entries.get_mut(&conn) else {
            return false;
        };
        let was_open = entry.queue.is_some();
        entry.hang_up(Closed::ByActor);
        was_open
    }

    /// Whether messages to a connection can be queued.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.entries
            .get(&conn)
            .is_some_and(|entry| entry.queue.is_some())
    }

    /// Messages that wait in a connection's outgoing queue; 0 if it is closed or closing. Those of
    /// [`Builder::outgoing`](super::Builder::outgoing) are the most there can be.
    pub fn queued(&self, conn: ConnId) -> usize {
        self.queue(conn).map_or(0, |queue| queue.len().0)
    }

    /// What is queued for a connection, in bytes as the codec counts them: [`Codec::size`](super::Codec::size).
    pub fn queued_bytes(&self, conn: ConnId) -> usize {
        self.queue(conn).map_or(0, |queue| queue.len().1)
    }

    fn queue(&self, conn: ConnId) -> Option<&Tail<M>> {
        self.entries.get(&conn)?.queue.as_ref()
    }

    /// Connections whose [`Actor::closed`](super::Actor::closed) has not been called yet.
    pub fn connections(&self) -> usize {
        self.entries.len()
    }

    /// Begins to drain the server once the present event has been handled, as
    /// [`ServerHandle::drain`](super::ServerHandle::drain) does.
    pub fn drain(&mut self) {
        self.wants_drain = true;
    }

    pub(super) fn wants_drain(&self) -> bool {
        self.wants_drain
    }

    pub(super) fn enter(&mut self, wire: Arc<Wire>, queue: Tail<M>) {
        let queue = Some(queue);
        self.entries.insert(wire.id, Entry { wire, queue });
    }

    pub(super) fn knows(&self, conn: ConnId) -> bool {
        self.entries.contains_key(&conn)
    }

    /// Forgets a connection: its sender goes on until the queue is empty.
    pub(super) fn leave(&mut self, conn: ConnId) {
        if let Some(entry) = self.entries.remove(&conn) {
            entry.wire.begin_closing();
        }
    }

    /// Ends the reading from all connections, each of which then closes: in the order in which they came, so that a
    /// simulated drain is the same each time.
    pub(super) fn end_all(&self) {
        let mut wires: Vec<_> = self.entries.values().map(|entry| &entry.wire).collect();
        wires.sort_unstable_by_key(|wire| wire.id);
        for wire in wires {
            wire.end(Closed::Drained);
        }
    }
}

impl<M> Entry<M> {
    fn hang_up(&mut self, reason: Closed) {
        self.wire.end(reason);
        self.wire.begin_closing();
        self.queue = None;
    }
}

impl<M> fmt::Debug for Outbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("connections", &self.connections())
            .finish()
    }
}
