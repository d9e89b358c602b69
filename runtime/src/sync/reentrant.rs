//! A mutex that its holder may lock again: the holder is the coroutine, not its thread.

use std::{cell::Cell, num::NonZeroUsize};

use super::RawMutex;
use crate::{coroutine::next_id, scheduler::on_coroutine};

/// A mutex that its holder may lock again; it is free once each guard is gone. See [`RawMutex`] for how it
/// waits and [`lock_api::ReentrantMutex`] for its methods.
///
/// The holder is the coroutine that locked it, or the plain thread that did outside of any coroutine.
/// Another coroutine on the same thread waits like any other. Since a holder may have it locked several
/// times, a guard gives shared access only: put a [`Cell`] or [`RefCell`](std::cell::RefCell) inside.
///
/// A guard cannot be sent to another thread. Given to another coroutine on the same thread, it keeps the
/// mutex for the coroutine that locked it.
///
/// # Examples
/// ```
/// use maniple::sync::ReentrantMutex;
/// use std::cell::Cell;
/// let depth = ReentrantMutex::new(Cell::new(0));
/// fn descend(depth: &ReentrantMutex<Cell<u32>>) {
///     let guard = depth.lock();
///     guard.set(guard.get() + 1);
///     if guard.get() < 5 {
///         descend(depth);
///     }
/// }
/// maniple::join!(descend(&depth), assert!(depth.lock().get() <= 5));
/// assert_eq!(depth.into_inner().get(), 5);
/// ```
pub type ReentrantMutex<T> = lock_api::ReentrantMutex<RawMutex, CallerId, T>;

/// Unlocks its [`ReentrantMutex`] once when dropped.
pub type ReentrantMutexGuard<'a, T> = lock_api::ReentrantMutexGuard<'a, RawMutex, CallerId, T>;

/// Access to a part of what a [`ReentrantMutex`] protects.
pub type MappedReentrantMutexGuard<'a, T> =
    lock_api::MappedReentrantMutexGuard<'a, RawMutex, CallerId, T>;

/// Tells a [`ReentrantMutex`] who calls: which coroutine, or which plain thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallerId;

impl CallerId {
    /// The caller's, and nobody else's for ever.
    #[inline]
    pub(super) fn number() -> NonZeroUsize {
        let id = on_coroutine(|task| task.map_or_else(thread_id, |task| task.origin.id));
        NonZeroUsize::new(id as usize).expect("numbers begin with one")
    }
}

fn thread_id() -> u64 {
    thread_local! {
        static ID: Cell<u64> = const { Cell::new(0) };
    }
    ID.with(|id| {
        if id.get() == 0 {
            id.set(next_id());
        }
        id.get()
    })
}
