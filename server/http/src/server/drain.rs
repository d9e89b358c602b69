//! Draining: every connection is known, idle ones are closed, busy ones finish what they have begun.
//!
//! A connection leaves in a destructor, which may run where nothing can wait: as a closure is dropped for
//! which there was no stack. So what is shared is under a lock of std's, held for some instructions and never
//! over a call that can suspend.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

#[cfg(feature = "fault-injection")]
use maniple::sim;
use maniple::{cancel::CancelToken, drain::DrainReport, sync::Notify, time::coarse_now};

use super::{
    overrun::{report_crowd, report_full},
    state::{Connection, FRESH, IDLE, STATES},
};
use crate::transport::Peer;

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Registry {
    draining: AtomicBool,
    /// Cancelled when the drain begins.
    drain: CancelToken,
    /// From when on a drain ends idle connections.
    idle_until: OnceLock<Instant>,
    next: AtomicU64,
    /// Requests answered since the drain began; before that nobody asks, and counting would have all
    /// workers write to one place.
    pub(crate) answered: AtomicU64,
    /// Connections that one address may have.
    per_peer: usize,
    /// Connections that were ended because they were idle.
    idle: AtomicUsize,
    open: Mutex<Open>,
    /// There may be room for one more connection. Who takes it and leaves room passes this on.
    room: Notify,
    /// There may be no connection left.
    empty: Notify,
}

#[derive(Debug, Default)]
struct Open {
    connections: HashMap<u64, Arc<Connection>>,
    /// How many of them each address has, if there is a limit to that.
    of_peers: HashMap<IpAddr, usize>,
    /// Places for connections that are about to be accepted.
    reserved: usize,
}

/// Connections that are counted under one lock.
const AT_ONCE: usize = 1024;

impl Registry {
    pub(crate) fn new(drain: CancelToken, per_peer: usize) -> Self {
        Self {
            per_peer,
            draining: AtomicBool::new(false),
            drain,
            idle_until: OnceLock::new(),
            next: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            idle: AtomicUsize::new(0),
            open: Mutex::default(),
            room: Notify::new(),
            empty: Notify::new(),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing that can panic leaves it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until fewer than `limit` connections are open, and keeps a place for one more.
    pub(crate) fn reserve(&self, limit: usize) -> Place<'_> {
        loop {
            let mut open = self.open();
            let taken = open.connections.len() + open.reserved;
            if taken < limit {
                open.reserved += 1;
                drop(open);
                if taken + 1 < limit {
                    self.room.notify_one();
                }
                return Place { registry: self };
            }
            drop(open);
            report_full(limit);
            self.room.notified();
        }
    }

    /// A seat for a connection; none if its peer has as many as it may, being one and not many.
    pub(crate) fn enter(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        peer: &Peer,
        is_one: bool,
    ) -> Option<Seat> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let is_counted = is_one && self.per_peer < usize::MAX;
        let network = peer.network().filter(|_| is_counted);
        let mut open = self.open();
        if let Some(network) = network {
            let count = open.of_peers.entry(network).or_insert(0);
            if *count >= self.per_peer {
                drop(open);
                report_crowd(peer, self.per_peer);
                return None;
            }
            *count += 1;
        }
        connection.know_of_drain(&self.drain);
        open.connections.insert(id, connection);
        #[cfg(feature = "fault-injection")]
        if self.is_draining() && sim::is_planted(sim::Planted::ForgetsTheLate) {
            open.connections.remove(&id);
        }
        Some(Seat {
            registry: self.clone(),
            id,
            network,
        })
    }

    /// Never waits.
    fn leave(&self, id: u64, network: Option<IpAddr>) {
        let mut open = self.open();
        let left = open.connections.remove(&id);
        let is_last = open.connections.is_empty();
        if let Some(network) = network
            && let Some(count) = open.of_peers.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                open.of_peers.remove(&network);
            }
        }
        drop(open);
        drop(left);
        self.room.notify_one();
        if is_last {
            self.empty.notify_one();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.open().connections.len()
    }

    /// How many connections do what, in the order of [`STATES`]. Those who come and go wait for no more than some.
    pub(crate) fn by_state(&self) -> [u64; STATES.len()] {
        let mut counts = [0; STATES.len()];
        let ids: Vec<u64> = self.open().connections.keys().copied().collect();
        for some in ids.chunks(AT_ONCE) {
            let open = self.open();
            for connection in some.iter().filter_map(|id| open.connections.get(id)) {
                counts[connection.doing()] += 1;
            }
        }
        counts
    }

    /// Idle connections may send one request more within that time.
    pub(crate) fn begin_drain(&self, idle: Duration) {
        self.idle_until.get_or_init(|| coarse_now() + idle);
        self.draining.store(true, Ordering::SeqCst);
        self.drain.cancel();
    }

    /// Whether idle connections have had their time.
    fn may_end_idle(&self) -> bool {
        let until = self.idle_until.get();
        until.is_none_or(|until| *until <= coarse_now())
    }

    /// Ends a connection that would wait for a further request.
    pub(crate) fn end_idle(&self, connection: &Connection) {
        // Those that are left alone now are met by a sweep later.
        if self.may_end_idle() && connection.end_if(IDLE) {
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the idle connections and waits for the busy ones, then cancels those that are left.
    pub(crate) fn finish(&self, grace: Duration) -> DrainReport {
        let began = coarse_now();
        let over = began + grace;
        loop {
            if self.may_end_idle() {
                self.sweep(IDLE);
            }
            if self.wait_until_empty(over.min(coarse_now() + SWEEP)) || coarse_now() >= over {
                break;
            }
            if coarse_now() >= began + FIRST_REQUEST {
                self.sweep(FRESH);
            }
        }
        let cancelled = self.cancel_all();
        if cancelled > 0 {
            self.wait_until_empty(coarse_now() + AFTER_CANCEL);
        }
        let mut report = DrainReport::default();
        report.finished = self.answered.load(Ordering::Relaxed);
        report.idle = self.idle.load(Ordering::Relaxed) as u64;
        report.cancelled = cancelled as u64;
        report.left = self.count() as u64;
        report
    }

    fn sweep(&self, state: u8) {
        let connections = self.those_that(|connection| connection.is(state));
        let ended = connections
            .iter()
            .filter(|connection| connection.end_if(state))
            .count();
        self.idle.fetch_add(ended, Ordering::Relaxed);
    }

    fn cancel_all(&self) -> usize {
        let connections = self.those_that(|_| true);
        connections
            .iter()
            .filter(|connection| connection.cancel())
            .count()
    }

    /// For what takes a system call each, which is done without the lock. In the order in which they came, so that a
    /// simulated drain is the same each time.
    fn those_that(&self, are_wanted: impl Fn(&Connection) -> bool) -> Vec<Arc<Connection>> {
        let open = self.open();
        let wanted = (open.connections.iter()).filter(|(_, connection)| are_wanted(connection));
        let mut wanted: Vec<_> = wanted.map(|(id, one)| (*id, one.clone())).collect();
        drop(open);
        wanted.sort_unstable_by_key(|(id, _)| *id);
        wanted.into_iter().map(|(_, one)| one).collect()
    }

    fn wait_until_empty(&self, until: Instant) -> bool {
        while self.count() > 0 {
            let left = until.saturating_duration_since(coarse_now());
            if left.is_zero() {
                return false;
            }
            self.empty.notified_timeout(left);
        }
        true
    }
}

/// Between two looks for connections that became idle.
const SWEEP: Duration = Duration::from_millis(50);

/// How long a drain waits for the first request of a connection that has not sent any: it was made for
/// one, which is probably on its way.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// How long cancelled connections may take to go.
const AFTER_CANCEL: Duration = Duration::from_secs(2);

/// A connection's seat among those that are open, left when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: Arc<Registry>,
    id: u64,
    /// That of its peer, if it counts.
    network: Option<IpAddr>,
}

impl Seat {
    /// Cancelled when the drain begins.
    pub(crate) fn drain(&self) -> CancelToken {
        self.registry.drain.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.leave(self.id, self.network);
    }
}

/// A place among the connections that may be open, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    registry: &'a Registry,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.open().reserved -= 1;
        self.registry.room.notify_one();
    }
}
