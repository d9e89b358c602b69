//! A semaphore: so many permits, first come first served.
//!
//! A request that does not fit waits, and later requests queue behind it even if theirs would
//! fit: a large request is not starved by small ones. Returned permits accumulate until they satisfy the
//! first in the queue. A waiter that gives up therefore holds none; it only has the queue looked at again.
//!
//! # How it works
//!
//! ```text
//!   the word:  │ available permits                     │ GUARDED │
//! ```
//!
//! Taking and giving back are a compare-exchange of the word each, while nobody waits. GUARDED says that
//! somebody does, or that the semaphore is closed; from then on the word changes under the lock alone.
//! An unlocker leaves it guarded exactly if the queue is not empty or the semaphore closed.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(feature = "fault-injection")]
use crate::sys::planted::{Planted, is_planted};
use crate::{
    error::Interrupt,
    loom::{AtomicUsize, Ordering},
    scheduler::now,
    wait::{self, Interruptible, Locked, Node, QUEUE, Reason, Waited, Waiters, ready},
    waiter::Claimed,
};

/// Limits how many are doing something at a time.
///
/// Fair: permits go to those who asked for them, in the order in which they asked. A semaphore can be
/// closed, which ends all waiting for it.
///
/// # Examples
/// ```
/// use maniple::sync::Semaphore;
/// let connections = Semaphore::new(2);
/// let query = || {
///     let _permit = connections.acquire().unwrap();
///     maniple::yield_now();
///     assert!(connections.available() < 2);
/// };
/// maniple::join!(query(), query(), query());
/// assert_eq!(connections.available(), 2);
/// ```
pub struct Semaphore {
    word: AtomicUsize,
    waiters: Waiters<State, Request>,
}

struct State {
    closed: bool,
}

type Queue<'a> = Locked<'a, State, Request, 1>;

/// In the word: somebody is in the queue, or the semaphore is closed.
const GUARDED: usize = 1;
/// In the word: one permit.
const PERMIT: usize = 2;

/// What one in the queue waits for.
struct Request {
    wanted: usize,
    /// Set with the notification; one without it means that the semaphore was closed.
    granted: bool,
}

impl Semaphore {
    /// A semaphore with so many permits.
    #[cfg(not(loom))]
    pub const fn new(permits: usize) -> Self {
        assert!(
            permits <= Self::MAX_PERMITS,
            "a semaphore with more than MAX_PERMITS permits"
        );
        Self {
            word: AtomicUsize::new(permits * PERMIT),
            waiters: Waiters::new(State { closed: false }),
        }
    }

    /// A semaphore with so many permits.
    #[cfg(loom)]
    pub fn new(permits: usize) -> Self {
        assert!(
            permits <= Self::MAX_PERMITS,
            "a semaphore with more than MAX_PERMITS permits"
        );
        Self {
            word: AtomicUsize::new(permits * PERMIT),
            waiters: Waiters::new(State { closed: false }),
        }
    }

    /// Takes one permit, waiting for it. Dropping the permit gives it back.
    ///
    /// # Errors
    /// If the semaphore is closed, the scope is cancelled or its deadline passed first.
    #[inline]
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Takes so many permits together, waiting until all are there.
    ///
    /// More than there will ever be are waited for until the call is cut short or the semaphore closed.
    ///
    /// # Errors
    /// If the semaphore is closed, the scope is cancelled or its deadline passed first.
    pub fn acquire_many(&self, permits: usize) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.take(permits, None)?;
        Ok(SemaphorePermit::new(self, permits))
    }

    /// Acquires a permit like [`Semaphore::acquire`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If the semaphore is closed, the scope is cancelled or its deadline passed first; [`AcquireError::Elapsed`] if
    /// there was no permit in time.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.take(1, now().checked_add(timeout))?;
        Ok(SemaphorePermit::new(self, 1))
    }

    /// Takes one permit without waiting.
    ///
    /// # Errors
    /// If there is none, others wait already, or the semaphore is closed.
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes so many permits together without waiting.
    ///
    /// # Errors
    /// If there is none, others wait already, or the semaphore is closed.
    pub fn try_acquire_many(&self, permits: usize) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_take(permits)?;
        Ok(SemaphorePermit::new(self, permits))
    }

    /// Acquires a permit like [`Semaphore::acquire`]; it holds the semaphore and may go anywhere.
    ///
    /// # Errors
    /// If the semaphore is closed, the scope is cancelled or its deadline passed first.
    pub fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_many_owned(1)
    }

    /// Acquires permits like [`Semaphore::acquire_many`]; they hold the semaphore and may go anywhere.
    ///
    /// # Errors
    /// If the semaphore is closed, the scope is cancelled or its deadline passed first.
    pub fn acquire_many_owned(
        self: Arc<Self>,
        permits: usize,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.take(permits, None)?;
        Ok(OwnedSemaphorePermit::new(self, permits))
    }

    /// Acquires a permit without waiting, like [`Semaphore::try_acquire`]; it holds the semaphore and may go anywhere.
    ///
    /// # Errors
    /// If there is none, others wait already, or the semaphore is closed.
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// Acquires permits without waiting, like [`Semaphore::try_acquire_many`]; they hold the semaphore and may go
    /// anywhere.
    ///
    /// # Errors
    /// If there is none, others wait already, or the semaphore is closed.
    pub fn try_acquire_many_owned(
        self: Arc<Self>,
        permits: usize,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_take(permits)?;
        Ok(OwnedSemaphorePermit::new(self, permits))
    }

    /// Adds permits to those that exist, and lets waiters have them.
    ///
    /// # Panics
    /// If more would be available than [`Semaphore::MAX_PERMITS`].
    pub fn add_permits(&self, permits: usize) {
        let fits = self.put(|available| {
            let sum = available.checked_add(permits);
            sum.filter(|&sum| sum <= Self::MAX_PERMITS)
        });
        assert!(fits, "a semaphore with more than MAX_PERMITS permits");
    }
}

impl Semaphore {
    /// How many permits could be taken if nobody waited for them.
    pub fn available(&self) -> usize {
        self.word.load(Ordering::Acquire) / PERMIT
    }

    /// Ends all waiting, now and from now on, with `Closed`. Permits that are held stay valid.
    pub fn close(&self) {
        let mut queue = self.waiters.lock();
        let available = self.guard();
        queue.closed = true;
        self.serve(queue, available);
    }

    /// Whether [`Semaphore::close`] has been called.
    pub fn is_closed(&self) -> bool {
        self.waiters.lock().closed
    }

    #[inline]
    fn take(&self, wanted: usize, deadline: Option<Instant>) -> Result<(), AcquireError> {
        wait::check()?;
        if self.change_unguarded(|available| available.checked_sub(wanted)) == Some(true) {
            wait::spend();
            return Ok(());
        }
        self.take_in_turn(wanted, deadline)
    }

    /// Apart, so that the way without a wait needs no room for one.
    #[inline(never)]
    fn take_in_turn(&self, wanted: usize, deadline: Option<Instant>) -> Result<(), AcquireError> {
        loop {
            let queue = self.waiters.lock();
            match self.try_take_or_guard(&queue, wanted) {
                Ok(()) => {
                    drop(queue);
                    wait::spend();
                    return Ok(());
                }
                Err(TryAcquireError::Closed) => return Err(AcquireError::Closed),
                // And leaves it guarded.
                Err(TryAcquireError::NoPermits) => {}
            }
            let mut node = Node::new(Request {
                wanted,
                granted: false,
            });
            let waited = queue.wait(
                QUEUE,
                &mut node,
                Reason::Semaphore,
                deadline,
                Interruptible::Yes,
                |queue, _| {
                    #[cfg(feature = "fault-injection")]
                    if is_planted(Planted::LeavesWithoutAWord) {
                        return;
                    }
                    // What did not suffice for this request may suffice for the next.
                    let available = self.guard();
                    self.serve(queue, available);
                },
            );
            match waited {
                Waited::Notified if node.payload().granted => return Ok(()),
                Waited::AtOnce | Waited::Notified => return Err(AcquireError::Closed),
                Waited::TimedOut => return Err(AcquireError::Elapsed),
                Waited::Interrupted(interrupt) => return Err(interrupt.into()),
                Waited::Again => {}
            }
        }
    }

    /// Under the lock. If there are no permits, the word is guarded and the caller must queue.
    fn try_take_or_guard(&self, queue: &Queue<'_>, wanted: usize) -> Result<(), TryAcquireError> {
        if queue.closed {
            return Err(TryAcquireError::Closed);
        }
        let available = self.guard();
        // Waiters go first.
        if wanted > available || (wanted > 0 && !queue.is_empty(QUEUE)) {
            return Err(TryAcquireError::NoPermits);
        }
        self.settle(queue, available - wanted);
        Ok(())
    }

    fn try_take(&self, wanted: usize) -> Result<(), TryAcquireError> {
        let tried = self.try_take_at_once(wanted);
        if tried.is_err() {
            // A loop that tries again must not keep the holders from their turns.
            wait::spend();
        }
        tried
    }

    fn try_take_at_once(&self, wanted: usize) -> Result<(), TryAcquireError> {
        loop {
            match self.change_unguarded(|available| available.checked_sub(wanted)) {
                Some(true) => return Ok(()),
                Some(false) => return Err(TryAcquireError::NoPermits),
                None => {}
            }
            let queue = self.waiters.lock();
            if queue.closed {
                return Err(TryAcquireError::Closed);
            }
            if !queue.is_empty(QUEUE) {
                return match wanted {
                    0 => Ok(()),
                    _ => Err(TryAcquireError::NoPermits),
                };
            }
            // Meanwhile the word is not guarded any more.
        }
    }

    #[inline]
    fn give_back(&self, permits: usize) {
        // A permit that was forgotten: nobody's turn comes by it.
        if permits == 0 {
            return;
        }
        self.put(|available| Some(available.saturating_add(permits).min(Self::MAX_PERMITS)));
    }

    /// Makes permits available, as many as `sum` makes of those that are; false if it does not.
    #[inline]
    fn put(&self, sum: impl Fn(usize) -> Option<usize>) -> bool {
        match self.change_unguarded(&sum) {
            Some(changed) => changed,
            None => self.put_in_turn(sum),
        }
    }

    #[cold]
    fn put_in_turn(&self, sum: impl Fn(usize) -> Option<usize>) -> bool {
        let queue = self.waiters.lock();
        let available = self.guard();
        let sum = sum(available);
        self.serve(queue, sum.unwrap_or(available));
        sum.is_some()
    }

    /// Ends a turn at the lock: wakes everyone whose turn it is. One at a time, so that the lock is held
    /// shortly.
    fn serve<'a>(&'a self, mut queue: Queue<'a>, mut available: usize) {
        loop {
            let first = queue.serve_first(&mut available);
            self.settle(&queue, available);
            let more = first.is_some() && queue.may_serve(available);
            drop(queue);
            if let Some(claimed) = first {
                ready(claimed);
            }
            if !more {
                return;
            }
            queue = self.waiters.lock();
            available = self.guard();
        }
    }

    /// Changes how many permits are available, unless the queue has a say in it; whether `change` wanted to.
    #[inline]
    fn change_unguarded(&self, change: impl Fn(usize) -> Option<usize>) -> Option<bool> {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & GUARDED == 0 {
            let Some(changed) = change(word / PERMIT) else {
                return Some(false);
            };
            // Who takes permits acquires what those released who gave them back.
            match self.word.compare_exchange(
                word,
                changed * PERMIT,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(true),
                Err(other) => word = other,
            }
        }
        None
    }

    /// Under the lock: from here on it alone changes the word. Returns how many permits are available.
    fn guard(&self) -> usize {
        let word = self.word.load(Ordering::Relaxed);
        let word = match word & GUARDED {
            // Acquire as in `change_unguarded`.
            0 => self.word.fetch_or(GUARDED, Ordering::Acquire),
            _ => word,
        };
        word / PERMIT
    }

    /// Under the lock, last of all: what the word says from here on.
    fn settle(&self, queue: &Queue<'_>, available: usize) {
        let guarded = queue.closed || !queue.is_empty(QUEUE);
        let guarded = if guarded { GUARDED } else { 0 };
        // Release as in `change_unguarded`.
        self.word
            .store((available * PERMIT) | guarded, Ordering::Release);
    }

    /// The most permits that may be available at a time.
    pub const MAX_PERMITS: usize = usize::MAX >> 1;
}

impl Queue<'_> {
    /// Wins the wait of the first in the queue, if it can have what it wants or nobody can any more.
    fn serve_first(&mut self, available: &mut usize) -> Option<Claimed> {
        let permits = *available;
        self.notify_one_if(
            QUEUE,
            |state, first| state.closed || first.wanted <= permits,
            |state, first| {
                if !state.closed {
                    first.granted = true;
                    *available -= first.wanted;
                }
            },
        )
    }

    /// Whether it is worth a look if the first in the queue can be served.
    fn may_serve(&self, available: usize) -> bool {
        !self.is_empty(QUEUE) && (self.closed || available > 0)
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Permits of a [`Semaphore`], given back when dropped.
#[must_use = "the permits go back at once unless this is kept"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl<'a> SemaphorePermit<'a> {
    fn new(semaphore: &'a Semaphore, permits: usize) -> Self {
        Self { semaphore, permits }
    }

    /// How many permits these are.
    pub fn num_permits(&self) -> usize {
        self.permits
    }

    /// Never gives the permits back: the semaphore has so many fewer from now on.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        self.semaphore.give_back(self.permits);
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SemaphorePermit")
            .field(&self.permits)
            .finish()
    }
}

/// A permit like [`SemaphorePermit`], which keeps the semaphore alive.
#[must_use = "the permits go back at once unless this is kept"]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

impl OwnedSemaphorePermit {
    fn new(semaphore: Arc<Semaphore>, permits: usize) -> Self {
        Self { semaphore, permits }
    }

    /// How many permits these are.
    pub fn num_permits(&self) -> usize {
        self.permits
    }

    /// Never gives the permits back: the semaphore has so many fewer from now on.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        self.semaphore.give_back(self.permits);
    }
}

impl fmt::Debug for OwnedSemaphorePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedSemaphorePermit")
            .field(&self.permits)
            .finish()
    }
}

/// Why [`Semaphore::acquire`] got no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// The semaphore was closed.
    #[error("acquiring from a closed semaphore")]
    Closed,
    /// The scope was cancelled.
    #[error("acquiring was cancelled")]
    Cancelled,
    /// The deadline of the scope, or the time limit of the call, passed.
    #[error("no permit in time")]
    Elapsed,
}

impl From<Interrupt> for AcquireError {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => AcquireError::Cancelled,
            Interrupt::Elapsed => AcquireError::Elapsed,
        }
    }
}

/// Why [`Semaphore::try_acquire`] got no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryAcquireError {
    /// The semaphore was closed.
    #[error("acquiring from a closed semaphore")]
    Closed,
    /// There were too few permits, or others waited for them already.
    #[error("no permit without waiting")]
    NoPermits,
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::cancel::CancelToken;
    use loom::{cell::UnsafeCell, thread::spawn};

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(body);
    }

    /// What is left when all are done: so many permits, for the first to come.
    fn assert_settled(semaphore: &Semaphore, permits: usize) {
        assert_eq!(semaphore.word.load(Ordering::Relaxed), permits * PERMIT);
        assert_eq!(semaphore.try_acquire_many(permits).map(drop), Ok(()));
    }

    /// A large request, which may be cancelled, waits before a small one: whatever becomes of it, the
    /// small one gets its permit and all come back.
    #[test]
    fn loom_semaphore_no_permit_is_lost_to_a_request_that_is_cancelled() {
        model(3, || {
            let semaphore = Arc::new(Semaphore::new(1));
            let token = CancelToken::new();
            let (theirs, under) = (semaphore.clone(), token.clone());
            let large = spawn(move || {
                let run = under.run(|| theirs.acquire_many(2).map(drop));
                assert_eq!(run, Ok(Err(AcquireError::Cancelled)));
            });
            let theirs = semaphore.clone();
            let small = spawn(move || theirs.acquire().map(drop));
            token.cancel();
            large.join().unwrap();
            assert_eq!(small.join().unwrap(), Ok(()));
            assert_settled(&semaphore, 1);
        });
    }

    /// The one permit lets in one at a time, whether it is taken as it lies there or handed over. loom's
    /// cell finds accesses that nothing orders.
    #[test]
    fn loom_semaphore_one_permit_excludes_and_nobody_is_left_waiting() {
        model(2, || {
            let shared = Arc::new((Semaphore::new(1), UnsafeCell::new(0)));
            let add = |shared: &(Semaphore, UnsafeCell<u32>)| {
                let _permit = shared.0.acquire().unwrap();
                // SAFETY: the permit is held.
                shared.1.with_mut(|total| unsafe { *total += 1 });
            };
            let others = [(); 2].map(|()| {
                let theirs = shared.clone();
                spawn(move || add(&theirs))
            });
            add(&shared);
            others.into_iter().for_each(|other| other.join().unwrap());
            // SAFETY: nobody else is left.
            assert_eq!(shared.1.with(|total| unsafe { *total }), 3);
            assert_settled(&shared.0, 1);
        });
    }

    /// Permits come one by one while somebody queues for two: it misses none.
    #[test]
    fn loom_semaphore_permits_that_come_while_one_queues_are_counted() {
        model(3, || {
            let semaphore = Arc::new(Semaphore::new(0));
            let theirs = semaphore.clone();
            let large = spawn(move || theirs.acquire_many(2).map(SemaphorePermit::forget));
            semaphore.give_back(1);
            semaphore.add_permits(1);
            assert_eq!(large.join().unwrap(), Ok(()));
            assert_settled(&semaphore, 0);
        });
    }

    /// One waits or is about to when its permit comes and the semaphore is closed.
    #[test]
    fn loom_semaphore_closing_ends_all_waiting_and_counts_on() {
        model(3, || {
            let semaphore = Arc::new(Semaphore::new(0));
            let theirs = semaphore.clone();
            let waiter = spawn(move || theirs.acquire().map(drop));
            semaphore.add_permits(1);
            semaphore.close();
            let closed = Err(TryAcquireError::Closed);
            assert_eq!(semaphore.try_acquire().map(drop), closed);
            let waited = waiter.join().unwrap();
            assert!(matches!(waited, Ok(()) | Err(AcquireError::Closed)));
            assert_eq!(semaphore.available(), 1);
            assert_eq!(semaphore.acquire().map(drop), Err(AcquireError::Closed));
        });
    }
}
