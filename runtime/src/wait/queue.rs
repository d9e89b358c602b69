//! Those who wait for the same thing, first come first served: lists of nodes on the waiting stacks, behind one
//! lock with the state that says who may go on.
//!
//! ```text
//!   Waiters:  lock ─► state S, lists ─► node ⇄ node ⇄ node        each node: the waiter, and a payload P
//!                                       stack   stack  stack
//! ```
//!
//! Whoever must wait locks, looks at the state, and queues a node: [`Locked::wait`] arms the claim, links the
//! node, unlocks, suspends, and takes the node out again if something else ended the wait. A waker locks, takes
//! the first node whose wait it can win, may hand something over in the node's payload, unlocks, and makes the
//! claimed waiter ready. All of that is safe to call; what it rests on is kept here:
//!
//! - **Links** are touched under the lock alone. Lists never leave their lock, so a node that was linked in one
//!   is taken out of that one.
//! - **A node lies still while others know it.** A wait borrows its node and its `Waiters`, and does not return,
//!   nor unwind, before the node is out of its list; who was won does not run before it is made ready.
//! - **A payload** is its owner's, by way of a unique borrow of the node, but during the wait. Then it belongs
//!   to whoever holds the lock and finds the node in a list, or has just won its wait.
//!
//! A select waits in several lists at once: [`in_several`], with an [`Entry`] in each.

use std::{
    cell::{Cell, UnsafeCell},
    marker::PhantomData,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    time::Instant,
};

use super::{Interruptible, Reason, Waited, finish, ready};
use crate::{
    scheduler::current_waiter,
    sys::{
        fenced,
        list::{Linked, Links, List},
        spin::{SpinGuard, SpinLock},
    },
    waiter::{Claimed, Outcome, Waiter},
};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

/// The list of those that have only one.
pub(crate) const QUEUE: usize = 0;

/// A state `S`, and `N` lists of those who wait for it to change, each with a payload `P`, behind one lock.
pub(crate) struct Waiters<S = (), P = (), const N: usize = 1> {
    inner: SpinLock<Inner<S, P, N>>,
}

struct Inner<S, P, const N: usize> {
    state: S,
    lists: [List<Node<P>>; N],
    /// A waker touches payloads on its own thread, so sharing the lock takes that they may be sent.
    payloads: PhantomData<P>,
}

impl<S, P, const N: usize> Inner<S, P, N> {
    const fn new(state: S) -> Self {
        Self {
            state,
            lists: [const { List::new() }; N],
            payloads: PhantomData,
        }
    }
}

/// One waiter's place in a list, and what it tells to or gets from who ends its wait.
pub(crate) struct Node<P = ()> {
    links: Links<Node<P>>,
    /// Written before the node is linked.
    waiter: Cell<MaybeUninit<NonNull<Waiter>>>,
    payload: UnsafeCell<P>,
}

impl<P> Linked for Node<P> {
    #[inline]
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

impl<P> Node<P> {
    #[inline]
    pub(crate) const fn new(payload: P) -> Self {
        Self {
            links: Links::new(),
            waiter: Cell::new(MaybeUninit::uninit()),
            payload: UnsafeCell::new(payload),
        }
    }

    /// The payload, before a wait and after it.
    #[inline]
    pub(crate) fn payload(&mut self) -> &mut P {
        self.payload.get_mut()
    }

    #[inline]
    pub(crate) fn into_payload(self) -> P {
        self.payload.into_inner()
    }
}

impl<S, P, const N: usize> Waiters<S, P, N> {
    #[cfg(not(loom))]
    pub(crate) const fn new(state: S) -> Self {
        Self {
            inner: SpinLock::new(Inner::new(state)),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new(state: S) -> Self {
        Self {
            inner: SpinLock::new(Inner::new(state)),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, S, P, N> {
        Locked {
            waiters: self,
            inner: self.inner.lock(),
        }
    }

    /// Wakes all in the list; how many that were.
    pub(crate) fn wake_all(&self, list: usize) -> usize {
        let won = self.lock().notify_all(list);
        let count = won.count();
        won.ready();
        count
    }
}

/// The state and the lists while the lock is held, which is for a few instructions.
pub(crate) struct Locked<'a, S, P, const N: usize> {
    waiters: &'a Waiters<S, P, N>,
    inner: SpinGuard<'a, Inner<S, P, N>>,
}

impl<S, P, const N: usize> Deref for Locked<'_, S, P, N> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.inner.state
    }
}

impl<S, P, const N: usize> DerefMut for Locked<'_, S, P, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.inner.state
    }
}

/// Where in its list one begins to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Last,
    /// Before all others: for one that was notified and came too late.
    First,
}

impl<'a, S, P, const N: usize> Locked<'a, S, P, N> {
    /// Whether nobody waits in the list.
    #[inline]
    pub(crate) fn is_empty(&self, list: usize) -> bool {
        self.inner.lists[list].is_empty()
    }

    /// Waits, last in the list, until notified or something else ends the wait. In the latter case `left` is
    /// called under the lock, with the node out of the list and whether it still was there.
    #[inline(always)]
    pub(crate) fn wait(
        self,
        list: usize,
        node: &mut Node<P>,
        reason: Reason,
        deadline: Option<Instant>,
        interruptible: Interruptible,
        left: impl FnOnce(Locked<'a, S, P, N>, bool),
    ) -> Waited {
        self.queue(list, Place::Last, node, interruptible, |queued| {
            queued.wait(reason, deadline, left)
        })
    }

    /// Queues the caller and unlocks, so that it may be notified from here on. `f` must then end by waiting,
    /// and may not wait for anything else before.
    #[inline(always)]
    pub(crate) fn queue<R>(
        self,
        list: usize,
        place: Place,
        node: &mut Node<P>,
        interruptible: Interruptible,
        f: impl FnOnce(Queued<'a, '_, S, P, N>) -> R,
    ) -> R {
        // SAFETY: the caller's own waiter outlives the call.
        let waiter = unsafe { current_waiter().as_ref() };
        let node = &*node;
        waiter.claim.arm(interruptible == Interruptible::Yes);
        node.waiter.set(MaybeUninit::new(NonNull::from(waiter)));
        let linked = NonNull::from(node);
        // SAFETY: under the lock. The node is in no list, since it was borrowed uniquely, and lies still for the
        // rest of this call, which ends the process unless the node is out of the list at its end.
        unsafe {
            match place {
                Place::Last => self.inner.lists[list].push_back(linked),
                Place::First => self.inner.lists[list].push_front(linked),
            }
        }
        let waiters = self.waiters;
        drop(self);
        let fence = Fence(Cell::new(1));
        f(Queued {
            waiters,
            list,
            node,
            waiter,
            interruptible,
            fence: &fence,
        })
    }

    /// Wins the first wait in the list that nobody else has won; the caller makes it ready after unlocking.
    #[inline]
    pub(crate) fn notify_one(&mut self, list: usize) -> Option<Claimed> {
        self.notify_one_with(list, |_, _| {})
    }

    /// As `notify_one`; `hand_over` acts on the winner's payload before it can run.
    #[inline]
    pub(crate) fn notify_one_with(
        &mut self,
        list: usize,
        hand_over: impl FnOnce(&mut S, &mut P),
    ) -> Option<Claimed> {
        self.notify_one_if(list, |_, _| true, hand_over)
    }

    /// As `notify_one_with`, as long as `may_go` says so of the first in the list; the others stay behind it.
    #[inline]
    pub(crate) fn notify_one_if(
        &mut self,
        list: usize,
        mut may_go: impl FnMut(&S, &P) -> bool,
        hand_over: impl FnOnce(&mut S, &mut P),
    ) -> Option<Claimed> {
        let Inner { state, lists, .. } = &mut *self.inner;
        let list = &lists[list];
        while let Some(first) = list.front() {
            // SAFETY: under the lock, which keeps nodes in the list, and thus their waiters, alive; payloads
            // are the lock's holder's then. Once popped and won, the node is the winner's until it is made ready.
            unsafe {
                let node = first.as_ref();
                if !may_go(state, &*node.payload.get()) {
                    return None;
                }
                list.pop_front();
                let waiter = node.waiter.get().assume_init();
                if let Some(claimed) = Waiter::claim(waiter, Outcome::Notified) {
                    hand_over(state, &mut *node.payload.get());
                    return Some(claimed);
                }
            }
        }
        None
    }

    /// Wins every wait in the list that nobody else has won; the caller makes them ready after unlocking.
    pub(crate) fn notify_all(&mut self, list: usize) -> Won<P> {
        let mut won = Won {
            nodes: List::new(),
            count: 0,
        };
        let list = &self.inner.lists[list];
        while let Some(node) = list.front() {
            // SAFETY: as in `notify_one_if`. A popped node is in no list, and its owner, being claimed, leaves
            // it in place until it has been made ready.
            unsafe {
                list.pop_front();
                let waiter = node.as_ref().waiter.get().assume_init();
                if Waiter::claim(waiter, Outcome::Notified).is_some() {
                    won.nodes.push_back(node);
                    won.count += 1;
                }
            }
        }
        won
    }
}

/// The caller, in a list and not under its lock, about to wait.
#[must_use = "who is in a list must wait"]
pub(crate) struct Queued<'a, 'n, S, P, const N: usize> {
    waiters: &'a Waiters<S, P, N>,
    list: usize,
    node: &'n Node<P>,
    waiter: &'n Waiter,
    interruptible: Interruptible,
    fence: &'n Fence,
}

impl<'a, S, P, const N: usize> Queued<'a, '_, S, P, N> {
    /// Waits; see [`Locked::wait`].
    #[inline(always)]
    pub(crate) fn wait(
        self,
        reason: Reason,
        deadline: Option<Instant>,
        left: impl FnOnce(Locked<'a, S, P, N>, bool),
    ) -> Waited {
        let leave = || {
            let locked = self.waiters.lock();
            // SAFETY: under the lock; it was linked in this list, and in no other.
            let was_queued =
                unsafe { locked.inner.lists[self.list].remove(NonNull::from(self.node)) };
            left(locked, was_queued);
        };
        let waited = finish(self.waiter, reason, deadline, self.interruptible, leave);
        // Who notified has taken the node out.
        self.fence.0.set(0);
        waited
    }
}

/// So many nodes are linked that lie in the frames around it: to leave these now would be to leave lists with
/// nodes that are gone.
struct Fence(Cell<usize>);

impl Drop for Fence {
    #[inline]
    fn drop(&mut self) {
        if self.0.get() != 0 {
            left_behind();
        }
    }
}

#[cold]
fn left_behind() -> ! {
    fenced::abort("a wait was left while others could still find it in a list");
}

/// Waits that have been won and whose waiters are still to be woken: nodes of a list, out of its lock.
#[must_use = "those who were won sleep for ever unless they are made ready"]
pub(crate) struct Won<P = ()> {
    nodes: List<Node<P>>,
    count: usize,
}

impl<P> Won<P> {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn ready(self) {
        // SAFETY: the nodes are this value's alone; each waiter was claimed once in `notify_all`, and
        // its node is not touched any more once it runs.
        unsafe {
            while let Some(node) = self.nodes.pop_front() {
                ready(Claimed::of(node.as_ref().waiter.get().assume_init()));
            }
        }
    }
}

/// Waiters that wait for the same thing, first come first served.
pub(crate) struct WaitList {
    nodes: List<WaitNode>,
}

/// One waiter's place in a wait list; lives on the waiting stack.
pub(crate) struct WaitNode {
    links: Links<WaitNode>,
    waiter: Cell<Option<NonNull<Waiter>>>,
}

impl Linked for WaitNode {
    #[inline]
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

impl WaitNode {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            links: Links::new(),
            waiter: Cell::new(None),
        }
    }
}

impl WaitList {
    pub(crate) const fn new() -> Self {
        Self { nodes: List::new() }
    }

    /// Whether nobody is queued.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Queues the waiter and arms its claim.
    ///
    /// # Safety
    /// The list is under its lock. The node stays in place until its wait has ended, and is taken out
    /// with [`WaitList::remove`] under the lock unless the wait was notified.
    #[inline]
    pub(crate) unsafe fn arm(
        &self,
        node: &WaitNode,
        waiter: &Waiter,
        interruptible: Interruptible,
    ) {
        waiter.claim.arm(interruptible == Interruptible::Yes);
        // SAFETY: the caller's promise.
        unsafe { self.queue(node, waiter) };
    }

    /// Queues a waiter that has armed its claim; it may be in several lists at once, with a node in each.
    ///
    /// # Safety
    /// As for `arm`. All its nodes are out of their lists before the waiter arms its claim again.
    #[inline]
    pub(crate) unsafe fn queue(&self, node: &WaitNode, waiter: &Waiter) {
        node.waiter.set(Some(NonNull::from(waiter)));
        // SAFETY: the caller's promise.
        unsafe { self.nodes.push_back(NonNull::from(node)) };
    }

    /// As `arm`, before all others: for one that was notified and came too late.
    ///
    /// # Safety
    /// As for `arm`.
    pub(crate) unsafe fn arm_first(
        &self,
        node: &WaitNode,
        waiter: &Waiter,
        interruptible: Interruptible,
    ) {
        node.waiter.set(Some(NonNull::from(waiter)));
        waiter.claim.arm(interruptible == Interruptible::Yes);
        // SAFETY: the caller's promise.
        unsafe { self.nodes.push_front(NonNull::from(node)) };
    }

    /// Whether anybody is queued but `waiter`.
    ///
    /// # Safety
    /// The list is under its lock.
    #[inline]
    pub(crate) unsafe fn holds_another_than(&self, waiter: &Waiter) -> bool {
        let own = Some(NonNull::from(waiter));
        // SAFETY: the caller's promise.
        unsafe { self.nodes.any(|node| node.waiter.get() != own) }
    }

    /// Takes a node out; false if a waker had already popped it.
    ///
    /// # Safety
    /// The list is under its lock and the node is in no other list.
    #[inline]
    pub(crate) unsafe fn remove(&self, node: &WaitNode) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.nodes.remove(NonNull::from(node)) }
    }

    /// Wins the first wait that nobody else has won; the caller makes it ready after unlocking.
    ///
    /// # Safety
    /// The list is under its lock.
    #[inline]
    pub(crate) unsafe fn notify_one(&self) -> Option<Claimed> {
        // SAFETY: the caller's promise.
        unsafe { self.notify_one_with(|_| {}) }
    }

    /// As `notify_one`; `hand_over` acts on the winner's node before it can run.
    ///
    /// # Safety
    /// The list is under its lock.
    #[inline]
    pub(crate) unsafe fn notify_one_with(
        &self,
        hand_over: impl FnOnce(NonNull<WaitNode>),
    ) -> Option<Claimed> {
        loop {
            // SAFETY: the lock keeps nodes in the list, and thus their waiters, alive.
            unsafe {
                let node = self.nodes.pop_front()?;
                let waiter = node.as_ref().waiter.get()?;
                if let Some(claimed) = Waiter::claim(waiter, Outcome::Notified) {
                    hand_over(node);
                    return Some(claimed);
                }
            }
        }
    }

    /// As `notify_one_with`, as long as `may_go` says so of the first in the queue; the others stay
    /// behind it.
    ///
    /// # Safety
    /// The list is under its lock.
    pub(crate) unsafe fn notify_one_if(
        &self,
        mut may_go: impl FnMut(NonNull<WaitNode>) -> bool,
        hand_over: impl FnOnce(NonNull<WaitNode>),
    ) -> Option<Claimed> {
        while self.nodes.front().is_some_and(&mut may_go) {
            // SAFETY: as in `notify_one_with`.
            unsafe {
                let node = self.nodes.pop_front()?;
                let waiter = node.as_ref().waiter.get()?;
                if let Some(claimed) = Waiter::claim(waiter, Outcome::Notified) {
                    hand_over(node);
                    return Some(claimed);
                }
            }
        }
        None
    }

    /// Wins every wait that nobody else has won; the caller wakes them after unlocking.
    ///
    /// # Safety
    /// The list is under its lock.
    pub(crate) unsafe fn notify_all(&self) -> OldWon {
        let mut won = OldWon {
            nodes: List::new(),
            count: 0,
        };
        // SAFETY: the caller's promise; a popped node is in no list, and its owner, being claimed,
        // leaves it in place until it has been made ready.
        unsafe {
            while self
                .notify_one_with(|node| won.nodes.push_back(node))
                .is_some()
            {
                won.count += 1;
            }
        }
        won
    }
}

/// Waits that have been won and whose waiters are still to be woken: nodes of a list, out of its lock.
#[must_use = "those who were won sleep for ever unless they are made ready"]
pub(crate) struct OldWon {
    nodes: List<WaitNode>,
    count: usize,
}

impl OldWon {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn ready(self) {
        // SAFETY: the nodes are this value's alone; each waiter was claimed once in `notify_all`, and
        // its node is not touched any more once it runs.
        unsafe {
            while let Some(node) = self.nodes.pop_front() {
                if let Some(waiter) = node.as_ref().waiter.get() {
                    ready(Claimed::of(waiter));
                }
            }
        }
    }
}
