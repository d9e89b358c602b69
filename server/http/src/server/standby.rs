//! How long a connection waits for its next request, and how much it may still be asked: what of it outlives the
//! coroutine that served it.

use std::time::{Duration, Instant};

use maniple::time::coarse_now;

use super::service::Service;

/// How long a coroutine waits for the next request before the connection goes on standby, where it needs none.
const SOON: Duration = Duration::from_secs(2);

/// A wait for the next request, with or without a coroutine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standby {
    since: Instant,
    pub(crate) until: Instant,
    /// When the connection is too old, and how much it may still be asked.
    old_at: Instant,
    requests: u64,
}

impl Standby {
    /// That of a connection which has just been made.
    pub(super) fn of_new(service: &Service) -> Self {
        let since = coarse_now();
        Self {
            since,
            until: since + service.timeouts.header,
            old_at: since + service.life.age,
            requests: service.life.requests,
        }
    }

    /// The wait that follows.
    pub(super) fn renew(&mut self, patience: Duration) {
        self.since = coarse_now();
        self.until = self.since + patience;
    }

    /// Whether it has lasted so long that a client which asks like this needs no coroutine in between.
    pub(super) fn is_long(&self) -> bool {
        coarse_now().saturating_duration_since(self.since) > SOON
    }

    /// How long a coroutine waits, of a connection that can do without one or cannot.
    #[inline]
    pub(super) fn with_coroutine(&self, stands_by: bool) -> Instant {
        match stands_by {
            true => self.until.min(self.since + SOON),
            false => self.until,
        }
    }

    /// How many requests may still come.
    #[inline]
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// So many have been answered.
    #[inline]
    pub(super) fn count(&mut self, answered: u64) {
        self.requests = self.requests.saturating_sub(answered);
    }

    /// Whether the connection ends with what it is asked next.
    #[inline]
    pub(super) fn is_last(&self) -> bool {
        self.requests <= 1 || self.since >= self.old_at
    }
}
