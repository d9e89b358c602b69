//! Coroutines as their user sees them: spawn, join, cancel, yield, park.

mod standby;

pub use standby::{is_imbalanced, spawn_when_readable};

use std::{
    any::Any,
    borrow::Cow,
    fmt, io,
    marker::PhantomData,
    mem::MaybeUninit,
    panic::Location,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    coroutine::{Failure, Origin, TaskRef, Unstarted, Yields, next_id},
    error::{Cause, Interrupt},
    local, panics,
    scheduler::{
        Scheduler, Worker, current_scheduler, current_task, may_block_thread, on_coroutine,
        on_waiter, refusal, suspend_parked_thread, yield_turn,
    },
    stack::{SizeClass, Stack},
    wait::{self, Interruptible, Reason, Waited, ready},
    waiter::{Outcome, Parking, Waiter},
};

/// Identifies a coroutine; unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

impl Id {
    pub(crate) fn from_raw(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Runs `body` on a new coroutine.
///
/// In a coroutine it joins the caller's runtime, on a plain thread the process-wide default runtime,
/// which is started at its first use. Until it first runs it may go to any worker; from then on it
/// stays on that worker's thread, so it may hold `Rc`s, thread-locals and guards of maniple's locks across
/// suspensions. Its neighbours share the thread: the book's chapter on locks lists which crates' guards
/// must not be held across one. It inherits neither deadline nor cancellation: that is what a
/// [`group`](crate::group())'s children do.
///
/// Dropping the handle detaches the coroutine. The runtime's shutdown cancels it.
///
/// # Errors
/// `spawn` itself does not fail. If no stack can be had when the coroutine is to begin, `body` does not run
/// and [`JoinHandle::join`] says so. If nobody joins it, the log does, as an error: the first at once, then at
/// most one line in ten seconds with their number. [`Builder::spawn`] reports it to the spawner, at once.
///
/// What `body` has captured is then dropped by that coroutine, on a stack that each worker keeps for this: a
/// destructor may lock and wait there, and `join` returns after it. Children of a group that it leads there run on
/// that stack too, one by one, if there is none for them.
///
/// # Memory
/// A coroutine that has not begun is a heap object of some hundred bytes and what `body` captures. No limit
/// counts these: a loop that spawns and never waits, nor leaves the work to be begun, spawns until the
/// allocator fails, which ends the process. Bound such a loop by a [`Semaphore`](crate::sync::Semaphore),
/// by [`map`](crate::group::map), or use [`Builder::spawn`], which stops at
/// [`max_coroutines`](crate::runtime::Builder::max_coroutines).
///
/// # Panics
/// If the default runtime cannot be started. A panic of `body` is returned by [`JoinHandle::join`].
///
/// # Examples
/// ```
/// let answer = maniple::run(|| maniple::spawn(|| 6 * 7).join().unwrap());
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
#[inline]
pub fn spawn<F, T>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_on(current_scheduler(), None, body)
}

/// Runs `body`, which need not be `Send`, on a new coroutine of the caller's worker.
///
/// # Panics
/// On a plain thread: there is no worker to stay on.
///
/// # Examples
/// ```
/// use std::{cell::Cell, rc::Rc};
/// let seen = maniple::run(|| {
///     let shared = Rc::new(Cell::new(0));
///     let theirs = shared.clone();
///     maniple::spawn_local(move || theirs.set(7)).join().unwrap();
///     shared.get()
/// });
/// assert_eq!(seen, 7);
/// ```
#[track_caller]
pub fn spawn_local<F, T>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let worker = local_worker();
    let class = worker.scheduler().default_class;
    // SAFETY: nothing is borrowed.
    let (task, handle) = unsafe { make(None, class, None, body) };
    worker.spawn_local(task);
    JoinHandle::new(handle)
}

/// Runs `body` once on each worker of the caller's runtime, with the worker's index.
///
/// For one listener per worker, and other things that are to be spread evenly.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = maniple::Runtime::builder().workers(2).build()?;
/// let threads = runtime.run(|| {
///     let handles = maniple::task::spawn_on_workers(|_index| std::thread::current().id());
///     handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
/// });
/// assert_ne!(threads[0], threads[1]);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn spawn_on_workers<F, T>(body: F) -> Vec<JoinHandle<T>>
where
    F: Fn(usize) -> T + Clone + Send + 'static,
    T: Send + 'static,
{
    let scheduler = current_scheduler();
    let mut handles = Vec::with_capacity(scheduler.workers());
    for index in 0..scheduler.workers() {
        let body = body.clone();
        let class = scheduler.default_class;
        // SAFETY: nothing is borrowed.
        let (task, handle) = unsafe { make(None, class, None, move || body(index)) };
        scheduler.assign(index, task);
        handles.push(JoinHandle::new(handle));
    }
    handles
}

/// As [`spawn`](crate::spawn()), on the worker with the fewest coroutines, if the caller's has many more.
///
/// For coroutines that live long and wait most of their time, as those of connections: an idle worker is the
/// first to accept, and so would come by nearly all of them, and keep them. "Many more" is an eighth and eight.
///
/// # Panics
/// As [`spawn`](crate::spawn()).
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = maniple::Runtime::builder().workers(2).build()?;
/// let waiting = runtime.run(|| {
///     (0..100)
///         .map(|_| maniple::task::spawn_least_loaded(maniple::task::park))
///         .collect::<Vec<_>>()
/// });
/// # drop(waiting);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn spawn_least_loaded<F, T>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let scheduler = current_scheduler();
    // SAFETY: nothing is borrowed.
    let (task, handle) = unsafe { make(None, scheduler.default_class, None, body) };
    match Worker::current() {
        Some(worker) => worker.spawn_where_fewest(task),
        None => scheduler.spawn(task),
    }
    JoinHandle::new(handle)
}

#[track_caller]
fn local_worker() -> &'static Worker {
    match Worker::current() {
        Some(worker) if worker.running().is_some() => worker,
        _ => panic!("spawn_local must be called from a coroutine"),
    }
}

#[track_caller]
pub(crate) fn spawn_on<F, T>(
    scheduler: &Arc<Scheduler>,
    name: Option<Cow<'static, str>>,
    body: F,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: nothing is borrowed.
    let (task, handle) = unsafe { make(name, scheduler.default_class, None, body) };
    scheduler.spawn(task);
    JoinHandle::new(handle)
}

#[track_caller]
#[inline]
pub(crate) fn origin(name: Option<Cow<'static, str>>, class: SizeClass) -> Origin {
    Origin {
        id: next_id(),
        name,
        spawned_at: Location::caller(),
        class,
    }
}

/// Spawns a coroutine with a name or a stack size of its own.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let depth = maniple::run(|| {
///     maniple::task::Builder::new()
///         .name("deep")
///         .stack_size(1024 * 1024)
///         .spawn(|| 42)
///         .map(|handle| handle.join().unwrap())
/// })?;
/// assert_eq!(depth, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Cow<'static, str>>,
    stack_size: Option<usize>,
}

impl Builder {
    /// A builder with the defaults: no name, the runtime's stack size.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name that reports and dumps show.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Address space for the stack in bytes, rounded up to a power of two, its guard page included.
    ///
    /// Memory is committed page by page as the stack grows; see the book's chapter on stacks.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// As [`spawn`](crate::spawn()), with its stack reserved now.
    ///
    /// # Errors
    /// If the stack size is out of range (`InvalidInput`), the runtime's limit of coroutines is
    /// reached (`QuotaExceeded`), the system has no memory for another stack (`OutOfMemory`), or the
    /// runtime is shutting down.
    #[track_caller]
    pub fn spawn<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_on(current_scheduler(), body)
    }

    #[track_caller]
    pub(crate) fn spawn_on<F, T>(
        self,
        scheduler: &Arc<Scheduler>,
        body: F,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let class = self.class(scheduler)?;
        let reserve = || scheduler.reserve_stack(class);
        // SAFETY: nothing is borrowed.
        let (task, handle) = unsafe { make_reserved(self.name, class, None, body, reserve) }?;
        scheduler.spawn(task);
        Ok(JoinHandle::new(handle))
    }

    /// As [`spawn_local`](crate::spawn_local()), with its stack reserved now.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// On a plain thread.
    #[track_caller]
    pub fn spawn_local<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let worker = local_worker();
        let class = self.class(worker.scheduler())?;
        let reserve = || worker.acquire_stack(class);
        // SAFETY: nothing is borrowed.
        let (task, handle) = unsafe { make_reserved(self.name, class, None, body, reserve) }?;
        worker.spawn_local(task);
        Ok(JoinHandle::new(handle))
    }

    pub(crate) fn class(&self, scheduler: &Scheduler) -> io::Result<SizeClass> {
        if scheduler.is_stopping() {
            return Err(io::Error::other("the runtime is shutting down"));
        }
        match self.stack_size {
            None => Ok(scheduler.default_class),
            Some(bytes) => Ok(SizeClass::for_size(bytes)?),
        }
    }

    pub(crate) fn into_name(self) -> Option<Cow<'static, str>> {
        self.name
    }
}

/// Owns the right to a coroutine's result.
///
/// Dropping it detaches the coroutine. A result that nobody takes is dropped by whoever comes last: by the
/// coroutine, as its last act on its own stack and with its own locals, if its handle was dropped before it
/// had returned; else by the one who drops the handle, there and then. A panic of the result's destructor is
/// logged, as an error that names the coroutine, and harms neither.
pub struct JoinHandle<T> {
    task: TaskRef,
    taken: bool,
    yields: Yields<T>,
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(task: TaskRef) -> Self {
        Self {
            task,
            taken: false,
            yields: PhantomData,
        }
    }

    /// Waits for the coroutine to end and returns its result.
    ///
    /// Works from a coroutine, and blocks a plain thread. The wait is cut short by cancellation and by
    /// the deadline of the caller's scope, and the handle is then dropped, which detaches the coroutine.
    ///
    /// # Errors
    /// If the coroutine panicked, was cancelled or never got a stack, or the wait was cut short.
    #[inline]
    pub fn join(mut self) -> Result<T, JoinError> {
        match join_task(&self.task, Interruptible::Yes) {
            // SAFETY: complete.
            Ok(()) => unsafe { self.take() },
            Err(interrupt) => Err(JoinError::interrupted(interrupt)),
        }
    }

    /// The result, which is there.
    ///
    /// # Safety
    /// The coroutine was seen to be complete, or its result there to be taken. It is not asked for again.
    #[inline(always)]
    pub(crate) unsafe fn take(&mut self) -> Result<T, JoinError> {
        self.taken = true;
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: made with this type; the rest is the caller's promise.
        match unsafe { self.task.take_into(value.as_mut_ptr()) } {
            // SAFETY: without a failure, the value is there; read once.
            None => Ok(unsafe { value.assume_init_read() }),
            Some(failure) => Err(JoinError::of(&self.task, failure)),
        }
    }

    pub(crate) fn task(&self) -> &TaskRef {
        &self.task
    }

    /// Whether the coroutine has ended. Asked again and again in vain, it gives way to others.
    pub fn is_finished(&self) -> bool {
        is_finished(&self.task)
    }

    /// Cancels the coroutine: every wait it makes from now on is cut short.
    ///
    /// If it has not begun it never will. Returns at once; [`JoinHandle::join`] waits for the end.
    pub fn cancel(&self) {
        self.task
            .header()
            .waiter
            .own_scope()
            .cancel(Cause::Handle, &mut |claimed| ready(claimed));
    }

    /// The coroutine's id.
    pub fn id(&self) -> Id {
        Id(self.task.header().origin.id)
    }

    /// The coroutine's name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.task.header().origin.name.as_deref()
    }
}

// SAFETY: the handle gives out `T`, once, to whoever holds it.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle gives no access to `T`.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.taken {
            detach(&self.task);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id().0)
            .field("name", &self.name())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Gives up a handle's result. That the coroutine got no stack goes to the log then: nobody else is told.
#[inline]
pub(crate) fn detach(task: &TaskRef) {
    if let Some(error) = task.detach() {
        refusal::note(error);
    }
}

/// Whether `task` is complete. A loop that asks must not keep it from its turn.
pub(crate) fn is_finished(task: &TaskRef) -> bool {
    let done = task.is_done();
    if !done {
        wait::spend();
    }
    done
}

/// Waits until `task` is complete.
#[inline]
pub(crate) fn join_task(task: &TaskRef, interruptible: Interruptible) -> Result<(), Interrupt> {
    loop {
        let waited = wait::wait(
            Reason::Join(task.header().origin.id),
            None,
            interruptible,
            |waiter| task.arm_until_done(waiter, interruptible == Interruptible::Yes),
            || task.forget_waiter(),
        );
        match waited {
            Waited::AtOnce | Waited::Notified => return Ok(()),
            Waited::Interrupted(interrupt) => return Err(interrupt),
            Waited::TimedOut | Waited::Again => {}
        }
    }
}

/// Why a join has no result to give.
pub struct JoinError {
    kind: JoinErrorKind,
}

// SAFETY: a shared reference gives no access to the payload but to look whether it is a string, which
// threads may share.
unsafe impl Sync for JoinError {}

enum JoinErrorKind {
    Panicked(Box<dyn Any + Send>),
    Cancelled(Option<Cause>),
    Elapsed,
    Failed,
    NoStack(io::Error),
}

impl JoinError {
    /// Why `task` has no value.
    pub(crate) fn of(task: &TaskRef, failure: Failure) -> Self {
        match failure {
            Failure::Panicked(payload) => Self::panicked(payload),
            Failure::Interrupted(Interrupt::Cancelled) => Self {
                kind: JoinErrorKind::Cancelled(task.header().waiter.own_scope().cause()),
            },
            Failure::Interrupted(Interrupt::Elapsed) => Self {
                kind: JoinErrorKind::Elapsed,
            },
            Failure::NoStack(error) => Self {
                kind: JoinErrorKind::NoStack(error),
            },
        }
    }

    /// The wait for the coroutine was cut short.
    pub(crate) fn interrupted(interrupt: Interrupt) -> Self {
        Self {
            kind: match interrupt {
                Interrupt::Cancelled => JoinErrorKind::Cancelled(wait::cause()),
                Interrupt::Elapsed => JoinErrorKind::Elapsed,
            },
        }
    }

    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        Self {
            kind: JoinErrorKind::Panicked(payload),
        }
    }

    /// A group's child whose error has become its group's.
    pub(crate) fn failed() -> Self {
        Self {
            kind: JoinErrorKind::Failed,
        }
    }

    /// Whether the coroutine panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, JoinErrorKind::Panicked(_))
    }

    /// Whether the coroutine, or the wait for it, was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, JoinErrorKind::Cancelled(_))
    }

    /// Why the coroutine, or the wait for it, was cancelled, if it was and the cause is known.
    ///
    /// # Examples
    /// ```
    /// use maniple::cancel::Cause;
    /// let parked = maniple::spawn(maniple::park);
    /// parked.cancel();
    /// assert_eq!(parked.join().unwrap_err().cause(), Some(Cause::Handle));
    /// ```
    pub fn cause(&self) -> Option<Cause> {
        match self.kind {
            JoinErrorKind::Cancelled(cause) => cause,
            _ => None,
        }
    }

    /// Whether a deadline passed, the coroutine's or that of the wait for it.
    pub fn is_elapsed(&self) -> bool {
        matches!(self.kind, JoinErrorKind::Elapsed)
    }

    /// The panic's payload, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    /// If the coroutine did not panic.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.kind {
            JoinErrorKind::Panicked(payload) => payload,
            _ => panic!("the coroutine did not panic: {self}"),
        }
    }

    fn panic_message(payload: &(dyn Any + Send)) -> &str {
        panics::message(payload).unwrap_or("a value that is no string")
    }
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    JoinError::panic_message(payload)
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            JoinErrorKind::Panicked(payload) => {
                write!(f, "coroutine panicked: {}", Self::panic_message(&**payload))
            }
            JoinErrorKind::Cancelled(None) => f.write_str("coroutine was cancelled"),
            JoinErrorKind::Cancelled(Some(cause)) => write!(f, "coroutine was cancelled {cause}"),
            JoinErrorKind::Elapsed => f.write_str("coroutine's deadline has passed"),
            JoinErrorKind::Failed => f.write_str("coroutine failed; its group returns the error"),
            JoinErrorKind::NoStack(error) => write!(f, "coroutine could not begin: {error}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        match error.kind {
            JoinErrorKind::Cancelled(_) => Interrupt::Cancelled.into(),
            JoinErrorKind::Elapsed => Interrupt::Elapsed.into(),
            JoinErrorKind::NoStack(error) => error,
            JoinErrorKind::Panicked(_) | JoinErrorKind::Failed => {
                io::Error::other(error.to_string())
            }
        }
    }
}

/// Gives the other ready coroutines of this worker a turn; on a plain thread, yields to the system.
///
/// A cancellation point: in a cancelled scope, or past its deadline, it unwinds to the scope's edge.
///
/// # Examples
/// ```
/// maniple::run(|| {
///     let other = maniple::spawn_local(|| "other");
///     while !other.is_finished() {
///         maniple::yield_now();
///     }
///     assert_eq!(other.join().unwrap(), "other");
/// });
/// ```
#[inline(always)]
pub fn yield_now() {
    if let Err(interrupt) = wait::check() {
        wait::unwind(Reason::Yield, interrupt);
    }
    if !yield_turn() {
        may_block_thread(&Reason::Yield);
    }
}

/// The running coroutine, or `None` on a plain thread.
///
/// # Examples
/// ```
/// assert!(maniple::current().is_none());
/// maniple::run(|| println!("I am coroutine {}", maniple::current().unwrap().id()));
/// ```
pub fn current() -> Option<Current> {
    current_task().map(|task| Current { task })
}

/// Whether the caller unwinds, because of a panic or of a cancelled wait: as [`std::thread::panicking`].
///
/// The standard library counts panics per thread. A coroutine that waits in a destructor while it unwinds takes
/// its count with it, so both functions tell of the calling coroutine alone, and a neighbour's guards poison no
/// lock. Should the process be refused the thread that this takes at the first such wait, an error is logged, and
/// both take those who run meanwhile on that worker for unwinding.
///
/// # Examples
/// ```
/// struct Told;
/// impl Drop for Told {
///     fn drop(&mut self) {
///         println!("{}", if maniple::task::panicking() { "rolled back" } else { "done" });
///     }
/// }
/// maniple::run(|| {
///     let _told = Told;
/// });
/// ```
#[inline]
pub fn panicking() -> bool {
    std::thread::panicking()
}

/// A handle to a coroutine, obtained inside it; may be sent anywhere to unpark it.
#[derive(Clone)]
pub struct Current {
    task: TaskRef,
}

impl Current {
    /// Its id.
    pub fn id(&self) -> Id {
        Id(self.task.header().origin.id)
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.task.header().origin.name.as_deref()
    }

    /// Where it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.task.header().origin.spawned_at
    }

    /// Lets its next or present [`park`] return; several calls before that count as one.
    pub fn unpark(&self) {
        if let Some(claimed) = self.task.header().parking.unpark() {
            ready(claimed);
        }
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("id", &self.id().0)
            .field("name", &self.name())
            .finish()
    }
}

/// Waits until [`Current::unpark`] is called for this coroutine; returns at once if it already was.
///
/// On a plain thread this is [`std::thread::park`], which may also return for no reason. A cancellation point on
/// both: a cancelled scope, or its deadline, unwinds to the scope's edge.
///
/// # Examples
/// ```
/// maniple::run(|| {
///     let me = maniple::current().unwrap();
///     let other = maniple::spawn(move || me.unpark());
///     maniple::park();
///     other.join().unwrap();
/// });
/// ```
pub fn park() {
    park_until(None);
}

/// As [`park`], for at most `timeout`.
pub fn park_timeout(timeout: Duration) {
    park_until(crate::scheduler::now().checked_add(timeout));
}

fn park_until(deadline: Option<Instant>) {
    on_coroutine(|task| match task {
        Some(task) => park_coroutine(&task.parking, deadline),
        None => on_waiter(|waiter| park_thread(waiter, deadline)),
    });
}

#[inline(always)]
fn park_coroutine(parking: &Parking, deadline: Option<Instant>) {
    loop {
        let waited = wait::wait(
            Reason::Park,
            deadline,
            Interruptible::Yes,
            |waiter| parking.arm(waiter),
            || parking.forget(),
        );
        match waited {
            Waited::AtOnce | Waited::Notified | Waited::TimedOut => return,
            Waited::Interrupted(interrupt) => return wait::unwind(Reason::Park, interrupt),
            Waited::Again => {}
        }
    }
}

/// Ended by `Thread::unpark` too, which is the standard library's and not ours.
#[cold]
fn park_thread(waiter: &Waiter, own_deadline: Option<Instant>) {
    let cut = |interrupt| wait::unwind(Reason::Park, interrupt);
    if let Err(interrupt) = wait::check() {
        return cut(interrupt);
    }
    waiter.claim.arm(true);
    if waiter.is_cancelled() && waiter.claim.disarm() {
        return cut(Interrupt::Cancelled);
    }
    let scope_deadline = waiter.deadline();
    let deadline = match (own_deadline, scope_deadline) {
        (Some(own), Some(scope)) => Some(own.min(scope)),
        (own, scope) => own.or(scope),
    };
    match suspend_parked_thread(waiter, deadline) {
        Some(Outcome::TimedOut) if deadline == scope_deadline => cut(Interrupt::Elapsed),
        Some(Outcome::Cancelled) if waiter.is_cancelled() => cut(Interrupt::Cancelled),
        _ => {}
    }
}

/// A task, which begins with the locals that it inherits; its closure may borrow.
///
/// # Safety
/// As [`TaskRef::new`].
#[track_caller]
#[inline]
pub(crate) unsafe fn make<F, T>(
    name: Option<Cow<'static, str>>,
    class: SizeClass,
    deadline: Option<Instant>,
    body: F,
) -> (Unstarted, TaskRef)
where
    F: FnOnce() -> T,
{
    // SAFETY: the caller's promise.
    unsafe { TaskRef::new(body, origin(name, class), None, deadline, local::bequest()) }
}

/// As [`make`], with its stack reserved now, by `reserve`.
///
/// # Safety
/// As [`TaskRef::new`].
#[track_caller]
pub(crate) unsafe fn make_reserved<F, T>(
    name: Option<Cow<'static, str>>,
    class: SizeClass,
    deadline: Option<Instant>,
    body: F,
    reserve: impl FnOnce() -> io::Result<Stack>,
) -> io::Result<(Unstarted, TaskRef)>
where
    F: FnOnce() -> T,
{
    // First the clones of what is inherited: they may panic, and a stack would be lost.
    let locals = local::bequest();
    let stack = Some(reserve()?);
    // SAFETY: the caller's promise.
    Ok(unsafe { TaskRef::new(body, origin(name, class), stack, deadline, locals) })
}
