//! What has begun on this thread: coroutines by pointer, and who may have one.
//!
//! # Why the blocks of unsafe code here are sound
//!
//! A coroutine begins in [`Here::begin`] and goes in [`Ended::go`], after its last [`Here::turn`]: until then it is
//! there. What else knows it by a pointer is one of the types here, none of which leaves the thread or is copied by
//! others:
//!
//! | type | what it stands for | why the coroutine is there |
//! |---|---|---|
//! | [`Ready`] | the right to its next turn, of which there is one at a time | it cannot end before that turn |
//! | [`Running`] | it runs, and the code that has this runs in it | it has not ended |
//! | [`Timed`] | its timer, of which there is one at a time | its end takes its timer back, or ends the process |
//! | [`Still`] | it is looked at while nothing runs | nothing is resumed meanwhile: see [`Here::rest`] |
//! | [`Ended`] | it has ended | this is what lets it go |
//!
//! Which one runs is known for each thread in one place, which [`Here::turn`] alone changes.

use std::{
    cell::Cell,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{Ordering, compiler_fence},
    },
};

use super::{
    gate::{Gate, Looks, looks},
    remote::Remote,
    sighting::{Sighting, Sweep},
    switch::prefetch,
    task::{Header, Over, OwnStage, TaskRef, Won},
    unstarted::Unstarted,
};
use crate::{
    idle::Sleeper,
    stack::Stack,
    sys::{
        fenced,
        list::List,
        memory::{Resting, Vacant, page_size},
        trace::Trace,
    },
    waiter::{Outcome, Waiter},
    wheel::Key,
};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

thread_local! {
    /// The coroutine that runs on this thread. None does if it is null, or [`AT_REST`].
    static RUNNING: Cell<*mut Header> = const { Cell::new(ptr::null_mut()) };
    /// Whether this is a worker's thread.
    static HAS_HOME: Cell<bool> = const { Cell::new(false) };
}

/// Stands for the coroutine that runs while none may be resumed.
const AT_REST: *mut Header = ptr::without_provenance_mut(1);

#[inline(always)]
fn running() -> Option<Begun> {
    let running = NonNull::new(RUNNING.get()).filter(|running| running.as_ptr() > AT_REST);
    running.map(Begun)
}

/// A coroutine that has begun on this thread and is there still: what the types here have in them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Begun(NonNull<Header>);

impl Deref for Begun {
    type Target = Header;

    #[inline(always)]
    fn deref(&self) -> &Header {
        // SAFETY: made here alone, and in the hands of one of the types here, for the reason in the opening's table.
        unsafe { self.0.as_ref() }
    }
}

/// Whether the caller is a coroutine.
#[inline]
pub(crate) fn is_running() -> bool {
    running().is_some()
}

/// Hands `act` the coroutine that runs, if the caller is one.
#[inline(always)]
pub(crate) fn on_running<R>(act: impl for<'a> FnOnce(Option<Running<'a>>) -> R) -> R {
    act(running().map(|task| Running(task, PhantomData)))
}

/// Does what [`on_running`] does, for actions that must be inlined, as a method can be and a closure cannot.
#[inline(always)]
pub(crate) fn act<A: Act>(action: A) -> A::Result {
    action.act(running().map(|task| Running(task, PhantomData)))
}

/// What is done by the coroutine that runs, if the caller is one.
pub(crate) trait Act {
    type Result;

    fn act(self, running: Option<Running<'_>>) -> Self::Result;
}

/// The waiter that calls: the running coroutine's, or the plain thread's own.
#[inline(always)]
pub(crate) fn current_waiter() -> NonNull<Waiter> {
    match running() {
        // A coroutine's waiter is the first field of its header.
        Some(task) => task.0.cast(),
        None => Waiter::of_thread(),
    }
}

/// Has the waiter that calls do `action`.
#[inline(always)]
pub(crate) fn on_waiter<A: WaiterAct>(action: A) -> A::Result {
    // SAFETY: a coroutine's waiter outlives its stack, a plain thread's lives until the thread runs its last
    // destructors; `act` returns before either, and cannot keep the reference.
    action.act(unsafe { current_waiter().as_ref() })
}

/// What is done by the waiter that calls; see [`Act`].
pub(crate) trait WaiterAct {
    type Result;

    fn act(self, waiter: &Waiter) -> Self::Result;
}

/// The coroutine that runs; for a call that it makes.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a>(Begun, PhantomData<&'a Header>);

impl Deref for Running<'_> {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        &self.0
    }
}

impl Running<'_> {
    /// A counted reference to it.
    pub(crate) fn counted(self) -> TaskRef {
        // SAFETY: it has not ended, so the runtime's is not given up.
        unsafe { TaskRef::to(self.0.0) }
    }

    /// Leaves its stack until it is resumed. The winner of its wait sees to that; without a wait nobody does.
    #[inline(always)]
    pub(crate) fn leave(self) {
        self.mark.note();
        // SAFETY: it is the one that runs, and it is called in a call that it makes: nothing hands this on.
        unsafe { self.engine.suspend() };
    }

    /// Leaves its stack until its next turn, which its worker queues.
    #[inline(always)]
    pub(crate) fn give_way(self, queue: impl FnOnce(Ready)) {
        /// Else its next turn might come after its end.
        struct Unqueued;
        impl Drop for Unqueued {
            #[cold]
            fn drop(&mut self) {
                fenced::abort("a coroutine's next turn was not queued");
            }
        }
        let unqueued = Unqueued;
        queue(Ready(self.0));
        let _queued = ManuallyDrop::new(unqueued);
        self.leave();
    }

    /// Its timer, to be armed. There must be none yet.
    pub(super) fn timer(self) -> Timed {
        if self.has_timer.replace(true) {
            lost_a_timer();
        }
        Timed(self.0)
    }
}

/// A coroutine's timer: there is one at most, which the coroutine's end takes back.
pub(crate) struct Timed(Begun);

impl Deref for Timed {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        &self.0
    }
}

impl Timed {
    /// Has `insert` keep it, and notes where, and that it fires at the tick `due`.
    #[inline]
    pub(super) fn arm(self, due: u64, insert: impl FnOnce(u64, Timed) -> Key) {
        let task = self.0;
        let key = insert(due, self);
        task.alarm.timer.set(Some(key));
        task.alarm.armed_for.set(due);
    }

    /// It is not needed any more.
    #[inline]
    pub(super) fn settle(self) {
        self.has_timer.set(false);
    }

    /// Ends its coroutine's wait, if that is not over: then the coroutine has its next turn.
    #[inline]
    pub(super) fn win(self) -> Option<Ready> {
        let task = self.0;
        self.settle();
        // The winner of the wait has the next turn.
        let won = task.waiter.claim.win(Outcome::TimedOut, false);
        won.then_some(Ready(task))
    }
}

#[cold]
pub(super) fn lost_a_timer() -> ! {
    fenced::abort("a coroutine's timer is not where it was put");
}

/// The right to a coroutine's next turn, on this thread: the winner of its wait has it, and it itself as it gives
/// way.
#[must_use = "a coroutine sleeps for ever unless its turn comes"]
pub(crate) struct Ready(Begun);

impl Deref for Ready {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        &self.0
    }
}

impl Ready {
    /// Asks the processor for the lines that resuming it will touch first: of its header.
    #[inline]
    pub(crate) fn prefetch_header(&self) {
        prefetch(ptr::from_ref(&self.engine).cast());
    }

    /// Prefetches its stack, as [`prefetch_header`](Self::prefetch_header) does the header; reads the header.
    #[inline]
    pub(crate) fn prefetch_stack(&self) {
        self.mark.prefetch();
    }
}

/// What has begun on this thread and not ended, and what other threads see of that.
pub(super) struct Here {
    remote: Arc<Remote>,
    /// Others may look at it where it is: see `Gate`.
    begun: Box<List<Header>>,
    /// Keeps it on its thread.
    _here: PhantomData<*const ()>,
}

impl Here {
    /// # Panics
    /// If this thread has one already, or the remote.
    pub(super) fn new(remote: Arc<Remote>) -> Self {
        let is_taken = remote.has_home.swap(true, Ordering::Relaxed);
        assert!(
            !is_taken && !HAS_HOME.replace(true),
            "one home a remote, and a thread"
        );
        let begun = Box::new(List::new());
        let shown = ptr::from_ref(&*begun).cast_mut();
        remote.begun.store(shown, Ordering::Relaxed);
        Self {
            remote,
            begun,
            _here: PhantomData,
        }
    }

    #[inline]
    pub(super) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Makes the coroutine that will run `body`, which does not unwind.
    #[inline(always)]
    pub(super) fn begin(
        &self,
        task: Unstarted,
        stack: Stack,
        body: impl FnOnce(OwnStage) + 'static,
    ) -> Ready {
        let stage = task.into_stage();
        let begun = Begun(stage.pointer());
        begun.home.set(&raw const self.remote.parker);
        begun.bounds.set(&stack);
        // SAFETY: an unstarted task was its holder's, and stays in place. It begins on this thread, and the engine is
        // dropped, and its stack given back, before the task's memory goes.
        unsafe { begun.engine.start(stack, move || body(stage)) };
        // SAFETY: the list is this thread's; the task is removed before it is completed.
        unsafe { self.begun.push_back(begun.0) };
        Ready(begun)
    }

    /// Runs a coroutine until it suspends or ends, and shows it to `look` then, if anything is to be noted of turns;
    /// whether it has ended is told there too.
    #[inline(always)]
    pub(super) fn turn(
        &self,
        next: Ready,
        look: impl FnOnce(&Still<'_>, Looks, bool),
    ) -> Option<Ended<'_>> {
        let task = next.0;
        if !RUNNING.replace(task.0.as_ptr()).is_null() {
            another_runs();
        }
        let remote = &*self.remote;
        let turn = remote.turn.load(Ordering::Relaxed);
        remote.turn.store(turn + 1, Ordering::Relaxed);
        // A reader that sees it sees the turn, and what the worker did before, too.
        remote.running.store(task.0.as_ptr(), Ordering::Release);
        // SAFETY: begun on this thread. It does not run, for nothing does; it has not ended, or this had not been its
        // next turn.
        let ended = unsafe { task.engine.resume() };
        RUNNING.set(ptr::null_mut());
        // Before this thread touches a coroutine, or anything of its own that others look at: see `Gate`.
        remote.running.store(ptr::null_mut(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let looks = looks();
        if looks.any() {
            // By value: what others refer to would be written to memory in every turn.
            self.look(task, looks, move |task| look(task, looks, ended));
        }
        ended.then_some(Ended { here: self, task })
    }

    #[cold]
    #[inline(never)]
    fn look(&self, task: Begun, looks: Looks, look: impl FnOnce(&Still<'_>)) {
        if looks.gated() {
            drop(self.remote.at_gate.lock());
        }
        self.rest(|rest| look(&rest.still(task)));
    }

    /// Whether nothing that has begun here is left.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Calls `look` while nothing runs; meanwhile nothing can be resumed.
    ///
    /// # Panics
    /// If it is called by a coroutine, or within such a call.
    pub(super) fn rest<R>(&self, look: impl FnOnce(&Rest<'_>) -> R) -> R {
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                RUNNING.set(ptr::null_mut());
            }
        }
        assert!(RUNNING.get().is_null(), "something runs");
        RUNNING.set(AT_REST);
        let _over = Over;
        look(&Rest(self))
    }

    /// The coroutine whose wait was won, if it has begun here.
    #[inline]
    pub(super) fn take_in(&self, task: Won) -> Result<Ready, Won> {
        match ptr::eq(task.home.get(), &raw const self.remote.parker) {
            true => Ok(Ready(Begun(task.pointer()))),
            false => Err(task),
        }
    }

    /// Takes all that others have sent here.
    pub(super) fn take_sent(&self, sleeper: &Sleeper, mut each: impl FnMut(Ready)) {
        // Sent to this parker, so begun here: see `Won::send`.
        sleeper.take(&self.remote.parker, |task| {
            each(Ready(Begun(task.pointer())));
        });
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if !self.begun.is_empty() {
            fenced::abort("a worker went before its coroutines");
        }
        HAS_HOME.set(false);
    }
}

#[cold]
fn another_runs() -> ! {
    fenced::abort("a coroutine was to be resumed by another, or while its worker looks at them");
}

/// A coroutine that has ended, to be let go.
#[must_use = "a home does not go before its coroutines"]
pub(super) struct Ended<'a> {
    here: &'a Here,
    task: Begun,
}

impl Ended<'_> {
    #[inline]
    pub(super) fn take_stack(&self) -> Option<Stack> {
        self.task.engine.take_stack()
    }

    /// Lets it go. `take_timer_back` settles its timer, if it has one.
    #[inline]
    pub(super) fn go(self, take_timer_back: impl FnOnce(&Header)) -> Over {
        if self.task.has_timer.get() {
            take_timer_back(&self.task);
            if self.task.has_timer.get() {
                lost_a_timer();
            }
        }
        // SAFETY: begun here, since a thread has one home, so in this thread's list. It has ended, and comes here
        // once. Nothing knows it any more but by counted references: see the opening.
        unsafe {
            self.here.begun.remove(self.task.0);
            Over::ended(self.task.0)
        }
    }
}

/// A home of which nothing runs, nor will be resumed.
pub(crate) struct Rest<'a>(&'a Here);

impl Rest<'_> {
    fn still(&self, task: Begun) -> Still<'_> {
        Still(task, PhantomData)
    }

    /// The coroutine whose turn is to come.
    pub(crate) fn of(&self, next: &Ready) -> Still<'_> {
        self.still(next.0)
    }

    /// Calls `look` for each that has begun here and not ended.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Still<'_>)) {
        // SAFETY: the list is this thread's; a task leaves it, and goes, at the end of a turn alone.
        unsafe { self.0.begun.for_each(|task| look(&self.still(Begun(task)))) };
    }

    /// One of those that have begun here and not ended: each in turn, also if others begin or end meanwhile.
    pub(crate) fn next_in_turn(&self) -> Option<Still<'_>> {
        let task = self.0.begun.front()?;
        // SAFETY: the list is this thread's, and a task in it is alive.
        unsafe {
            self.0.begun.remove(task);
            self.0.begun.push_back(task);
        }
        Some(self.still(Begun(task)))
    }
}

/// A coroutine of this thread that does not run, and will not before this is gone.
pub(crate) struct Still<'a>(Begun, PhantomData<&'a Here>);

impl Deref for Still<'_> {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        &self.0
    }
}

/// What a context switch puts on a stack on which nothing has run takes less, and every coroutine takes more.
pub(crate) const TOP: usize = 512;

impl<'a> Still<'a> {
    /// What a sweep over the suspended coroutines finds here, and leaves for the next to find.
    pub(crate) fn sight(&self, sweep: Sweep) -> Sighting<Vacant<'a>> {
        self.sighted(sweep).map(|pages| self.stack().vacant(&pages))
    }

    /// Its stack. Where something lives there is not known if it was suspended on another.
    pub(crate) fn stack(&self) -> Resting<'a> {
        let stack = self.stack_range();
        let frames = match self.was_suspended() {
            false => stack.end - TOP,
            true if stack.contains(&self.mark.suspended_at()) => self.end_of_frames(),
            true => stack.start,
        };
        // SAFETY: it goes only at the end of a turn, and nothing is resumed before this is gone. What lives on its
        // stack are its frames.
        unsafe { Resting::new(stack, frames) }
    }

    /// Has it write down its own frames; false if its stack has too little room for that.
    pub(crate) fn trace(&self, trace: &mut Trace) -> bool {
        let (stack, at) = (self.stack_range(), self.mark.suspended_at());
        if !stack.contains(&at) || at - stack.start < page_size() + Trace::STACK_BYTES {
            return false;
        }
        // The walk touches pages that a sweep may have given back.
        self.mark.forget_sightings();
        // SAFETY: it does not run and has not ended: those that have are taken out of the list. There is room.
        unsafe { self.engine.trace(trace) };
        true
    }
}

impl Gate {
    /// Shows `look` the coroutine that runs there, if one does, and the others that have begun there. It may change
    /// all but its origin and its stack's place meanwhile; the others change nothing.
    pub(crate) fn with_running<R>(
        &self,
        home: &Remote,
        look: impl FnOnce(&Header, Others<'_>) -> R,
    ) -> Option<R> {
        let _kept = home.at_gate.lock();
        let running = NonNull::new(home.running.load(Ordering::Acquire))?;
        // SAFETY: by the gate's protocol the worker is in a turn and stays there before the lock is given back, so its
        // coroutine is not completed, and its list is there and stays as it is.
        let (running, begun) = unsafe {
            let begun = home.begun.load(Ordering::Relaxed);
            (running.as_ref(), begun.as_ref()?)
        };
        Some(look(running, Others { running, begun }))
    }
}

/// The coroutines of a worker that do not run.
pub(crate) struct Others<'a> {
    running: &'a Header,
    begun: &'a List<Header>,
}

impl Others<'_> {
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Header)) {
        // SAFETY: as there, for as long as this.
        let is_another = |task: &Header| {
            if !ptr::eq(task, self.running) {
                look(task);
            }
            false
        };
        // SAFETY: as there, for as long as this.
        unsafe { self.begun.any(is_another) };
    }
}
