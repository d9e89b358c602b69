//! Those who wait for the same thing, first come first served: lists of nodes on the waiting stacks, behind one
//! lock with the state that says who may go on.
//!
//! ```text
//!   Waiters:  lock ─► state S, lists ─► node ⇄ node ⇄ node        each node: the waiter, and a payload P
//!                                       stack   stack  stack
//! ```
//!
//! A caller that must wait locks, looks at the state, and queues a node: [`Locked::wait`] arms the claim, links the
//! node, unlocks, suspends, and takes the node out again if something else ended the wait. A waker locks, takes
//! the first node whose wait it can win, may hand something over in the node's payload, unlocks, and makes the
//! claimed waiter ready. All of that is safe to call; what it rests on is kept here:
//!
//! - **Links** are touched under the lock alone. Lists never leave their lock, so a node that was linked in one
//!   is taken out of that one.
//! - **One wait at a time.** What ends one wait can end no other of the same waiter: to begin a second ends the
//!   process. So who was notified was so by way of its own node, which is out of the list then.
//! - **A node lies still while others know it.** A wait borrows its node and its `Waiters`, and does not return,
//!   nor unwind, before the node is out of its list; who was won does not run before it is made ready.
//! - **A payload** is its owner's, by way of a unique borrow of the node, but during the wait. Then it belongs
//!   to the one that holds the lock and finds the node in a list, or has just won its wait.
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

    /// Queues the caller and unlocks, so that it may be notified from here on. `f` must then end by waiting, and may
    /// not wait for anything else before: the process ends if it does.
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
            Keeper::Owner,
            Keeper::List(ptr::from_ref(locked.waiters).cast(), list),
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
        if entry.keeper.get() == Keeper::Owner {
            return;
        }
        let locked = waiters.lock();
        entry.change(
            Keeper::List(ptr::from_ref(waiters).cast(), list),
            Keeper::Owner,
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
    keeper: Cell<Keeper>,
}

/// Whose an entry's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    Owner,
    /// And a borrow of it is about.
    Borrower,
    /// Its lock's holder's: which lock that is, and which of its lists.
    List(*const (), usize),
}

impl<P> Entry<P> {
    pub(crate) const fn new(payload: P) -> Self {
        Self {
            node: Node::new(payload),
            keeper: Cell::new(Keeper::Owner),
        }
    }

    /// Gives access to the payload.
    ///
    /// # Panics
    /// If the entry is in a list, or `f` of another such call has not returned.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut P) -> R) -> R {
        struct Back<'a>(&'a Cell<Keeper>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.set(Keeper::Owner);
            }
        }
        self.change(Keeper::Owner, Keeper::Borrower);
        let _back = Back(&self.keeper);
        // SAFETY: it was the owner's and in no list, and until this returns nobody else gets at it.
        f(unsafe { &mut *self.node.payload.get() })
    }

    pub(crate) fn payload(&mut self) -> &mut P {
        self.node.payload()
    }

    fn change(&self, from: Keeper, to: Keeper) {
        assert_eq!(self.keeper.get(), from, "an entry is used by two");
        self.keeper.set(to);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{scheduler::now, stack::child};
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        thread,
        time::Duration,
    };

    const FIRST: usize = 0;
    const SECOND: usize = 1;

    type TwoLists = Waiters<u32, Option<u32>, 2>;

    /// Waits without a limit; what was handed over.
    fn receive(waiters: &TwoLists, list: usize) -> Option<u32> {
        let mut node = Node::new(None);
        let locked = waiters.lock();
        let waited = locked.wait(
            list,
            &mut node,
            Reason::Notify,
            None,
            Interruptible::No,
            |_, _| unreachable!("it is notified"),
        );
        assert_eq!(waited, Waited::Notified);
        node.into_payload()
    }

    fn wait_until(is: impl Fn() -> bool) {
        while !is() {
            thread::yield_now();
        }
    }

    fn hand_over(waiters: &TwoLists, list: usize, value: u32) {
        let claimed = waiters
            .lock()
            .notify_one_with(list, |_, place| *place = Some(value));
        ready(claimed.expect("somebody waits"));
    }

    #[test]
    fn they_are_notified_in_the_order_of_their_coming_and_find_what_was_handed_over() {
        let waiters = TwoLists::new(0);
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3)
                .map(|n| {
                    let waiting = scope.spawn(|| receive(&waiters, FIRST));
                    wait_until(|| count(&waiters, FIRST) == n + 1);
                    waiting
                })
                .collect();
            (1..=3).for_each(|value| hand_over(&waiters, FIRST, value));
            let received = waiting.into_iter().map(|thread| thread.join().unwrap());
            assert_eq!(received.collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        });
    }

    fn count(waiters: &TwoLists, list: usize) -> usize {
        let (locked, mut count) = (waiters.lock(), 0);
        // SAFETY: under the lock.
        unsafe { locked.inner.lists[list].for_each(|_| count += 1) };
        count
    }

    #[test]
    fn all_in_one_list_are_woken_and_nobody_in_the_other() {
        let waiters = TwoLists::new(0);
        thread::scope(|scope| {
            let first = [(); 2].map(|()| scope.spawn(|| receive(&waiters, FIRST)));
            let second = scope.spawn(|| receive(&waiters, SECOND));
            wait_until(|| count(&waiters, FIRST) + count(&waiters, SECOND) == 3);
            assert_eq!(waiters.wake_all(FIRST), 2);
            for thread in first {
                assert_eq!(thread.join().unwrap(), None);
            }
            assert_eq!(count(&waiters, SECOND), 1);
            hand_over(&waiters, SECOND, 7);
            assert_eq!(second.join().unwrap(), Some(7));
        });
    }

    #[test]
    fn the_first_who_may_not_go_holds_up_those_behind_it() {
        let waiters = TwoLists::new(0);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| receive(&waiters, FIRST));
            wait_until(|| count(&waiters, FIRST) == 1);
            let refused = waiters.lock().notify_one_if(
                FIRST,
                |state, place| *state > 0 && place.is_none(),
                |_, _| unreachable!("it may not go"),
            );
            assert!(refused.is_none());
            *waiters.lock() = 1;
            let claimed = waiters.lock().notify_one_if(
                FIRST,
                |state, place| *state > 0 && place.is_none(),
                |state, place| *place = Some(std::mem::take(state)),
            );
            ready(claimed.expect("it may go"));
            assert_eq!((waiting.join().unwrap(), *waiters.lock()), (Some(1), 0));
        });
    }

    #[test]
    fn one_whose_time_is_over_leaves_the_list_and_may_change_the_state() {
        let waiters = TwoLists::new(0);
        let mut node = Node::new(None);
        let waited = waiters.lock().wait(
            SECOND,
            &mut node,
            Reason::Notify,
            Some(now()),
            Interruptible::No,
            |mut locked, was_queued| {
                assert!(was_queued && locked.is_empty(SECOND));
                *locked = 9;
            },
        );
        assert_eq!((waited, *waiters.lock()), (Waited::TimedOut, 9));
        assert!(waiters.lock().notify_one(SECOND).is_none());
    }

    #[test]
    fn one_who_waits_in_several_lists_is_woken_from_one_and_out_of_all() {
        let (one, other) = (TwoLists::new(0), TwoLists::new(0));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let entries = [(); 3].map(|()| Entry::new(None));
                let waited = in_several(|wait| {
                    wait.queue(&mut one.lock(), FIRST, &entries[0]);
                    wait.queue(&mut one.lock(), SECOND, &entries[1]);
                    wait.queue(&mut other.lock(), FIRST, &entries[2]);
                    let limit = now() + Duration::from_secs(60);
                    let waited = wait.wait(Reason::Select, Some(limit));
                    wait.leave(&one, FIRST, &entries[0]);
                    wait.leave(&one, SECOND, &entries[1]);
                    wait.leave(&other, FIRST, &entries[2]);
                    waited
                });
                assert_eq!(waited, Waited::Notified);
                entries.map(|entry| entry.with(Option::take))
            });
            wait_until(|| count(&other, FIRST) == 1);
            hand_over(&one, SECOND, 5);
            assert_eq!(waiting.join().unwrap(), [None, Some(5), None]);
        });
        assert!(one.lock().is_empty(FIRST) && other.lock().is_empty(FIRST));
    }

    #[test]
    fn an_entry_is_used_by_one_at_a_time() {
        let (waiters, entry) = (TwoLists::new(0), Entry::new(None));
        let twice = || entry.with(|_| entry.with(|_| ()));
        assert!(catch_unwind(AssertUnwindSafe(twice)).is_err());
        in_several(|wait| {
            wait.queue(&mut waiters.lock(), FIRST, &entry);
            let while_queued = || entry.with(|_| ());
            assert!(catch_unwind(AssertUnwindSafe(while_queued)).is_err());
            let early = || wait.leave(&waiters, FIRST, &entry);
            assert!(catch_unwind(AssertUnwindSafe(early)).is_err());
            assert!(wait.call_off());
            wait.leave(&waiters, FIRST, &entry);
        });
        entry.with(|place| assert_eq!(*place, None));
    }

    /// What would leave a list with a node that is gone ends the process instead.
    fn ends_the_process(test: &str, why: &str, wait: impl FnOnce()) {
        let said = child::run(module_path!(), test, wait).by_signal(libc::SIGABRT);
        assert!(said.contains(why), "{said}");
    }

    const LEFT: &str = "a wait was left";

    #[test]
    fn to_wait_for_something_else_while_queued_ends_the_process() {
        let test = "to_wait_for_something_else_while_queued_ends_the_process";
        ends_the_process(test, "a wait was begun within another", || {
            let (outer, inner) = (TwoLists::new(0), TwoLists::new(0));
            thread::scope(|scope| {
                scope.spawn(|| {
                    wait_until(|| count(&inner, FIRST) == 1);
                    ready(outer.lock().notify_one(FIRST).expect("it is queued"));
                });
                let mut node = Node::new(None);
                let locked = outer.lock();
                locked.queue(
                    FIRST,
                    Place::Last,
                    &mut node,
                    Interruptible::No,
                    |_queued| {
                        receive(&inner, FIRST);
                        // Its node is gone, and in the list still.
                        std::process::exit(0);
                    },
                );
            });
        });
    }

    #[test]
    fn to_leave_a_wait_without_having_waited_ends_the_process() {
        let test = "to_leave_a_wait_without_having_waited_ends_the_process";
        ends_the_process(test, LEFT, || {
            let (waiters, mut node) = (TwoLists::new(0), Node::new(None));
            let locked = waiters.lock();
            locked.queue(FIRST, Place::Last, &mut node, Interruptible::No, |queued| {
                drop(queued);
            });
        });
    }

    #[test]
    fn to_unwind_out_of_a_wait_in_several_lists_ends_the_process() {
        let test = "to_unwind_out_of_a_wait_in_several_lists_ends_the_process";
        ends_the_process(test, LEFT, || {
            let (waiters, entry) = (TwoLists::new(0), Entry::new(None));
            _ = catch_unwind(AssertUnwindSafe(|| {
                in_several(|wait| {
                    wait.queue(&mut waiters.lock(), FIRST, &entry);
                    panic!("thrown in between");
                });
            }));
        });
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::cancel::CancelToken;
    use loom::{cell::UnsafeCell, sync::Arc, thread::spawn};

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(body);
    }

    /// loom's cell finds accesses that nothing orders.
    type Parcel = UnsafeCell<u32>;

    fn open(parcel: &Parcel) {
        // SAFETY: there is one owner.
        assert_eq!(parcel.with(|content| unsafe { *content }), 1);
    }

    /// Parcels that nobody waited for, and who waits for one.
    type Shop = Waiters<Vec<Parcel>, Option<Parcel>>;

    fn give(shop: &Shop) {
        let (parcel, mut locked) = (Parcel::new(0), shop.lock());
        // SAFETY: nobody else has seen it.
        parcel.with_mut(|content| unsafe { *content = 1 });
        let mut parcel = Some(parcel);
        let claimed = locked.notify_one_with(QUEUE, |_, place| *place = parcel.take());
        locked.extend(parcel);
        drop(locked);
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }

    /// Takes a parcel if it waits to the end; how many it got.
    fn take(shop: &Shop) -> usize {
        let mut locked = shop.lock();
        if let Some(parcel) = locked.pop() {
            open(&parcel);
            return 1;
        }
        let mut node = Node::new(None);
        let waited = locked.wait(
            QUEUE,
            &mut node,
            Reason::Notify,
            None,
            Interruptible::Yes,
            |_, _| {},
        );
        let parcel = node.into_payload();
        assert_eq!(parcel.is_some(), waited == Waited::Notified);
        parcel.iter().for_each(open);
        parcel.iter().len()
    }

    fn left(shop: &Shop) -> usize {
        let locked = shop.lock();
        assert!(locked.is_empty(QUEUE), "nobody is left in the list");
        locked.iter().for_each(open);
        locked.len()
    }

    /// One who waits is cancelled while a parcel is given: it is handed over, or kept for the next.
    #[test]
    fn loom_waiters_what_is_handed_over_is_had_once_also_if_a_waiter_gives_up() {
        model(3, || {
            let (shop, token) = (Arc::new(Shop::new(Vec::new())), CancelToken::new());
            let (theirs, under) = (shop.clone(), token.clone());
            let hasty = spawn(move || under.run(|| take(&theirs)).unwrap_or(0));
            let cancelling = spawn(move || token.cancel());
            give(&shop);
            cancelling.join().unwrap();
            assert_eq!(hasty.join().unwrap() + left(&shop), 1);
        });
    }

    /// Two shops give to one who waits in both: it gets one parcel, and the other is kept.
    #[test]
    fn loom_waiters_one_who_waits_in_two_lists_is_won_once() {
        model(2, || {
            let shops = [(); 2].map(|()| Arc::new(Shop::new(Vec::new())));
            let givers = shops.clone().map(|shop| spawn(move || give(&shop)));
            let entries = [(); 2].map(|()| Entry::new(None));
            let waited = in_several(|wait| {
                let mut given = false;
                for (shop, entry) in shops.iter().zip(&entries) {
                    let mut locked = shop.lock();
                    given |= locked.first().is_some();
                    if !given {
                        wait.queue(&mut locked, QUEUE, entry);
                    }
                }
                let waited = match given && wait.call_off() {
                    true => Waited::AtOnce,
                    false => wait.wait(Reason::Select, None),
                };
                let queued = shops.iter().zip(&entries);
                queued.for_each(|(shop, entry)| wait.leave(shop, QUEUE, entry));
                waited
            });
            givers.into_iter().for_each(|giver| giver.join().unwrap());
            let got = entries.map(|entry| entry.with(Option::take));
            got.iter().flatten().for_each(open);
            let got = got.iter().flatten().count();
            assert_eq!(got, usize::from(waited == Waited::Notified));
            assert_eq!(got + shops.iter().map(|shop| left(shop)).sum::<usize>(), 2);
        });
    }
}
