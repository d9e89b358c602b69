//! Counted references to a task.

mod header;
pub(super) mod stage;

use std::{mem::MaybeUninit, ptr::NonNull, task::Waker};

use super::origin::{Failure, Unseen};
use crate::waiter::Waiter;
pub(super) use header::OwnStage;
pub(crate) use header::{Header, Record};

/// One counted reference to a task.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: through a reference only what is shared can be reached safely; see the module's rules.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the reference keeps it alive.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.header().completion.is_done()
    }

    /// Arms `waiter` to be woken at completion; false if it is complete.
    pub(crate) fn arm_until_done(&self, waiter: &Waiter, cancellable: bool) -> bool {
        self.header().completion.arm(waiter, cancellable)
    }

    /// Whether its result may be taken; if not, `waker` is woken once it may.
    pub(crate) fn is_done_or_wakes(&self, waker: &Waker) -> bool {
        self.header().completion.is_over_or_wakes(waker)
    }

    /// Takes `arm_until_done` back after another waker won, or `is_done_or_wakes`.
    pub(crate) fn forget_waiter(&self) {
        self.header().completion.forget_awaiter();
    }

    #[inline]
    pub(super) fn pointer(&self) -> NonNull<Header> {
        self.0
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
        unsafe { OwnStage::of(self.0).take_into(into) }
    }

    /// Gives up the result: it is dropped here if it is there, else by the coroutine itself. Returns an error
    /// that would have been its joiner's to see.
    pub(crate) fn detach(&self) -> Unseen {
        if !self.header().completion.detach() {
            return None;
        }
        // SAFETY: the body is done with it, and the handle that would have taken it is giving it up.
        unsafe { OwnStage::of(self.0) }.drop_result()
    }

    /// One of the references that are counted.
    ///
    /// # Safety
    /// It was counted, and nobody else gives it up.
    #[inline]
    pub(super) unsafe fn counted(task: NonNull<Header>) -> TaskRef {
        TaskRef(task)
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        self.header().references.add();
        TaskRef(self.0)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        let header = self.header();
        if header.references.remove() {
            // SAFETY: that was the last reference.
            unsafe { OwnStage::of(self.0) }.free();
        }
    }
}
