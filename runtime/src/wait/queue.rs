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
    ptr::{self, NonNull},
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

/// The caller's one wait in several lists, from any of which it may be notified.
///
/// What it queues lives longer than the wait: it is borrowed for `'env`, of which the call of [`in_several`] is a
/// part, at whose end all must be out of their lists.
pub(crate) struct Several<'env> {
    waiter: &'env Waiter,
    ended: Cell<bool>,
    /// One for the wait until it has ended, and one for each entry.
    fence: Fence,
    env: PhantomData<Cell<&'env ()>>,
}

/// Calls `f`, which queues entries, must then end the wait, and take the entries out again. It may not wait for
/// anything else.
#[inline]
pub(crate) fn in_several<'env, R>(f: impl FnOnce(&Several<'env>) -> R) -> R {
    // SAFETY: the caller's own waiter outlives the call, and the value made here.
    let waiter = unsafe { current_waiter().as_ref() };
    waiter.claim.arm(true);
    f(&Several {
        waiter,
        ended: Cell::new(false),
        fence: Fence(Cell::new(1)),
        env: PhantomData,
    })
}

impl<'env> Several<'env> {
    /// Queues an entry, last in the list; from here on the wait may be notified.
    ///
    /// # Panics
    /// If the entry is in a list already, or the wait is over.
    pub(crate) fn queue<S, P, const N: usize>(
        &self,
        locked: &mut Locked<'env, S, P, N>,
        list: usize,
        entry: &'env Entry<P>,
    ) {
        assert!(!self.ended.get(), "the wait is over");
        entry.change(
            Held::ByOwner,
            Held::ByList(ptr::from_ref(locked.waiters).cast(), list),
        );
        self.fence.0.update(|linked| linked + 1);
        entry
            .node
            .waiter
            .set(MaybeUninit::new(NonNull::from(self.waiter)));
        // SAFETY: under the lock. The node is in no list, and lies still for longer than `in_several` runs, which
        // ends the process unless all are out of their lists at its end.
        unsafe { locked.inner.lists[list].push_back(NonNull::from(&entry.node)) };
    }

    /// Whether another waits in the list.
    pub(crate) fn meets_another<S, P, const N: usize>(
        &self,
        locked: &Locked<'_, S, P, N>,
        list: usize,
    ) -> bool {
        let own = ptr::from_ref(self.waiter);
        // SAFETY: under the lock; a linked node's waiter has been written.
        let is_another =
            |node: &Node<P>| unsafe { !ptr::eq(node.waiter.get().assume_init().as_ptr(), own) };
        // SAFETY: under the lock.
        unsafe { locked.inner.lists[list].any(is_another) }
    }

    /// Ends the wait before it has begun; false if somebody has won it already: then it must be waited for.
    pub(crate) fn call_off(&self) -> bool {
        let called_off = self.waiter.claim.disarm();
        if called_off {
            self.end();
        }
        called_off
    }

    /// Waits until notified, or something else ends the wait.
    pub(crate) fn wait(&self, reason: Reason, deadline: Option<Instant>) -> Waited {
        assert!(!self.ended.get(), "the wait is over");
        let waited = finish(self.waiter, reason, deadline, Interruptible::Yes, || {});
        self.end();
        waited
    }

    fn end(&self) {
        self.ended.set(true);
        self.fence.0.update(|linked| linked - 1);
    }

    /// Takes the entry out of that list, if it was queued there; after the wait.
    ///
    /// # Panics
    /// If the wait is not over, or the entry was queued elsewhere.
    pub(crate) fn leave<S, P, const N: usize>(
        &self,
        waiters: &Waiters<S, P, N>,
        list: usize,
        entry: &Entry<P>,
    ) {
        // Else it may be among those who were won and are still to be made ready.
        assert!(self.ended.get(), "the wait is not over");
        if entry.held.get() == Held::ByOwner {
            return;
        }
        let locked = waiters.lock();
        entry.change(
            Held::ByList(ptr::from_ref(waiters).cast(), list),
            Held::ByOwner,
        );
        // SAFETY: under the lock. It was queued in this list, and is in no other.
        unsafe { locked.inner.lists[list].remove(NonNull::from(&entry.node)) };
        drop(locked);
        self.fence.0.update(|linked| linked - 1);
    }
}

/// A node of one that waits in several lists at a time; see [`Several`].
pub(crate) struct Entry<P> {
    node: Node<P>,
    held: Cell<Held>,
}

/// Whose an entry's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    ByOwner,
    /// And a borrow of it is about.
    ByBorrower,
    /// Its lock's holder's: which lock that is, and which of its lists.
    ByList(*const (), usize),
}

impl<P> Entry<P> {
    pub(crate) const fn new(payload: P) -> Self {
        Self {
            node: Node::new(payload),
            held: Cell::new(Held::ByOwner),
        }
    }

    /// Gives access to the payload.
    ///
    /// # Panics
    /// If the entry is in a list, or `f` of another such call has not returned.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut P) -> R) -> R {
        struct Back<'a>(&'a Cell<Held>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.set(Held::ByOwner);
            }
        }
        self.change(Held::ByOwner, Held::ByBorrower);
        let _back = Back(&self.held);
        // SAFETY: it was the owner's and in no list, and until this returns nobody else gets at it.
        f(unsafe { &mut *self.node.payload.get() })
    }

    pub(crate) fn payload(&mut self) -> &mut P {
        self.node.payload()
    }

    fn change(&self, from: Held, to: Held) {
        assert_eq!(self.held.replace(to), from, "an entry is used by two");
    }
}
