//! How many requests are under way on a connection, and since when there have been none.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::time::now;

/// Requests that are under way.
#[derive(Debug)]
pub(super) struct Load {
    /// Their number; [`CLOSED`] where there are to be no more.
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
}

const CLOSED: usize = usize::MAX;

impl Load {
    pub(super) fn new() -> Self {
        Self {
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(now()),
        }
    }

    pub(super) fn requests(&self) -> usize {
        match self.requests.load(Ordering::Relaxed) {
            CLOSED => 0,
            requests => requests,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == CLOSED
    }

    /// When there can have been no request for so long, at the earliest; `None` if that never comes.
    pub(super) fn idle_until(&self, timeout: Duration) -> Option<Instant> {
        let since = match self.requests() {
            0 => *self.idle_since(),
            _ => now(),
        };
        since.checked_add(timeout)
    }

    /// Ends it, if there has been no request for so long.
    pub(super) fn close_if_idle(&self, timeout: Duration) -> bool {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let since = *self.idle_since();
        if now().saturating_duration_since(since) < timeout {
            return false;
        }
        // The number alone decides: who comes first has the connection end, or stay.
        let closed =
            self.requests
                .compare_exchange(0, CLOSED, Ordering::Relaxed, Ordering::Relaxed);
        closed.is_ok()
    }

    fn idle_since(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Counted(Arc<Load>);

impl Counted {
    /// None where there are to be no more.
    pub(super) fn new(load: &Arc<Load>) -> Option<Self> {
        let one_more = |requests| (requests != CLOSED).then(|| requests + 1);
        load.requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Self(load.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut idle_since = self.0.idle_since();
        *idle_since = now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
