//! The handle of a coroutine: the right to its result.

use std::{fmt, marker::PhantomData, mem::MaybeUninit};

use super::{Id, JoinError};
use crate::{
    coroutine::{TaskRef, Yields},
    error::{Cause, Interrupt},
    scheduler::refusal,
    wait::{self, Interruptible, Reason, Waited, ready},
};

/// Owns the right to a coroutine's result.
///
/// Dropping it detaches the coroutine. A result that nobody takes is dropped by the last to come: by the
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
        Id::from_raw(self.task.header().origin.id)
    }

    /// The coroutine's name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.task.header().origin.name.as_deref()
    }
}

// SAFETY: the handle gives out `T`, once, to its holder.
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
            .field("id", &self.id())
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
