//! Draining: every connection is known, idle ones are closed, busy ones finish what they have begun.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{
    sync::{Condvar, Mutex},
    time::recent,
};

use crate::line::{FRESH, IDLE, Line};

/// All connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    draining: AtomicBool,
    next: AtomicU64,
    /// Requests answered since the drain began; before that nobody asks, and counting would have all
    /// workers write to one place.
    pub(crate) answered: AtomicU64,
    /// Connections that were ended because they were idle.
    idle: AtomicUsize,
    open: Mutex<Open>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    lines: HashMap<u64, Arc<Line>>,
    /// Places for connections that are about to be accepted.
    reserved: usize,
}

impl Registry {
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until fewer than `limit` connections are open, and keeps a place for one more.
    pub(crate) fn reserve(&self, limit: usize) -> Place<'_> {
        let mut open = self.open.lock();
        self.closed
            .wait_while(&mut open, |open| open.lines.len() + open.reserved >= limit);
        open.reserved += 1;
        Place { registry: self }
    }

    pub(crate) fn enter(&self, line: Arc<Line>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().lines.insert(id, line);
        id
    }

    pub(crate) fn leave(&self, id: u64) {
        let left = self.open.lock().lines.remove(&id);
        self.closed.notify_all();
        drop(left);
    }

    pub(crate) fn count(&self) -> usize {
        self.open.lock().lines.len()
    }

    /// Waits until a connection closes, at most so long.
    pub(crate) fn wait_for_a_close(&self, limit: Duration) {
        let mut open = self.open.lock();
        self.closed.wait_timeout(&mut open, limit);
    }

    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Ends a connection that would wait for a further request.
    pub(crate) fn end_idle(&self, line: &Line) {
        if line.end_if(IDLE) {
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the idle connections and waits for the busy ones, then cancels those that are left.
    pub(crate) fn finish(&self, grace: Duration) -> DrainReport {
        let began = recent();
        let over = began + grace;
        self.sweep(IDLE);
        while !self.wait_until_empty(over.min(recent() + SWEEP)) && recent() < over {
            self.sweep(IDLE);
            if recent() >= began + FIRST_REQUEST {
                self.sweep(FRESH);
            }
        }
        let cancelled = self.cancel_all();
        if cancelled > 0 {
            self.wait_until_empty(recent() + AFTER_CANCEL);
        }
        DrainReport {
            answered: self.answered.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
            cancelled,
        }
    }

    fn sweep(&self, state: u8) {
        let open = self.open.lock();
        let lines = open.lines.values();
        let ended = lines.filter(|line| line.end_if(state)).count();
        self.idle.fetch_add(ended, Ordering::Relaxed);
    }

    fn cancel_all(&self) -> usize {
        // Not under the lock: who hands a connection over has its line's lock, and may leave with it.
        let lines: Vec<_> = self.open.lock().lines.values().cloned().collect();
        lines.into_iter().filter(|line| line.cancel()).count()
    }

    fn wait_until_empty(&self, until: Instant) -> bool {
        let mut open = self.open.lock();
        while !open.lines.is_empty() {
            let left = until.saturating_duration_since(recent());
            if left.is_zero() {
                return false;
            }
            self.closed.wait_timeout(&mut open, left);
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

/// A place among the connections that may be open, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    registry: &'a Registry,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.open.lock().reserved -= 1;
        self.registry.closed.notify_all();
    }
}

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Requests answered after the drain began.
    pub answered: u64,
    /// Connections that were idle when it began, or became so, and were closed.
    pub idle: usize,
    /// Connections that were cancelled when the grace time was over.
    pub cancelled: usize,
}
