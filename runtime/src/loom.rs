//! The switch between the standard atomics and loom's, so that lock-free protocols can be model-checked.
//!
//! Only the protocols themselves go through here (the wait word, the inbox, the spin lock);
//! statics and counters use the standard library directly.

#[cfg(not(loom))]
pub(crate) use std::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering},
    thread::yield_now,
};

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering},
    thread::yield_now,
};

/// loom's cell hands out pointers through closures; the spin lock already models exclusion with its
/// own atomic, so the plain cell serves both builds.
#[cfg(loom)]
pub(crate) use std::cell::UnsafeCell;

/// The order between a store and a later load of another location, which sequentially consistent
/// accesses have by themselves; loom takes those for acquire and release, and knows only the fence.
#[cfg(not(loom))]
#[inline]
pub(crate) fn order_store_before_load() {}

#[cfg(loom)]
pub(crate) fn order_store_before_load() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}
