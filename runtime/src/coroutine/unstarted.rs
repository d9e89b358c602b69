//! A task that has not begun: made, linked into a group, and begun by some home, or ended without having run.

use std::{mem::ManuallyDrop, ptr::NonNull, time::Instant};

use super::{
    ending,
    origin::{Failure, Origin},
    task::{Header, OwnStage, TaskRef, stage},
};
use crate::{
    stack::Stack,
    waiter::{Claimed, Locals, Scope},
};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

/// A task that has not run yet: it may still go to any worker. Holds the runtime's reference, and keeps it if it is
/// dropped.
pub(crate) struct Unstarted(ManuallyDrop<TaskRef>);

impl Unstarted {
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
        let task = stage::make(body, |vtable| {
            Header::new(vtable, origin, stack, deadline, locals)
        });
        // SAFETY: a header begins with two references.
        let [own, handle] = unsafe { [TaskRef::counted(task), TaskRef::counted(task)] };
        (Unstarted(ManuallyDrop::new(own)), handle)
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.0.header()
    }

    /// Its closure, which `spawn_local` does not let leave the thread.
    #[inline]
    fn stage(&self) -> OwnStage {
        // SAFETY: an unstarted task is its holder's, who gives it up with this.
        unsafe { OwnStage::of(self.0.pointer()) }
    }

    /// What its home needs to begin it.
    #[inline]
    pub(super) fn into_stage(self) -> OwnStage {
        self.stage()
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
    #[inline]
    pub(crate) fn needs_stack(&self) -> bool {
        self.header().engine.needs_stack()
    }

    /// Gives the task the stack that it will run on.
    pub(crate) fn reserve(&self, stack: Stack) {
        self.header().engine.reserve(stack);
    }

    /// Ends the task without running it; returns the stack it had reserved.
    pub(crate) fn fail(self, failure: Failure, ready: impl FnMut(Claimed)) -> Option<Stack> {
        let stack = self.header().engine.take_reserved();
        let stage = self.stage();
        stage.fail(failure);
        ending::finish(&stage, |_| {});
        self.complete(ready);
        stack
    }

    /// Runs the task on the caller's stack, as a part of the caller: it has got none of its own.
    pub(crate) fn run_here(self, ready: impl FnMut(Claimed)) {
        ending::run(self.stage());
        self.complete(ready);
    }

    fn complete(self, ready: impl FnMut(Claimed)) {
        // SAFETY: it has its result, and is consumed here.
        unsafe { ending::complete(ManuallyDrop::into_inner(self.0), ready) };
    }

    /// The task will not run its closure; it needs a stack all the same, on which that is dropped.
    pub(crate) fn refuse(self, failure: Failure) -> Refused {
        Refused {
            task: self,
            failure,
        }
    }
}

/// A task that will never run its closure, which is still to be dropped: on a stack, where it may wait.
pub(crate) struct Refused {
    task: Unstarted,
    failure: Failure,
}

impl Refused {
    pub(crate) fn header(&self) -> &Header {
        self.task.header()
    }

    /// The task, which its home begins all the same, and why it does not run its closure.
    pub(super) fn into_parts(self) -> (Unstarted, Failure) {
        (self.task, self.failure)
    }
}
