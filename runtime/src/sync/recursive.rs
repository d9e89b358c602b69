//! Reading an RwLock again inside of reading it: a read that passes those who wait.

use std::time::{Duration, Instant};

use super::{RwLock, RwLockReadGuard, raw::reader, rwlock::Access};

/// Reads of an [`RwLock`] that pass waiting writers, so that who reads already may read again. Implemented for
/// [`RwLock`] alone; the names are parking_lot's.
///
/// None of them waits while anybody reads: only a writer that has the lock keeps them out. The price is
/// fairness: readers that overlap by them for ever starve the writers. So use it for the inner read of two,
/// where the outer one has not been handed down, and [`read`](lock_api::RwLock::read) for all others.
///
/// As all of an `RwLock`'s, they are no cancellation points.
///
/// # Examples
/// ```
/// use maniple::sync::{ReadRecursive, RwLock};
/// let table = RwLock::new(vec![3, 4]);
/// let longest = |than: usize| table.read_recursive().len() > than;
/// let outer = table.read();
/// maniple::group(|g| {
///     g.spawn(|| table.write().push(5)); // waits, and keeps new readers out
///     while table.try_read().is_some() {
///         maniple::yield_now();
///     }
///     assert!(longest(1), "it reads all the same");
///     drop(outer);
///     Ok::<_, ()>(())
/// }).unwrap();
/// assert!(longest(2));
/// ```
pub trait ReadRecursive<T: ?Sized> {
    /// Reads, waiting for a writer that has the lock, but not for those that wait for it.
    fn read_recursive(&self) -> RwLockReadGuard<'_, T>;

    /// Locks like [`read_recursive`](Self::read_recursive), without waiting; `None` if a writer has the lock.
    fn try_read_recursive(&self) -> Option<RwLockReadGuard<'_, T>>;

    /// Locks like [`read_recursive`](Self::read_recursive), waiting for at most `timeout`; `None` if that passes.
    fn try_read_recursive_for(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>>;

    /// Locks like [`read_recursive`](Self::read_recursive), waiting until `deadline`; `None` if that passes.
    fn try_read_recursive_until(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, T>>;
}

impl<T: ?Sized> ReadRecursive<T> for RwLock<T> {
    fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
        let guard = reader(self, |lock| {
            lock.lock(Access::Recursive);
            true
        });
        guard.expect("without a limit it waits until it has the lock")
    }

    fn try_read_recursive(&self) -> Option<RwLockReadGuard<'_, T>> {
        reader(self, |lock| lock.try_enter(Access::Recursive))
    }

    fn try_read_recursive_for(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>> {
        reader(self, |lock| lock.lock_for(Access::Recursive, timeout))
    }

    fn try_read_recursive_until(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, T>> {
        reader(self, |lock| lock.lock_until(Access::Recursive, deadline))
    }
}
