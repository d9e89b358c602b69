//! Stays: the scopes and deadlines that a call enters, and leaves again on every way out.
//!
//! A stay ends where it began: on the same waiter, before those around it. Other code that switches stacks can
//! have it end elsewhere, or never. What it would put back is gone then, so the process ends instead.
//!
//! # Why the blocks of unsafe code here are sound
//!
//! The tree of scopes holds pointers to nodes on stacks. [`enter`] is the one place where such a node is linked,
//! and it unlinks it before it returns or unwinds; the node is borrowed for that long, so it cannot move or go.

use std::{marker::PhantomData, ptr, ptr::NonNull, time::Instant};

use crate::{
    coroutine::Unstarted,
    error::Cause,
    scheduler::on_waiter,
    sys::fenced,
    wait::{self, Interruptible, Reason, Waited, ready},
    waiter::{Scope, Target, Waiter},
};

/// Runs `f` under the deadline that `change` makes of the one in force.
#[inline]
pub(crate) fn under_deadline<R>(
    change: impl FnOnce(Option<Instant>) -> Option<Instant>,
    f: impl FnOnce() -> R,
) -> R {
    on_waiter(|waiter| {
        let former = waiter.deadline();
        waiter.replace_deadline(change(former));
        stay(waiter, f, move || _ = waiter.replace_deadline(former))
    })
}

/// Runs `f` in a scope that no cancellation and no deadline from outside reaches.
pub(crate) fn apart<R>(f: impl FnOnce() -> R) -> R {
    on_waiter(|waiter| {
        let frame = Frame::of(waiter);
        let deadline = waiter.replace_deadline(None);
        // SAFETY: the frame stays in place until `stay` returns or unwinds, which puts the former scope back.
        let enclosing = unsafe { waiter.replace_scope(NonNull::from(&frame.scope)) };
        stay(waiter, f, || {
            // SAFETY: the enclosing scope outlives a stay inside it.
            unsafe { waiter.replace_scope(enclosing) };
            waiter.replace_deadline(deadline);
        })
    })
}

/// A scope that a call enters, for as long as `'scope`; it lives on that call's stack.
///
/// `'scope` is one lifetime, neither shorter nor longer, as in `std::thread::Scope`: the borrow by which the frame
/// is entered, so that what is linked below may borrow whatever outlives that.
pub(crate) struct Frame<'scope> {
    scope: Scope,
    marker: PhantomData<&'scope mut &'scope ()>,
}

impl<'scope> Frame<'scope> {
    /// A frame that the waiter will enter.
    #[inline]
    pub(crate) fn of(waiter: &'scope Waiter) -> Self {
        Self {
            scope: Scope::new(Target::Waiter(NonNull::from(waiter))),
            marker: PhantomData,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.scope.is_cancelled()
    }

    /// Whether what was to begin below has got no stack.
    pub(crate) fn is_starved(&self) -> bool {
        self.scope.is_starved()
    }

    pub(crate) fn cancel(&self, cause: Cause) {
        self.scope.cancel(cause, &mut |claimed| ready(claimed));
    }

    /// Links the task below the frame, which the caller has entered: leaving waits for the task's end.
    ///
    /// # Panics
    /// If nobody is in the frame.
    #[inline]
    pub(crate) fn adopt(&'scope self, task: &Unstarted) {
        assert!(self.scope.is_linked(), "nobody is in the frame");
        // SAFETY: entered by a borrow of `'scope`, of which this is one too, so `lead` has not returned; before it
        // does it waits until nothing is linked here.
        unsafe { task.own().link_below(&self.scope) };
    }

    /// Runs `f` in the frame, which is linked below the scope that the leader is in. Leaving waits, whatever
    /// happens, for the end of all that `f` has linked below.
    #[inline]
    pub(crate) fn lead<R>(&'scope self, leader: &Waiter, f: impl FnOnce() -> R) -> R {
        let wait_for_all = move || {
            let wait = |waiter: &Waiter| self.scope.arm_until_empty(waiter, false);
            let forget = || self.scope.forget_waiter();
            while wait::wait(Reason::Group, None, Interruptible::No, wait, forget) != Waited::AtOnce
            {
            }
        };
        enter(leader, &self.scope, f, wait_for_all)
    }

    /// Runs `f` in the frame, linked below the scope that the caller is in, and cancelled with `other` too.
    pub(crate) fn run_under<R>(&self, other: &Scope, waiter: &Waiter, f: impl FnOnce() -> R) -> R {
        let edge = Scope::new(Target::Scope(NonNull::from(&self.scope)));
        let unlink = || {
            // SAFETY: linked in `run`, which is called before.
            unsafe { other.unlink(NonNull::from(&edge), ready) };
        };
        let run = || {
            // SAFETY: unlinked on every way out, before the edge goes, and the frame to which it leads.
            unsafe { other.link(NonNull::from(&edge)) };
            if edge.is_cancelled() {
                self.cancel(Cause::Token);
            }
            f()
        };
        enter(waiter, &self.scope, run, unlink)
    }
}

/// Runs `f` in `scope`, which is linked below the scope that the waiter is in for so long; calls `leave` first on
/// the way out.
#[inline(always)]
fn enter<R>(waiter: &Waiter, scope: &Scope, f: impl FnOnce() -> R, mut leave: impl FnMut()) -> R {
    assert!(!scope.is_linked(), "somebody is in the frame");
    let enclosing = waiter.current_scope();
    // SAFETY: it is in no list, and borrowed until `stay` returns or unwinds, which unlinks it before, and puts the
    // enclosing scope back.
    unsafe {
        enclosing.as_ref().link(NonNull::from(scope));
        waiter.replace_scope(NonNull::from(scope));
    }
    stay(waiter, f, move || {
        leave();
        // SAFETY: linked above; nothing is linked below it any more. A scope outlives a stay inside it.
        unsafe {
            waiter.replace_scope(enclosing);
            enclosing.as_ref().unlink(NonNull::from(scope), ready);
        }
    })
}

/// Runs `f`, then `leave`, whichever way `f` ends.
#[inline(always)]
fn stay<R>(waiter: &Waiter, f: impl FnOnce() -> R, leave: impl FnMut()) -> R {
    struct Stay<L: FnMut()> {
        waiter: *const Waiter,
        number: u32,
        leave: L,
    }
    impl<L: FnMut()> Drop for Stay<L> {
        #[inline]
        fn drop(&mut self) {
            // Looked at only if it is the caller's own: else it may be gone.
            let is_innermost =
                on_waiter(|own| ptr::eq(own, self.waiter) && own.end_stay(self.number));
            if !is_innermost {
                ended_elsewhere();
            }
            (self.leave)();
        }
    }

    let _stay = Stay {
        waiter,
        number: waiter.begin_stay(),
        leave,
    };
    f()
}

#[cold]
fn ended_elsewhere() -> ! {
    fenced::abort(
        "a timeout, shield, token's run or group was left on another stack than it was entered on, or out of order",
    );
}
