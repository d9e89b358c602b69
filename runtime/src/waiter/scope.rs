//! The tree of cancel scopes: a flag that spreads downwards and wakes who waits below.
//!
//! A [`Scope`] is a node. A coroutine has one of its own, a group has one to which its children's
//! are linked, a token and each run under it have one, a shield has one without a parent. Cancelling
//! a node sets its flag and those of all nodes below, so a waiter needs to look only at the flag of
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
//!
//! # The walk
//!
//! The tree is as deep as users make it, so a cancellation walks it without recursion, without memory of its
//! own, and with two locks at most at a time. The canceller that sets a node's flag walks what is below it, and
//! nobody else does. The way back is kept in the nodes. Each node on the way is *held*: it is not unlinked
//! before the walk has left it. Nobody waits for that but who leaves a scope at the moment in which the walk is
//! at it: further up a scope has another below it, for the end of which its owner waits anyway.

use std::{cell::Cell, ptr::NonNull};

use super::{Armed, Claimed, Outcome, Waiter};
use crate::{
    error::Cause,
    loom::{AtomicBool, AtomicU8, Ordering, order_store_before_load},
    sys::{
        list::{Linked, Links, List},
        spin::{SpinGuard, SpinLock, spin_while},
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
    /// Whether a walk is at this node or below it. Guarded by the parent's lock.
    held: Cell<bool>,
    /// From where a walk came here; of the canceller that set the flag.
    back: Cell<Option<NonNull<Scope>>>,
    below: SpinLock<Below>,
}

/// The flag of a scope that has not been cancelled.
const ALIVE: u8 = 0;

/// What a cancelled node acts on beside the nodes linked below it.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Nothing,
    /// Wake this waiter if it waits.
    Waiter(NonNull<Waiter>),
    /// Cancel that node too.
    Scope(NonNull<Scope>),
}

struct Below {
    scopes: List<Scope>,
    /// The waiter that waits until `scopes` is empty.
    awaiting_empty: Option<Armed>,
}

// SAFETY: a scope is shared between threads by design: its flag is atomic, its lists are behind its
// lock, its links behind its parent's, the way back is written and read by the one who set the flag, and its
// target is immutable and outlives it.
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
            held: Cell::new(false),
            back: Cell::new(None),
            below: SpinLock::new(Below {
                scopes: List::new(),
                awaiting_empty: None,
            }),
        }
    }

    pub(super) fn set_target(&mut self, target: Target) {
        self.target = target;
    }

    /// The waiter that a cancellation of this scope wakes.
    pub(crate) fn waiter(&self) -> Option<NonNull<Waiter>> {
        match self.target {
            Target::Waiter(waiter) => Some(waiter),
            Target::Nothing | Target::Scope(_) => None,
        }
    }

    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // SeqCst: the load half of the handshake with `Claim::arm`.
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

    /// Owner: whether it is linked below another.
    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        self.links.is_linked()
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

    /// Takes `child` out again; `ready` is called with the waiter that waited for the last to go.
    ///
    /// # Safety
    /// `child` was linked below this scope.
    #[inline]
    pub(crate) unsafe fn unlink(&self, child: NonNull<Scope>, ready: impl FnOnce(Claimed)) {
        let mut below = self.lock_without_walk_at(child);
        // SAFETY: exclusion by the lock; the child is in this list.
        unsafe { below.scopes.remove(child) };
        if !below.scopes.is_empty() {
            return;
        }
        let claimed = below.awaiting_empty.take().and_then(Armed::claim);
        drop(below);
        // The waiter takes this lock once more before it lets the scope go, and that was the last
        // touch of the scope here.
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }

    /// Arms `waiter` to be woken once nothing is linked below; false if that is already so.
    pub(crate) fn arm_until_empty(&self, waiter: &Waiter, cancellable: bool) -> bool {
        let mut below = self.below.lock();
        if below.scopes.is_empty() {
            return false;
        }
        below.awaiting_empty = Some(Armed::new(waiter, cancellable));
        true
    }

    /// Takes `arm_until_empty` back after another waker won.
    pub(crate) fn forget_waiter(&self) {
        self.below.lock().awaiting_empty = None;
    }

    /// The lock, once no walk is at `child`, which is linked below this scope.
    #[inline]
    fn lock_without_walk_at(&self, child: NonNull<Scope>) -> SpinGuard<'_, Below> {
        let below = self.below.lock();
        // SAFETY: linked, so alive; exclusion by the lock.
        match unsafe { child.as_ref() }.held.get() {
            false => below,
            true => self.wait_for_walk_at(child, below),
        }
    }

    #[cold]
    fn wait_for_walk_at<'a>(
        &'a self,
        child: NonNull<Scope>,
        below: SpinGuard<'a, Below>,
    ) -> SpinGuard<'a, Below> {
        drop(below);
        let mut free = None;
        spin_while(|| {
            let below = self.below.lock();
            // SAFETY: linked, so alive; exclusion by the lock.
            let is_held = unsafe { child.as_ref() }.held.get();
            free = (!is_held).then_some(below);
            is_held
        });
        free.unwrap_or_else(|| self.below.lock())
    }

    /// Cancels this scope and all below it; `ready` is called with each waiter to be resumed.
    ///
    /// If another has cancelled it before, that one may still be on its way to some who are below.
    pub(crate) fn cancel(&self, cause: Cause, ready: &mut dyn FnMut(Claimed)) {
        if !self.raise(cause, ready) {
            return;
        }
        let root = NonNull::from(self);
        // SAFETY: the root is the caller's; nodes on the way are held, and none is touched after it was left.
        unsafe {
            let (mut at, mut left) = (root, None);
            loop {
                if let Some(next) = at.as_ref().next_below(left, cause, ready) {
                    next.as_ref().back.set(Some(at));
                    (at, left) = (next, None);
                } else if at == root {
                    return;
                } else if let Some(back) = at.as_ref().back.take() {
                    (at, left) = (back, Some(at));
                }
            }
        }
    }

    /// Sets the flag, and wakes the waiter that waits in this scope; false if the flag is set.
    fn raise(&self, cause: Cause, ready: &mut dyn FnMut(Claimed)) -> bool {
        let first =
            self.cancelled
                .compare_exchange(ALIVE, cause as u8, Ordering::SeqCst, Ordering::SeqCst);
        if first.is_err() {
            return false;
        }
        order_store_before_load();
        if let Target::Waiter(waiter) = self.target
            // SAFETY: a scope never outlives the waiter it names.
            && let Some(claimed) = unsafe { Waiter::claim(waiter, Outcome::Cancelled) }
        {
            ready(claimed);
        }
        true
    }

    /// One step of a walk that has come to this node, or has come back to it from `left`: the next node to walk
    /// from, whose flag has been set. Nodes with nothing below are done on the way.
    ///
    /// # Safety
    /// The walk set this node's flag, and `left`'s; both are held, or are the root.
    unsafe fn next_below(
        &self,
        left: Option<NonNull<Scope>>,
        cause: Cause,
        ready: &mut dyn FnMut(Claimed),
    ) -> Option<NonNull<Scope>> {
        if let Target::Scope(target) = self.target
            && left.is_none()
            // SAFETY: this node, which is held, is unlinked before the scope it points to goes.
            && unsafe { target.as_ref() }.raise(cause, ready)
        {
            return Some(target);
        }
        let below = self.below.lock();
        // SAFETY: exclusion by the lock, which also keeps the nodes from being unlinked; so is `left`, unless it
        // is the target, which is in another list.
        unsafe {
            let mut next = match left {
                Some(left) if !matches!(self.target, Target::Scope(target) if target == left) => {
                    left.as_ref().held.set(false);
                    left.as_ref().links.next()
                }
                _ => below.scopes.front(),
            };
            let mut done = 0;
            while let Some(child) = next {
                let node = child.as_ref();
                if node.raise(cause, ready) {
                    done += 1;
                    if node.has_below() || done == MOST_AT_ONCE {
                        node.held.set(true);
                        return Some(child);
                    }
                }
                next = node.links.next();
            }
        }
        None
    }

    /// Whether a walk has anything to do below this node, whose flag is set: later ones take the flag over.
    fn has_below(&self) -> bool {
        matches!(self.target, Target::Scope(_)) || !self.below.lock().scopes.is_empty()
    }
}

/// So many nodes without any below them are done under one lock, then others have their turn at it.
const MOST_AT_ONCE: u32 = 64;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn node(target: Target) -> Box<Scope> {
        Box::new(Scope::new(target))
    }

    fn link(parent: &Scope, child: &Scope) {
        // SAFETY: the tests keep their nodes in boxes, and unlink none.
        unsafe { parent.link(NonNull::from(child)) };
    }

    /// Cancels on a thread with as little stack as there is, and holds that all are told.
    fn cancels_on_a_small_stack(nodes: &[Box<Scope>]) {
        std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(16 * 1024);
            let root = &nodes[0];
            let cancel = || root.cancel(Cause::Group, &mut |_| {});
            let cancelling = small.spawn_scoped(scope, cancel).unwrap();
            cancelling.join().unwrap();
        });
        let told = |node: &Scope| node.cause() == Some(Cause::Group) && !node.held.get();
        assert!(nodes.iter().all(|node| told(node)));
    }

    #[test]
    fn a_cancellation_goes_down_a_hundred_thousand_levels() {
        let nodes: Vec<_> = (0..100_000).map(|_| node(Target::Nothing)).collect();
        for pair in nodes.windows(2) {
            link(&pair[0], &pair[1]);
        }
        cancels_on_a_small_stack(&nodes);
    }

    #[test]
    fn a_cancellation_follows_a_hundred_thousand_runs_under_tokens() {
        let mut nodes = vec![node(Target::Nothing)];
        for _ in 0..50_000 {
            let frame = node(Target::Nothing);
            let edge = node(Target::Scope(NonNull::from(&*frame)));
            link(nodes.last().unwrap(), &edge);
            nodes.extend([edge, frame]);
        }
        cancels_on_a_small_stack(&nodes);
    }

    #[test]
    fn a_cancellation_reaches_all_of_a_wide_and_ragged_tree() {
        let mut nodes = vec![node(Target::Nothing)];
        let mut random = 1_u64;
        for number in 0..50_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Mostly below one of the last, else below the first.
            let back = 1 + (random >> 33) as usize % 7;
            let parent = match number % 3 {
                0 => &nodes[0],
                _ => &nodes[nodes.len().saturating_sub(back)],
            };
            let child = node(Target::Nothing);
            link(parent, &child);
            nodes.push(child);
        }
        cancels_on_a_small_stack(&nodes);
    }

    #[test]
    fn the_first_cause_stays_below_too() {
        let nodes: Vec<_> = (0..3).map(|_| node(Target::Nothing)).collect();
        link(&nodes[0], &nodes[1]);
        link(&nodes[1], &nodes[2]);
        nodes[1].cancel(Cause::Sibling, &mut |_| {});
        nodes[0].cancel(Cause::Group, &mut |_| {});
        let causes: Vec<_> = nodes.iter().map(|node| node.cause()).collect();
        let (group, sibling) = (Some(Cause::Group), Some(Cause::Sibling));
        assert_eq!(causes, [group, sibling, sibling]);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::{
        error::Interrupt,
        scheduler::current_waiter,
        wait::{self, Interruptible, Waited, ready},
        waiter::Reason,
    };
    use loom::sync::Arc;

    fn model(body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(body);
    }

    fn cancel(scope: &Scope) {
        scope.cancel(Cause::Token, &mut |claimed| ready(claimed));
    }

    /// Is in `frame`, which is linked below `parent`, for one wait that nobody ends but a canceller.
    fn waits_below(parent: &Scope) {
        let pointer = current_waiter();
        let frame = Scope::new(Target::Waiter(pointer));
        // SAFETY: the thread's own waiter; the frame is unlinked and left below.
        unsafe {
            let waiter = pointer.as_ref();
            parent.link(NonNull::from(&frame));
            let outside = waiter.replace_scope(NonNull::from(&frame));
            let waited = wait::wait(
                Reason::Park,
                None,
                Interruptible::Yes,
                |waiter| {
                    waiter.claim.arm(true);
                    true
                },
                || {},
            );
            assert_eq!(waited, Waited::Interrupted(Interrupt::Cancelled));
            waiter.replace_scope(outside);
            parent.unlink(NonNull::from(&frame), ready);
        }
    }

    /// However the two meet, who waits below a scope that is cancelled is cut, and leaves in peace.
    #[test]
    fn loom_a_cancellation_meets_one_who_links_waits_and_leaves() {
        model(|| {
            let root = Arc::new(Scope::new(Target::Nothing));
            let theirs = root.clone();
            let waiting = loom::thread::spawn(move || waits_below(&theirs));
            cancel(&root);
            waiting.join().unwrap();
            assert!(root.below.lock().scopes.is_empty());
        });
    }

    /// Two cancel, one further up: who waits at the bottom is cut by one of them.
    #[test]
    fn loom_two_cancellations_meet_on_the_way_down() {
        model(|| {
            let (root, middle) = (
                Arc::new(Scope::new(Target::Nothing)),
                Arc::new(Scope::new(Target::Nothing)),
            );
            // SAFETY: unlinked below, before they go.
            unsafe { root.link(NonNull::from(&*middle)) };
            let (above, there) = (root.clone(), middle.clone());
            let waiting = loom::thread::spawn(move || waits_below(&there));
            let canceller = loom::thread::spawn(move || cancel(&above));
            cancel(&middle);
            waiting.join().unwrap();
            canceller.join().unwrap();
            // SAFETY: linked above.
            unsafe { root.unlink(NonNull::from(&*middle), ready) };
        });
    }

    /// A node with one below it leaves as soon as that one has, while the walk comes back through both.
    #[test]
    fn loom_a_branch_leaves_under_the_walk() {
        model(|| {
            let root = Arc::new(Scope::new(Target::Nothing));
            let branch = Box::new((Scope::new(Target::Nothing), Scope::new(Target::Nothing)));
            // SAFETY: unlinked below, before they go.
            unsafe {
                root.link(NonNull::from(&branch.0));
                branch.0.link(NonNull::from(&branch.1));
            }
            let theirs = root.clone();
            let leaving = loom::thread::spawn(move || {
                // SAFETY: linked above, from the inside out.
                unsafe {
                    branch.0.unlink(NonNull::from(&branch.1), ready);
                    theirs.unlink(NonNull::from(&branch.0), ready);
                }
                assert!(branch.0.back.get().is_none() && !branch.0.held.get());
                drop(branch);
            });
            cancel(&root);
            leaving.join().unwrap();
        });
    }

    /// A run under a token leaves while the token is cancelled: first the edge, then the frame that it leads to.
    #[test]
    fn loom_a_run_leaves_while_its_token_is_cancelled() {
        model(|| {
            let token = Arc::new(Scope::new(Target::Nothing));
            let theirs = token.clone();
            let running = loom::thread::spawn(move || {
                let enclosing = Scope::new(Target::Nothing);
                let frame = Scope::new(Target::Nothing);
                let edge = Scope::new(Target::Scope(NonNull::from(&frame)));
                // SAFETY: unlinked before they go, the edge first.
                unsafe {
                    enclosing.link(NonNull::from(&frame));
                    theirs.link(NonNull::from(&edge));
                    theirs.unlink(NonNull::from(&edge), ready);
                    enclosing.unlink(NonNull::from(&frame), ready);
                }
                assert!(!edge.held.get() && edge.back.get().is_none());
                assert!(frame.back.get().is_none());
            });
            cancel(&token);
            running.join().unwrap();
        });
    }

    /// The last child leaves while its group is cancelled: the leader, who waits for that, learns of it.
    #[test]
    fn loom_a_leader_learns_of_the_end_of_a_cancelled_group() {
        model(|| {
            let group = Arc::new(Scope::new(Target::Waiter(current_waiter())));
            let child = Arc::new(Scope::new(Target::Nothing));
            // SAFETY: unlinked below, before it goes.
            unsafe { group.link(NonNull::from(&*child)) };
            let (theirs, own) = (group.clone(), child.clone());
            let leaving = loom::thread::spawn(move || {
                cancel(&theirs);
                // SAFETY: linked above.
                unsafe { theirs.unlink(NonNull::from(&*own), ready) };
            });
            loop {
                let waited = wait::wait(
                    Reason::Group,
                    None,
                    Interruptible::No,
                    |waiter| group.arm_until_empty(waiter, false),
                    || group.forget_waiter(),
                );
                if waited == Waited::AtOnce {
                    break;
                }
            }
            leaving.join().unwrap();
        });
    }
}
