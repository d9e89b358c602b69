//! What readers, senders, the acceptor and the actor's loop share.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use maniple::{
    cancel::CancelToken,
    sync::{Mutex, Semaphore},
};

use super::{
    error::Closed,
    settings::{Laggard, Limits},
};

/// A connection of a server, by number; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(super) u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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
    /// Until all connections are closed, or it is too late: whether they are.
    pub(super) fn wait_for_the_last(&self, until: Instant) -> bool {
        let all = || self.places.acquire_many(self.limits.connections).is_ok();
        maniple::deadline(until, all) == Ok(true)
    }

    /// Leaves the reason to be found with the next event.
    pub(super) fn leave_unserved(&self, conn: ConnId, reason: Closed) {
        let mut unserved = self.unserved.lock();
        unserved.push((conn, reason));
        self.has_unserved.store(true, Ordering::Release);
    }

    /// Those that the actor knows; others are yet to be opened.
    pub(super) fn take_unserved(&self, knows: impl Fn(ConnId) -> bool) -> Vec<(ConnId, Closed)> {
        // Pairs with the store above: it comes before an event is sent, and this after an event was received,
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
