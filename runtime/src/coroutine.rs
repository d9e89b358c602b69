//! One coroutine: its header, its closure or result, and how it is resumed and suspended.
//!
//! A spawned closure is one heap object, [`Task`]: a [`Header`] that does not know the closure's
//! type, then the closure, which is replaced by its result. A stack is bound only when it first runs
//! and is given back when it ends. This is the only file that knows the context switch underneath.
//!
//! # Who may touch what
//!
//! Until its first run a task belongs to its holder in a queue. From then on it belongs to its
//! home worker: `engine`, `live` and the waiter's context are that thread's alone. Shared are the
//! waiter's claim and scopes, `completion` (by its lock), `next` (by its claimer) and the
//! reference count: one for the runtime, until the task is complete, one for each handle.

use std::{
    alloc::Layout,
    any::Any,
    arch::asm,
    borrow::Cow,
    cell::{Cell, UnsafeCell},
    collections::VecDeque,
    fmt, io,
    marker::PhantomData,
    mem::{ManuallyDrop, MaybeUninit},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize},
    task::Waker,
    time::{Duration, Instant},
};

use corosensei::{CoroutineResult, Yielder};
use crossbeam_deque::Injector;

use crate::{
    driver::Registrar,
    error::{Interrupt, Unwind},
    idle::Parker,
    inbox::Chained,
    loom::{AtomicPtr, AtomicU32, Ordering, fence},
    stack::{SizeClass, Stack, depth::Watermark},
    sys::{
        fenced,
        list::{Linked, Links, List},
        memory::page_size,
        recycle,
        spin::SpinLock,
        trace::Trace,
    },
    waiter::{Claimed, Locals, Outcome, Parking, Reason, Scope, Waiter},
    wheel::Key,
};

/// This file, by which its frames are known in a backtrace.
pub(crate) const FILE: &str = file!();

/// A worker as other threads see it: where its coroutines are sent when they are woken, and its
/// driver's registrar for descriptors that are closed elsewhere.
pub(crate) struct Remote {
    /// Where coroutines are sent that were woken elsewhere; see `idle`.
    pub(crate) parker: Parker<Header>,
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
    /// The coroutine that runs now; see `snapshot::Gate` for how others may look at it.
    pub(crate) running: AtomicPtr<Header>,
    /// Those that have begun here and not ended, the one that runs included; to be looked at as that is.
    pub(crate) begun: AtomicPtr<List<Header>>,
    /// Turns given to coroutines so far.
    pub(crate) turn: AtomicU64,
    /// Changes in each round of its loop.
    pub(crate) rounds: std::sync::atomic::AtomicU32,
    /// Whether it waits for the kernel's news.
    pub(crate) polling: AtomicBool,
    /// Coroutines that have begun here and not ended.
    pub(crate) live: AtomicUsize,
    /// Its holder keeps the worker from going on past the end of the turn: see `snapshot::Gate`.
    pub(crate) at_gate: SpinLock<()>,
}

/// Until when a coroutine waits, and its timer.
///
/// Most waits with a deadline end before it, and the next has a later one. So the timer stays armed
/// when a wait ends, and when it fires too early it is armed anew for the wait of that time. Then a
/// connection's idle timeout costs two words a request, and its neighbours in the wheel stay cold.
pub(crate) struct Alarm {
    /// The tick at which the current wait ends, or [`Alarm::NEVER`].
    pub(crate) due: Cell<u64>,
    /// The armed timer, which fires at `armed_for` or after it.
    pub(crate) timer: Cell<Option<Key>>,
    pub(crate) armed_for: Cell<u64>,
}

impl Alarm {
    pub(crate) const NEVER: u64 = u64::MAX;

    const fn new() -> Self {
        Self {
            due: Cell::new(Self::NEVER),
            timer: Cell::new(None),
            armed_for: Cell::new(0),
        }
    }
}

/// What is known of a coroutine from its spawning.
pub(crate) struct Origin {
    pub(crate) id: u64,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) class: SizeClass,
}

/// Which coroutine, in words.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, ", spawned at {}", self.spawned_at)
    }
}

/// Why a coroutine has no value to give.
pub(crate) enum Failure {
    Panicked(Box<dyn Any + Send>),
    Interrupted(Interrupt),
    /// No stack could be had for it.
    NoStack(io::Error),
}

#[repr(C)]
pub(crate) struct Header {
    /// First, so that a waiter's address is its header's.
    pub(crate) waiter: Waiter,
    // What each turn touches lies together.
    engine: UnsafeCell<Engine>,
    yielder: Cell<*const Yielder<Visit, ()>>,
    /// Where its stack pointer was when it was last suspended, and in the bits that alignment leaves
    /// free which sweep has found it there: see [`Header::sight`].
    mark: Cell<usize>,
    pub(crate) home: Cell<*const Remote>,
    /// What it waits for, while it waits.
    pub(crate) reason: Cell<Reason>,
    pub(crate) alarm: Alarm,
    next: AtomicPtr<Header>,
    live: Links<Header>,
    /// The group that it is linked into, if any.
    parent: Cell<Option<NonNull<Scope>>>,
    refs: AtomicU32,
    /// Whether it got no stack, and runs only to drop what it owns. Set before it runs.
    is_refused: Cell<bool>,
    vtable: &'static VTable,
    completion: SpinLock<Completion>,
    pub(crate) parking: Parking,
    /// Empty, or inherited, until it runs; then its own alone.
    pub(crate) locals: Locals,
    /// Where its stack ends, once it has one; for the overflow report.
    pub(crate) stack_limit: Cell<usize>,
    /// Where it begins: one that got no stack of the size it asked for may end on another.
    stack_base: Cell<usize>,
    pub(crate) origin: Origin,
    /// How it spent its time, as far as that is kept.
    pub(crate) record: Record,
}

/// Kept by the home worker while tracking is on.
#[derive(Default)]
pub(crate) struct Record {
    /// When it was last suspended.
    pub(crate) since: Cell<Option<Instant>>,
    pub(crate) ran: Cell<Duration>,
    pub(crate) turns: Cell<u64>,
    /// How deep its stack is used, while that is measured; a word otherwise.
    pub(crate) watermark: Cell<Option<Box<Watermark>>>,
}

enum Engine {
    /// Not started; the stack is there if it was reserved at spawn.
    Unstarted(Option<Stack>),
    /// Not started, and will not run its closure but drop it.
    Refused(Failure),
    Started(corosensei::Coroutine<Visit, (), (), Bound>),
    Ended,
}

struct Completion {
    /// The result is in its place and the body will not touch it again.
    settled: bool,
    /// None of its user's code is to come any more, but its awaiter's waker: the result may be taken.
    over: bool,
    /// The coroutine has left its stack for good.
    done: bool,
    /// Nobody will ask for the result.
    detached: bool,
    awaiting: Awaiting,
}

/// Who is to be told of the end: there is one handle.
enum Awaiting {
    Nobody,
    Waiter(NonNull<Waiter>),
    /// Another executor's.
    Waker(Waker),
}

// SAFETY: the waiter behind the pointer is touched under the lock alone, while it waits.
unsafe impl Send for Completion {}

struct VTable {
    run: unsafe fn(NonNull<Header>),
    fail: unsafe fn(NonNull<Header>, Failure),
    take: unsafe fn(NonNull<Header>, *mut ()) -> Option<Failure>,
    drop_result: unsafe fn(NonNull<Header>) -> Unseen,
    dealloc: unsafe fn(NonNull<Header>),
}

/// Why a coroutine could not begin, where nobody asks for its result any more.
type Unseen = Option<io::Error>;

#[repr(C)]
struct Task<F, T> {
    header: Header,
    stage: Stage<F, T>,
}

/// A task's closure until it runs, then its result. Either may be large beside a stack, so both are moved here
/// and away directly, and not with an enum around them, whose every move would be one more copy on the stack.
///
/// A thread that may touch it, by the module's rules, may do so alone.
struct Stage<F, T> {
    holds: Cell<Holds>,
    slot: UnsafeCell<Contents<F, T>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Closure,
    /// It runs, or what was there was taken.
    Nothing,
    Value,
    Failure,
}

#[repr(C)]
union Contents<F, T> {
    closure: ManuallyDrop<F>,
    value: ManuallyDrop<T>,
    failure: ManuallyDrop<Failure>,
}

impl<F, T> Stage<F, T> {
    #[inline(always)]
    fn closure(&self) -> *mut F {
        self.slot.get().cast()
    }

    #[inline(always)]
    fn value(&self) -> *mut T {
        self.slot.get().cast()
    }

    #[inline(always)]
    fn failure(&self) -> *mut Failure {
        self.slot.get().cast()
    }

    /// # Safety
    /// The stage is the caller's. What it held has been taken.
    unsafe fn fail(&self, failure: Failure) {
        // SAFETY: a field of the union has its address; the caller's promise.
        unsafe { self.failure().write(failure) };
        self.holds.set(Holds::Failure);
    }

    /// Drops what it holds.
    ///
    /// # Safety
    /// The stage is the caller's.
    unsafe fn clear(&self) {
        // SAFETY: the mark says what is there; it is dropped once, since the mark goes first.
        unsafe {
            match self.holds.replace(Holds::Nothing) {
                Holds::Closure => self.closure().drop_in_place(),
                Holds::Nothing => {}
                Holds::Value => self.value().drop_in_place(),
                Holds::Failure => self.failure().drop_in_place(),
            }
        }
    }
}

impl<F, T> Drop for Stage<F, T> {
    fn drop(&mut self) {
        // SAFETY: exclusive, and the end of it.
        unsafe { self.clear() };
    }
}

impl Linked for Header {
    #[inline]
    fn links(&self) -> &Links<Self> {
        &self.live
    }
}

impl Chained for Header {
    #[inline]
    fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

/// One counted reference to a task.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: through a reference only what is shared can be reached safely; see the module's rules.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// Makes a task and returns the runtime's reference and the handle's.
    ///
    /// # Safety
    /// Whatever `F` and `T` borrow outlives the task's completion, and `T` is taken or dropped by
    /// its handle, or detached, before that ends.
    pub(crate) unsafe fn new<F, T>(
        body: F,
        origin: Origin,
        stack: Option<Stack>,
        deadline: Option<Instant>,
        locals: Locals,
    ) -> (Unstarted, TaskRef)
    where
        F: FnOnce() -> T,
    {
        let task = recycle::take(Layout::new::<Task<F, T>>()).cast::<Task<F, T>>();
        let header = Header {
            waiter: Waiter::for_coroutine(deadline),
            home: Cell::new(ptr::null()),
            stack_limit: Cell::new(0),
            stack_base: Cell::new(0),
            reason: Cell::new(Reason::Start),
            alarm: Alarm::new(),
            next: AtomicPtr::new(ptr::null_mut()),
            live: Links::new(),
            parent: Cell::new(None),
            refs: AtomicU32::new(2),
            is_refused: Cell::new(false),
            vtable: const {
                &VTable {
                    run: run::<F, T>,
                    fail: fail::<F, T>,
                    take: take::<F, T>,
                    drop_result: drop_result::<F, T>,
                    dealloc: dealloc::<F, T>,
                }
            },
            engine: UnsafeCell::new(Engine::Unstarted(stack)),
            yielder: Cell::new(ptr::null()),
            mark: Cell::new(0),
            record: Record::default(),
            completion: SpinLock::new(Completion {
                settled: false,
                over: false,
                done: false,
                detached: false,
                awaiting: Awaiting::Nobody,
            }),
            parking: Parking::new(),
            locals,
            origin,
        };
        // SAFETY: fresh memory of the right layout, where the task stays for good; not shared yet. The parts are
        // written one by one, which spares the stack a copy of the closure.
        unsafe {
            let made = task.as_ptr();
            (&raw mut (*made).header).write(header);
            (&raw mut (*made).stage.slot).cast::<F>().write(body);
            (&raw mut (*made).stage.holds).write(Cell::new(Holds::Closure));
            Waiter::settle_in(task.cast());
        }
        let task = task.cast::<Header>();
        (Unstarted(task), TaskRef(task))
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the reference keeps it alive.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.header().completion.lock().done
    }

    /// A reference to a task that is known to be alive.
    ///
    /// # Safety
    /// Some counted reference is held during the call.
    pub(crate) unsafe fn acquire(task: NonNull<Header>) -> TaskRef {
        // SAFETY: alive by the caller's promise.
        count_reference(&unsafe { task.as_ref() }.refs);
        TaskRef(task)
    }

    /// Arms `waiter` to be woken at completion; false if it is complete.
    pub(crate) fn arm_until_done(&self, waiter: &Waiter, cancellable: bool) -> bool {
        let mut completion = self.header().completion.lock();
        if completion.done {
            return false;
        }
        waiter.claim.arm(cancellable);
        completion.awaiting = Awaiting::Waiter(NonNull::from(waiter));
        true
    }

    /// Whether its result may be taken; if not, `waker` is woken once it may.
    pub(crate) fn is_done_or_wakes(&self, waker: &Waker) -> bool {
        // Cloned before, and a former one dropped after the lock is held: a waker is anybody's code.
        let waker = waker.clone();
        let _former = {
            let mut completion = self.header().completion.lock();
            if completion.over {
                return true;
            }
            std::mem::replace(&mut completion.awaiting, Awaiting::Waker(waker))
        };
        false
    }

    /// Takes `arm_until_done` back after another waker won, or `is_done_or_wakes`.
    pub(crate) fn forget_waiter(&self) {
        let mut completion = self.header().completion.lock();
        let awaiting = std::mem::replace(&mut completion.awaiting, Awaiting::Nobody);
        drop(completion);
        drop(awaiting);
    }

    /// The result of a complete task.
    ///
    /// # Safety
    /// `T` is the type the task was made with, it was seen to be complete or its result there to be taken, and
    /// nobody took it before.
    pub(crate) unsafe fn take<T>(&self) -> Result<T, Failure> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the caller's promise; without a failure, the value is there, and is read once.
        unsafe {
            match self.take_into(value.as_mut_ptr()) {
                None => Ok(value.assume_init_read()),
                Some(failure) => Err(failure),
            }
        }
    }

    /// Writes the result of a complete task, or returns why there is none: for what may be large.
    ///
    /// # Safety
    /// The contract is that of [`take`](Self::take); `into` has room for it.
    #[inline]
    pub(crate) unsafe fn take_into<T>(&self, into: *mut T) -> Option<Failure> {
        // SAFETY: the caller's promise.
        unsafe { (self.header().vtable.take)(self.0, into.cast()) }
    }

    /// Gives up the result: it is dropped here if it is there, else by the coroutine itself. Returns an error
    /// that would have been its joiner's to see.
    pub(crate) fn detach(&self) -> Unseen {
        let settled = {
            let mut completion = self.header().completion.lock();
            completion.detached = true;
            completion.settled
        };
        if settled {
            // SAFETY: the body is done with it, and the handle that would have taken it is giving it up.
            return unsafe { (self.header().vtable.drop_result)(self.0) };
        }
        None
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        count_reference(&self.header().refs);
        TaskRef(self.0)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this reference is counted.
        unsafe { release(self.0) }
    }
}

/// Counts one more. As with `Arc`, references can be forgotten without end in safe code; long before the
/// count could come round to zero the process ends.
#[inline]
fn count_reference(refs: &AtomicU32) {
    if refs.fetch_add(1, Ordering::Relaxed) > MOST_REFERENCES {
        fenced::abort("two thousand million references to one coroutine");
    }
}

/// Leaves room for as many threads as there can be that find it exceeded at the same time.
const MOST_REFERENCES: u32 = i32::MAX as u32;

/// # Safety
/// The caller gives up a counted reference.
#[inline]
unsafe fn release(task: NonNull<Header>) {
    // SAFETY: counted, so alive.
    let header = unsafe { task.as_ref() };
    // Release what this holder did; the last one acquires what all others did.
    if header.refs.fetch_sub(1, Ordering::Release) == 1 {
        fence(Ordering::Acquire);
        // SAFETY: that was the last reference.
        unsafe { (header.vtable.dealloc)(task) };
    }
}

/// A task that has not run yet: it may still go to any worker.
pub(crate) struct Unstarted(NonNull<Header>);

// SAFETY: the closure is `Send`, or (`spawn_local`) the task is queued on its own thread only.
unsafe impl Send for Unstarted {}

impl Unstarted {
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: holds the runtime's reference.
        unsafe { self.0.as_ref() }
    }

    /// Links the task's scope below a group's.
    ///
    /// # Safety
    /// The scope outlives the task's completion.
    pub(crate) unsafe fn link_below(&self, parent: &Scope) {
        let header = self.header();
        header.parent.set(Some(NonNull::from(parent)));
        // SAFETY: the own scope sits in the boxed header; completion unlinks it.
        unsafe { parent.link(NonNull::from(header.waiter.own_scope())) };
    }

    /// Lets the group know that a child of it cannot begin.
    pub(crate) fn cancel_group(&self, ready: &mut dyn FnMut(Claimed)) {
        if let Some(parent) = self.header().parent.get() {
            // SAFETY: the group waits for this task.
            unsafe { parent.as_ref() }.starve(ready);
        }
    }

    /// Whether it needs a stack, that is, none was reserved.
    pub(crate) fn needs_stack(&self) -> bool {
        // SAFETY: an unstarted task's engine is its holder's.
        let engine = unsafe { &*self.header().engine.get() };
        matches!(engine, Engine::Unstarted(None))
    }

    /// Ends the task without running it; returns the stack it had reserved.
    pub(crate) fn fail(self, failure: Failure, ready: impl FnMut(Claimed)) -> Option<Stack> {
        let task = self.0;
        // SAFETY: an unstarted task is its holder's; it is consumed here.
        unsafe {
            let engine = ptr::replace(task.as_ref().engine.get(), Engine::Ended);
            (task.as_ref().vtable.fail)(task, failure);
            finish(task, |_| {});
            complete(task, ready);
            match engine {
                Engine::Unstarted(stack) => stack,
                Engine::Refused(_) | Engine::Started(_) | Engine::Ended => None,
            }
        }
    }

    /// Gives the task the stack that it will run on.
    pub(crate) fn reserve(&self, stack: Stack) {
        // SAFETY: an unstarted task's engine is its holder's.
        unsafe { *self.header().engine.get() = Engine::Unstarted(Some(stack)) };
    }

    /// Runs the task on the caller's stack, as a part of the caller: it has got none of its own.
    pub(crate) fn run_here(self, ready: impl FnMut(Claimed)) {
        let task = self.0;
        // SAFETY: an unstarted task is its holder's; it is consumed here.
        unsafe {
            *task.as_ref().engine.get() = Engine::Ended;
            (task.as_ref().vtable.run)(task);
            complete(task, ready);
        }
    }

    /// Binds the task to its home worker and its stack; it must be resumed there only.
    ///
    /// # Safety
    /// `home` outlives the coroutine, and this thread is that worker's.
    #[inline]
    pub(crate) unsafe fn start(self, home: *const Remote, stack: Option<Stack>) -> NonNull<Header> {
        let task = self.0;
        // SAFETY: an unstarted task is its holder's.
        let reserved = match unsafe { &mut *task.as_ref().engine.get() } {
            Engine::Unstarted(reserved) => reserved.take(),
            Engine::Refused(_) | Engine::Started(_) | Engine::Ended => None,
        };
        let stack = reserved.or(stack).expect("a task is started with a stack");
        // SAFETY: the caller's promise; the body runs once, on the coroutine.
        unsafe { self.bind(home, stack, move || (task.as_ref().vtable.run)(task)) }
    }

    /// The task will not run its closure; it needs a stack all the same, on which that is dropped.
    pub(crate) fn refuse(self, failure: Failure) -> Refused {
        // SAFETY: an unstarted task's engine is its holder's.
        unsafe { *self.header().engine.get() = Engine::Refused(failure) };
        Refused(self)
    }

    /// Makes the coroutine that will run `body`.
    ///
    /// # Safety
    /// As for `start`. `body` runs on the coroutine, may touch what is the running coroutine's, and does not
    /// panic.
    #[inline(always)]
    unsafe fn bind(
        self,
        home: *const Remote,
        stack: Stack,
        body: impl FnOnce() + 'static,
    ) -> NonNull<Header> {
        let task = self.0;
        // SAFETY: an unstarted task is its holder's.
        unsafe {
            let header = task.as_ref();
            header.home.set(home);
            let stack = Bound(stack);
            header.stack_limit.set(stack.0.limit().get());
            header.stack_base.set(stack.0.base().get());
            // The engine is dropped, and its stack given back, before the task's memory goes.
            let coroutine = corosensei::Coroutine::with_stack_unchecked(
                stack,
                move |yielder: &Yielder<Visit, ()>, _| {
                    task.as_ref().yielder.set(yielder);
                    body();
                },
            );
            // What was there has been taken out.
            header.engine.get().write(Engine::Started(coroutine));
        }
        task
    }
}

/// A task that will never run its closure, which is still to be dropped: on a stack, where it may wait.
pub(crate) struct Refused(Unstarted);

impl Refused {
    pub(crate) fn header(&self) -> &Header {
        self.0.header()
    }

    /// The task, to be kept in a list of such.
    pub(crate) fn into_raw(self) -> NonNull<Header> {
        self.0.0
    }

    /// # Safety
    /// `task` came from `into_raw`, once.
    pub(crate) unsafe fn from_raw(task: NonNull<Header>) -> Self {
        Self(Unstarted(task))
    }

    /// Starts a coroutine like [`Unstarted::start`], which drops its closure and its locals and then ends. `told` gets
    /// an error that nobody will ask for, on that coroutine.
    ///
    /// # Safety
    /// The contract is that of [`Unstarted::start`].
    pub(crate) unsafe fn start(
        self,
        home: *const Remote,
        stack: Stack,
        told: fn(io::Error),
    ) -> NonNull<Header> {
        let task = self.0.0;
        self.header().is_refused.set(true);
        // SAFETY: an unstarted task is its holder's.
        let engine = unsafe { ptr::replace(task.as_ref().engine.get(), Engine::Ended) };
        let failure = match engine {
            Engine::Refused(failure) => failure,
            Engine::Unstarted(_) | Engine::Started(_) | Engine::Ended => {
                Failure::Interrupted(Interrupt::Cancelled)
            }
        };
        let body = move || {
            // SAFETY: the running coroutine owns the stage and its locals until it is complete.
            unsafe {
                (task.as_ref().vtable.fail)(task, failure);
                finish(task, told);
            }
        };
        // SAFETY: the caller's promise; what `body` calls catches panics.
        unsafe { self.0.bind(home, stack, body) }
    }
}

/// Runs the coroutine until it suspends or ends; gives its stack back in the latter case.
///
/// # Safety
/// `task` was started on this thread, has not ended, and is not running.
#[inline(always)]
pub(crate) unsafe fn resume(task: NonNull<Header>) -> Option<Stack> {
    // SAFETY: the engine is this thread's, and the running coroutine itself does not touch it.
    unsafe {
        let engine = task.as_ref().engine.get();
        let Engine::Started(coroutine) = &mut *engine else {
            unreachable!("only a started coroutine is resumed");
        };
        match coroutine.resume(None) {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(()) => match ptr::replace(engine, Engine::Ended) {
                Engine::Started(coroutine) => Some(coroutine.into_stack().0),
                Engine::Unstarted(_) | Engine::Refused(_) | Engine::Ended => None,
            },
        }
    }
}

/// Leaves the running coroutine's stack until it is resumed.
///
/// # Safety
/// `task` is the coroutine running on this thread.
#[inline(always)]
pub(crate) unsafe fn suspend(task: NonNull<Header>) {
    // SAFETY: the yielder was set when the body began and lives on the coroutine's stack.
    unsafe {
        let header = task.as_ref();
        header.mark.set(stack_pointer());
        while let Some(mut trace) = (*header.yielder.get()).suspend(()) {
            trace.as_mut().capture();
        }
    }
}

/// The stack pointer of the function that this is inlined into, which moves it no more until it returns.
#[inline(always)]
fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register and touches nothing.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}

/// Why a coroutine is resumed: to go on, or to say where it is and be suspended again.
type Visit = Option<NonNull<Trace>>;

/// Has a suspended coroutine write down its own frames; false if its stack has too little room for that.
///
/// # Safety
/// `task` was started on this thread, has not ended, and is not running.
pub(crate) unsafe fn trace(task: NonNull<Header>, trace: &mut Trace) -> bool {
    // SAFETY: alive by the caller's promise.
    let header = unsafe { task.as_ref() };
    let room = header.suspended_at().wrapping_sub(header.stack_limit.get());
    if !header.is_on_its_stack() || room < page_size() + Trace::STACK_BYTES {
        return false;
    }
    // The walk touches pages that a sweep may have given back: the next sweeps look again.
    header.mark.set(header.suspended_at());
    // SAFETY: the engine is this thread's. A suspended coroutine that is visited touches nothing but the
    // trace, and suspends again.
    unsafe {
        if let Engine::Started(coroutine) = &mut *header.engine.get() {
            coroutine.resume(Some(NonNull::from(trace)));
        }
    }
    true
}

/// What a snapshot can tell of a coroutine's stack while it is suspended.
impl Header {
    /// Whether it has run, and was then suspended.
    pub(crate) fn was_suspended(&self) -> bool {
        self.mark.get() != 0
    }

    /// Bytes of its suspended frames; 0 if it was suspended on a stack that is not ours to know.
    pub(crate) fn depth(&self) -> usize {
        match self.is_on_its_stack() {
            true => self.stack_base() - self.suspended_at(),
            false => 0,
        }
    }

    /// Whether it was suspended on its own stack: a library may have its callers run on another.
    fn is_on_its_stack(&self) -> bool {
        self.stack_range().contains(&self.suspended_at())
    }

    /// The stack pointer that it was suspended with.
    #[inline]
    fn suspended_at(&self) -> usize {
        self.mark.get() & !SIGHTINGS
    }

    /// What a sweep over the suspended coroutines finds here, and leaves for the next to find.
    ///
    /// A suspension notes its stack pointer anyway, and overwrites with it what a sweep has noted beside.
    /// So that a coroutine did not run between two sweeps is known without any work of its own.
    pub(crate) fn sight(&self, sweep: Sweep) -> Sighting {
        let note = |seen| self.mark.set(self.suspended_at() | seen);
        match self.mark.get() & SIGHTINGS {
            DONE => Sighting::Done,
            seen if seen != 0 && seen != sweep as usize => {
                note(DONE);
                Sighting::Again(self.below_frames())
            }
            _ => {
                note(sweep as usize);
                Sighting::First
            }
        }
    }

    /// The whole pages between the guard and the suspended frames: nothing lives there until it is resumed.
    /// None if it was suspended on another stack.
    fn below_frames(&self) -> std::ops::Range<usize> {
        let from = self.stack_limit.get() + page_size();
        if !self.is_on_its_stack() {
            return from..from;
        }
        let to = self.end_of_frames() & !(page_size() - 1);
        from..to.max(from)
    }

    /// Nothing of a suspended coroutine lies below this address.
    pub(crate) fn end_of_frames(&self) -> usize {
        self.suspended_at() - SWITCH_BYTES
    }

    /// The stack's addresses, its guard page included.
    pub(crate) fn stack_range(&self) -> std::ops::Range<usize> {
        self.stack_limit.get()..self.stack_base()
    }

    fn stack_base(&self) -> usize {
        self.stack_base.get()
    }

    /// Owner: whether it got no stack, and runs only to drop what it owns.
    #[inline]
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    /// The coroutine that leads the group this one belongs to, if a coroutine does.
    pub(crate) fn leader(&self) -> Option<u64> {
        // SAFETY: a group and its leader outlive its children.
        let waiter = unsafe { self.parent.get()?.as_ref() }.waiter()?;
        // SAFETY: as above.
        if unsafe { waiter.as_ref() }.is_thread() {
            return None;
        }
        // SAFETY: a coroutine's waiter is the first field of its header.
        Some(unsafe { waiter.cast::<Header>().as_ref() }.origin.id)
    }
}

/// One of two sweeps that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Sweep {
    Odd = 1,
    Even = 2,
}

impl Sweep {
    pub(crate) fn next(self) -> Sweep {
        match self {
            Sweep::Odd => Sweep::Even,
            Sweep::Even => Sweep::Odd,
        }
    }
}

/// What a sweep found of a suspended coroutine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// It has run since the sweep before, or this sweep has seen it already.
    First,
    /// It has been suspended since the sweep before. The pages at these addresses hold nothing of it, and
    /// will be told of this once.
    Again(std::ops::Range<usize>),
    /// It has been suspended since its pages were told of.
    Done,
}

/// The bits of a mark that are not the stack pointer's, which is a multiple of 8 at the least; a third value
/// beside those of [`Sweep`].
const SIGHTINGS: usize = 3;
const DONE: usize = 3;

/// More than lies below the frame that notes its stack pointer in [`suspend`], once the switch is done: the
/// frame of corosensei's `suspend`, where it is not inlined, and the registers that are saved.
pub(crate) const SWITCH_BYTES: usize = 1024;

/// Asks the processor for the lines that resuming `task` will touch first: of its header.
#[inline]
pub(crate) fn prefetch_header(task: NonNull<Header>) {
    // SAFETY: only an address is computed; prefetching any address is harmless.
    prefetch(unsafe { &raw const (*task.as_ptr()).engine }.cast());
}

/// Prefetches its stack, as [`prefetch_header`] does the header; reads the header.
///
/// # Safety
/// `task` is alive and waits on this thread.
#[inline]
pub(crate) unsafe fn prefetch_stack(task: NonNull<Header>) {
    // SAFETY: alive by the caller's promise; the mark is this thread's.
    let mark = ptr::without_provenance::<u8>(unsafe { task.as_ref() }.suspended_at());
    for line in 0..STACK_LINES_AHEAD {
        prefetch(mark.wrapping_add(line * 64));
    }
}

/// What a suspended operation's innermost frames take.
const STACK_LINES_AHEAD: usize = 6;

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Publishes the end of a task: wakes who joins it, leaves its group, drops the runtime's reference.
///
/// # Safety
/// The task has its result, does not run any more, and is completed once.
pub(crate) unsafe fn complete(task: NonNull<Header>, mut ready: impl FnMut(Claimed)) {
    // SAFETY: the runtime's reference is still held.
    let header = unsafe { task.as_ref() };
    let joiner = {
        let mut completion = header.completion.lock();
        completion.done = true;
        match std::mem::replace(&mut completion.awaiting, Awaiting::Nobody) {
            // SAFETY: a registered joiner is in its wait, and takes itself out under this lock.
            Awaiting::Waiter(joiner) => unsafe { Waiter::claim(joiner, Outcome::Notified) },
            // A waker was woken before, and none is left since.
            Awaiting::Nobody | Awaiting::Waker(_) => None,
        }
    };
    if let Some(joiner) = joiner {
        ready(joiner);
    }
    // What the task borrowed may go as soon as it has left its group: nothing below touches it.
    if let Some(parent) = header.parent.take() {
        // SAFETY: linked by `link_below`; the group waits for this.
        unsafe {
            parent
                .as_ref()
                .unlink(NonNull::from(header.waiter.own_scope()), ready);
        }
    }
    // SAFETY: the runtime's reference, given up once.
    unsafe { release(task) };
}

/// # Safety
/// The task is alive, and was made with these types.
#[inline(always)]
unsafe fn stage<'a, F, T>(task: NonNull<Header>) -> &'a Stage<F, T> {
    // SAFETY: the caller's promise.
    &unsafe { task.cast::<Task<F, T>>().as_ref() }.stage
}

/// # Safety
/// The task, whose closure has not run, is the running coroutine.
unsafe fn run<F: FnOnce() -> T, T>(task: NonNull<Header>) {
    // SAFETY: the vtable pairs each task with its own types.
    let stage = unsafe { stage::<F, T>(task) };
    // SAFETY: it runs.
    let is_cancelled = unsafe { task.as_ref() }.waiter.own_scope().is_cancelled();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        stage.holds.set(Holds::Nothing);
        // SAFETY: until now it held the closure; the running coroutine owns the stage until it is complete.
        unsafe {
            let body = stage.closure().read();
            if is_cancelled {
                fenced::drop_value(
                    body,
                    "the closure of a coroutine that was cancelled before it ran",
                );
                return stage.fail(Failure::Interrupted(Interrupt::Cancelled));
            }
            stage.value().write(body());
        }
        stage.holds.set(Holds::Value);
    }));
    if let Err(payload) = ended {
        let failure = match payload.downcast_ref::<Unwind>() {
            Some(Unwind::Cancelled) => Failure::Interrupted(Interrupt::Cancelled),
            Some(Unwind::Elapsed(_)) => Failure::Interrupted(Interrupt::Elapsed),
            None => Failure::Panicked(payload),
        };
        // SAFETY: as above; the closure is gone.
        unsafe { stage.fail(failure) };
    }
    // SAFETY: the result is there, and this is the end of the coroutine's body.
    unsafe { finish(task, |_| {}) };
    // SAFETY: the runtime's reference is still held.
    if unsafe { task.as_ref() }.waiter.has_stays() {
        ended_inside(task);
    }
}

/// Hands the result to the handle, or drops it if that has been given up; drops the locals; wakes another
/// executor's task that awaits the end. All of that is the user's code, and the last of it: it runs on the
/// coroutine's stack, where it may wait, since the worker's own loop may not.
///
/// # Safety
/// The stage holds the result and its owner does not touch it afterwards. The locals are the caller's to drop.
#[inline]
unsafe fn finish(task: NonNull<Header>, told: fn(io::Error)) {
    // SAFETY: the runtime's reference is still held.
    let header = unsafe { task.as_ref() };
    let over = header.locals.is_unused();
    let (detached, awaited) = {
        let mut completion = header.completion.lock();
        completion.settled = true;
        completion.over = over;
        let awaited = matches!(completion.awaiting, Awaiting::Waker(_));
        (completion.detached, awaited)
    };
    if detached || awaited || !over {
        // SAFETY: the caller's promise. Who detaches from now on drops the result.
        unsafe { finish_for_others(task, detached, told) };
    }
}

/// # Safety
/// As for `finish`, of which this is the second half. `detached` was so when the result was settled.
#[cold]
unsafe fn finish_for_others(task: NonNull<Header>, detached: bool, told: fn(io::Error)) {
    // SAFETY: as there.
    let header = unsafe { task.as_ref() };
    let wake = || {
        let waker = {
            let mut completion = header.completion.lock();
            match completion.over {
                true => completion.take_waker(),
                false => None,
            }
        };
        waker.map(wake_fenced)
    };
    wake();
    if detached {
        // SAFETY: the handle has given it up.
        if let Some(error) = unsafe { (header.vtable.drop_result)(task) } {
            told(error);
        }
    }
    // What was made here must not be dropped elsewhere.
    header.locals.clear();
    header.completion.lock().over = true;
    if wake().is_some() {
        header.locals.clear();
    }
}

/// Wakes another executor's task, which is anybody's code.
fn wake_fenced(waker: Waker) {
    fenced::call_or_tell(
        || "waking a coroutine's awaiter".to_owned(),
        || waker.wake(),
    );
}

impl Completion {
    fn take_waker(&mut self) -> Option<Waker> {
        if !matches!(self.awaiting, Awaiting::Waker(_)) {
            return None;
        }
        match std::mem::replace(&mut self.awaiting, Awaiting::Nobody) {
            Awaiting::Waker(waker) => Some(waker),
            Awaiting::Waiter(_) | Awaiting::Nobody => None,
        }
    }
}

/// # Safety
/// The closure, which has not run, is the caller's to drop, and the result to write.
unsafe fn fail<F, T>(task: NonNull<Header>, failure: Failure) {
    // SAFETY: the vtable pairs each task with its own types; the rest is the caller's promise.
    unsafe {
        let stage = stage::<F, T>(task);
        fenced::call_or_tell(
            || "dropping the closure of a coroutine that never ran".to_owned(),
            || stage.clear(),
        );
        stage.fail(failure);
    }
}

/// # Safety
/// The result is the caller's to take, and `into` has room for the value.
unsafe fn take<F, T>(task: NonNull<Header>, into: *mut ()) -> Option<Failure> {
    // SAFETY: complete, so the stage is the handle's; `into` has room for the value, whose types the vtable
    // pairs with the task.
    unsafe {
        let stage = stage::<F, T>(task);
        match stage.holds.replace(Holds::Nothing) {
            Holds::Value => {
                into.cast::<T>().copy_from_nonoverlapping(stage.value(), 1);
                None
            }
            Holds::Failure => Some(stage.failure().read()),
            Holds::Closure | Holds::Nothing => Some(Failure::Interrupted(Interrupt::Cancelled)),
        }
    }
}

/// # Safety
/// The result is settled, and the caller's to drop.
unsafe fn drop_result<F, T>(task: NonNull<Header>) -> Unseen {
    // SAFETY: settled, and the handle has given the result up: the stage is the caller's.
    unsafe {
        let stage = stage::<F, T>(task);
        if stage.holds.get() == Holds::Failure {
            stage.holds.set(Holds::Nothing);
            match stage.failure().read() {
                Failure::NoStack(error) => return Some(error),
                Failure::Interrupted(_) => {}
                Failure::Panicked(payload) => {
                    fenced::drop_value(payload, "the payload of a panic that nobody joined");
                }
            }
        } else if std::mem::needs_drop::<T>() {
            let origin = &task.as_ref().origin;
            fenced::call_or_tell(
                || format!("dropping the result of {origin}, which nobody joined,"),
                || stage.clear(),
            );
        }
    }
    None
}

/// # Safety
/// Nobody holds a reference to the task any more.
unsafe fn dealloc<F, T>(task: NonNull<Header>) {
    let task = task.cast::<Task<F, T>>();
    // SAFETY: made in `TaskRef::new`; this was the last reference.
    unsafe {
        task.drop_in_place();
        recycle::give(task.cast(), Layout::new::<Task<F, T>>());
    }
}

/// Other code that switches stacks keeps one on which a scope of this coroutine was entered and not left. That
/// scope is in lists, and points to what goes now.
#[cold]
fn ended_inside(task: NonNull<Header>) -> ! {
    // SAFETY: it runs.
    let origin = &unsafe { task.as_ref() }.origin;
    fenced::abort(&format!(
        "{origin} ended while a stack that it had resumed was inside a timeout, shield, token's run or group"
    ));
}

/// Ids are unique in the process; threads take them in blocks, so they are not quite in order.
pub(crate) fn next_id() -> u64 {
    const BLOCK: u64 = 1024;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static MINE: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    }
    MINE.with(|mine| {
        let (mut next, mut end) = mine.get();
        if next == end {
            next = NEXT.fetch_add(BLOCK, Ordering::Relaxed);
            end = next + BLOCK;
        }
        mine.set((next + 1, end));
        next
    })
}

/// A stack of ours in the terms of the context switch.
struct Bound(Stack);

// SAFETY: a `Stack` is exclusively owned, has a guard page at its low end, unless somebody vouched
// that no stack overflows, and nearly the smallest size class of usable memory above it.
unsafe impl corosensei::stack::Stack for Bound {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        self.0.base()
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        self.0.limit()
    }
}

/// Marks handles by their result type.
pub(crate) type Yields<T> = PhantomData<fn() -> T>;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{scheduler::current_coroutine, stack::child};

    #[test]
    fn references_without_end_abort_and_do_not_come_round() {
        let test = "references_without_end_abort_and_do_not_come_round";
        let said = child::run(module_path!(), test, || {
            crate::run(|| {
                let running = current_coroutine().unwrap();
                // SAFETY: it runs, so the runtime holds a reference.
                let task = unsafe { TaskRef::acquire(running) };
                // As after so many `mem::forget(current.clone())`, which take some seconds.
                task.header().refs.store(MOST_REFERENCES, Ordering::Relaxed);
                let _last = task.clone();
                let _too_many = task.clone();
            });
        })
        .by_signal(libc::SIGABRT);
        assert!(said.contains("references to one coroutine"), "{said}");
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use std::task::Wake;

    use loom::{alloc::Track, cell, sync::Arc, thread::spawn};

    use super::*;
    use crate::{
        scheduler::ready,
        task::{join_task, origin},
        wait::Interruptible,
    };

    /// What the coroutine returns: loom finds it lost, dropped twice, or read before it was written.
    type Value = Track<cell::UnsafeCell<u32>>;

    /// A task whose body a thread of its own runs and completes, as its worker would, and its handle.
    fn run_beside() -> (loom::thread::JoinHandle<()>, TaskRef) {
        let body = || {
            let value = Track::new(cell::UnsafeCell::new(0));
            // SAFETY: nobody else has seen it.
            value.get_ref().with_mut(|value| unsafe { *value = 7 });
            value
        };
        let class = SizeClass::for_size(64 << 10).unwrap();
        // SAFETY: nothing is borrowed.
        let (task, handle) =
            unsafe { TaskRef::new(body, origin(None, class), None, None, Locals::new()) };
        let worker = spawn(move || {
            let task = task;
            // SAFETY: the task is this thread's, is run once and completed once.
            unsafe {
                (task.header().vtable.run)(task.0);
                complete(task.0, ready);
            }
        });
        (worker, handle)
    }

    fn take(handle: &TaskRef) -> u32 {
        // SAFETY: made with this type; complete; taken once.
        let value = unsafe { handle.take::<Value>() }.ok().expect("it has one");
        // SAFETY: it was given away.
        value.get_ref().with(|value| unsafe { *value })
    }

    #[test]
    fn loom_a_join_gets_the_value_whenever_the_coroutine_ends() {
        loom::model(|| {
            let (worker, handle) = run_beside();
            join_task(&handle, Interruptible::No).unwrap();
            assert_eq!(take(&handle), 7);
            drop(handle);
            worker.join().unwrap();
        });
    }

    /// Track reports a value that is leaked; loom an access to one that is gone.
    #[test]
    fn loom_a_value_whose_handle_is_dropped_is_dropped_once() {
        loom::model(|| {
            let (worker, handle) = run_beside();
            assert!(handle.detach().is_none());
            drop(handle);
            worker.join().unwrap();
        });
    }

    /// Others hold references, as `Current` does: the last one to be let go frees the task.
    #[test]
    fn loom_the_last_reference_frees_the_task_whoevers_it_is() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let (worker, handle) = run_beside();
            let other = handle.clone();
            let observer = spawn(move || drop(other));
            assert!(handle.detach().is_none());
            drop(handle);
            observer.join().unwrap();
            worker.join().unwrap();
        });
    }

    #[test]
    fn loom_an_awaiter_of_another_executor_is_woken_or_finds_the_end() {
        struct Flag(Arc<AtomicU32>);
        impl Wake for Flag {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::AcqRel);
            }
        }
        loom::model(|| {
            let (worker, handle) = run_beside();
            let woken = Arc::new(AtomicU32::new(0));
            let waker = Waker::from(std::sync::Arc::new(Flag(woken.clone())));
            if !handle.is_done_or_wakes(&waker) {
                worker.join().unwrap();
                assert_eq!(woken.load(Ordering::Acquire), 1);
                assert!(handle.is_done_or_wakes(&waker));
                assert_eq!(take(&handle), 7);
            } else {
                assert_eq!(take(&handle), 7);
                worker.join().unwrap();
            }
            drop(handle);
        });
    }
}
