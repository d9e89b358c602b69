//! Coroutines as their user sees them: spawn, join, cancel, yield, park.

mod builder;
mod current;
mod error;
mod handle;
mod park;
mod standby;
#[allow(unsafe_code)]
mod typed;

pub use builder::Builder;
pub use current::{Current, Id, current};
pub use error::JoinError;
pub use handle::JoinHandle;
pub use park::{park, park_timeout};
pub use standby::{is_imbalanced, spawn_when_readable};
pub(crate) use typed::{End, Handle, call_on, call_on_and, make_below, make_below_reserved};
#[cfg(all(test, loom))]
pub(crate) use typed::{join_task, origin};
use typed::{make, make_with};

use std::sync::Arc;

use crate::{
    coroutine::Name,
    local,
    scheduler::{Scheduler, Worker, current_scheduler, may_block_thread, yield_turn},
    stack::SizeClass,
    wait::{self, Reason},
    waiter::Locals,
};

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
    JoinHandle::new(typed::spawn_local(worker, class, body))
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
    let class = scheduler.default_class;
    on_workers(scheduler, &None, class, local::bequest, body)
}

#[track_caller]
fn on_workers<F, T>(
    scheduler: &Arc<Scheduler>,
    name: &Option<Name>,
    class: SizeClass,
    locals: impl Fn() -> Locals,
    body: F,
) -> Vec<JoinHandle<T>>
where
    F: Fn(usize) -> T + Clone + Send + 'static,
    T: Send + 'static,
{
    let mut handles = Vec::with_capacity(scheduler.workers());
    for index in 0..scheduler.workers() {
        let body = body.clone();
        let (task, handle) = make_with(name.clone(), class, locals(), move || body(index));
        scheduler.assign(index, task);
        handles.push(JoinHandle::new(handle));
    }
    handles
}

/// Spawns a coroutine like [`spawn`](crate::spawn()), on the worker with the fewest if the caller's has many more.
///
/// For coroutines that live long and wait most of their time, as those of connections: an idle worker is the
/// first to accept, and so would come by nearly all of them, and keep them. "Many more" is an eighth and eight.
///
/// # Panics
/// Panics as [`spawn`](crate::spawn()) does.
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
    let class = scheduler.default_class;
    least_loaded(scheduler, None, class, local::bequest(), body)
}

#[track_caller]
fn least_loaded<F, T>(
    scheduler: &Arc<Scheduler>,
    name: Option<Name>,
    class: SizeClass,
    locals: Locals,
    body: F,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (task, handle) = make_with(name, class, locals, body);
    match Worker::current() {
        Some(worker) => worker.spawn_least_loaded(task),
        None => scheduler.spawn(task),
    }
    JoinHandle::new(handle)
}

#[track_caller]
fn local_worker() -> &'static Worker {
    match Worker::of_coroutine() {
        Some(worker) => worker,
        None => panic!("spawn_local must be called from a coroutine"),
    }
}

#[track_caller]
pub(crate) fn spawn_on<F, T>(
    scheduler: &Arc<Scheduler>,
    name: Option<Name>,
    body: F,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (task, handle) = make(name, scheduler.default_class, body);
    scheduler.spawn(task);
    JoinHandle::new(handle)
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
