//! Tasks with their types: a [`TaskRef`] knows neither the closure nor the result that its task was made with.
//!
//! All of the rest of the crate spawns and joins by these functions, in safe code.
//!
//! # Why the blocks of unsafe code here are sound
//!
//! - A closure is `Send`, or its task is queued on the calling worker alone.
//! - It borrows nothing; or what outlives a frame, whose leader waits for all that is linked below it; or what
//!   outlives the call that waits for it.
//! - A [`Handle`] is made with its task, and so with the type of its result, and takes that once it is there.

use std::{
    convert::Infallible,
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    panic::Location,
    ptr,
    sync::Arc,
    task::Waker,
    time::Instant,
};

use super::JoinError;
use crate::{
    coroutine::{self, Name, Origin, TaskRef, Unstarted, Yields, next_id},
    error::{Cause, Interrupt},
    local,
    scheduler::{Scheduler, Worker, refusal},
    stack::{SizeClass, Stack},
    stay::Frame,
    wait::{self, Interruptible, Reason, Waited, ready},
    waiter::Locals,
};

/// A task for any worker.
#[track_caller]
#[inline]
pub(crate) fn make<F, T>(name: Option<Name>, class: SizeClass, body: F) -> (Unstarted, Handle<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    make_with(name, class, local::bequest(), body)
}

/// Makes a task like [`make`], which begins with those locals.
#[track_caller]
#[inline]
pub(crate) fn make_with<F, T>(
    name: Option<Name>,
    class: SizeClass,
    locals: Locals,
    body: F,
) -> (Unstarted, Handle<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: nothing is borrowed.
    let Ok(made) = unsafe { new(name, class, None, locals, unreserved, body) };
    made
}

/// Makes a task like [`make`], with its stack reserved now, by `reserve`.
#[track_caller]
pub(crate) fn make_reserved<F, T>(
    name: Option<Name>,
    class: SizeClass,
    locals: Locals,
    reserve: impl FnOnce() -> io::Result<Stack>,
    body: F,
) -> io::Result<(Unstarted, Handle<T>)>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: nothing is borrowed.
    unsafe { new(name, class, None, locals, || reserve().map(Some), body) }
}

/// Makes a task that need not be `Send`, and queues it on the caller's worker.
#[track_caller]
pub(crate) fn spawn_local<F, T>(worker: &Worker, class: SizeClass, body: F) -> Handle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    // SAFETY: nothing is borrowed; the task stays on this thread.
    let Ok((task, handle)) = unsafe { new(None, class, None, local::bequest(), unreserved, body) };
    worker.spawn_local(task);
    handle
}

/// Spawns like [`spawn_local`], with its stack reserved now.
#[track_caller]
pub(crate) fn spawn_local_reserved<F, T>(
    worker: &Worker,
    name: Option<Name>,
    class: SizeClass,
    locals: Locals,
    body: F,
) -> io::Result<Handle<T>>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let reserve = || worker.acquire_stack(class).map(Some);
    // SAFETY: nothing is borrowed; the task stays on this thread.
    let (task, handle) = unsafe { new(name, class, None, locals, reserve, body) }?;
    worker.spawn_local(task);
    Ok(handle)
}

/// A task that its frame's leader waits for, so that it may borrow what outlives the frame.
///
/// # Panics
/// If nobody is in the frame.
#[track_caller]
#[inline]
pub(crate) fn make_below<'scope, F, T>(
    frame: &'scope Frame<'scope>,
    name: Option<Name>,
    class: SizeClass,
    deadline: Option<Instant>,
    body: F,
) -> (Unstarted, Handle<T>)
where
    F: FnOnce() -> T + Send + 'scope,
    T: Send + 'scope,
{
    // SAFETY: below the frame from here on.
    let Ok((task, handle)) =
        unsafe { new(name, class, deadline, local::bequest(), unreserved, body) };
    frame.adopt(&task);
    (task, handle)
}

/// Makes a task like [`make_below`], with its stack reserved now, by `reserve`.
#[track_caller]
pub(crate) fn make_below_reserved<'scope, F, T>(
    frame: &'scope Frame<'scope>,
    name: Option<Name>,
    class: SizeClass,
    deadline: Option<Instant>,
    reserve: impl FnOnce() -> io::Result<Stack>,
    body: F,
) -> io::Result<(Unstarted, Handle<T>)>
where
    F: FnOnce() -> T + Send + 'scope,
    T: Send + 'scope,
{
    let locals = local::bequest();
    // SAFETY: below the frame from here on.
    let (task, handle) =
        unsafe { new(name, class, deadline, locals, || reserve().map(Some), body) }?;
    frame.adopt(&task);
    Ok((task, handle))
}

/// Runs `body`, which may borrow, on a task, and waits for its end, whatever happens.
#[track_caller]
pub(crate) fn call_on<T: Send>(
    scheduler: &Arc<Scheduler>,
    name: &'static str,
    body: impl FnOnce() -> T + Send,
) -> Result<T, JoinError> {
    let (mut body, mut value) = (Some(body), None);
    let mut run = || value = body.take().map(|body| body());
    call_on_and(scheduler, name, &mut run, &mut || ())?;
    Ok(value.expect("the task has run to its end"))
}

/// What [`call_on`] does, compiled once for all bodies; calls `spawned` once the task is queued.
#[track_caller]
pub(crate) fn call_on_and(
    scheduler: &Arc<Scheduler>,
    name: &'static str,
    body: &mut (dyn FnMut() + Send),
    spawned: &mut dyn FnMut(),
) -> Result<(), JoinError> {
    let class = scheduler.default_class;
    // SAFETY: this call returns or unwinds only once the task is complete.
    let Ok((task, handle)) = unsafe {
        new(
            Some(Name::Text(name.into())),
            class,
            None,
            local::bequest(),
            unreserved,
            body,
        )
    };
    let ended = Ended(handle.task.clone());
    scheduler.spawn(task);
    spawned();
    let result = handle.join(Interruptible::No);
    drop(ended);
    result
}

/// Waits for a task's end when it is dropped, so also where the wait for it is left by unwinding.
struct Ended(TaskRef);

impl Drop for Ended {
    fn drop(&mut self) {
        while join_task(&self.0, Interruptible::No).is_err() {}
    }
}

/// Makes a task that owns `source`, and begins once that is readable, or at `until`.
#[track_caller]
pub(crate) fn stand_by<S, F, T>(
    scheduler: &Arc<Scheduler>,
    name: Option<Name>,
    class: SizeClass,
    locals: Locals,
    source: S,
    until: Instant,
    body: F,
) -> Handle<T>
where
    S: AsFd + Send + 'static,
    F: FnOnce(S) -> T + Send + 'static,
    T: Send + 'static,
{
    let fd = source.as_fd().as_raw_fd();
    let (task, handle) = make_with(name, class, locals, move || body(source));
    // SAFETY: the task owns the descriptor, does not begin before it is armed, and is not touched after.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    scheduler.stand_by(fd, until, task);
    handle
}

/// A task, which begins with those locals. They are handed in: to clone them may panic, and a stack would be lost.
///
/// # Safety
/// What the closure and its result borrow outlives the task's completion. The task runs on this thread, or both
/// are `Send`.
#[track_caller]
#[inline(always)]
unsafe fn new<F, T, E>(
    name: Option<Name>,
    class: SizeClass,
    deadline: Option<Instant>,
    locals: Locals,
    reserve: impl FnOnce() -> Result<Option<Stack>, E>,
    body: F,
) -> Result<(Unstarted, Handle<T>), E>
where
    F: FnOnce() -> T,
{
    let stack = reserve()?;
    // SAFETY: the caller's promise; the handle takes the result or detaches it, while it lives.
    let (unstarted, task) =
        unsafe { coroutine::make(body, origin(name, class), stack, deadline, locals) };
    let handle = Handle {
        task,
        taken: false,
        yields: PhantomData,
    };
    Ok((unstarted, handle))
}

/// It gets a stack once it begins.
#[inline(always)]
fn unreserved() -> Result<Option<Stack>, Infallible> {
    Ok(None)
}

#[track_caller]
#[inline]
pub(crate) fn origin(name: Option<Name>, class: SizeClass) -> Origin {
    Origin {
        id: next_id(),
        name,
        spawned_at: Location::caller(),
        class,
    }
}

/// The right to a task's result. Dropping it detaches the task.
pub(crate) struct Handle<T> {
    task: TaskRef,
    taken: bool,
    yields: Yields<T>,
}

impl<T> Handle<T> {
    #[inline]
    pub(crate) fn task(&self) -> &TaskRef {
        &self.task
    }

    /// Waits for the task's end, and takes its result.
    #[inline]
    pub(crate) fn join(mut self, interruptible: Interruptible) -> Result<T, JoinError> {
        match join_task(&self.task, interruptible) {
            Ok(()) => {
                self.taken = true;
                let mut value = MaybeUninit::<T>::uninit();
                // SAFETY: made with this type; complete; consumed.
                match unsafe { self.task.take_into(value.as_mut_ptr()) } {
                    // SAFETY: without a failure, the value is there; read once.
                    None => Ok(unsafe { value.assume_init_read() }),
                    Some(failure) => Err(JoinError::of(&self.task, failure)),
                }
            }
            Err(interrupt) => Err(JoinError::interrupted(interrupt)),
        }
    }

    /// The result, if it is there to be taken; if not, `waker` is woken once it is.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Option<Result<T, JoinError>> {
        // Not by a wait for the very end: the waker may poll, on the coroutine itself.
        if !self.task.is_done_or_wakes(waker) {
            return None;
        }
        self.taken = true;
        // SAFETY: made with this type; it is there. Taken a second time, it is a failure.
        let result = unsafe { self.task.take() };
        Some(result.map_err(|failure| JoinError::of(&self.task, failure)))
    }

    /// Whether the task has ended. A loop that asks must not keep it from its turn.
    pub(crate) fn is_finished(&self) -> bool {
        let done = self.task.is_done();
        if !done {
            wait::spend();
        }
        done
    }

    pub(crate) fn cancel(&self, cause: Cause) {
        let scope = self.task.header().waiter.own_scope();
        scope.cancel(cause, &mut |claimed| ready(claimed));
    }
}

/// How a child's body ended, other than by cancellation.
pub(crate) enum End<T> {
    Value(T),
    Failed,
    Panicked(String),
}

impl<T> Handle<End<T>> {
    /// As `join`, for what may be large: it is moved once.
    #[inline]
    pub(crate) fn join_child(mut self, interruptible: Interruptible) -> Result<T, JoinError> {
        if let Err(interrupt) = join_task(&self.task, interruptible) {
            return Err(JoinError::interrupted(interrupt));
        }
        self.taken = true;
        let mut end = MaybeUninit::<End<T>>::uninit();
        // SAFETY: made with this type; complete; consumed.
        if let Some(failure) = unsafe { self.task.take_into(end.as_mut_ptr()) } {
            return Err(JoinError::of(&self.task, failure));
        }
        // SAFETY: it is there. What is read out of it, once, is not dropped in it.
        match unsafe { end.assume_init_ref() } {
            // SAFETY: as said.
            End::Value(value) => Ok(unsafe { ptr::from_ref(value).read() }),
            End::Failed => Err(JoinError::failed()),
            End::Panicked(message) => {
                // SAFETY: as said.
                let message = unsafe { ptr::from_ref(message).read() };
                Err(JoinError::panicked(Box::new(message)))
            }
        }
    }
}

// SAFETY: the handle gives out `T`, once, to its holder.
unsafe impl<T: Send> Send for Handle<T> {}
// SAFETY: a shared handle gives no access to `T`.
unsafe impl<T: Send> Sync for Handle<T> {}

impl<T> Drop for Handle<T> {
    #[inline]
    fn drop(&mut self) {
        // That the coroutine got no stack goes to the log then: nobody else is told.
        if !self.taken
            && let Some(error) = self.task.detach()
        {
            refusal::note(error);
        }
    }
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
