//! A mutex: one atomic when uncontended, first come first served when somebody was overtaken.
//!
//! ```text
//!   FREE ──lock──► LOCKED ──a waiter queues──► CONTENDED ──unlock──► FREE + wake one
//! ```
//!
//! An unlocked mutex goes to the first to come, which is fast, since the running coroutine need not
//! switch. A waiter that was woken and still came too late asks for a hand-over: it queues before all
//! others, and the next unlock leaves the mutex locked and gives it to the first in the queue.

use std::time::Instant;

use crate::{
    loom::{AtomicU8, Ordering},
    wait::{Interruptible, Node, Place, QUEUE, Reason, Waited, Waiters, ready},
};

/// Mutual exclusion; see [`RawMutex`] for how it behaves and [`lock_api::Mutex`] for its methods.
///
/// # Examples
/// ```
/// use maniple::sync::Mutex;
/// use std::sync::Arc;
/// let total = Arc::new(Mutex::new(0));
/// maniple::run({
///     let total = total.clone();
///     move || {
///         let adders: Vec<_> = (0..10)
///             .map(|n| { let total = total.clone(); maniple::spawn(move || *total.lock() += n) })
///             .collect();
///         for adder in adders { adder.join().unwrap(); }
///     }
/// });
/// assert_eq!(*total.lock(), 45);
/// ```
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;

/// Unlocks its [`Mutex`] when dropped. May be held across suspensions: a coroutine keeps its thread.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// Access to a part of what a [`Mutex`] protects; made by [`MutexGuard::map`](lock_api::MutexGuard::map).
pub type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawMutex, T>;

/// The lock inside a [`Mutex`].
///
/// Locking suspends a coroutine and blocks a plain thread. It is not a cancellation point, as in POSIX,
/// so destructors may lock; deadlines do not cut it short either, and
/// [`try_lock_for`](lock_api::Mutex::try_lock_for) keeps its own time limit alone. Not reentrant: locking twice in the
/// same coroutine waits for ever. Not poisoned by panics.
pub struct RawMutex {
    state: AtomicU8,
    waiters: Waiters<State, Granted>,
}

struct State {
    /// The longest waiter was overtaken: the next unlock hands over.
    overtaken: bool,
}

/// Set by an unlock that hands over.
type Granted = bool;

const FREE: u8 = 0;
const LOCKED: u8 = 1;
const CONTENDED: u8 = 2;

impl RawMutex {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicU8::new(FREE),
            waiters: Waiters::new(State { overtaken: false }),
        }
    }

    /// What `INIT` is elsewhere.
    #[cfg(all(test, loom))]
    pub(super) fn for_a_model() -> Self {
        Self {
            state: AtomicU8::new(FREE),
            waiters: Waiters::new(State { overtaken: false }),
        }
    }

    #[inline]
    pub(super) fn take(&self) -> bool {
        // Acquire pairs with the release in `unlock`.
        self.state
            .compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// False if the deadline passed first.
    #[cold]
    pub(super) fn take_in_turn(&self, deadline: Option<Instant>) -> bool {
        let (mut place, mut overtaken) = (Place::Last, false);
        loop {
            let mut node = Node::new(false);
            let mut waiters = self.waiters.lock();
            // From here on an unlock comes by this list, or has left the state FREE.
            if self.state.swap(CONTENDED, Ordering::Acquire) == FREE {
                return true;
            }
            waiters.overtaken |= overtaken;
            let waited = waiters.queue(QUEUE, place, &mut node, Interruptible::No, |queued| {
                queued.wait(Reason::Lock, deadline, |_, _| {})
            });
            if node.into_payload() {
                return true;
            }
            // One that was notified before has left the state CONTENDED, so the next is woken as well.
            if waited == Waited::TimedOut {
                return false;
            }
            (place, overtaken) = (Place::First, true);
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.state.load(Ordering::Relaxed) != FREE
    }

    /// Gives it back; with `hand_over`, to the longest waiter.
    #[inline]
    pub(super) fn leave(&self, hand_over: bool) {
        if self
            .state
            .compare_exchange(LOCKED, FREE, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.leave_slow(hand_over);
        }
    }

    /// With `hand_over` the longest waiter gets it, even if it was not overtaken.
    #[cold]
    fn leave_slow(&self, hand_over: bool) {
        let mut waiters = self.waiters.lock();
        let hand_over = std::mem::take(&mut waiters.overtaken) || hand_over;
        if !hand_over {
            self.state.store(FREE, Ordering::Release);
        }
        let claimed = waiters.notify_one_with(QUEUE, |_, granted| *granted = hand_over);
        if hand_over && claimed.is_none() {
            self.state.store(FREE, Ordering::Release);
        }
        drop(waiters);
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }
}

impl std::fmt::Debug for RawMutex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawMutex")
            .field("locked", &self.is_held())
            .finish()
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use lock_api::RawMutex as _;
    use loom::{cell::UnsafeCell, sync::Arc};

    fn mutex() -> Arc<(RawMutex, UnsafeCell<u32>)> {
        Arc::new((RawMutex::for_a_model(), UnsafeCell::new(0)))
    }

    /// loom's cell finds accesses that nothing orders.
    fn add(shared: &(RawMutex, UnsafeCell<u32>)) {
        let guard = shared.0.lock();
        // SAFETY: the lock is held.
        shared.1.with_mut(|total| unsafe { *total += 1 });
        // SAFETY: as above.
        unsafe { shared.0.unlock(guard) };
    }

    fn waiters_that_lock(times: &'static [u32]) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(move || {
            let shared = mutex();
            let threads: Vec<_> = times[1..]
                .iter()
                .map(|&times| {
                    let shared = shared.clone();
                    loom::thread::spawn(move || (0..times).for_each(|_| add(&shared)))
                })
                .collect();
            (0..times[0]).for_each(|_| add(&shared));
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            add(&shared);
            // SAFETY: nobody else is left.
            let total = shared.1.with(|total| unsafe { *total });
            assert_eq!(total, times.iter().sum::<u32>() + 1);
        });
    }

    /// Everybody gets in, alone. One that locks twice overtakes the other, who then asks for a
    /// hand-over.
    #[test]
    fn loom_a_mutex_is_handed_over_to_the_overtaken() {
        waiters_that_lock(&[2, 1]);
    }

    #[test]
    fn loom_three_waiters_exclude_each_other_and_none_is_left_waiting() {
        waiters_that_lock(&[1, 1, 1]);
    }
}
