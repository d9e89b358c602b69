//! A reader-writer lock: one atomic to enter and one to leave when nobody waits, phases when somebody does.
//!
//! ```text
//!   state:  readers × READER + UPGRADABLE? + WRITER? + QUEUED?
//! ```
//!
//! While QUEUED is set, all come and leave under the queue's lock, except that
//! holders give up what they hold by one atomic before they take that lock. So under it the state only
//! becomes more permissive, and what may enter by a look at it may enter by adding to it.
//!
//! Waiters are let in by those who leave: a woken waiter holds the lock already. A writer that waits
//! keeps new readers out, and a writer that leaves lets all readers in that wait by then, before the
//! next writer. Thus a reader waits for one writer at most after those that read now have left, a writer
//! for the readers of one phase and the writers before it, and neither can starve. (Phase-fair locks:
//! Brandenburg and Anderson, 2009.)

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    loom::{AtomicUsize, Ordering},
    scheduler::now,
    wait::{self, Interruptible, Locked, Node, Reason, Waited, Waiters, ready},
    waiter::Claimed,
};

/// Many readers or one writer; see [`RawRwLock`] for how it behaves and [`lock_api::RwLock`] for its
/// methods.
///
/// # Examples
/// ```
/// use maniple::sync::{RwLock, RwLockReadGuard, RwLockUpgradableReadGuard};
/// let table = RwLock::new(vec![1, 2, 3]);
/// maniple::join!(table.write().push(4), table.write().push(5));
/// let first = RwLockReadGuard::map(table.read(), |table| &table[0]);
/// assert_eq!((*first, table.read().len()), (1, 5));
/// drop(first);
/// let seen = table.upgradable_read();
/// if !seen.contains(&6) {
///     RwLockUpgradableReadGuard::upgrade(seen).push(6);
/// }
/// ```
pub type RwLock<T> = lock_api::RwLock<RawRwLock, T>;

/// Ends its read access to an [`RwLock`] when dropped.
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;

/// Ends its write access to an [`RwLock`] when dropped.
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// Read access that can become write access without letting another writer in between.
pub type RwLockUpgradableReadGuard<'a, T> = lock_api::RwLockUpgradableReadGuard<'a, RawRwLock, T>;

/// Read access to a part of what an [`RwLock`] protects.
pub type MappedRwLockReadGuard<'a, T> = lock_api::MappedRwLockReadGuard<'a, RawRwLock, T>;

/// Write access to a part of what an [`RwLock`] protects.
pub type MappedRwLockWriteGuard<'a, T> = lock_api::MappedRwLockWriteGuard<'a, RawRwLock, T>;

/// The lock inside an [`RwLock`].
///
/// Locking suspends a coroutine and blocks a plain thread. As with [`Mutex`](super::Mutex), it is not a
/// cancellation point, deadlines do not cut it short, and panics do not poison it; the forms with a time
/// limit of their own, such as [`try_read_for`](lock_api::RwLock::try_read_for), keep that limit alone.
///
/// Neither readers nor writers starve: a writer that waits keeps new readers out, and one that leaves
/// lets in all readers that wait. Therefore **not reentrant, for readers neither**: a second `read` in a
/// coroutine that reads already waits for ever if a writer came in between. [`ReadRecursive`] has a read that
/// does not.
///
/// [`ReadRecursive`]: super::ReadRecursive
///
/// One upgradable reader at a time goes together with any number of plain readers. While it waits to
/// become the writer it goes before all others, and new readers wait.
pub struct RawRwLock {
    state: AtomicUsize,
    waiters: Waiters<State, Access, 3>,
}

const WRITER: usize = 1;
pub(super) const UPGRADABLE: usize = 2;
/// Somebody is in the queue.
const QUEUED: usize = 4;
/// One reader; 2^61 of them cannot come together.
pub(super) const READER: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Shared,
    /// Shared, past all who wait.
    Recursive,
    Upgradable,
    Exclusive,
    /// Exclusive, for the one that has it upgradable.
    Upgraded,
}

impl Access {
    /// Whether it goes together with what `state` says is held.
    #[inline]
    fn fits(self, state: usize) -> bool {
        match self {
            Access::Shared | Access::Recursive => state & WRITER == 0,
            Access::Upgradable => state & (WRITER | UPGRADABLE) == 0,
            Access::Exclusive => state & !QUEUED == 0,
            Access::Upgraded => state & !QUEUED == UPGRADABLE,
        }
    }

    /// What it adds to the state.
    #[inline]
    fn added(self) -> usize {
        match self {
            Access::Shared | Access::Recursive => READER,
            Access::Upgradable => UPGRADABLE,
            Access::Exclusive => WRITER,
            Access::Upgraded => WRITER.wrapping_sub(UPGRADABLE),
        }
    }

    fn is_exclusive(self) -> bool {
        matches!(self, Access::Exclusive | Access::Upgraded)
    }

    fn is_shared(self) -> bool {
        matches!(self, Access::Shared | Access::Recursive)
    }
}

struct State {
    waiting_readers: usize,
    /// How many of `WRITERS` and `UPGRADER` want it exclusively.
    waiting_exclusive: usize,
    /// Readers that go before the next writer, since they waited while one left.
    turn: usize,
}

/// Each waits with the access that it asks for.
type Queue<'a> = Locked<'a, State, Access, 3>;

const READERS: usize = 0;
/// Who wants it exclusively or upgradable, in the order of coming.
const WRITERS: usize = 1;
/// The one that holds it upgradable and waits for the readers to leave.
const UPGRADER: usize = 2;

impl State {
    const fn new() -> Self {
        Self {
            waiting_readers: 0,
            waiting_exclusive: 0,
            turn: 0,
        }
    }

    /// Changes the counter that `access` is in.
    fn count(&mut self, access: Access, change: isize) {
        if access.is_shared() {
            self.waiting_readers = self.waiting_readers.wrapping_add_signed(change);
        } else if access.is_exclusive() {
            self.waiting_exclusive = self.waiting_exclusive.wrapping_add_signed(change);
        }
    }
}

impl Queue<'_> {
    /// Whether one that comes now may enter past those that wait.
    fn admits(&self, access: Access, state: usize) -> bool {
        access.fits(state)
            && match access {
                Access::Shared => self.waiting_exclusive == 0,
                Access::Upgradable => self.is_empty(WRITERS),
                Access::Exclusive => self.is_empty(WRITERS) && self.is_empty(READERS),
                Access::Recursive | Access::Upgraded => true,
            }
    }

    /// Wins the next waiter that may enter, and tells what it asked for.
    fn next(&mut self, held: usize) -> Option<(Claimed, Access)> {
        let fits = |_: &State, access: &Access| access.fits(held);
        let mut access = Access::Upgraded;
        let mut claimed = self.notify_one_if(UPGRADER, fits, |_, _| {});
        if claimed.is_none() && (self.turn > 0 || self.waiting_exclusive == 0) {
            access = Access::Shared;
            claimed = self.notify_one_if(READERS, fits, |_, _| {});
            self.turn = match claimed {
                Some(_) => self.turn.saturating_sub(1),
                None => 0,
            };
        }
        if claimed.is_none() {
            claimed = self.notify_one_if(WRITERS, fits, |_, wanted| access = *wanted);
        }
        let claimed = claimed?;
        self.count(access, -1);
        Some((claimed, access))
    }

    fn nobody_waits(&self) -> bool {
        [READERS, WRITERS, UPGRADER]
            .iter()
            .all(|&list| self.is_empty(list))
    }
}

impl Access {
    /// The list of those who wait for it.
    fn list(self) -> usize {
        match self {
            Access::Shared | Access::Recursive => READERS,
            Access::Upgradable | Access::Exclusive => WRITERS,
            Access::Upgraded => UPGRADER,
        }
    }
}

impl RawRwLock {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
            waiters: Waiters::new(State::new()),
        }
    }

    /// What `INIT` is elsewhere.
    #[cfg(loom)]
    pub(super) fn for_a_model() -> Self {
        Self {
            state: AtomicUsize::new(0),
            waiters: Waiters::new(State::new()),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.state.load(Ordering::Relaxed) & !QUEUED != 0
    }

    pub(super) fn is_held_exclusively(&self) -> bool {
        self.state.load(Ordering::Relaxed) & WRITER != 0
    }

    /// Enters if nobody waits and nobody is in the way.
    #[inline]
    fn enter(&self, access: Access) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & QUEUED == 0 && access.fits(state) {
            // Acquire pairs with the release of those who left, all of whose changes are exchanges.
            match self.state.compare_exchange_weak(
                state,
                state.wrapping_add(access.added()),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// As `enter`, also when others wait whom it does not overtake.
    #[inline]
    pub(super) fn try_enter(&self, access: Access) -> bool {
        if self.enter(access) || self.enter_past_queue(access) {
            return true;
        }
        // A loop that tries again must not keep the holders from their turns.
        wait::spend();
        false
    }

    fn enter_past_queue(&self, access: Access) -> bool {
        if self.state.load(Ordering::Relaxed) & QUEUED == 0 {
            return false;
        }
        let queue = self.waiters.lock();
        let entered = self.enter_past(&queue, access);
        self.settle(&queue);
        entered
    }

    /// Enters if nobody in the queue goes before; QUEUED is set in any case.
    fn enter_past(&self, queue: &Queue<'_>, access: Access) -> bool {
        let state = self.state.fetch_or(QUEUED, Ordering::Relaxed);
        let admitted = queue.admits(access, state);
        if admitted {
            self.state.fetch_add(access.added(), Ordering::Acquire);
        }
        admitted
    }

    /// Unsets QUEUED once nobody waits.
    fn settle(&self, queue: &Queue<'_>) {
        if queue.nobody_waits() {
            self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn lock(&self, access: Access) {
        wait::point_of_tests();
        if !self.enter(access) {
            self.wait(access, None);
        }
        wait::point_of_tests();
    }

    #[inline]
    pub(super) fn lock_for(&self, access: Access, timeout: Duration) -> bool {
        self.enter(access) || self.wait(access, now().checked_add(timeout))
    }

    #[inline]
    pub(super) fn lock_until(&self, access: Access, deadline: Instant) -> bool {
        self.enter(access) || self.wait(access, Some(deadline))
    }

    /// Enters, if need be by way of the queue; false if the deadline passed first.
    #[cold]
    fn wait(&self, access: Access, deadline: Option<Instant>) -> bool {
        let mut queue = self.waiters.lock();
        // From here on every leaver comes by the queue.
        if self.enter_past(&queue, access) {
            self.settle(&queue);
            return true;
        }
        queue.count(access, 1);
        let mut node = Node::new(access);
        let left = |mut queue: Queue<'_>, _| {
            queue.count(access, -1);
            drop(queue);
            // Others may have waited only because this one did.
            self.let_in();
        };
        let waited = queue.wait(
            access.list(),
            &mut node,
            Reason::Lock,
            deadline,
            Interruptible::No,
            left,
        );
        waited != Waited::TimedOut
    }

    /// Gives back what the exclusive holder has, except for `kept`.
    #[inline]
    pub(super) fn leave_exclusive(&self, kept: usize) {
        // Release pairs with the acquire in `enter`.
        if self
            .state
            .compare_exchange(WRITER, kept, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.leave_exclusive_slow(kept);
        }
    }

    #[cold]
    fn leave_exclusive_slow(&self, kept: usize) {
        {
            let mut queue = self.waiters.lock();
            queue.turn = queue.waiting_readers;
            self.state
                .fetch_add(kept.wrapping_sub(WRITER), Ordering::Release);
        }
        self.let_in();
    }

    /// Gives back a hold that is not exclusive, except for `kept`.
    #[inline]
    pub(super) fn leave(&self, held: usize, kept: usize) {
        // Release pairs with the acquire in `enter`.
        let before = self
            .state
            .fetch_add(kept.wrapping_sub(held), Ordering::Release);
        // A reader that is not the last makes room for nobody.
        if before & QUEUED != 0 && (held != READER || before < 2 * READER) {
            self.let_in();
        }
    }

    /// Lets in those that may enter, one after the other, so that the queue is never locked for long.
    #[cold]
    fn let_in(&self) {
        loop {
            let mut queue = self.waiters.lock();
            let next = queue.next(self.state.load(Ordering::Relaxed));
            if let Some((_, access)) = &next {
                self.state.fetch_add(access.added(), Ordering::Acquire);
            }
            self.settle(&queue);
            drop(queue);
            match next {
                Some((claimed, _)) => ready(claimed),
                None => return,
            }
        }
    }
}

impl fmt::Debug for RawRwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRwLock")
            .field("locked", &self.is_held())
            .field("locked_exclusive", &self.is_held_exclusively())
            .finish()
    }
}

#[cfg(all(test, loom))]
mod loom_models;
