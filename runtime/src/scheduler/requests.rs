//! Requests: closures that other threads have a worker run, on its thread, between two turns.
//!
//! Each worker has a queue of them. Adding one wakes the worker, which runs it at the start of its next round.
//! A queue that is empty costs a load of one flag a round.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Scheduler, Worker};
use crate::sys::spin::SpinLock;

pub(crate) type Request = Box<dyn FnOnce(&Worker) + Send>;

/// The requests to one worker.
pub(super) struct Requests {
    has_some: AtomicBool,
    /// `None` once the worker runs no more of them.
    queue: SpinLock<Option<Vec<Request>>>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            has_some: AtomicBool::new(false),
            queue: SpinLock::new(Some(Vec::new())),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        !self.has_some.load(Ordering::SeqCst)
    }

    /// Adds a request; false, and it is dropped, if it will not be run.
    fn push(&self, request: Request) -> bool {
        // Dropped after the lock.
        let refused = match &mut *self.queue.lock() {
            Some(queue) => {
                queue.push(request);
                None
            }
            None => Some(request),
        };
        if refused.is_none() {
            self.has_some.store(true, Ordering::SeqCst);
        }
        refused.is_none()
    }

    /// Runs all that are there.
    #[cold]
    pub(super) fn run(&self, worker: &Worker) {
        self.has_some.store(false, Ordering::SeqCst);
        let queue = self.queue.lock().as_mut().map(std::mem::take);
        for request in queue.into_iter().flatten() {
            request(worker);
        }
    }

    /// Drops what will not be run any more, which tells those who wait for it.
    pub(super) fn close(&self) {
        let queue = self.queue.lock().take();
        drop(queue);
    }
}

impl Scheduler {
    /// Has the worker of that index run `request` between two turns; it is dropped if that worker has ended.
    pub(crate) fn run_on_worker(&self, index: usize, request: Request) {
        if self.requests[index].push(request) {
            self.remotes[index].parker.wake();
        }
    }
}
