//! A task that has not begun: made, linked into a group, and begun by some home, or ended without having run.

use super::{
    ending,
    origin::Failure,
    task::{Header, Own, OwnStage},
};
use crate::{stack::Stack, waiter::Claimed};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

/// A task that has not run yet: it may still go to any worker. Holds the runtime's reference, and keeps it if it is
/// dropped.
pub(crate) struct Unstarted(Own);

impl Unstarted {
    #[inline(always)]
    pub(super) fn new(task: Own) -> Self {
        Self(task)
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.0.header()
    }

    /// What may be done with it while nobody else knows it.
    #[inline]
    pub(crate) fn own(&self) -> &Own {
        &self.0
    }

    /// What its home needs to begin it.
    #[inline]
    pub(super) fn into_stage(self) -> OwnStage {
        self.0.into_stage()
    }

    /// Lets the group know that a child of it cannot begin.
    pub(crate) fn cancel_group(&self, ready: &mut dyn FnMut(Claimed)) {
        self.0.cancel_group(ready);
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
        let fail = |stage: &OwnStage| {
            stage.fail(failure);
            ending::finish(stage, |_| {});
        };
        ending::complete(self.0.end_by(fail), ready);
        stack
    }

    /// Runs the task on the caller's stack, as a part of the caller: it has got none of its own.
    pub(crate) fn run_here(self, ready: impl FnMut(Claimed)) {
        ending::complete(self.0.end_by(ending::run), ready);
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
