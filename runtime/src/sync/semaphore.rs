//! A semaphore: so many permits, first come first served.
//!
//! A request that does not fit waits, and whoever comes later queues behind it even if theirs would
//! fit: a large request is not starved by small ones. Permits that come back stay in the semaphore
//! until the first in the queue can have all that it asked for, so a waiter that gives up has nothing
//! to return; it lets those behind it have another look.

use std::{
    cell::Cell,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::Interrupt,
    scheduler::now,
    strand::Claimed,
    sys::spin::SpinLock,
    wait::{self, Cuttable, Reason, WaitList, WaitNode, Waited, ready},
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
    state: SpinLock<State>,
}

struct State {
    permits: usize,
    closed: bool,
    /// Each waits in a [`Place`].
    waiters: WaitList,
}

/// A request in the queue.
#[repr(C)]
struct Place {
    node: WaitNode,
    wanted: usize,
    /// Set with the notification; one without it means that the semaphore was closed.
    granted: Cell<bool>,
}

impl Semaphore {
    /// A semaphore with so many permits.
    #[cfg(not(loom))]
    pub const fn new(permits: usize) -> Self {
        Self {
            state: SpinLock::new(State::new(permits)),
        }
    }

    /// A semaphore with so many permits.
    #[cfg(loom)]
    pub fn new(permits: usize) -> Self {
        Self {
            state: SpinLock::new(State::new(permits)),
        }
    }

    /// Takes one permit, waiting for it. Dropping the permit gives it back.
    ///
    /// # Errors
    /// If the semaphore is closed, the scope is cancelled or its deadline passed first.
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Takes so many permits together, waiting until all are there.
    ///
    /// More than there will ever be are waited for until the call is cut short or the semaphore closed.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire_many(&self, permits: usize) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.take(permits, None)?;
        Ok(SemaphorePermit::new(self, permits))
    }

    /// As [`Semaphore::acquire`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`]; [`AcquireError::Elapsed`] if there was no permit in time.
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
    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire_many(&self, permits: usize) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.state.lock().try_take(permits)?;
        Ok(SemaphorePermit::new(self, permits))
    }

    /// As [`Semaphore::acquire`]; the permit holds the semaphore and may go anywhere.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_many_owned(1)
    }

    /// As [`Semaphore::acquire_many`]; the permit holds the semaphore and may go anywhere.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire_many_owned(
        self: Arc<Self>,
        permits: usize,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.take(permits, None)?;
        Ok(OwnedSemaphorePermit::new(self, permits))
    }

    /// As [`Semaphore::try_acquire`]; the permit holds the semaphore and may go anywhere.
    ///
    /// # Errors
    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// As [`Semaphore::try_acquire_many`]; the permit holds the semaphore and may go anywhere.
    ///
    /// # Errors
    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire_many_owned(
        self: Arc<Self>,
        permits: usize,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.state.lock().try_take(permits)?;
        Ok(OwnedSemaphorePermit::new(self, permits))
    }

    /// Adds permits to those that exist, and lets waiters have them.
    ///
    /// # Panics
    /// If more would be available than [`Semaphore::MAX_PERMITS`].
    pub fn add_permits(&self, permits: usize) {
        let fits = {
            let mut state = self.state.lock();
            let sum = state.permits.checked_add(permits);
            let sum = sum.filter(|&sum| sum <= Self::MAX_PERMITS);
            state.permits = sum.unwrap_or(state.permits);
            sum.is_some()
        };
        assert!(fits, "a semaphore with more than MAX_PERMITS permits");
        self.serve();
    }
}

impl Semaphore {
    /// How many permits could be taken if nobody waited for them.
    pub fn available(&self) -> usize {
        self.state.lock().permits
    }

    /// Ends all waiting, now and from now on, with `Closed`. Permits that are held stay valid.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.serve();
    }

    /// Whether [`Semaphore::close`] has been called.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    fn take(&self, wanted: usize, deadline: Option<Instant>) -> Result<(), AcquireError> {
        wait::check()?;
        let place = Place {
            node: WaitNode::new(),
            wanted,
            granted: Cell::new(false),
        };
        loop {
            let mut tried = Ok(());
            let waited = wait::wait(
                Reason::Semaphore,
                deadline,
                Cuttable::Yes,
                |strand| {
                    let mut state = self.state.lock();
                    tried = state.try_take(wanted);
                    let waits = tried == Err(TryAcquireError::NoPermits);
                    if waits {
                        // SAFETY: under the list's lock; taken out below unless notified.
                        unsafe { state.waiters.arm(&place.node, strand, Cuttable::Yes) };
                    }
                    waits
                },
                || {
                    // SAFETY: under the list's lock, in this list or none.
                    unsafe { self.state.lock().waiters.remove(&place.node) };
                    // What did not suffice for this request may suffice for the next.
                    self.serve();
                },
            );
            match waited {
                Waited::AtOnce if tried.is_ok() => {
                    wait::spend();
                    return Ok(());
                }
                Waited::Notified if place.granted.get() => return Ok(()),
                Waited::AtOnce | Waited::Notified => return Err(AcquireError::Closed),
                Waited::TimedOut => return Err(AcquireError::Elapsed),
                Waited::Cut(interrupt) => return Err(interrupt.into()),
                Waited::Again => {}
            }
        }
    }

    fn give_back(&self, permits: usize) {
        let first = {
            let mut state = self.state.lock();
            state.permits = state.permits.saturating_add(permits);
            state.serve_first()
        };
        if let Some(claimed) = first {
            ready(claimed);
            self.serve();
        }
    }

    /// Wakes everyone whose turn it is. One at a time, so that the lock is held shortly.
    fn serve(&self) {
        while let Some(claimed) = { self.state.lock().serve_first() } {
            ready(claimed);
        }
    }

    /// The most permits that may be available at a time.
    pub const MAX_PERMITS: usize = usize::MAX >> 1;
}

impl State {
    const fn new(permits: usize) -> Self {
        assert!(
            permits <= Semaphore::MAX_PERMITS,
            "a semaphore with more than MAX_PERMITS permits"
        );
        Self {
            permits,
            closed: false,
            waiters: WaitList::new(),
        }
    }

    fn try_take(&mut self, wanted: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            return Err(TryAcquireError::Closed);
        }
        // Whoever waits goes first.
        if wanted > self.permits || (wanted > 0 && !self.waiters.is_empty()) {
            return Err(TryAcquireError::NoPermits);
        }
        self.permits -= wanted;
        Ok(())
    }

    /// Wins the wait of the first in the queue, if it can have what it wants or nobody can any more.
    fn serve_first(&mut self) -> Option<Claimed> {
        let (permits, closed) = (self.permits, self.closed);
        let mut taken = 0;
        // SAFETY: under the lock; each node is the first field of a `Place` whose owner waits.
        let claimed = unsafe {
            let place = |node: std::ptr::NonNull<WaitNode>| node.cast::<Place>().as_ref();
            self.waiters.notify_one_if(
                |node| closed || place(node).wanted <= permits,
                |node| {
                    if !closed {
                        place(node).granted.set(true);
                        taken = place(node).wanted;
                    }
                },
            )
        };
        self.permits -= taken;
        claimed
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

/// As [`SemaphorePermit`], keeping the semaphore alive.
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

    /// A large request, which may be cancelled, waits before a small one: whatever becomes of it, the
    /// small one gets its permit and all come back.
    #[test]
    fn loom_no_permit_is_lost_to_a_request_that_is_cancelled() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let semaphore = Arc::new(Semaphore::new(1));
            let token = CancelToken::new();
            let (theirs, under) = (semaphore.clone(), token.clone());
            let large = loom::thread::spawn(move || {
                let run = under.run(|| theirs.acquire_many(2).map(drop));
                assert_eq!(run, Ok(Err(AcquireError::Cancelled)));
            });
            let theirs = semaphore.clone();
            let small = loom::thread::spawn(move || theirs.acquire().map(drop));
            token.cancel();
            large.join().unwrap();
            assert_eq!(small.join().unwrap(), Ok(()));
            assert_eq!(semaphore.available(), 1);
        });
    }
}
