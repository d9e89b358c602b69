//! Links to servers that speak HTTP/2: one to each, which all requests share, and what is known of other servers.
//!
//! Who is the first to ask a server makes the connection, and others wait for what comes of it: a link for all, or the knowledge
//! that this server speaks HTTP/1.1. A link ends by itself once it has been idle for too long. One that takes no more requests
//! is left to those that are under way, and the next request makes another.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::header::UPGRADE;
use maniple::{sync::Semaphore, time::coarse_now};

use super::Http2;
use crate::{
    client::{head::Outgoing, place::Place},
    http2::Link,
    transport::{Dialed, Transport},
};

/// What a client knows of servers that speak HTTP/2, or might.
#[derive(Debug)]
pub(crate) struct Links {
    shared: Arc<Shared>,
    settings: Http2,
    /// How long a link is used from when it was made.
    life: Option<Duration>,
}

#[derive(Debug, Default)]
struct Shared {
    origins: Mutex<HashMap<Arc<str>, Arc<Origin>>>,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Had over the making of a connection, by one at a time. No lock: who waits for his turn may be cut short.
    pub(crate) connecting: Semaphore,
    known: Mutex<Known>,
    /// Attempts to connect that failed.
    failures: AtomicUsize,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            connecting: Semaphore::new(1),
            known: Mutex::default(),
            failures: AtomicUsize::new(0),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Known {
    #[default]
    Nothing,
    /// It speaks HTTP/1.1.
    Http1,
    Link(Arc<Kept>),
}

/// A link to a server.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) link: Link,
    made: Instant,
    has_answered: AtomicBool,
}

impl Kept {
    /// A request was answered over it.
    pub(crate) fn answered(&self) {
        if !self.has_answered.load(Ordering::Relaxed) {
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether any was, or is under way.
    pub(crate) fn is_of_use(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed) || self.link.requests() > 0
    }
}

/// Of so many servers is remembered that they speak HTTP/1.1, or that nothing is known of them.
const MOST: usize = 1024;

impl Links {
    /// With links that end after so long without a request, and are used for so long.
    pub(crate) fn new(settings: Http2, idle: Duration, life: Option<Duration>) -> Self {
        let link = settings.link.clone().idle_timeout(idle);
        Self {
            shared: Arc::default(),
            settings: Http2 { link, ..settings },
            life,
        }
    }

    /// Whether a request may go over a link.
    #[inline]
    pub(crate) fn may_take(&self, request: &Outgoing<'_>) -> bool {
        let is_spoken = match request.url.is_secure {
            true => self.settings.is_offered || self.settings.is_known,
            false => self.settings.is_known,
        };
        is_spoken && !request.headers.contains_key(UPGRADE)
    }

    /// Whether a connection that has been made is to be a link.
    pub(crate) fn is_for(&self, stream: &Transport) -> bool {
        self.settings.is_known || stream.speaks_http2()
    }

    /// What is known of a server.
    pub(crate) fn of(&self, origin: &str) -> Arc<Origin> {
        let mut origins = locked(&self.shared.origins);
        if let Some(known) = origins.get(origin) {
            return known.clone();
        }
        if origins.len() >= MOST {
            origins.retain(|_, origin| {
                Arc::strong_count(origin) > 1 || matches!(origin.known(), Known::Link(_))
            });
        }
        if origins.len() >= MOST {
            return Arc::default();
        }
        origins.entry(origin.into()).or_default().clone()
    }

    /// What is known now, a link that takes requests among it.
    pub(crate) fn now(&self, origin: &Origin) -> Known {
        let known = origin.known();
        if let Known::Link(kept) = &known {
            let is_worn = |life| coarse_now().saturating_duration_since(kept.made) >= life;
            if self.life.is_some_and(is_worn) || !kept.link.is_open() {
                origin.forget(kept);
                return Known::Nothing;
            }
        }
        known
    }

    /// A link over a connection that has been made.
    pub(crate) fn open(
        &self,
        origin: &Origin,
        stream: Transport,
        place: Option<Place>,
    ) -> std::io::Result<Arc<Kept>> {
        let link = Link::open_with(Dialed::over(stream), &self.settings.link, place)?;
        let kept = Arc::new(Kept {
            link,
            made: coarse_now(),
            has_answered: AtomicBool::new(false),
        });
        *locked(&origin.known) = Known::Link(kept.clone());
        Ok(kept)
    }

    /// Has those that no request uses end now, for the sake of their places.
    pub(crate) fn close_idle(&self) {
        let origins = locked(&self.shared.origins);
        for origin in origins.values() {
            if let Known::Link(kept) = origin.known()
                && kept.link.requests() == 0
            {
                origin.forget(&kept);
            }
        }
    }

    pub(crate) fn weak(&self) -> WeakLinks {
        WeakLinks(Arc::downgrade(&self.shared))
    }
}

/// Forgets links of a client, as long as there is that.
#[derive(Clone, Debug)]
pub(crate) struct WeakLinks(Weak<Shared>);

impl WeakLinks {
    /// Forgets those to servers that are meant.
    pub(crate) fn close(&self, is_meant: impl Fn(&str) -> bool) {
        if let Some(shared) = self.0.upgrade() {
            let mut origins = locked(&shared.origins);
            origins.retain(|origin, _| !is_meant(origin));
        }
    }
}

impl Origin {
    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    /// An attempt to connect has failed.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn known(&self) -> Known {
        locked(&self.known).clone()
    }

    /// It has agreed on nothing else in the handshake.
    pub(crate) fn speaks_http1(&self) {
        *locked(&self.known) = Known::Http1;
    }

    /// That link takes no more requests. If there is another by now it stays.
    pub(crate) fn forget(&self, kept: &Arc<Kept>) {
        let mut known = locked(&self.known);
        if matches!(&*known, Known::Link(current) if Arc::ptr_eq(current, kept)) {
            *known = Known::Nothing;
        }
    }
}

/// Nothing waits while it is held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
