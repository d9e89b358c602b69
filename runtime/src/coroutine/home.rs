//! Home: a worker's own side of its coroutines, on its thread.

use std::{
    io,
    ops::Deref,
    ptr::{self, NonNull},
    sync::{Arc, atomic::Ordering},
};

use super::{
    ending,
    header::{Header, OwnStage},
    remote::Remote,
    sighting::prefetch,
    task::TaskRef,
    unstarted::{Refused, Unstarted},
};
use crate::{
    idle::Sleeper,
    stack::Stack,
    sys::{list::List, memory::page_size, trace::Trace},
    waiter::{Claimed, Outcome, Waiter},
};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

/// A coroutine that was begun on this thread and is not yet complete.
///
/// So what is its home's alone may be looked at and changed, and it is there. This cannot leave the thread. Copies of
/// it are good until the coroutine is completed, which is unsafe for that reason: see [`Home::complete`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HomeTask(NonNull<Header>);

impl Deref for HomeTask {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: not complete, so the runtime's reference is held.
        unsafe { self.0.as_ref() }
    }
}

impl HomeTask {
    /// The coroutine that this is the waiter of.
    ///
    /// # Safety
    /// It is that of a coroutine which was begun on this thread and is not complete.
    #[inline]
    pub(crate) unsafe fn of_waiter(waiter: NonNull<Waiter>) -> Self {
        // A coroutine's waiter is the first field of its header.
        Self(waiter.cast())
    }

    #[inline]
    pub(crate) fn pointer(self) -> NonNull<Header> {
        self.0
    }

    #[inline]
    pub(crate) fn waiter(self) -> NonNull<Waiter> {
        self.0.cast()
    }

    /// A counted reference to it.
    pub(crate) fn counted(self) -> TaskRef {
        self.references.add();
        // SAFETY: just counted.
        unsafe { TaskRef::counted(self.0) }
    }

    /// Tries to end its wait; a caller that did has to queue it.
    #[inline]
    #[must_use = "a claimed coroutine sleeps for ever unless it is queued"]
    pub(crate) fn claim(self, outcome: Outcome) -> bool {
        // SAFETY: it is alive.
        unsafe { Waiter::claim(self.waiter(), outcome) }.is_some()
    }

    /// Runs the coroutine until it suspends or ends: then true.
    ///
    /// # Safety
    /// It has not ended, and is not running.
    #[inline(always)]
    pub(crate) unsafe fn resume(self) -> bool {
        // SAFETY: begun on this thread; the rest is the caller's promise.
        unsafe { self.engine.resume() }
    }

    /// Takes the stack of one that has ended.
    ///
    /// # Panics
    /// If it has not.
    #[inline]
    pub(crate) fn take_stack(self) -> Option<Stack> {
        self.engine.take_stack()
    }

    /// Leaves the coroutine's stack until it is resumed.
    ///
    /// # Safety
    /// It is the one that runs.
    #[inline(always)]
    pub(crate) unsafe fn suspend(self) {
        self.mark.note();
        // SAFETY: the caller's promise.
        unsafe { self.engine.suspend() };
    }

    /// Has it write down its own frames; false if its stack has too little room for that.
    ///
    /// # Safety
    /// It has not ended, and is not running.
    pub(crate) unsafe fn trace(self, trace: &mut Trace) -> bool {
        let (stack, at) = (self.stack_range(), self.mark.suspended_at());
        if !stack.contains(&at) || at - stack.start < page_size() + Trace::STACK_BYTES {
            return false;
        }
        // The walk touches pages that a sweep may have given back.
        self.mark.forget_sightings();
        // SAFETY: the caller's promise, and there is room.
        unsafe { self.engine.trace(trace) };
        true
    }

    /// Asks the processor for the lines that resuming it will touch first: of its header.
    #[inline]
    pub(crate) fn prefetch_header(self) {
        prefetch(ptr::from_ref(&self.engine).cast());
    }

    /// Prefetches its stack, as [`prefetch_header`](Self::prefetch_header) does the header; reads the header.
    #[inline]
    pub(crate) fn prefetch_stack(self) {
        self.mark.prefetch();
    }
}

/// A worker's own side: what other threads see of it, and the coroutines that have begun here and not ended.
pub(crate) struct Home {
    remote: Arc<Remote>,
    begun: List<Header>,
    /// Keeps it on its thread.
    _here: ptr::NonNull<()>,
}

impl Deref for Home {
    type Target = Remote;

    #[inline]
    fn deref(&self) -> &Remote {
        &self.remote
    }
}

impl Home {
    /// # Safety
    /// There is one home of this remote, on the thread that makes it. It is not dropped before all coroutines that
    /// it has begun have ended.
    pub(crate) unsafe fn new(remote: Arc<Remote>) -> Self {
        Self {
            remote,
            begun: List::new(),
            _here: NonNull::dangling(),
        }
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Lets others see what has begun here; the home stays where it is from now on.
    pub(crate) fn show(&self) {
        let begun = ptr::from_ref(&self.begun).cast_mut();
        self.remote.begun.store(begun, Ordering::Relaxed);
    }

    /// Binds a task to this thread, and to the stack that was reserved for it or else to this.
    #[inline]
    pub(crate) fn begin(&self, task: Unstarted, stack: Option<Stack>) -> HomeTask {
        let reserved = task.header().engine.take_reserved();
        let stack = reserved.or(stack).expect("a task is started with a stack");
        self.bind(task, stack, ending::run)
    }

    /// Begins a coroutine, like [`begin`](Self::begin), that drops its closure and its locals and then ends. `told`
    /// gets an error that nobody will ask for, on that coroutine.
    pub(crate) fn begin_refused(
        &self,
        task: Refused,
        stack: Stack,
        told: fn(io::Error),
    ) -> HomeTask {
        let (task, failure) = task.into_parts();
        task.header().is_refused.set(true);
        self.bind(task, stack, move |stage| {
            stage.fail(failure);
            ending::finish(&stage, told);
        })
    }

    /// Makes the coroutine that will run `body`, which does not unwind.
    #[inline(always)]
    fn bind(
        &self,
        task: Unstarted,
        stack: Stack,
        body: impl FnOnce(OwnStage) + 'static,
    ) -> HomeTask {
        let stage = task.into_stage();
        let begun = HomeTask(stage.pointer());
        begun.home.set(&raw const self.remote.parker);
        begun.bounds.set(&stack);
        // SAFETY: an unstarted task was its holder's, and stays in place. It begins on this thread, and the engine is
        // dropped, and its stack given back, before the task's memory goes.
        unsafe { begun.engine.start(stack, move || body(stage)) };
        self.enlist(begun);
        begun
    }

    #[inline]
    fn enlist(&self, task: HomeTask) {
        // SAFETY: the list is this thread's; the task is removed before it is completed.
        unsafe { self.begun.push_back(task.0) };
        let count = &self.remote.live;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Publishes the end of a coroutine: wakes who joins it, leaves its group, drops the runtime's reference.
    ///
    /// # Safety
    /// It has ended, and is completed once. No copy of `task` is used afterwards, nor what was borrowed through one.
    #[inline]
    pub(crate) unsafe fn complete(&self, task: HomeTask, ready: impl FnMut(Claimed)) {
        let count = &self.remote.live;
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        // SAFETY: begun here, so in this thread's list; the rest is the caller's promise.
        unsafe {
            self.begun.remove(task.0);
            ending::complete(TaskRef::counted(task.0), ready);
        }
    }

    /// Whether nothing that has begun here is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Calls `f` for each that has begun here and not ended.
    pub(crate) fn for_each(&self, mut f: impl FnMut(HomeTask)) {
        // SAFETY: the list is this thread's; who completes a coroutine vouches that no walk has it in hand.
        unsafe { self.begun.for_each(|task| f(HomeTask(task))) };
    }

    /// One of those that have begun here and not ended: each in turn, also if others begin or end meanwhile.
    pub(crate) fn next_in_turn(&self) -> Option<HomeTask> {
        let task = self.begun.front()?;
        // SAFETY: the list is this thread's, and a task in it is alive.
        unsafe {
            self.begun.remove(task);
            self.begun.push_back(task);
        }
        Some(HomeTask(task))
    }

    /// The coroutine whose wait was won, if it is one of these; others are sent to their homes, and threads woken.
    #[inline]
    pub(crate) fn take_in(&self, claimed: Claimed) -> Option<HomeTask> {
        let task = claimed.into_coroutine()?.cast::<Header>();
        // SAFETY: a claimed coroutine waits until it is resumed.
        let home = unsafe { task.as_ref() }.home.get();
        if ptr::eq(home, &raw const self.remote.parker) {
            return Some(HomeTask(task));
        }
        send(task);
        None
    }

    /// Takes all that others have sent here.
    pub(crate) fn take_sent(&self, sleeper: &Sleeper, mut each: impl FnMut(HomeTask)) {
        // What is sent to this parker was begun here, and waits: see `send`.
        sleeper.take(&self.remote.parker, |task| each(HomeTask(task)));
    }
}

/// Wakes the one whose wait was won, from a thread that is no worker.
pub(crate) fn send_home(claimed: Claimed) {
    if let Some(waiter) = claimed.into_coroutine() {
        send(waiter.cast());
    }
}

/// Sends a coroutine whose wait was won to its home. Out of line: most are woken at home.
#[inline(never)]
fn send(task: NonNull<Header>) {
    // SAFETY: a claimed coroutine waits until it is resumed, on its home worker, which lives as long.
    unsafe { (*task.as_ref().home.get()).send(task) };
}
