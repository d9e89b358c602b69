//! Connections to be used again, the latest first, and what ends them: their age, the peer, want of room.
//!
//! A keeper looks after them, a coroutine that there is only while there are any: every half second it closes those that
//! have been idle for too long, and those that their peers have closed. It belongs to the runtime where the first one
//! was kept. If that ends, so does what is kept, and the next to keep one has a keeper of its own.
//!
//! Where connections are bounded, each has a [`Place`], from before it is made until it is closed, and calls that find none wait
//! in one queue. A place or a connection that is given back goes to the first in the queue who can use it. So as long
//! as somebody waits there is nothing that he could have: no place that is free to him, and no idle connection that might
//! be closed for him. Who comes new therefore overtakes nobody.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use maniple::{
    cancel::CancelToken,
    panics, sim,
    sync::{Mutex, channel::RecvTimeoutError, oneshot},
    task,
    time::coarse_now,
};

use super::{
    connection::Connection,
    error::ClientError,
    phase::Phase,
    place::{Place, Places},
};

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
    /// How long one is used from when it was made.
    pub(super) life: Option<Duration>,
    /// Open ones, busy or idle.
    pub(super) open: Option<usize>,
    pub(super) open_per_host: Option<usize>,
    /// Calls that may wait for one.
    pub(super) waiting: usize,
}

/// What a call has been given.
#[derive(Debug)]
pub(super) enum Given {
    /// A connection that is there.
    Kept(Box<Connection>),
    /// Leave to make one.
    Leave(Option<Place>),
}

/// A call that waits.
#[derive(Debug)]
struct Waiting {
    host: Arc<str>,
    gives: oneshot::Sender<Given>,
}

#[derive(Debug)]
struct Shelf {
    limits: Limits,
    idle: Mutex<Idle>,
    /// Ends the keeper with the pool.
    is_over: CancelToken,
}

/// In boxes, since connections are moved often, and are many words.
type Hosts = HashMap<Arc<str>, Vec<Box<Connection>>, BuildHasherDefault<Fnv>>;

/// FNV-1a: there are few hosts, with short names, and no more of them than idle connections.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug, Default)]
struct Idle {
    /// Each host's from the one that has been idle for longest on. A host without any is forgotten by the keeper, since
    /// as a rule the one that was taken comes back.
    hosts: Hosts,
    /// How many there are of all hosts.
    total: usize,
    has_keeper: bool,
    /// Those that have a place, of each host and of all.
    open: HashMap<Arc<str>, usize>,
    open_total: usize,
    /// Who waits for a place or a connection, from the one who came first on.
    waiting: VecDeque<Waiting>,
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

    /// A connection that is still alive, the latest, if possible of those that this thread has used; or leave to make one,
    /// for which a call may have to wait. For what may be sent again, the kernel is not asked whether it is alive.
    pub(super) fn obtain(
        &self,
        host: &str,
        patience: Option<Duration>,
        may_repeat: bool,
    ) -> Result<Given, ClientError> {
        loop {
            let mut idle = self.shelf.idle.lock();
            if let Some(connection) = idle.take(host) {
                drop(idle);
                let is_alive = match may_repeat {
                    true => connection.is_quiet_as_known(),
                    false => connection.is_quiet(),
                };
                if is_alive && self.shelf.is_young(&connection) {
                    return Ok(Given::Kept(connection));
                }
                continue;
            }
            if !self.shelf.limits.bounds_open() {
                return Ok(Given::Leave(None));
            }
            let host: Arc<str> = host.into();
            if let Some((place, instead)) = self.shelf.room(&mut idle, &host) {
                drop(idle);
                drop(instead);
                return Ok(Given::Leave(Some(place)));
            }
            if idle.waiting.len() >= self.shelf.limits.waiting {
                idle.waiting.retain(|waiting| !waiting.gives.is_closed());
            }
            if idle.waiting.len() >= self.shelf.limits.waiting {
                let host = host.to_string();
                return Err(ClientError::Full { host });
            }
            let (gives, mut given) = oneshot::channel();
            let waiting = Waiting {
                host: host.clone(),
                gives,
            };
            idle.waiting.push_back(waiting);
            drop(idle);
            let given = given.recv_timeout(patience.unwrap_or(Duration::MAX));
            return given.map_err(|error| cut(&host, error));
        }
    }

    /// Whether a connection to that host could be made now, or there is an idle one of others to close for it.
    #[cfg(feature = "http2")]
    pub(super) fn has_room(&self, host: &str) -> bool {
        let limits = &self.shelf.limits;
        if !limits.bounds_open() {
            return true;
        }
        let idle = self.shelf.idle.lock();
        idle.host_has_room(host, limits) && (idle.has_room(limits) || idle.total > 0)
    }

    /// What closes idle connections, for who is told that they lead nowhere any more.
    pub(super) fn closer(&self) -> Closer {
        Closer {
            shelf: Arc::downgrade(&self.shelf),
            #[cfg(feature = "http2")]
            links: None,
        }
    }

    /// Keeps a connection whose last response was read to its end.
    pub(super) fn put(&self, mut connection: Box<Connection>) {
        let call = connection.call.take();
        let limits = self.shelf.limits;
        if limits
            .life
            .is_some_and(|life| connection.is_older_than(life))
        {
            return;
        }
        connection.kept = Some((coarse_now(), thread::current().id()));
        connection.rest();
        let mut idle = self.shelf.idle.lock();
        // Under the lock: it is closed here, or by who is told of it later.
        if call.as_ref().is_some_and(|call| call.has_left()) {
            drop(idle);
            return;
        }
        while let Some(first) = idle.first_for(&connection, &limits) {
            if idle.waiting[first].host != connection.host {
                // Its place is of use there, and is given back as it is closed.
                drop(idle);
                return;
            }
            let Some(waiting) = idle.waiting.remove(first) else {
                break;
            };
            match waiting.gives.send(Given::Kept(connection)) {
                // Who has gone meanwhile gives it back to us.
                Err(Given::Kept(back)) => connection = back,
                _ => return,
            }
        }
        if limits.keeps_none() {
            drop(idle);
            return;
        }
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

/// Closes idle connections of a pool, as long as there is that.
#[derive(Clone, Debug)]
pub(super) struct Closer {
    shelf: Weak<Shelf>,
    #[cfg(feature = "http2")]
    links: Option<super::http2::WeakLinks>,
}

impl Closer {
    /// The same for links, which requests under way keep.
    #[cfg(feature = "http2")]
    pub(super) fn and_of(self, links: &super::http2::Links) -> Self {
        Self {
            links: Some(links.weak()),
            ..self
        }
    }

    /// Closes those whose hosts are meant.
    pub(super) fn close(&self, is_meant: impl Fn(&str) -> bool) {
        #[cfg(feature = "http2")]
        if let Some(links) = &self.links {
            links.close(&is_meant);
        }
        let Some(shelf) = self.shelf.upgrade() else {
            return;
        };
        let mut idle = shelf.idle.lock();
        let meant = idle.hosts.extract_if(|host, _| is_meant(host));
        let gone: Vec<Vec<_>> = meant.map(|(_, kept)| kept).collect();
        idle.total -= gone.iter().map(Vec::len).sum::<usize>();
        drop(idle);
        // Not under the lock: places are given back, and closing takes its time.
        drop(gone);
    }
}

/// Why nothing was given.
#[cold]
fn cut(host: &str, error: RecvTimeoutError) -> ClientError {
    let host = host.to_owned();
    match error {
        RecvTimeoutError::Cancelled => ClientError::Cancelled {
            host,
            phase: Phase::Queue,
        },
        _ => ClientError::timeout(&host, Phase::Queue),
    }
}

impl Limits {
    /// How long what nobody uses is kept.
    #[cfg(feature = "http2")]
    pub(super) fn patience(&self) -> Duration {
        match self.keeps_none() {
            true => Duration::ZERO,
            false => self.age,
        }
    }

    fn keeps_none(&self) -> bool {
        self.total == 0 || self.per_host == 0 || self.age.is_zero()
    }

    fn bounds_open(&self) -> bool {
        self.open.is_some() || self.open_per_host.is_some()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shelf.is_over.cancel();
        self.shelf.clear();
    }
}

impl Idle {
    /// The latest of a host's, if possible of those that this thread has used.
    fn take(&mut self, host: &str) -> Option<Box<Connection>> {
        let own = thread::current().id();
        let kept = self.hosts.get_mut(host)?;
        let used_here =
            |connection: &Connection| connection.kept.is_some_and(|(_, thread)| thread == own);
        let near = kept.iter().rev().take(NEAR);
        let near = near.map(|kept| &**kept).position(used_here);
        let last = kept.len().checked_sub(1)?;
        let connection = kept.remove(last - near.unwrap_or(0));
        self.total -= 1;
        Some(connection)
    }

    fn enter(&mut self, host: &Arc<str>) {
        *self.open.entry(host.clone()).or_default() += 1;
        self.open_total += 1;
    }

    fn leave(&mut self, host: &Arc<str>) {
        if let Some(count) = self.open.get_mut(host) {
            *count -= 1;
            self.open_total -= 1;
            if *count == 0 {
                self.open.remove(host);
            }
        }
    }

    /// Who came first of those who could use a connection, or its place.
    fn first_for(&self, connection: &Connection, limits: &Limits) -> Option<usize> {
        let is_for = |waiting: &Waiting| {
            waiting.host == connection.host || self.host_has_room(&waiting.host, limits)
        };
        self.waiting.iter().position(is_for)
    }

    /// Whether that host's are fewer than there may be.
    fn host_has_room(&self, host: &str, limits: &Limits) -> bool {
        let open = self.open.get(host).copied().unwrap_or(0);
        limits.open_per_host.is_none_or(|most| open < most)
    }

    fn has_room(&self, limits: &Limits) -> bool {
        limits.open.is_none_or(|most| self.open_total < most)
    }

    /// Takes a connection in, and out those that have been idle for longest if they are too many now.
    fn put(&mut self, connection: Box<Connection>, limits: Limits) -> [Option<Box<Connection>>; 2] {
        let host = connection.host.clone();
        let kept = self.hosts.entry(host).or_default();
        let of_host = (kept.len() >= limits.per_host).then(|| kept.remove(0));
        kept.push(connection);
        self.total += 1 - usize::from(of_host.is_some());
        let of_all = (self.total > limits.total).then(|| self.take_oldest());
        [of_host, of_all.flatten()]
    }

    fn take_oldest(&mut self) -> Option<Box<Connection>> {
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

impl Places for Shelf {
    fn give_back(self: Arc<Self>, host: &Arc<str>) {
        let mut idle = self.idle.lock();
        idle.leave(host);
        self.serve(&mut idle);
    }
}

impl Shelf {
    /// A place for a connection to that host, and the idle one of another that is to be closed for it.
    fn room(
        self: &Arc<Self>,
        idle: &mut Idle,
        host: &Arc<str>,
    ) -> Option<(Place, Option<Box<Connection>>)> {
        if !idle.host_has_room(host, &self.limits) {
            return None;
        }
        let mut instead = None;
        if !idle.has_room(&self.limits) {
            let mut oldest = idle.take_oldest()?;
            if let Some(place) = oldest.place.take() {
                idle.leave(&place.forgo());
            }
            instead = Some(oldest);
        }
        idle.enter(host);
        Some((self.place(host.clone()), instead))
    }

    fn place(self: &Arc<Self>, host: Arc<str>) -> Place {
        let weak = Arc::downgrade(self);
        Place::of(weak, host)
    }

    /// Gives the places that are free to the first who can use them.
    fn serve(self: &Arc<Self>, idle: &mut Idle) {
        while idle.has_room(&self.limits) {
            let has_room = |waiting: &Waiting| idle.host_has_room(&waiting.host, &self.limits);
            let Some(first) = idle.waiting.iter().position(has_room) else {
                return;
            };
            let Some(Waiting { host, gives }) = idle.waiting.remove(first) else {
                return;
            };
            idle.enter(&host);
            let place = self.place(host.clone());
            // Who has gone meanwhile gives it back to us.
            if let Err(Given::Leave(Some(place))) = gives.send(Given::Leave(Some(place))) {
                idle.leave(&place.forgo());
            }
        }
    }

    fn is_of_use(&self, connection: &Connection) -> bool {
        self.is_young(connection) && connection.is_quiet()
    }

    fn is_young(&self, connection: &Connection) -> bool {
        let is_fresh = |since| coarse_now().saturating_duration_since(since) < self.limits.age;
        let is_worn = |life| connection.is_older_than(life);
        connection.kept.is_some_and(|(since, _)| is_fresh(since))
            && !self.limits.life.is_some_and(is_worn)
            && !sim::buggify!()
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
            let useless = |connection: &mut Box<Connection>| !self.is_of_use(connection);
            let gone: Vec<_> = kept.extract_if(.., useless).collect();
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
        let mut idle = self.idle.lock();
        let all = std::mem::take(&mut idle.hosts);
        (idle.total, idle.has_keeper) = (0, false);
        drop(idle);
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
