//! Counts who came to wait, and wakes the one who counts on them.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// For engines whose spawner must not spin: may runs what is new only once all else waits, and threads share a core.
pub(super) struct Arrivals {
    arrived: AtomicU64,
    /// How many the spawner waits for.
    expected: AtomicU64,
    open: AtomicBool,
    wake_spawner: Box<dyn Fn() + Send + Sync>,
}

impl Arrivals {
    /// To be made by the spawner.
    pub(super) fn new(wake_spawner: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            arrived: AtomicU64::new(0),
            expected: AtomicU64::new(u64::MAX),
            open: AtomicBool::new(false),
            wake_spawner: Box::new(wake_spawner),
        }
    }

    /// Arrives and waits until it is opened. All accesses are in a total order with those of `await_all`: either that
    /// sees the last arrival, or the last arrival sees the number.
    pub(super) fn wait(&self, park: impl Fn()) {
        let arrived = self.arrived.fetch_add(1, Ordering::SeqCst) + 1;
        if arrived == self.expected.load(Ordering::SeqCst) {
            (self.wake_spawner)();
        }
        while !self.open.load(Ordering::SeqCst) {
            park();
        }
    }

    /// Waits until so many have arrived.
    pub(super) fn await_all(&self, expected: u64, park: impl Fn()) {
        self.expected.store(expected, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < expected {
            park();
        }
    }

    /// Lets go who is woken from now on.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals")
            .field("arrived", &self.arrived)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        thread::{self, park},
    };

    use super::*;

    #[test]
    fn the_spawner_is_woken_by_the_last_and_all_leave_together() {
        for _ in 0..50 {
            let spawner = thread::current();
            let arrivals = Arc::new(Arrivals::new(move || spawner.unpark()));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let arrivals = Arc::clone(&arrivals);
                    thread::spawn(move || arrivals.wait(park))
                })
                .collect();
            arrivals.await_all(4, park);
            assert!(threads.iter().all(|thread| !thread.is_finished()));
            arrivals.open();
            for thread in threads {
                thread.thread().unpark();
                thread.join().unwrap();
            }
        }
    }
}
