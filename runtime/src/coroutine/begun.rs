//! Home: a worker's own side of its coroutines, on its thread.
//!
//! # Why the blocks of unsafe code here are sound
//!
//! A coroutine begins in [`Home::begin`] and goes in [`Home::resume`], when it has ended: until then it is there.
//! What else knows it by a pointer is one of the types here, none of which leaves the thread or is copied:
//!
//! | type | what it stands for | why the coroutine is there |
//! |---|---|---|
//! | [`Ready`] | the right to its next turn, of which there is one at a time | it cannot end before that turn |
//! | [`Running`] | it runs, and the code that has this runs in it | it has not ended |
//! | [`Timed`] | its timer | its end takes its timer back |
//! | [`Still`] | it is looked at while nothing runs | nothing is resumed meanwhile: see [`Home::rest`] |
//!
//! Which one runs is known for each thread in one place, which [`Home::resume`] alone changes.

use std::{
    cell::Cell,
    io,
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
    ending,
    gate::{Gate, Looks, looks},
    remote::Remote,
    sighting::{Sighting, Sweep},
    switch::prefetch,
    task::{Header, Over, OwnStage, TaskRef, Won},
    unstarted::{Refused, Unstarted},
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
    waiter::{Claimed, Outcome, Waiter},
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
    pub(crate) fn give_way(self, host: &impl Host) {
        host.queue(Ready(self.0));
        self.leave();
    }

    /// Has its wait end at the tick `due`. `insert` keeps a timer that fires then, and `remove` takes out one that
    /// would fire later.
    #[inline(always)]
    pub(crate) fn set_alarm(
        self,
        due: u64,
        insert: impl FnOnce(u64, Timed) -> Key,
        remove: impl FnOnce(Key) -> Option<Timed>,
    ) {
        let alarm = &self.alarm;
        alarm.due.set(due);
        if alarm.timer.get().is_none() || alarm.armed_for.get() > due {
            self.set_timer(due, insert, remove);
        }
    }

    fn set_timer(
        self,
        due: u64,
        insert: impl FnOnce(u64, Timed) -> Key,
        remove: impl FnOnce(Key) -> Option<Timed>,
    ) {
        take_timer_back(self.0, remove);
        Timed(self.0).arm(due, insert);
    }
}

/// Takes a coroutine's timer out of where it is kept, if it has one.
#[inline]
fn take_timer_back(task: Begun, remove: impl FnOnce(Key) -> Option<Timed>) {
    if let Some(key) = task.alarm.timer.take()
        && remove(key).is_none_or(|timed| timed.0 != task)
    {
        lost_a_timer();
    }
}

#[cold]
fn lost_a_timer() -> ! {
    fenced::abort("a coroutine's timer is not where it was put");
}

/// A coroutine's timer, while it is armed: there is one at most, which the coroutine's end takes back.
pub(crate) struct Timed(Begun);

/// What a timer that has fired means.
pub(crate) enum Fired {
    /// Its coroutine waits for longer, and the timer is to be armed again.
    Early(Timed),
    /// Its coroutine's wait is over, which has its next turn.
    Due(Ready),
    /// Nothing any more.
    Late,
}

impl Timed {
    #[inline]
    fn arm(self, due: u64, insert: impl FnOnce(u64, Timed) -> Key) {
        /// Else a timer might be kept of which its coroutine knows nothing.
        struct Unarmed;
        impl Drop for Unarmed {
            fn drop(&mut self) {
                lost_a_timer();
            }
        }
        let task = self.0;
        let unarmed = Unarmed;
        let key = insert(due, self);
        let _armed = ManuallyDrop::new(unarmed);
        task.alarm.timer.set(Some(key));
        task.alarm.armed_for.set(due);
    }

    /// Arms the timer again that has fired early.
    pub(crate) fn arm_again(self, insert: impl FnOnce(u64, Timed) -> Key) {
        let due = self.0.alarm.due.get();
        self.arm(due, insert);
    }

    /// It has fired at the tick `present`.
    pub(crate) fn fire(self, present: u64) -> Fired {
        let alarm = &self.0.alarm;
        if alarm.due.get() > present && alarm.is_set() {
            return Fired::Early(self);
        }
        alarm.timer.set(None);
        if alarm.due.get() > present {
            return Fired::Late;
        }
        // The winner of the wait has the next turn.
        match self.0.waiter.claim.win(Outcome::TimedOut, false) {
            true => Fired::Due(Ready(self.0)),
            false => Fired::Late,
        }
    }
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

/// A worker's own side: what other threads see of it, and the coroutines that have begun here and not ended.
pub(crate) struct Home {
    remote: Arc<Remote>,
    begun: List<Header>,
    /// Keeps it on its thread.
    _here: PhantomData<*const ()>,
}

/// What a home's worker does around a turn.
pub(crate) trait Host {
    /// Notes what is wanted of a turn that is over.
    fn look(&self, task: &Still<'_>, looks: Looks, ended: bool);
    /// Takes the stack of a coroutine that has ended.
    fn take_stack(&self, stack: Stack);
    /// Takes a timer out.
    fn disarm(&self, timer: Key) -> Option<Timed>;
    /// Puts a claimed waiter where it will be resumed.
    fn ready(&self, claimed: Claimed);
    /// Queues the next turn of a coroutine.
    fn queue(&self, next: Ready);
}

impl Deref for Home {
    type Target = Remote;

    #[inline]
    fn deref(&self) -> &Remote {
        &self.remote
    }
}

impl Home {
    /// # Panics
    /// If this thread is a home already, or the remote that of another.
    pub(crate) fn new(remote: Arc<Remote>) -> Self {
        let is_taken = remote.has_home.swap(true, Ordering::Relaxed);
        assert!(
            !is_taken && !HAS_HOME.replace(true),
            "one home a remote, and a thread"
        );
        Self {
            remote,
            begun: List::new(),
            _here: PhantomData,
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
    pub(crate) fn begin(&self, task: Unstarted, stack: Option<Stack>) -> Ready {
        let reserved = task.header().engine.take_reserved();
        let stack = reserved.or(stack).expect("a task is started with a stack");
        self.bind(task, stack, |stage| ending::run(&stage))
    }

    /// Begins a coroutine, like [`begin`](Self::begin), that drops its closure and its locals and then ends. `told`
    /// gets an error that nobody will ask for, on that coroutine.
    pub(crate) fn begin_refused(&self, task: Refused, stack: Stack, told: fn(io::Error)) -> Ready {
        let (task, failure) = task.into_parts();
        task.header().is_refused.set(true);
        self.bind(task, stack, move |stage| {
            stage.fail(failure);
            ending::finish(&stage, told);
        })
    }

    /// Makes the coroutine that will run `body`, which does not unwind.
    #[inline(always)]
    fn bind(&self, task: Unstarted, stack: Stack, body: impl FnOnce(OwnStage) + 'static) -> Ready {
        let stage = task.into_stage();
        let begun = Begun(stage.pointer());
        begun.home.set(&raw const self.remote.parker);
        begun.bounds.set(&stack);
        // SAFETY: an unstarted task was its holder's, and stays in place. It begins on this thread, and the engine is
        // dropped, and its stack given back, before the task's memory goes.
        unsafe { begun.engine.start(stack, move || body(stage)) };
        // SAFETY: the list is this thread's; the task is removed before it is completed.
        unsafe { self.begun.push_back(begun.0) };
        let count = &self.remote.live;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ready(begun)
    }

    /// Runs a coroutine until it suspends or ends. If it has ended, publishes that: wakes who joins it, leaves its
    /// group, drops the runtime's reference.
    ///
    /// Always inlined, for the reason that `scheduler::suspend` gives.
    #[inline(always)]
    pub(crate) fn resume(&self, next: Ready, host: &impl Host) {
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
        self.remote
            .running
            .store(ptr::null_mut(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let looks = looks();
        if looks.any() {
            self.look(task, looks, ended, host);
        }
        if ended {
            self.end(task, host);
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&self, task: Begun, looks: Looks, ended: bool, host: &impl Host) {
        if looks.gated() {
            drop(self.remote.at_gate.lock());
        }
        self.rest(|rest| host.look(&rest.still(task), looks, ended));
    }

    /// The end of a coroutine, after its last turn.
    #[inline]
    fn end(&self, task: Begun, host: &impl Host) {
        if let Some(stack) = task.engine.take_stack() {
            host.take_stack(stack);
        }
        take_timer_back(task, |key| host.disarm(key));
        let count = &self.remote.live;
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        // SAFETY: begun here, since a thread has one home, so in this thread's list. It has ended, and comes here
        // once. Nothing knows it any more but by counted references: see the opening.
        unsafe {
            self.begun.remove(task.0);
            ending::complete(Over::ended(task.0), |claimed| host.ready(claimed));
        }
    }

    /// Whether nothing that has begun here is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Calls `look` while nothing runs; meanwhile nothing can be resumed.
    ///
    /// # Panics
    /// If it is called by a coroutine, or within such a call.
    pub(crate) fn rest<R>(&self, look: impl FnOnce(&Rest<'_>) -> R) -> R {
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

    /// The coroutine whose wait was won, if it is one of these; others are sent to their homes, and threads woken.
    #[inline]
    pub(crate) fn take_in(&self, claimed: Claimed) -> Option<Ready> {
        let task = Won::of(claimed)?;
        if ptr::eq(task.home.get(), &raw const self.remote.parker) {
            return Some(Ready(Begun(task.pointer())));
        }
        task.send();
        None
    }

    /// Takes all that others have sent here.
    pub(crate) fn take_sent(&self, sleeper: &Sleeper, mut each: impl FnMut(Ready)) {
        // Sent to this parker, so begun here: see `Won::send`.
        sleeper.take(&self.remote.parker, |task| {
            each(Ready(Begun(task.pointer())));
        });
    }
}

impl Drop for Home {
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

/// A home of which nothing runs, nor will be resumed.
pub(crate) struct Rest<'a>(&'a Home);

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
pub(crate) struct Still<'a>(Begun, PhantomData<&'a Home>);

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

/// Wakes the one whose wait was won, from a thread that is no worker.
pub(crate) fn send_home(claimed: Claimed) {
    if let Some(task) = Won::of(claimed) {
        task.send();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::rc::Rc;

    use std::panic::{AssertUnwindSafe, Location, catch_unwind};

    use super::{
        super::{
            origin::{Origin, next_id},
            sighting::SWITCH_BYTES,
            task::stage::make,
        },
        *,
    };
    use crate::{
        Runtime,
        config::Config,
        driver::{Registrar, Standby},
        idle::Parker,
        scheduler::{Worker, now},
        spawn_local,
        stack::{child, slab::Slabs},
        waiter::Locals,
        wheel::Wheel,
        yield_now,
    };

    type Next = Rc<Cell<Option<Ready>>>;

    /// Runs `body` with a coroutine that is suspended at its bare switch, and goes on in each turn.
    fn with_suspended(body: impl FnOnce(&Next) + Send) {
        let builder = Runtime::builder().workers(1).idle_trim(None);
        builder.build().unwrap().run(|| {
            let (next, ended) = (Next::default(), Rc::new(Cell::new(false)));
            let (queue, end) = (Kept(next.clone()), ended.clone());
            let suspended = spawn_local(move || {
                while !end.get() {
                    on_running(|own| own.unwrap().give_way(&queue));
                }
            });
            yield_now();
            body(&next);
            ended.set(true);
            turn(&next);
            suspended.join().unwrap();
        });
    }

    /// Lets it run to its next switch.
    fn turn(next: &Next) {
        let next = next.take().expect("it is suspended");
        Worker::current().unwrap().push_ready(next);
        yield_now();
    }

    fn look<R>(next: &Next, look: impl FnOnce(&Header) -> R) -> R {
        let suspended = next.take().expect("it is suspended");
        let seen = look(&suspended);
        next.set(Some(suspended));
        seen
    }

    #[test]
    fn a_switch_touches_nothing_further_below_than_is_taken_for_it() {
        with_suspended(|next| {
            let (stack, depth) = look(next, |task| (task.stack_range(), task.depth()));
            let end = stack.end - depth - SWITCH_BYTES;
            let dead = stack.start + page_size()..end;
            let bytes = |at| ptr::with_exposed_provenance_mut::<u8>(at);
            // SAFETY: the coroutine is suspended, and this is below its frames and above its guard.
            unsafe { bytes(dead.start).write_bytes(0xa5, dead.len()) };
            for _ in 0..3 {
                turn(next);
            }
            if cfg!(feature = "sanitizer") {
                // Told of the switch, it runs there itself, and has returned when the switch is done.
                return;
            }
            // SAFETY: as above.
            let touched = dead.rev().find(|at| unsafe { *bytes(*at) } != 0xa5);
            assert_eq!(touched.map(|at| end - at), None, "bytes below");
        });
    }

    #[test]
    fn a_coroutine_is_sighted_twice_before_its_pages_are_told_of_and_then_once() {
        with_suspended(|next| {
            let depth = look(next, Header::depth);
            let sight = |sweep| look(next, |task| task.sighted(sweep));
            for _ in 0..2 {
                assert_eq!(sight(Sweep::Odd), Sighting::First);
                assert_eq!(sight(Sweep::Odd), Sighting::First);
                turn(next);
                assert_eq!(sight(Sweep::Even), Sighting::First);
                let Sighting::Again(dead) = sight(Sweep::Odd) else {
                    panic!("it did not run in between");
                };
                let stack = look(next, Header::stack_range);
                assert_eq!(dead.start, stack.start + page_size());
                assert!(dead.end.is_multiple_of(page_size()));
                assert!(dead.end < stack.end - depth);
                assert!(dead.end + page_size() + SWITCH_BYTES > stack.end - depth);
                assert_eq!(sight(Sweep::Even), Sighting::Done);
                assert_eq!(sight(Sweep::Odd), Sighting::Done);
                assert_eq!(look(next, Header::depth), depth);
                turn(next);
            }
        });
    }

    /// What a home needs of its worker, for coroutines that never wait.
    struct Nobody;

    impl Host for Nobody {
        fn look(&self, _: &Still<'_>, _: Looks, _: bool) {}
        fn take_stack(&self, stack: Stack) {
            let _kept = ManuallyDrop::new(stack);
        }
        fn disarm(&self, _: Key) -> Option<Timed> {
            None
        }
        fn ready(&self, _: Claimed) {}
        fn queue(&self, _: Ready) {}
    }

    /// Keeps the next turn in a place.
    struct Kept(Next);

    impl Host for Kept {
        fn look(&self, _: &Still<'_>, _: Looks, _: bool) {}
        fn take_stack(&self, _: Stack) {}
        fn disarm(&self, _: Key) -> Option<Timed> {
            None
        }
        fn ready(&self, _: Claimed) {}
        fn queue(&self, next: Ready) {
            self.0.set(Some(next));
        }
    }

    fn home() -> Home {
        let parker = Parker::new().unwrap();
        let standby = Standby::<Unstarted>::new(now).unwrap();
        let registrar = Registrar::new(parker.bell(), &standby).unwrap();
        Home::new(Arc::new(Remote::new(parker, registrar)))
    }

    fn begin(home: &Home, body: impl FnOnce() + 'static) -> Ready {
        let slabs = Slabs::new(Config::default().stack_limits()).unwrap();
        let class = slabs.default_class();
        let origin = Origin {
            id: next_id(),
            name: None,
            spawned_at: Location::caller(),
            class,
        };
        // SAFETY: it borrows nothing, and stays on this thread.
        let (task, handle) = unsafe { make(body, origin, None, None, Locals::new()) };
        assert!(handle.detach().is_none());
        home.begin(task, Some(slabs.acquire(class).unwrap()))
    }

    #[test]
    fn a_thread_is_one_home_and_free_again_after_it() {
        let first = home();
        assert!(catch_unwind(home).is_err(), "there is one");
        first.resume(begin(&first, || ()), &Nobody);
        drop(first);
        drop(home());
    }

    #[test]
    fn who_looks_at_coroutines_is_none_and_does_so_once_at_a_time() {
        let home = Rc::new(home());
        let rests = |home: &Home| catch_unwind(AssertUnwindSafe(|| home.rest(|_| ()))).is_ok();
        assert!(home.rest(|_| !rests(&home)) && rests(&home));
        let (theirs, seen) = (home.clone(), Rc::new(Cell::new(true)));
        let saw = seen.clone();
        home.resume(begin(&home, move || saw.set(rests(&theirs))), &Nobody);
        assert!(!seen.get() && rests(&home));
    }

    fn ends_the_process(test: &str, why: &str, body: fn(Home)) {
        let said = child::run(module_path!(), test, || body(home())).by_signal(libc::SIGABRT);
        assert!(said.contains(why), "{said}");
    }

    /// Two would then run on one thread, and the wrong one be suspended.
    #[test]
    fn to_resume_one_in_the_turn_of_another_ends_the_process() {
        let test = "to_resume_one_in_the_turn_of_another_ends_the_process";
        ends_the_process(test, "was to be resumed by another", |home| {
            let home = Rc::new(home);
            let (theirs, second) = (home.clone(), begin(&home, || ()));
            let first = begin(&home, move || theirs.resume(second, &Nobody));
            home.resume(first, &Nobody);
        });
    }

    #[test]
    fn to_resume_one_while_they_are_looked_at_ends_the_process() {
        let test = "to_resume_one_while_they_are_looked_at_ends_the_process";
        ends_the_process(test, "while its worker looks at them", |home| {
            let next = begin(&home, || ());
            home.rest(|_| home.resume(next, &Nobody));
        });
    }

    #[test]
    fn a_home_that_goes_before_its_coroutines_ends_the_process() {
        let test = "a_home_that_goes_before_its_coroutines_ends_the_process";
        ends_the_process(test, "before its coroutines", |home| {
            let _never = begin(&home, || ());
        });
    }

    /// Else it could fire for a coroutine that is gone.
    #[test]
    fn a_timer_that_its_coroutine_does_not_get_back_at_its_end_ends_the_process() {
        let test = "a_timer_that_its_coroutine_does_not_get_back_at_its_end_ends_the_process";
        ends_the_process(test, "timer is not where it was put", |home| {
            let next = begin(&home, || {
                let mut wheel = Wheel::new(0);
                let insert = |due, timed| wheel.insert(due, timed);
                on_running(|own| own.unwrap().set_alarm(7, insert, |_| None));
            });
            home.resume(next, &Nobody);
        });
    }
}
