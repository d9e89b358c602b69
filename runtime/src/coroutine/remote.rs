//! A worker as other threads see it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use crossbeam_deque::Injector;

use super::{
    task::{Header, Won},
    unstarted::Unstarted,
};
use crate::{
    driver::Registrar,
    idle::Parker,
    loom::AtomicPtr,
    sys::{fenced, list::List, spin::SpinLock},
};

/// A worker as other threads see it: where its coroutines are sent when they are woken, and its
/// driver's registrar for descriptors that are closed elsewhere.
pub(crate) struct Remote {
    /// Where coroutines are sent that were woken elsewhere; see `idle`.
    pub(crate) parker: Parker<Won>,
    /// Unique in the process.
    pub(crate) worker_id: u32,
    /// The worker's thread in the system's terms, while it runs its loop; otherwise 0.
    pub(crate) thread_id: AtomicI32,
    /// The lowest address of that thread's own stack and the one above its highest.
    pub(crate) thread_stack: [AtomicUsize; 2],
    pub(crate) registrar: Registrar,
    /// New coroutines that this worker, and no other, is to begin.
    pub(crate) assigned: SpinLock<VecDeque<Unstarted>>,
    /// New coroutines from other workers that had more; a worker that has nothing to do may take them.
    pub(crate) offered: Injector<Unstarted>,
    /// The coroutine that runs now; see `Gate` for how others may look at it.
    pub(super) running: AtomicPtr<Header>,
    /// Those that have begun here and not ended, the one that runs included; to be looked at as that is.
    pub(super) begun: AtomicPtr<List<Header>>,
    pub(super) has_home: AtomicBool,
    /// Turns given to coroutines so far.
    pub(crate) turn: AtomicU64,
    /// Changes in each round of its loop.
    pub(crate) rounds: AtomicU32,
    /// Whether it waits for the kernel's news.
    pub(crate) polling: AtomicBool,
    /// Coroutines that have begun here and not ended.
    pub(crate) live: AtomicUsize,
    /// Its holder keeps the worker from going on past the end of the turn: see `Gate`.
    pub(crate) at_gate: SpinLock<()>,
}

impl Remote {
    pub(crate) fn new(parker: Parker<Won>, registrar: Registrar) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let worker_id = NEXT.fetch_add(1, Ordering::Relaxed);
        if worker_id == 0 {
            fenced::abort("four thousand million workers have been started");
        }
        Self {
            parker,
            worker_id,
            thread_id: AtomicI32::new(0),
            thread_stack: [const { AtomicUsize::new(0) }; 2],
            registrar,
            assigned: SpinLock::new(VecDeque::new()),
            offered: Injector::new(),
            running: AtomicPtr::new(std::ptr::null_mut()),
            begun: AtomicPtr::new(std::ptr::null_mut()),
            has_home: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            rounds: AtomicU32::new(0),
            polling: AtomicBool::new(false),
            live: AtomicUsize::new(0),
            at_gate: SpinLock::new(()),
        }
    }

    /// Whether it is in a turn of a coroutine.
    pub(crate) fn is_in_turn(&self) -> bool {
        !self.running.load(Ordering::Acquire).is_null()
    }
}
