//! A condition variable for our [`Mutex`](super::Mutex).

use std::{
    fmt, ptr,
    time::{Duration, Instant},
};

use super::MutexGuard;
use crate::{
    scheduler::now,
    wait::{self, Interruptible, Node, Place, QUEUE, Reason, Waited, Waiters, ready},
};

/// Waits for a condition that is guarded by a [`Mutex`](super::Mutex).
///
/// A wait may end without a notification, and the condition may have changed again by the time the mutex
/// is locked: wait in a loop, or with [`Condvar::wait_while`].
///
/// Those who wait at the same time do so with the same mutex: who comes with another panics.
///
/// # Examples
/// ```
/// use maniple::sync::{Condvar, Mutex};
/// let (ready, condvar) = (Mutex::new(false), Condvar::new());
/// maniple::join!(
///     {
///         let mut guard = ready.lock();
///         condvar.wait_while(&mut guard, |ready| !*ready);
///     },
///     {
///         *ready.lock() = true;
///         condvar.notify_one();
///     }
/// );
/// ```
pub struct Condvar {
    waiters: Waiters<State>,
}

struct State {
    /// The address of the mutex that those in the list let go of.
    mutex: usize,
}

/// Whether a wait with a time limit ended by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time limit passed before a notification came.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable without waiters.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            waiters: Waiters::new(State { mutex: 0 }),
        }
    }

    /// A condition variable without waiters.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            waiters: Waiters::new(State { mutex: 0 }),
        }
    }

    /// Unlocks the mutex, waits for a notification, and locks it again.
    ///
    /// A cancellation point: if the scope is cancelled or its deadline passes, the mutex is locked again
    /// and the coroutine unwinds to the scope's edge, through the guard.
    ///
    /// # Panics
    /// If another waits with another mutex.
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_until_instant(guard, None);
    }

    /// Waits as long as `condition` says so.
    ///
    /// # Panics
    /// Panics as [`Condvar::wait`] does.
    #[track_caller]
    pub fn wait_while<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        while condition(&mut **guard) {
            self.wait(guard);
        }
    }

    /// Waits like [`Condvar::wait_while`], for at most `timeout`; tells whether that passed while `condition` still
    /// held.
    ///
    /// # Panics
    /// Panics as [`Condvar::wait`] does.
    #[track_caller]
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        self.wait_while_up_to(guard, condition, now().checked_add(timeout))
    }

    /// Waits like [`Condvar::wait_while_for`], until `deadline`.
    ///
    /// # Panics
    /// Panics as [`Condvar::wait`] does.
    #[track_caller]
    pub fn wait_while_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_while_up_to(guard, condition, Some(deadline))
    }

    #[track_caller]
    fn wait_while_up_to<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        deadline: Option<Instant>,
    ) -> WaitTimeoutResult {
        while condition(&mut **guard) {
            if self.wait_until_instant(guard, deadline) {
                return WaitTimeoutResult(condition(&mut **guard));
            }
        }
        WaitTimeoutResult(false)
    }

    /// Waits like [`Condvar::wait`], until `deadline`.
    ///
    /// # Panics
    /// Panics as [`Condvar::wait`] does.
    #[track_caller]
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        WaitTimeoutResult(self.wait_until_instant(guard, Some(deadline)))
    }

    /// Waits like [`Condvar::wait`], for at most `timeout`.
    ///
    /// # Panics
    /// Panics as [`Condvar::wait`] does.
    #[track_caller]
    pub fn wait_timeout<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        WaitTimeoutResult(self.wait_until_instant(guard, now().checked_add(timeout)))
    }

    #[track_caller]
    fn wait_until_instant<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
    ) -> bool {
        let mutex = ptr::from_ref(MutexGuard::mutex(guard)).addr();
        let mut waiters = self.waiters.lock();
        if !waiters.is_empty(QUEUE) && waiters.mutex != mutex {
            drop(waiters);
            panic!("a condition variable is waited for with two mutexes at a time");
        }
        waiters.mutex = mutex;
        let mut node = Node::new(());
        // Queued before the mutex is unlocked, so that no notification falls in between.
        let waited = waiters.queue(
            QUEUE,
            Place::Last,
            &mut node,
            Interruptible::Yes,
            |queued| {
                MutexGuard::unlocked(guard, || queued.wait(Reason::Condvar, deadline, |_, _| {}))
            },
        );
        match waited {
            // `Again`: a shield kept a cancellation off; it counts as a wake-up.
            Waited::AtOnce | Waited::Notified | Waited::Again => false,
            Waited::TimedOut => true,
            Waited::Interrupted(interrupt) => {
                wait::unwind(Reason::Condvar, interrupt);
                true
            }
        }
    }

    /// Wakes the longest waiter; whether there was one.
    pub fn notify_one(&self) -> bool {
        let claimed = self.waiters.lock().notify_one(QUEUE);
        claimed.map(ready).is_some()
    }

    /// Wakes all who wait now; how many that were.
    pub fn notify_all(&self) -> usize {
        self.waiters.wake_all(QUEUE)
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::{
        cancel::CancelToken,
        sync::{Mutex, RawMutex},
    };
    use loom::{
        cell::UnsafeCell,
        sync::Arc,
        thread::{JoinHandle, spawn},
    };

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(body);
    }

    /// Permits, and who waits for one.
    struct Permits {
        count: Mutex<UnsafeCell<u32>>,
        added: Condvar,
    }

    /// The mutex is held again however the wait ends: loom's cell finds accesses that nothing orders.
    struct Inside<'a>(MutexGuard<'a, UnsafeCell<u32>>);

    impl Inside<'_> {
        fn add(&mut self, change: i32) -> bool {
            // SAFETY: the mutex is held.
            let count = unsafe { self.0.with_mut(|count| &mut *count) };
            let changed = count.checked_add_signed(change);
            *count = changed.unwrap_or(*count);
            changed.is_some()
        }
    }

    impl Drop for Inside<'_> {
        fn drop(&mut self) {
            self.add(0);
        }
    }

    impl Permits {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                count: Mutex::from_raw(RawMutex::for_a_model(), UnsafeCell::new(0)),
                added: Condvar::new(),
            })
        }

        fn lock(&self) -> Inside<'_> {
            Inside(self.count.lock())
        }

        fn take(&self) {
            let mut inside = self.lock();
            while !inside.add(-1) {
                self.added.wait(&mut inside.0);
            }
        }

        /// Takes one that is there or comes in no time.
        fn try_take(&self) -> bool {
            let mut inside = self.lock();
            inside.add(-1) || {
                self.added.wait_timeout(&mut inside.0, Duration::ZERO);
                inside.add(-1)
            }
        }

        fn give<R>(&self, permits: i32, notify: fn(&Condvar) -> R) {
            self.lock().add(permits);
            notify(&self.added);
        }

        fn assert_settled(&self) {
            assert!(!self.lock().add(-1));
            assert!(self.added.waiters.lock().is_empty(QUEUE));
        }
    }

    fn start<T: 'static>(
        permits: &Arc<Permits>,
        act: impl FnOnce(&Permits) -> T + 'static,
    ) -> JoinHandle<T> {
        let permits = permits.clone();
        spawn(move || act(&permits))
    }

    /// A permit comes before one looks for it, between its look and its sleep, or after: it is taken.
    #[test]
    fn loom_condvar_what_changes_between_a_look_and_the_wait_is_told() {
        model(3, || {
            let permits = Permits::new();
            let taker = start(&permits, Permits::take);
            permits.give(1, Condvar::notify_one);
            taker.join().unwrap();
            permits.assert_settled();
        });
    }

    #[test]
    fn loom_condvar_all_who_wait_are_told() {
        model(2, || {
            let permits = Permits::new();
            let takers = [(); 2].map(|()| start(&permits, Permits::take));
            permits.give(2, Condvar::notify_all);
            takers.into_iter().for_each(|taker| taker.join().unwrap());
            permits.assert_settled();
        });
    }

    /// One permit for two, of whom one may give up: it takes the permit, or the other does.
    fn one_of_two_may_give_up(
        hasty: impl FnOnce(&Permits) -> bool + 'static,
        give: impl FnOnce(&Permits),
    ) {
        let permits = Permits::new();
        let hasty = start(&permits, hasty);
        let patient = start(&permits, Permits::take);
        give(&permits);
        if hasty.join().unwrap() {
            permits.give(1, Condvar::notify_one);
        }
        patient.join().unwrap();
        permits.assert_settled();
    }

    /// The cancellation reaches it before the notification, or the other way about.
    #[test]
    fn loom_condvar_a_notification_is_not_lost_to_one_who_is_cancelled() {
        let check = |act: fn(&Permits, &CancelToken)| {
            model(2, move || {
                let token = CancelToken::new();
                let under = token.clone();
                one_of_two_may_give_up(
                    move |permits| under.run(|| permits.take()).is_ok(),
                    |permits| act(permits, &token),
                );
            });
        };
        check(|permits, token| {
            token.cancel();
            permits.give(1, Condvar::notify_one);
        });
        check(|permits, token| {
            permits.give(1, Condvar::notify_one);
            token.cancel();
        });
    }

    #[test]
    fn loom_condvar_a_notification_is_not_lost_to_one_whose_time_is_over() {
        model(2, || {
            one_of_two_may_give_up(Permits::try_take, |permits| {
                permits.give(1, Condvar::notify_one);
            });
        });
    }
}
