//! Calls that wait for a place, in the order in which they came.
//!
//! Who is first looks for a place, and again each time that one may have come to be: a call has ended, a limit has grown, a server is up
//! again or new. The others wait to be first. So a place goes to who came first, and who gives up hands on nothing but its turn.

use std::{
    sync::atomic::{
        AtomicUsize,
        Ordering::{Relaxed, SeqCst},
        fence,
    },
    time::Duration,
};

use maniple::{
    cancel::{self, Interrupt},
    sync::{AcquireError, Semaphore},
    time,
};

use super::error::PickError;

#[derive(Debug)]
pub(super) struct Line {
    /// Whose turn it is to look.
    turn: Semaphore,
    waiting: AtomicUsize,
    /// One permit, if there may be a place that nobody has looked for.
    news: Semaphore,
}

/// Servers that were left out come back with time, which tells nobody: who is first looks so often in any case.
const PAUSE: Duration = Duration::from_millis(50);

impl Line {
    pub(super) fn new() -> Self {
        Self {
            turn: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            news: Semaphore::new(0),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// There may be a place: what makes it one has been written.
    pub(super) fn tell(&self) {
        // With the one in `wait`: either who waits sees the place, or who made it sees that somebody waits.
        fence(SeqCst);
        if self.waiting() > 0 && self.news.available() == 0 {
            self.news.add_permits(1);
        }
    }

    /// Waits until `pick` finds a place, or says that there will be none.
    pub(super) fn wait<T>(
        &self,
        (most, patience): (usize, Duration),
        pick: impl Fn() -> Result<T, PickError>,
    ) -> Result<T, PickError> {
        let ahead = self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= most {
            return Err(PickError::Full);
        }
        fence(SeqCst);
        let until = time::now().checked_add(patience);
        let left = || {
            until.map_or(Duration::MAX, |until| {
                until.saturating_duration_since(time::now())
            })
        };
        let _turn = self.turn.acquire_timeout(left()).map_err(cut)?;
        loop {
            match pick() {
                Err(PickError::Full) => {}
                picked => return picked,
            }
            let left = left();
            if left.is_zero() {
                return Err(PickError::TimedOut);
            }
            match self.news.acquire_timeout(left.min(PAUSE)) {
                Ok(news) => news.forget(),
                Err(AcquireError::Cancelled) => return Err(PickError::Cancelled),
                Err(_) => cancel::check().map_err(|interrupt| match interrupt {
                    Interrupt::Cancelled => PickError::Cancelled,
                    Interrupt::Elapsed => PickError::TimedOut,
                })?,
            }
        }
    }
}

fn cut(error: AcquireError) -> PickError {
    match error {
        AcquireError::Cancelled => PickError::Cancelled,
        _ => PickError::TimedOut,
    }
}

/// One of those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
