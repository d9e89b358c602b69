//! The switch between the standard atomics and loom's, so that lock-free protocols can be model-checked.
//!
//! Only the protocols themselves go through here (the claim, the inbox, the spin lock, the scopes and
//! what lies on them, the locks, and what counts a channel's halves, a message's readers, the handles of a
//! group or the versions of a value); statics and counters use the standard library directly. In a model,
//! those who wait are plain threads: loom's, which it parks and wakes.

#[cfg(not(loom))]
pub(crate) use std::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
    thread::{Thread, current as current_thread, park, yield_now},
    thread_local,
};

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    },
    thread::{Thread, current as current_thread, park, yield_now},
};

/// loom's does not know initialisers that are marked as constant.
#[cfg(loom)]
macro_rules! thread_local_in_models {
    (static $name:ident: $type:ty = const { $initial:expr };) => {
        loom::thread_local! { static $name: $type = $initial; }
    };
}
#[cfg(loom)]
pub(crate) use thread_local_in_models as thread_local;

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
