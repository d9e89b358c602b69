//! Places for requests, and a bounded line of those that wait for one.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use maniple::sync::{Semaphore, SemaphorePermit};

use crate::{
    problem::Problem,
    response::{IntoResponse, Response},
};

/// Places, and who waits for one: so many, each so long.
#[derive(Debug)]
pub(super) struct Line {
    places: Semaphore,
    waiting: AtomicUsize,
    pub(super) settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How many may wait.
    pub(super) length: usize,
    pub(super) patience: Duration,
    pub(super) retry_after: Duration,
}

impl Line {
    pub(super) fn new(places: usize, length: usize) -> Self {
        Self {
            places: Semaphore::new(places),
            waiting: AtomicUsize::new(0),
            settings: Settings {
                length,
                patience: Duration::from_secs(1),
                retry_after: Duration::from_secs(1),
            },
        }
    }

    /// A place, or what is answered to whom there is none.
    #[inline]
    pub(super) fn enter(&self) -> Result<SemaphorePermit<'_>, Response> {
        match self.places.try_acquire() {
            Ok(place) => Ok(place),
            Err(_) => self.wait(),
        }
    }

    fn wait(&self) -> Result<SemaphorePermit<'_>, Response> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= self.settings.length {
            return Err(self.refuse());
        }
        let place = self.places.acquire_timeout(self.settings.patience);
        place.map_err(|_| self.refuse())
    }

    #[cold]
    fn refuse(&self) -> Response {
        let reason = "too many requests at a time";
        let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
        let after = self.settings.retry_after;
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    /// How many wait now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Adds places.
    pub(super) fn add(&self, places: usize) {
        self.places.add_permits(places);
    }

    /// Takes a place away that nobody has; whether there was one.
    pub(super) fn remove_one(&self) -> bool {
        let place = self.places.try_acquire();
        place.map(SemaphorePermit::forget).is_ok()
    }
}

/// One of those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
