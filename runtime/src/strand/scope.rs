//! The tree of cancel scopes: a flag that spreads downwards and wakes who waits below.
//!
//! A [`Scope`] is a node. A coroutine has one of its own, a group has one to which its children's
//! are linked, a token and each run under it have one, a shield has one without a parent. Cancelling
//! a node sets its flag and those of all nodes below, so a strand needs to look only at the flag of
//! the innermost scope it is in. Cancelling cannot be undone.
//!
//! ```text
//!   leader's own ──► group ──► child's own ──► the child's group ──► …
//!   token ──► (link) ──► run frame ──► groups made inside
//! ```
//!
//! Nodes live where their owner lives (a coroutine's header, a leader's stack) and are linked into
//! their parent's list under the parent's lock; a node unlinks itself before it goes, and a group
//! waits until its list is empty. Locks are taken from parent to child, never the other way.

use std::ptr::NonNull;

use super::{Claimed, Outcome, Strand};
use crate::{
    error::Cause,
    loom::{AtomicBool, AtomicU8, Ordering, order_store_before_load},
    sys::{
        list::{Linked, Links, List},
        spin::SpinLock,
    },
};

pub(crate) struct Scope {
    /// The [`Cause`]'s number, or [`ALIVE`].
    cancelled: AtomicU8,
    /// A coroutine linked below could not get a stack.
    starved: AtomicBool,
    target: Target,
    /// Guarded by the parent's lock.
    links: Links<Scope>,
    below: SpinLock<Below>,
}

/// The flag of a scope that has not been cancelled.
const ALIVE: u8 = 0;

/// What a cancelled node acts on beside the nodes linked below it.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Nothing,
    /// Wake this strand if it waits.
    Strand(NonNull<Strand>),
    /// Cancel that node too.
    Scope(NonNull<Scope>),
}

struct Below {
    scopes: List<Scope>,
    /// The strand that waits until `scopes` is empty.
    awaiting_empty: Option<NonNull<Strand>>,
}

// SAFETY: the waiting strand is touched under the lock alone.
unsafe impl Send for Below {}

// SAFETY: a scope is shared between threads by design: its flag is atomic, its lists are behind its
// lock, its links behind its parent's, and its target is immutable and outlives it.
unsafe impl Send for Scope {}
// SAFETY: as above.
unsafe impl Sync for Scope {}

impl Linked for Scope {
    #[inline]
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

impl Scope {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            cancelled: AtomicU8::new(ALIVE),
            starved: AtomicBool::new(false),
            target,
            links: Links::new(),
            below: SpinLock::new(Below {
                scopes: List::new(),
                awaiting_empty: None,
            }),
        }
    }

    pub(crate) fn set_target(&mut self, target: Target) {
        self.target = target;
    }

    /// The strand that a cancellation of this scope wakes.
    pub(crate) fn strand(&self) -> Option<NonNull<Strand>> {
        match self.target {
            Target::Strand(strand) => Some(strand),
            Target::Nothing | Target::Scope(_) => None,
        }
    }

    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // SeqCst: the load half of the handshake with `Word::arm`.
        self.cancelled.load(Ordering::SeqCst) != ALIVE
    }

    /// Why the scope was cancelled, if it was.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let number = self.cancelled.load(Ordering::SeqCst);
        Cause::ALL.into_iter().find(|cause| *cause as u8 == number)
    }

    /// Cancels the scope because a coroutine below it cannot begin.
    pub(crate) fn starve(&self, ready: &mut dyn FnMut(Claimed)) {
        self.starved.store(true, Ordering::SeqCst);
        self.cancel(Cause::NoStack, ready);
    }

    pub(crate) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::SeqCst)
    }

    /// Links `child` below this scope; it is cancelled at once if this scope already is.
    ///
    /// # Safety
    /// `child` is linked nowhere, stays in place, and is unlinked from this scope before it goes.
    #[inline]
    pub(crate) unsafe fn link(&self, child: NonNull<Scope>) {
        let below = self.below.lock();
        // SAFETY: exclusion by the lock; the rest is the caller's promise.
        unsafe {
            below.scopes.push_back(child);
            let cancelled = self.cancelled.load(Ordering::Relaxed);
            if cancelled != ALIVE {
                child.as_ref().cancelled.store(cancelled, Ordering::SeqCst);
            }
        }
    }

    /// Takes `child` out again; `ready` is called with the strand that waited for the last to go.
    ///
    /// # Safety
    /// `child` was linked below this scope.
    #[inline]
    pub(crate) unsafe fn unlink(&self, child: NonNull<Scope>, ready: impl FnOnce(Claimed)) {
        let mut below = self.below.lock();
        // SAFETY: exclusion by the lock; the child is in this list.
        unsafe { below.scopes.remove(child) };
        if !below.scopes.is_empty() {
            return;
        }
        let claimed = below
            .awaiting_empty
            .take()
            // SAFETY: a strand that awaits emptiness stays until it has been woken.
            .and_then(|strand| unsafe { Strand::claim(strand, Outcome::Notified) });
        drop(below);
        // The waiter takes this lock once more before it lets the scope go, and that was the last
        // touch of the scope here.
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }

    /// Arms `strand` to be woken once nothing is linked below; false if that is already so.
    pub(crate) fn arm_until_empty(&self, strand: &Strand, cancellable: bool) -> bool {
        let mut below = self.below.lock();
        if below.scopes.is_empty() {
            return false;
        }
        below.awaiting_empty = Some(NonNull::from(strand));
        strand.word.arm(cancellable);
        true
    }

    /// Takes `arm_until_empty` back after another waker won.
    pub(crate) fn forget_waiter(&self) {
        self.below.lock().awaiting_empty = None;
    }

    /// Cancels this scope and all below it; `ready` is called with each strand to be resumed.
    pub(crate) fn cancel(&self, cause: Cause, ready: &mut dyn FnMut(Claimed)) {
        // A canceller below a cancelled scope has nothing left to do, except for who was linked in
        // between: `link` copies the flag under the lock.
        let below = self.below.lock();
        let first =
            self.cancelled
                .compare_exchange(ALIVE, cause as u8, Ordering::SeqCst, Ordering::SeqCst);
        if first.is_err() {
            return;
        }
        order_store_before_load();
        match self.target {
            Target::Nothing => {}
            Target::Strand(strand) => {
                // SAFETY: a scope never outlives the strand it names.
                if let Some(claimed) = unsafe { Strand::claim(strand, Outcome::Cancelled) } {
                    ready(claimed);
                }
            }
            // SAFETY: the link node is unlinked before the scope it points to goes.
            Target::Scope(scope) => unsafe { scope.as_ref() }.cancel(cause, ready),
        }
        // SAFETY: exclusion by the lock, which also keeps the nodes from being unlinked.
        unsafe {
            below
                .scopes
                .for_each(|child| child.as_ref().cancel(cause, &mut *ready));
        }
    }
}
