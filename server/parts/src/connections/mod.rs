//! A pool of connections: to databases, to services.
//!
//! Who asks for one waits in turn, as a coroutine or a plain thread, up to a deadline. A new connection is made by a
//! coroutine of its own: the deadline of who asked does not cut it in half, and if nobody wants it any more, it is the
//! pool's. What comes back is kept for the next, unless it is old, broken, or a wait of its borrower was cut short: the
//! answer to its last question may be under way. What has been kept for too long is dropped by a keeper, a coroutine that
//! there is only while something is kept.
//!
//! With the feature `r2d2`, managers that are there for the crate of that name serve here: `R2d2`.

mod counts;
mod error;
mod keeper;
#[cfg(feature = "r2d2")]
mod managers;

use std::{
    collections::VecDeque,
    error::Error,
    fmt, io,
    ops::{Deref, DerefMut},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use maniple::{
    cancel::{self, CutWatch},
    panics, sim,
    sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc::RecvError, oneshot},
    time,
};

use counts::{Counts, Waits};
pub use counts::{Stats, all};
pub use error::GetError;
#[cfg(feature = "r2d2")]
pub use managers::R2d2;

/// How connections are made and looked at.
pub trait Manage: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;
    /// Why a connection could not be made, or is of no use.
    type Error: Into<Box<dyn Error + Send + Sync>>;

    /// Makes a connection.
    ///
    /// # Errors
    /// If it cannot be made.
    fn connect(&self) -> Result<Self::Connection, Self::Error>;

    /// Asks the other side whether it is there. Called before a connection is lent that was not asked for a while.
    ///
    /// # Errors
    /// If the connection is of no use: it is dropped.
    fn check(&self, connection: &mut Self::Connection) -> Result<(), Self::Error>;

    /// Whether a connection is known to be of no use. Called when it is given back; it must not wait.
    fn is_broken(&self, connection: &mut Self::Connection) -> bool;
}

/// A pool of connections. Clones are the same pool.
///
/// What is free and [too old](Builder::max_age), or has been free [for too long](Builder::max_idle), is dropped by a coroutine,
/// `maniple-pool`, that there is only while something is free. It belongs to the runtime in which the first came back; if
/// that ends, the next connection that comes back has another begin.
///
/// # Examples
/// ```
/// use maniple::net::{TcpListener, TcpStream};
/// use maniple_parts::connections::{Connections, Manage};
/// use std::{io, net::SocketAddr};
///
/// struct To(SocketAddr);
/// impl Manage for To {
///     type Connection = TcpStream;
///     type Error = io::Error;
///     fn connect(&self) -> io::Result<TcpStream> {
///         TcpStream::connect(self.0)
///     }
///     fn check(&self, _: &mut TcpStream) -> io::Result<()> {
///         Ok(())
///     }
///     fn is_broken(&self, _: &mut TcpStream) -> bool {
///         false
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let pool = Connections::builder(To(listener.local_addr()?)).max(4).build()?;
///     let first = pool.get()?.local_addr()?;
///     // It was given back, and is the one that comes again.
///     assert_eq!(pool.get()?.local_addr()?, first);
///     assert_eq!(pool.stats().connects, 1);
///     Ok(())
/// })
/// # }
/// ```
pub struct Connections<M: Manage> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Manage> {
    manage: M,
    settings: Settings,
    /// One for each connection that is lent, or being made.
    permits: Arc<Semaphore>,
    free: Mutex<Free<M::Connection>>,
    /// For the keeper: it has something to look at.
    news: Arc<Notify>,
    counts: Arc<Counts>,
}

struct Free<C> {
    /// The one that came back last is the last.
    idle: VecDeque<Idle<C>>,
    keeper: Keeping,
}

/// Whether there is a keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Nobody,
    /// One that looks again at that time, or only when it is told to.
    Until(Option<Instant>),
}

struct Idle<C> {
    connection: C,
    made: Instant,
    checked: Instant,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Settings {
    max: usize,
    patience: Option<Duration>,
    connect_timeout: Duration,
    max_age: Duration,
    max_idle: Duration,
    check_after: Duration,
    check_timeout: Duration,
}

impl<M: Manage> Connections<M> {
    /// A builder of a pool whose connections `manage` makes.
    pub fn builder(manage: M) -> Builder<M> {
        Builder {
            manage,
            name: None,
            settings: Settings {
                max: DEFAULT_MAX,
                patience: Some(DEFAULT_PATIENCE),
                connect_timeout: DEFAULT_CONNECT_TIMEOUT,
                max_age: DEFAULT_MAX_AGE,
                max_idle: DEFAULT_MAX_IDLE,
                check_after: DEFAULT_CHECK_AFTER,
                check_timeout: DEFAULT_CHECK_TIMEOUT,
            },
        }
    }

    /// Waits for a connection, in turn: one that is free, or a new one if there may be more.
    ///
    /// One that was made, or asked last, longer than [`Builder::check_after`] ago is asked first whether it is still there.
    ///
    /// # Errors
    /// If there is none within [`Builder::patience`] or the scope's deadline, the scope is cancelled, or a new one could
    /// not be made.
    pub fn get(&self) -> Result<Lent<M>, GetError> {
        let counts = &self.shared.counts;
        let got = {
            let _waits = Waits::begin(counts);
            self.get_in_turn()
        };
        match got {
            Ok(_) => _ = counts.lent.fetch_add(1, Ordering::Relaxed),
            Err(GetError::Elapsed) => _ = counts.late.fetch_add(1, Ordering::Relaxed),
            Err(_) => {}
        }
        got
    }

    fn get_in_turn(&self) -> Result<Lent<M>, GetError> {
        let shared = &self.shared;
        let until = shared
            .settings
            .patience
            .and_then(|patience| time::now().checked_add(patience));
        let mut permit = {
            let permits = shared.permits.clone();
            within(until, || permits.acquire_owned())??
        };
        loop {
            let Some(idle) = shared.take_idle() else {
                return self.connect(permit, until);
            };
            let now = time::now();
            let unasked_for = now.saturating_duration_since(idle.checked);
            let mut lent = Lent::of(shared, idle.connection, idle.made, permit);
            lent.checked = idle.checked;
            // Asked though there is no need: it may be gone all the same.
            if unasked_for < shared.settings.check_after && !sim::buggify!() {
                return Ok(lent);
            }
            lent.checked = now;
            let limit = now.checked_add(shared.settings.check_timeout);
            let limit = until.into_iter().chain(limit).min();
            let checked = within(limit, || shared.manage.check(&mut lent));
            // What was cut says nothing of the other side, and the connection is dropped with its answer to come.
            if let Err(interrupt) = cancel::check() {
                lent.discard();
                return Err(interrupt.into());
            }
            match checked {
                Ok(Ok(())) if !lent.cuts.has_seen_one() => return Ok(lent),
                _ if until.is_some_and(|until| until <= time::now()) => {
                    lent.discard();
                    return Err(GetError::Elapsed);
                }
                _ => permit = lent.exchange(),
            }
        }
    }

    /// Has a coroutine of its own connect, whose work is not lost if the caller goes.
    fn connect(
        &self,
        permit: OwnedSemaphorePermit,
        until: Option<Instant>,
    ) -> Result<Lent<M>, GetError> {
        let (tell, told) = oneshot::channel();
        let shared = self.shared.clone();
        maniple::task::Builder::new()
            .name("maniple-connect")
            .spawn(move || {
                let limit = shared.settings.connect_timeout;
                let made = maniple::timeout(limit, || shared.manage.connect().map_err(Into::into));
                let made = made.unwrap_or_else(|elapsed| Err(elapsed.into()));
                let count = match made {
                    Ok(_) => &shared.counts.connects,
                    Err(_) => &shared.counts.failures,
                };
                count.fetch_add(1, Ordering::Relaxed);
                let made = made.map(|connection| {
                    shared.counts.open.fetch_add(1, Ordering::Relaxed);
                    Lent::of(&shared, connection, time::now(), permit)
                });
                // If nobody is there to take it, it comes back to the pool.
                drop(tell.send(made));
            })
            .map_err(|error| GetError::Connect(error.into()))?;
        match within(until, || told.recv())? {
            Ok(made) => {
                let mut lent = made.map_err(GetError::Connect)?;
                lent.cuts = CutWatch::start();
                Ok(lent)
            }
            Err(RecvError::Cancelled) => Err(GetError::Cancelled),
            Err(RecvError::Elapsed) => Err(GetError::Elapsed),
            Err(_) => Err(GetError::Connect("connecting panicked".into())),
        }
    }

    /// Its numbers.
    pub fn stats(&self) -> Stats {
        self.shared.counts.stats()
    }
}

/// Runs `wait` until then, at most.
fn within<T>(until: Option<Instant>, wait: impl FnOnce() -> T) -> Result<T, GetError> {
    match until {
        None => Ok(wait()),
        Some(until) => maniple::deadline(until, wait).map_err(|_elapsed| GetError::Elapsed),
    }
}

impl<M: Manage> Shared<M> {
    /// The one that was used last, of those that are young enough.
    fn take_idle(&self) -> Option<Idle<M::Connection>> {
        let (taken, old) = {
            let idle = &mut self.free.lock().idle;
            let now = time::now();
            let mut old = Vec::new();
            while idle
                .front()
                .is_some_and(|it| self.is_old(it.made, it.since, now))
            {
                old.extend(idle.pop_front());
            }
            let mut taken = idle.pop_back();
            while taken
                .as_ref()
                .is_some_and(|it| self.is_old(it.made, it.since, now))
            {
                old.extend(taken);
                taken = idle.pop_back();
            }
            self.counts.idle.store(idle.len(), Ordering::Relaxed);
            (taken, old)
        };
        self.drop_old(old);
        taken
    }

    /// Without the lock: to say goodbye may take a while. A panic there is nobody's who asks for a connection.
    fn drop_old(&self, old: Vec<Idle<M::Connection>>) {
        for idle in old {
            self.count_out();
            panics::catch(|| drop(idle));
        }
    }

    fn is_old(&self, made: Instant, since: Instant, now: Instant) -> bool {
        self.ends(made, since).is_some_and(|end| end <= now)
    }

    /// When a connection is too old, or has lain idle for too long; `None` for never.
    fn ends(&self, made: Instant, since: Instant) -> Option<Instant> {
        let too_old = made.checked_add(self.settings.max_age);
        let idle_for_too_long = since.checked_add(self.settings.max_idle);
        too_old.into_iter().chain(idle_for_too_long).min()
    }

    fn count_out(&self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
        self.counts.discarded.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection that is lent, and is given back when this is dropped.
///
/// It is not kept if [`Manage::is_broken`] says so, if the borrower panics, is cancelled or past its deadline, or if
/// [a wait of its own was cut](cancel::CutWatch) while it had the connection: what it asked last may be answered yet, to the
/// next one. Which wait that was the pool cannot tell, so the connection goes even if it was for something else.
///
/// The borrower is the coroutine, or plain thread, that gives the connection back. Where another had used it, and was cut,
/// that one's [`Lent::discard`] says so.
pub struct Lent<M: Manage> {
    shared: Arc<Shared<M>>,
    connection: Option<M::Connection>,
    made: Instant,
    /// When the other side was there for certain.
    checked: Instant,
    cuts: CutWatch,
    permit: Option<OwnedSemaphorePermit>,
}

impl<M: Manage> Lent<M> {
    fn of(
        shared: &Arc<Shared<M>>,
        connection: M::Connection,
        made: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            shared: shared.clone(),
            connection: Some(connection),
            made,
            checked: made,
            cuts: CutWatch::start(),
            permit: Some(permit),
        }
    }

    /// Drops the connection instead of giving it back.
    pub fn discard(mut self) {
        self.drop_connection();
    }

    /// Drops the connection, and keeps the right to another.
    fn exchange(mut self) -> OwnedSemaphorePermit {
        self.drop_connection();
        self.permit.take().expect(LENT)
    }

    fn drop_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.count_out();
            drop(connection);
        }
    }
}

impl<M: Manage> Drop for Lent<M> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let is_cut = std::thread::panicking()
            || cancel::is_cancelled()
            || self.cuts.has_seen_one()
            || time::remaining().is_some_and(|left| left.is_zero());
        #[cfg(feature = "fault-injection")]
        let is_cut = is_cut && !sim::is_planted(sim::Planted::KeepsWhatWasCut);
        let shared = &self.shared;
        let now = time::now();
        if is_cut
            || shared.is_old(self.made, now, now)
            || shared.manage.is_broken(&mut connection)
            // As if it had been: nobody may count on it.
            || sim::buggify!()
        {
            shared.count_out();
            drop(connection);
            return;
        }
        // Before the permit, whose next owner looks here.
        let (made, checked) = (self.made, self.checked);
        let mut free = shared.free.lock();
        free.idle.push_back(Idle {
            connection,
            made,
            checked,
            since: now,
        });
        let count = free.idle.len();
        shared.counts.idle.store(count, Ordering::Relaxed);
        let keeping = free.keeper;
        if keeping == Keeping::Nobody {
            free.keeper = Keeping::Until(None);
        }
        drop(free);
        shared.keep(keeping, shared.ends(made, now));
    }
}

const LENT: &str = "it is lent until it is dropped";

impl<M: Manage> Deref for Lent<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        self.connection.as_ref().expect(LENT)
    }
}

impl<M: Manage> DerefMut for Lent<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        self.connection.as_mut().expect(LENT)
    }
}

impl<M: Manage> Clone for Connections<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<M: Manage> fmt::Debug for Connections<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<M: Manage> fmt::Debug for Lent<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

/// Connections of a pool, unless said otherwise.
pub const DEFAULT_MAX: usize = 16;
/// How long one waits for a connection, unless said otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(5);
/// How long connecting may take, unless said otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How old a connection may become, unless said otherwise.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// How long a connection may lie idle, unless said otherwise.
pub const DEFAULT_MAX_IDLE: Duration = Duration::from_secs(5 * 60);
/// After how long a connection is asked again whether it is there still, unless said otherwise.
pub const DEFAULT_CHECK_AFTER: Duration = Duration::from_secs(1);
/// How long the other side may take to say so, unless said otherwise.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Configures a [`Connections`].
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<M> {
    manage: M,
    name: Option<String>,
    settings: Settings,
}

impl<M: Manage> Builder<M> {
    /// Has [`all`] and dumps of [`maniple::inspect`] tell of it by this name. `Metrics` of the crate `maniple-server` tells of
    /// all that have one. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Connections that there are at most. Default: [`DEFAULT_MAX`].
    pub fn max(mut self, connections: usize) -> Self {
        self.settings.max = connections;
        self
    }

    /// How long one waits for a connection, with the time that it takes to make one; `None` for as long as the scope's
    /// deadline lets one. Default: [`DEFAULT_PATIENCE`].
    pub fn patience(mut self, patience: impl Into<Option<Duration>>) -> Self {
        self.settings.patience = patience.into();
        self
    }

    /// How long connecting may take. Default: [`DEFAULT_CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// How old a connection may become. One that is free is dropped then, one that is lent when it comes back. Default:
    /// [`DEFAULT_MAX_AGE`].
    pub fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = age;
        self
    }

    /// How long a connection may lie idle; then it is dropped. Default: [`DEFAULT_MAX_IDLE`].
    pub fn max_idle(mut self, idle: Duration) -> Self {
        self.settings.max_idle = idle;
        self
    }

    /// How long after it was made, or asked last, a connection is asked whether it is there still before it is lent; zero for
    /// always. So long a server that was restarted may fail those who borrow connections to what it was, if
    /// [`Manage::is_broken`] does not tell. Default: [`DEFAULT_CHECK_AFTER`].
    pub fn check_after(mut self, time: Duration) -> Self {
        self.settings.check_after = time;
        self
    }

    /// How long the other side may take to say that it is there; then the connection is dropped, and another is looked for,
    /// within the caller's patience. Default: [`DEFAULT_CHECK_TIMEOUT`].
    pub fn check_timeout(mut self, limit: Duration) -> Self {
        self.settings.check_timeout = limit;
        self
    }

    /// Makes the pool, as yet without connections.
    ///
    /// # Errors
    /// If `max` is 0 (`InvalidInput`).
    pub fn build(self) -> io::Result<Connections<M>> {
        if self.settings.max == 0 {
            let told = "a pool of no connections";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
        }
        let Self {
            manage,
            name,
            settings,
        } = self;
        Ok(Connections {
            shared: Arc::new(Shared {
                manage,
                permits: Arc::new(Semaphore::new(settings.max)),
                free: Mutex::new(Free {
                    idle: VecDeque::new(),
                    keeper: Keeping::Nobody,
                }),
                news: Arc::default(),
                counts: Counts::new(name),
                settings,
            }),
        })
    }
}

impl<M> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
