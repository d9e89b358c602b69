//! Draining: every connection is known, idle ones are closed, busy ones finish what they have begun.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use maniple::{
    JoinHandle,
    net::{Shutdown, TcpStream},
    sync::{Condvar, Mutex},
};

/// A connection as the server sees it from outside.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    state: AtomicU8,
}

/// Waits for a request; a drain may end it.
const IDLE: u8 = 0;
/// Has begun to read a request.
const BUSY: u8 = 1;
/// Was idle when the drain came by: its reading side has been shut, so it answers what had arrived
/// and then finds the end.
const ENDING: u8 = 2;

impl Line {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            state: AtomicU8::new(BUSY),
        }
    }

    /// From now on a drain may shut the connection.
    #[inline]
    pub(crate) fn rest(&self) {
        self.state.store(IDLE, Ordering::SeqCst);
    }

    /// A request may have come: a drain leaves the connection alone.
    #[inline]
    pub(crate) fn work(&self) {
        let _ = self
            .state
            .compare_exchange(IDLE, BUSY, Ordering::SeqCst, Ordering::Relaxed);
    }

    fn end_if_idle(&self) -> bool {
        let idle = self
            .state
            .compare_exchange(IDLE, ENDING, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok();
        if idle {
            // An error says that the peer is gone already.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        idle
    }
}

/// All connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    draining: AtomicBool,
    next: AtomicU64,
    pub(crate) answered: AtomicU64,
    open: Mutex<HashMap<u64, Entry>>,
    closed: Condvar,
}

#[derive(Debug)]
struct Entry {
    line: std::sync::Arc<Line>,
    handle: Option<JoinHandle<()>>,
}

impl Registry {
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn enter(&self, line: std::sync::Arc<Line>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(id, Entry { line, handle: None });
        id
    }

    /// Makes the connection's coroutine known, unless it has ended already.
    pub(crate) fn set_handle(&self, id: u64, handle: JoinHandle<()>) {
        if let Some(entry) = self.open.lock().get_mut(&id) {
            entry.handle = Some(handle);
        }
    }

    pub(crate) fn leave(&self, id: u64) {
        let left = self.open.lock().remove(&id);
        self.closed.notify_all();
        drop(left);
    }

    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Waits until fewer than `limit` connections are open.
    pub(crate) fn wait_below(&self, limit: usize) {
        let mut open = self.open.lock();
        self.closed
            .wait_while(&mut open, |open| open.len() >= limit);
    }

    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Ends the idle connections and waits for the busy ones, then cancels those that are left.
    pub(crate) fn finish(&self, grace: Duration) -> DrainReport {
        let idle = {
            let open = self.open.lock();
            open.values()
                .filter(|entry| entry.line.end_if_idle())
                .count()
        };
        let before = self.answered.load(Ordering::Relaxed);
        let in_time = self.wait_until_empty(grace);
        let mut cancelled = 0;
        if !in_time {
            let open = self.open.lock();
            for handle in open.values().filter_map(|entry| entry.handle.as_ref()) {
                handle.cancel();
                cancelled += 1;
            }
            drop(open);
            self.wait_until_empty(AFTER_CANCEL);
        }
        DrainReport {
            answered: self.answered.load(Ordering::Relaxed) - before,
            idle,
            cancelled,
        }
    }

    fn wait_until_empty(&self, limit: Duration) -> bool {
        let until = std::time::Instant::now() + limit;
        let mut open = self.open.lock();
        while !open.is_empty() {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return false;
            }
            self.closed.wait_timeout(&mut open, left);
        }
        true
    }
}

/// How long cancelled connections may take to go.
const AFTER_CANCEL: Duration = Duration::from_secs(2);

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Requests answered after the drain began.
    pub answered: u64,
    /// Connections that were idle when it began.
    pub idle: usize,
    /// Connections that were cancelled when the grace time was over.
    pub cancelled: usize,
}
