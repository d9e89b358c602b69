//! The common way to be known to a waker: a list of nodes on the waiting stacks.
//!
//! The list is kept under the lock of whatever is waited for. A waker pops a node and claims it under that
//! lock; after unlocking it makes the claimed waiter ready.

use std::{cell::Cell, ptr::NonNull};

use super::{Interruptible, ready};
use crate::{
    sys::list::{Linked, Links, List},
    waiter::{Claimed, Outcome, Waiter},
};

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
    pub(crate) unsafe fn notify_all(&self) -> Won {
        let mut won = Won {
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
pub(crate) struct Won {
    nodes: List<WaitNode>,
    count: usize,
}

impl Won {
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
