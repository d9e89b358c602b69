//! A task, by those who may hold it: what has a pointer to one is a type here, or has begun (see `begun`).
//!
//! # Why the blocks of unsafe code here are sound
//!
//! A task is made by [`stage::make`] alone, and goes with the last counted reference to it. There is one reference of
//! the runtime's, and one for each handle.
//!
//! | type | what it stands for | why the task is there |
//! |---|---|---|
//! | [`TaskRef`] | a counted reference | it is counted |
//! | [`Own`] | the runtime's reference to what has not begun, and the right to its stage | it is counted |
//! | [`OwnStage`] | the right to the closure or the result | who made it keeps a reference for as long |
//! | [`Over`] | the runtime's reference to what has its result, and does not run | it is counted |
//! | [`Won`] | a wait of it has been won | it waits until it is resumed, and the holder of this sees to that |
//!
//! The types of closure and result are known to `stage`, which is reached by the table that it made with the task.

mod header;
pub(super) mod stage;

use std::{
    mem::{ManuallyDrop, MaybeUninit},
    ops::Deref,
    ptr::NonNull,
    task::Waker,
};

use super::origin::{Failure, Unseen};
use crate::{
    sys::list::Handle,
    waiter::{Claimed, Scope, Waiter},
};
pub(super) use header::OwnStage;
pub(crate) use header::{Header, Record, Won};

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
        (self.header().vtable.take)(OwnStage(self.0), into.cast())
    }

    /// Gives up the result: it is dropped here if it is there, else by the coroutine itself. Returns an error
    /// that would have been its joiner's to see.
    pub(crate) fn detach(&self) -> Unseen {
        if !self.header().completion.detach() {
            return None;
        }
        // The body is done with it, and the handle that would have taken it is giving it up.
        OwnStage(self.0).drop_result()
    }

    /// One more reference.
    ///
    /// # Safety
    /// The task is there, by a reference that is not given up before this returns.
    pub(super) unsafe fn to(task: NonNull<Header>) -> TaskRef {
        // SAFETY: the caller's promise.
        unsafe { task.as_ref() }.references.add();
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
            // Nobody else knows it any more, so its stage is this one's too.
            (header.vtable.free)(OwnStage(self.0));
        }
    }
}

/// A task that has not begun: the runtime's reference to it, which is kept if this is dropped, and its stage.
pub(crate) struct Own(ManuallyDrop<TaskRef>);

impl Own {
    /// The runtime's reference to a new task, and the handle's.
    ///
    /// # Safety
    /// Nobody has either.
    #[inline(always)]
    unsafe fn with_handle(task: NonNull<Header>) -> (Self, TaskRef) {
        (Self(ManuallyDrop::new(TaskRef(task))), TaskRef(task))
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        self.0.header()
    }

    /// What its home needs to begin it. The runtime's reference is kept: [`Over::ended`] has it again.
    #[inline]
    pub(super) fn into_stage(self) -> OwnStage {
        OwnStage(self.0.0)
    }

    /// Gives it a result by `settle`, without a coroutine of its own.
    #[inline]
    pub(super) fn end_by(self, settle: impl FnOnce(&OwnStage)) -> Over {
        settle(&OwnStage(self.0.0));
        Over(ManuallyDrop::into_inner(self.0))
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
    pub(super) fn cancel_group(&self, ready: &mut dyn FnMut(Claimed)) {
        if let Some(parent) = self.header().parent.get() {
            // SAFETY: the group waits for this task.
            unsafe { parent.as_ref() }.starve(ready);
        }
    }
}

impl Header {
    /// The coroutine that leads the group this one belongs to, if a coroutine does.
    pub(crate) fn leader(&self) -> Option<u64> {
        let parent = self.parent.get()?;
        // SAFETY: a group and its leader outlive its children; a coroutine's waiter is the first field of its header.
        unsafe {
            let waiter = parent.as_ref().waiter()?;
            (!waiter.as_ref().is_thread()).then(|| waiter.cast::<Header>().as_ref().origin.id)
        }
    }
}

impl OwnStage {
    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: it is there, for the reason in the opening's table.
        unsafe { self.0.as_ref() }
    }

    /// Runs the closure, if it has not run, and keeps what it returns, or why it does not.
    #[inline]
    pub(super) fn run(&self) {
        (self.header().vtable.run)(Self(self.0));
    }

    /// Drops the closure and keeps why it does not run.
    pub(super) fn fail(&self, failure: Failure) {
        (self.header().vtable.fail)(Self(self.0), failure);
    }

    /// Drops the result.
    pub(super) fn drop_result(&self) -> Unseen {
        (self.header().vtable.drop_result)(Self(self.0))
    }

    #[inline(always)]
    pub(super) fn pointer(&self) -> NonNull<Header> {
        self.0
    }
}

/// The runtime's reference to a task that has its result, and does not run any more.
pub(super) struct Over(TaskRef);

impl Over {
    /// # Safety
    /// The task has begun, by [`Own::into_stage`], and its coroutine has ended. This is called once for it.
    #[inline]
    pub(super) unsafe fn ended(task: NonNull<Header>) -> Self {
        Self(TaskRef(task))
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        self.0.header()
    }

    /// Leaves its group, and gives the reference up. What the task borrowed may go from here on.
    #[inline]
    pub(super) fn leave_group(self, ready: impl FnOnce(Claimed)) {
        let header = self.header();
        if let Some(parent) = header.parent.take() {
            let own = NonNull::from(header.waiter.own_scope());
            // SAFETY: linked by `link_below`; the group waits for this.
            unsafe { parent.as_ref().unlink(own, ready) };
        }
    }
}

impl Deref for Won {
    type Target = Header;

    #[inline(always)]
    fn deref(&self) -> &Header {
        // SAFETY: it waits, so it is there.
        unsafe { self.0.as_ref() }
    }
}

impl Won {
    /// The coroutine that was claimed, or `None` after waking a plain thread.
    #[inline(always)]
    pub(super) fn of(claimed: Claimed) -> Option<Self> {
        // A coroutine's waiter is the first field of its header.
        Some(Self(claimed.into_coroutine()?.cast()))
    }

    /// Sends it to its home. Out of line: most are woken at home.
    #[inline(never)]
    pub(super) fn send(self) {
        let home = self.home.get();
        // SAFETY: it waits until it is resumed, on its home worker, which lives as long.
        unsafe { (*home).send(self) };
    }

    #[inline(always)]
    pub(super) fn pointer(&self) -> NonNull<Header> {
        self.0
    }
}

// SAFETY: it stays in its wait until the one that has this resumes it; to win a wait is the right to do so from any
// thread.
unsafe impl Handle for Won {
    #[inline]
    fn give(self) -> NonNull<Header> {
        self.0
    }

    #[inline]
    unsafe fn regain(node: NonNull<Header>) -> Self {
        Self(node)
    }
}
