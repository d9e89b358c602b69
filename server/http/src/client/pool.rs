//! Connections to be used again, the latest first, and what ends them: their age, the peer, want of room.
//!
//! A keeper looks after them, a coroutine that there is only while there are any: every half second it closes those that
//! have been idle for too long, and those that their peers have closed. It belongs to the runtime where the first one
//! was kept. If that ends, so does what is kept, and the next to keep one has a keeper of its own.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use maniple::{cancel::CancelToken, panics, sync::Mutex, task, time::coarse_now};

use super::connection::Connection;

/// Idle connections by host and port. Dropping it closes them.
#[derive(Debug)]
pub(super) struct Pool {
    shelf: Arc<Shelf>,
}

/// How many are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) total: usize,
    pub(super) per_host: usize,
    pub(super) age: Duration,
}

#[derive(Debug)]
struct Shelf {
    limits: Limits,
    idle: Mutex<Idle>,
    /// Ends the keeper with the pool.
    is_over: CancelToken,
}

#[derive(Debug, Default)]
struct Idle {
    /// Each host's from the one that has been idle for longest on. A host without any is forgotten by the keeper, since
    /// as a rule the one that was taken comes back.
    hosts: HashMap<Arc<str>, Vec<Connection>>,
    /// How many there are of all hosts.
    total: usize,
    has_keeper: bool,
}

/// Among so many of the latest one is looked for that the caller's thread has used.
const NEAR: usize = 8;

/// How long the keeper sleeps.
const PAUSE: Duration = Duration::from_millis(500);

impl Pool {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            shelf: Arc::new(Shelf {
                limits,
                idle: Mutex::new(Idle::default()),
                is_over: CancelToken::new(),
            }),
        }
    }

    /// A connection that is still alive: the latest, if possible of those that this thread has used.
    pub(super) fn take(&self, host: &str) -> Option<Connection> {
        let own = thread::current().id();
        loop {
            let connection = {
                let mut idle = self.shelf.idle.lock();
                let kept = idle.hosts.get_mut(host)?;
                let near = kept.iter().rev().take(NEAR).position(|connection| {
                    connection.kept.is_some_and(|(_, thread)| thread == own)
                });
                let last = kept.len().checked_sub(1)?;
                let connection = kept.remove(last - near.unwrap_or(0));
                idle.total -= 1;
                connection
            };
            if self.shelf.is_of_use(&connection) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last response was read to its end.
    pub(super) fn put(&self, mut connection: Connection) {
        let limits = self.shelf.limits;
        if limits.total == 0 || limits.per_host == 0 || limits.age.is_zero() {
            return;
        }
        connection.kept = Some((coarse_now(), thread::current().id()));
        let mut idle = self.shelf.idle.lock();
        let gone = idle.put(connection, limits);
        let needs_keeper = !std::mem::replace(&mut idle.has_keeper, true);
        drop(idle);
        // Not under the lock: closing takes its time.
        drop(gone);
        if needs_keeper {
            self.shelf.hire_keeper();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shelf.is_over.cancel();
        self.shelf.clear();
    }
}

impl Idle {
    /// Takes a connection in, and out those that have been idle for longest if they are too many now.
    fn put(&mut self, connection: Connection, limits: Limits) -> [Option<Connection>; 2] {
        let host = connection.host.clone();
        let kept = self.hosts.entry(host).or_default();
        let of_host = (kept.len() >= limits.per_host).then(|| kept.remove(0));
        kept.push(connection);
        self.total += 1 - usize::from(of_host.is_some());
        let of_all = (self.total > limits.total).then(|| self.take_oldest());
        [of_host, of_all.flatten()]
    }

    fn take_oldest(&mut self) -> Option<Connection> {
        let ages = self.hosts.iter().filter_map(|(host, kept)| {
            let (since, _) = kept.first()?.kept?;
            Some((since, host))
        });
        let host = ages.min_by_key(|(since, _)| *since)?.1.clone();
        let kept = self.hosts.get_mut(&host)?;
        let oldest = kept.remove(0);
        if kept.is_empty() {
            self.hosts.remove(&host);
        }
        self.total -= 1;
        Some(oldest)
    }
}

impl Shelf {
    fn is_of_use(&self, connection: &Connection) -> bool {
        let is_young = |since| coarse_now().saturating_duration_since(since) < self.limits.age;
        connection.kept.is_some_and(|(since, _)| is_young(since)) && connection.is_quiet()
    }

    fn hire_keeper(self: &Arc<Self>) {
        let keeper = Keeper {
            shelf: Arc::downgrade(self),
            may_leave: false,
        };
        let is_over = self.is_over.clone();
        let body = move || {
            let _ = is_over.run(|| keeper.work());
        };
        // It keeps connections of all callers: what is the first one's own must not stay with it.
        let keeper = task::Builder::new().name("http client keeper");
        let spawn = || keeper.without_locals().spawn(body);
        // On a plain thread that is a coroutine of the default runtime, whose start may panic. Whatever goes wrong, the
        // keeper is dropped, and what was kept with it.
        panics::catch(|| spawn().map(drop));
    }

    /// Closes what is of no use any more. Whether any are left; if not, the keeper is dismissed.
    fn look(&self) -> bool {
        let hosts: Vec<Arc<str>> = self.idle.lock().hosts.keys().cloned().collect();
        for host in hosts {
            let mut idle = self.idle.lock();
            let Some(kept) = idle.hosts.get_mut(&host) else {
                continue;
            };
            let useless = |connection: &mut Connection| !self.is_of_use(connection);
            let gone: Vec<Connection> = kept.extract_if(.., useless).collect();
            if kept.is_empty() {
                idle.hosts.remove(&host);
            }
            idle.total -= gone.len();
            drop(idle);
            drop(gone);
        }
        let mut idle = self.idle.lock();
        let few = idle.hosts.len() * 2;
        idle.hosts.shrink_to(few);
        idle.has_keeper = !idle.hosts.is_empty();
        idle.has_keeper
    }

    fn clear(&self) {
        let all = std::mem::take(&mut *self.idle.lock());
        drop(all);
    }
}

struct Keeper {
    shelf: Weak<Shelf>,
    /// There is nothing to keep.
    may_leave: bool,
}

impl Keeper {
    fn work(mut self) {
        while let Some(age) = self.shelf.upgrade().map(|shelf| shelf.limits.age) {
            maniple::sleep(PAUSE.min(age));
            let left = self.shelf.upgrade().is_some_and(|shelf| shelf.look());
            if !left {
                self.may_leave = true;
                return;
            }
        }
    }
}

impl Drop for Keeper {
    /// Its runtime ends, or it could not begin: nobody would close what is kept.
    fn drop(&mut self) {
        if !self.may_leave
            && let Some(shelf) = self.shelf.upgrade()
        {
            shelf.clear();
        }
    }
}
