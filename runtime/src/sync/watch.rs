//! The latest value for any number of watchers, who may miss values in between but never the last one.
//!
//! The value is under a reader-writer lock. Its version, which grows under the write lock, says whether a
//! receiver has seen it; who waits for the next one is in a list that each change empties.

use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

pub use super::channel::{RecvError, RecvTimeoutError};
use super::{RwLock, RwLockReadGuard, failed::Failed};
use crate::{
    loom::{AtomicU64, AtomicUsize, Ordering},
    scheduler::now,
    wait::{self, Interruptible, Node, QUEUE, Reason, Waited, Waiters},
};

/// A value, and a receiver that has seen this first one.
///
/// # Examples
/// ```
/// use maniple::sync::watch;
/// let (limit, mut watching) = watch::channel(100);
/// maniple::join!(
///     {
///         limit.send(200).unwrap();
///         limit.send_modify(|limit| *limit += 50);
///         drop(limit);
///     },
///     while watching.changed().is_ok() {
///         println!("the limit is {} now", *watching.borrow_and_update());
///     }
/// );
/// assert_eq!(*watching.borrow(), 250);
/// ```
pub fn channel<T>(initial: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        #[cfg(not(loom))]
        value: RwLock::new(initial),
        #[cfg(loom)]
        value: RwLock::from_raw(super::RawRwLock::for_a_model(), initial),
        version: AtomicU64::new(0),
        waiting: Waiters::new(()),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(0),
    });
    let sender = Sender { shared };
    let receiver = sender.subscribe();
    (sender, receiver)
}

struct Shared<T> {
    value: RwLock<T>,
    /// Grows by `CHANGE` under the write lock; `CLOSED` is added once all senders are gone.
    version: AtomicU64,
    waiting: Waiters,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

const CLOSED: u64 = 1;
const CHANGE: u64 = 2;

impl<T> Shared<T> {
    fn borrow(&self) -> (Ref<'_, T>, u64) {
        let guard = self.value.read();
        // No change can come between: the lock is held.
        let version = self.version.load(Ordering::Acquire) & !CLOSED;
        (Ref { guard }, version)
    }

    /// Changes the value and wakes who waits for that, if `change` says that it did.
    fn change(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut value = self.value.write();
        let changed = change(&mut value);
        if changed {
            self.version.fetch_add(CHANGE, Ordering::Release);
        }
        drop(value);
        if changed {
            self.wake_all();
        }
        changed
    }

    /// A waiter that is not yet in the list looks at the version under its lock, and finds the new one.
    fn wake_all(&self) {
        self.waiting.wake_all(QUEUE);
    }

    /// The first version found that is not `seen`.
    fn beyond(&self, seen: u64, deadline: Option<Instant>) -> Result<u64, Failed> {
        wait::check()?;
        loop {
            let waiting = self.waiting.lock();
            if self.version.load(Ordering::Acquire) != seen {
                drop(waiting);
                wait::spend();
            } else {
                let mut node = Node::new(());
                let waited = waiting.wait(
                    QUEUE,
                    &mut node,
                    Reason::Watch,
                    deadline,
                    Interruptible::Yes,
                    |_, _| {},
                );
                match waited {
                    Waited::TimedOut => return Err(Failed::Timeout),
                    Waited::Interrupted(interrupt) => return Err(interrupt.into()),
                    Waited::AtOnce | Waited::Notified | Waited::Again => {}
                }
            }
            let version = self.version.load(Ordering::Acquire);
            if version & !CLOSED != seen {
                return Ok(version & !CLOSED);
            }
            if version & CLOSED != 0 {
                return Err(Failed::Disconnected);
            }
        }
    }
}

/// Sets the value; clones set the same one.
///
/// Setting waits only for those who look at the value just then. As with any lock of this crate that is
/// no cancellation point.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sets the value and tells all receivers.
    ///
    /// # Errors
    /// The value, which is then not set, if there is no receiver.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.receiver_count() == 0 {
            return Err(SendError(value));
        }
        self.send_replace(value);
        Ok(())
    }

    /// Sets the value like [`Sender::send`], also without receivers; returns the former value.
    pub fn send_replace(&self, value: T) -> T {
        let mut value = value;
        self.shared.change(|current| {
            std::mem::swap(current, &mut value);
            true
        });
        value
    }

    /// Changes the value in its place and tells all receivers, also if there is none.
    ///
    /// # Panics
    /// If `change` does: receivers are then not told, and the value stays as `change` left it.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value like [`Sender::send_modify`], and tells receivers only if `change` returns true; returns that.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        self.shared.change(change)
    }

    /// Looks at the value; see [`Ref`].
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.borrow().0
    }

    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver {
            seen: self.shared.version.load(Ordering::Acquire) & !CLOSED,
            shared: self.shared.clone(),
        }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.receivers.load(Ordering::Acquire)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // AcqRel: the last one to go does so after all changes.
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.version.fetch_or(CLOSED, Ordering::Release);
            self.shared.wake_all();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}

/// Watches the value; a clone has seen what its original has.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Receiver<T> {
    /// Waits until there is a value that this receiver has not seen, and marks it as seen.
    ///
    /// # Errors
    /// If all senders are gone and the last value has been seen, the scope is cancelled or its deadline
    /// passed.
    pub fn changed(&mut self) -> Result<(), RecvError> {
        self.seen = self.shared.beyond(self.seen, None)?;
        Ok(())
    }

    /// Waits for a new value like [`Receiver::changed`], for at most `timeout`.
    ///
    /// # Errors
    /// If all senders are gone and the last value has been seen, the scope is cancelled or its deadline passed; or if
    /// there was no such value in time.
    pub fn changed_timeout(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.seen = self.shared.beyond(self.seen, now().checked_add(timeout))?;
        Ok(())
    }

    /// Waits for a new value like [`Receiver::changed`], until `deadline`.
    ///
    /// # Errors
    /// Fails as [`Receiver::changed_timeout`] does.
    pub fn changed_deadline(&mut self, deadline: Instant) -> Result<(), RecvTimeoutError> {
        self.seen = self.shared.beyond(self.seen, Some(deadline))?;
        Ok(())
    }

    /// Waits until the value, the present one or a later, is as `wanted`; marks it as seen.
    ///
    /// # Errors
    /// If all senders are gone and the last value has been seen, the scope is cancelled or its deadline passed.
    pub fn wait_for(&mut self, wanted: impl Fn(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        loop {
            let (value, version) = self.shared.borrow();
            self.seen = version;
            if wanted(&value) {
                return Ok(value);
            }
            drop(value);
            self.shared.beyond(self.seen, None)?;
        }
    }

    /// Whether there is a value that this receiver has not seen. Asked again and again in vain, it gives way to others.
    pub fn has_changed(&self) -> bool {
        let changed = self.shared.version.load(Ordering::Acquire) & !CLOSED != self.seen;
        if !changed {
            wait::spend();
        }
        changed
    }

    /// Whether all senders are gone: the value is the last one.
    pub fn is_disconnected(&self) -> bool {
        self.shared.version.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Looks at the value without marking it as seen; see [`Ref`].
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.borrow().0
    }

    /// Looks at the value and marks it as seen; see [`Ref`].
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let (value, version) = self.shared.borrow();
        self.seen = version;
        value
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::Release);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}

/// A look at the value, which cannot be set meanwhile: clone what is needed for long.
///
/// Setting the value, or a second look at it, in the coroutine that holds one may wait for ever.
pub struct Ref<'a, T> {
    guard: RwLockReadGuard<'a, T>,
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The value that was not set, since nobody watches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sending on a channel without receivers")
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> std::error::Error for SendError<T> {}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::cancel::CancelToken;
    use loom::{cell::UnsafeCell, thread::spawn};

    /// Bounded to so many preemptions of each execution.
    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(body);
    }

    /// A number that loom follows: it finds a reader of what nothing has ordered after its writing.
    struct Number(UnsafeCell<u32>);

    // SAFETY: who has a reference to it only reads it; loom holds that against the writes.
    unsafe impl Sync for Number {}

    impl Number {
        fn get(&self) -> u32 {
            // SAFETY: those who share it write nothing.
            self.0.with(|number| unsafe { *number })
        }
    }

    fn numbers() -> (Sender<Number>, Receiver<Number>) {
        channel(Number(UnsafeCell::new(0)))
    }

    fn set(sender: &Sender<Number>, to: u32) {
        // SAFETY: there is one who changes it.
        sender.send_modify(|number| number.0.with_mut(|number| unsafe { *number = to }));
    }

    fn assert_nobody_waits(receiver: &Receiver<Number>) {
        assert!(receiver.shared.waiting.lock().is_empty(QUEUE));
    }

    /// Some values may be missed, none comes twice or late, and the last one comes, and then the end: whenever the
    /// receiver looks, waits or is about to.
    #[test]
    fn loom_watch_the_last_value_comes_and_then_the_end() {
        model(3, || {
            let (sender, mut receiver) = numbers();
            let setter = spawn(move || (1..=2).for_each(|n| set(&sender, n)));
            let mut seen = vec![0];
            while receiver.changed().is_ok() {
                seen.push(receiver.borrow_and_update().get());
            }
            assert!(seen.is_sorted_by(|earlier, later| earlier < later));
            assert_eq!(seen.last(), Some(&2));
            setter.join().unwrap();
            assert_nobody_waits(&receiver);
        });
    }

    /// Two set it and leave, in whatever order: who waits for what both have done has it before the end.
    #[test]
    fn loom_watch_the_end_comes_after_the_values_of_all_who_set() {
        model(3, || {
            let (sender, mut receiver) = numbers();
            let theirs = sender.clone();
            let add = |sender: Sender<Number>| {
                // SAFETY: there is one at a time who changes it.
                let add = |number: *mut u32| unsafe { *number += 1 };
                sender.send_modify(|number| number.0.with_mut(add));
            };
            let other = spawn(move || add(theirs));
            add(sender);
            let sum = receiver.wait_for(|number| number.get() == 2);
            assert_eq!(sum.map(|number| number.get()), Ok(2));
            assert_eq!(receiver.changed(), Err(RecvError::Disconnected));
            other.join().unwrap();
            assert_nobody_waits(&receiver);
        });
    }

    #[test]
    fn loom_watch_all_who_wait_are_told() {
        model(1, || {
            let (sender, mut receiver) = numbers();
            let mut other = receiver.clone();
            let other = spawn(move || other.changed());
            // Its end would tell them too.
            let held = sender.clone();
            let setter = spawn(move || set(&sender, 1));
            assert_eq!(receiver.changed(), Ok(()));
            assert_eq!(other.join().unwrap(), Ok(()));
            setter.join().unwrap();
            drop(held);
            assert_nobody_waits(&receiver);
        });
    }

    /// One of two who wait is cancelled while the value is set: it is told now or the next time it asks, and the
    /// other is told whatever becomes of it.
    #[test]
    fn loom_watch_one_who_is_cancelled_misses_nothing_and_holds_up_nobody() {
        model(2, || {
            let (sender, mut patient) = numbers();
            let (mut hasty, token) = (patient.clone(), CancelToken::new());
            let under = token.clone();
            let hasty = spawn(move || {
                let told = under.run(|| hasty.changed()) == Ok(Ok(()));
                (told, hasty)
            });
            let patient = spawn(move || {
                assert_eq!(patient.changed(), Ok(()));
                assert_eq!(patient.borrow().get(), 1);
            });
            token.cancel();
            set(&sender, 1);
            let (told, hasty) = hasty.join().unwrap();
            assert!(told ^ hasty.has_changed());
            assert_eq!(hasty.borrow().get(), 1);
            patient.join().unwrap();
            assert_nobody_waits(&hasty);
        });
    }

    /// One comes while the value is set: it sees the new one, or is told that there is one.
    #[test]
    fn loom_watch_a_newcomer_sees_the_last_value_or_is_told() {
        model(3, || {
            let (sender, receiver) = numbers();
            drop(receiver);
            let theirs = sender.clone();
            let setter = spawn(move || set(&theirs, 1));
            let receiver = sender.subscribe();
            let at_first = receiver.borrow().get();
            setter.join().unwrap();
            assert!(at_first == 1 || receiver.has_changed());
            assert_eq!(receiver.borrow().get(), 1);
        });
    }
}
