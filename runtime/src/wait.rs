//! Waiting: the one primitive under every blocking call. Deadlines and cancellation enter here alone.
//!
//! A wait arms the caller's claim, makes it known to whoever will wake it, leaves through the door and
//! takes itself out again if something else woke it. [`WaitList`] is the common way to be known: a
//! list of [`WaitNode`]s on the waiting stacks, kept under the lock of whatever is waited for. A waker
//! pops a node and claims it under that lock; after unlocking it makes the claimed waiter ready.
//!
//! A waiter that was *notified* counts as served: it acts on the notification before it looks at
//! cancellation again, so no notification is lost between a waker and a cancelled waiter.

use std::{cell::Cell, panic::resume_unwind, ptr::NonNull, time::Instant};

use crate::{
    error::{Cause, Interrupt, Unwind},
    scheduler::{Worker, current_waiter, now, on_coroutine, on_waiter, suspend, yield_turn},
    sys::{
        fenced,
        list::{Linked, Links, List},
    },
    waiter::{Claimed, Outcome, Waiter},
};

pub(crate) use crate::{scheduler::ready, waiter::Reason};

/// This file, by which its frames are known in a backtrace.
pub(crate) const FILE: &str = file!();

/// How a wait went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There was no need to wait.
    AtOnce,
    /// A waker ended it.
    Notified,
    /// The deadline of this very wait passed.
    TimedOut,
    /// The enclosing scope was cancelled or its deadline passed.
    Interrupted(Interrupt),
    /// Woken for a cancellation that a shield keeps off: look again and wait again.
    Again,
}

/// Whether cancellation and the scope's deadline may cut a wait short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruptible {
    Yes,
    No,
}

/// Waits once. `arm` makes the waiter known to its waker, arms its claim, and returns true; or returns
/// false if there is nothing to wait for. `forget` takes back what `arm` made known.
#[inline(always)]
pub(crate) fn wait(
    reason: Reason,
    own_deadline: Option<Instant>,
    interruptible: Interruptible,
    arm: impl FnOnce(&Waiter) -> bool,
    forget: impl FnOnce(),
) -> Waited {
    // SAFETY: the caller's own waiter outlives the call. Not by `on_waiter`: its closure would not be inlined.
    let waiter = unsafe { current_waiter().as_ref() };
    if !arm(waiter) {
        return Waited::AtOnce;
    }
    finish(waiter, reason, own_deadline, interruptible, forget)
}

/// The second half of a wait whose waiter is armed and known to its waker.
#[inline(always)]
pub(crate) fn finish(
    waiter: &Waiter,
    reason: Reason,
    own_deadline: Option<Instant>,
    interruptible: Interruptible,
    forget: impl FnOnce(),
) -> Waited {
    let scope_deadline = match interruptible {
        Interruptible::Yes => {
            if waiter.is_cancelled() && waiter.claim.disarm() {
                forget();
                return Waited::Interrupted(Interrupt::Cancelled);
            }
            waiter.deadline()
        }
        Interruptible::No => None,
    };
    let deadline = match (own_deadline, scope_deadline) {
        (Some(own), Some(scope)) => Some(own.min(scope)),
        (own, scope) => own.or(scope),
    };
    match suspend(waiter, reason, deadline) {
        Outcome::Notified => Waited::Notified,
        Outcome::TimedOut => {
            forget();
            if deadline == scope_deadline {
                Waited::Interrupted(Interrupt::Elapsed)
            } else {
                Waited::TimedOut
            }
        }
        Outcome::Cancelled => {
            forget();
            if waiter.is_cancelled() {
                Waited::Interrupted(Interrupt::Cancelled)
            } else {
                Waited::Again
            }
        }
    }
}

/// What a blocking call does first: in a scope that is cancelled or past its deadline it does not
/// even begin. The deadline is held against the worker's recent clock; a wait checks it exactly.
#[inline]
pub(crate) fn check() -> Result<(), Interrupt> {
    on_waiter(|waiter| {
        if waiter.is_cancelled() {
            return Err(refuse(Interrupt::Cancelled));
        }
        match waiter.deadline() {
            None => Ok(()),
            Some(deadline) if recent() < deadline => Ok(()),
            Some(_) => Err(refuse(Interrupt::Elapsed)),
        }
    })
}

/// Counts as a call, so that one who tries again whatever the error lets others have their turn.
#[cold]
fn refuse(interrupt: Interrupt) -> Interrupt {
    spend();
    interrupt
}

/// Why the caller's innermost scope was cancelled, if it was.
pub(crate) fn cause() -> Option<Cause> {
    on_waiter(Waiter::cause)
}

/// The worker's clock as of its current round; on a plain thread, the clock.
#[inline]
pub(crate) fn recent() -> Instant {
    match Worker::current() {
        Some(worker) => worker.recent(),
        None => now(),
    }
}

/// A call that had no need to wait counts against the coroutine's turn, so that a loop around it does
/// not keep others from theirs.
#[inline]
pub(crate) fn spend() {
    if let Some(worker) = Worker::current() {
        worker.spend();
    }
}

/// Leaves a wait that cannot return an error: unwinds to the edge of the scope.
///
/// It returns if the caller is unwinding already, since a second throw would abort: the wait then simply
/// ends early. It gives way once, so that a loop around the wait does not keep others from their turn.
#[cold]
pub(crate) fn unwind(reason: Reason, interrupt: Interrupt) {
    if std::thread::panicking() {
        yield_turn();
        return;
    }
    let payload = match (interrupt, on_waiter(Waiter::deadline)) {
        (Interrupt::Elapsed, Some(deadline)) => Unwind::Elapsed(deadline),
        _ => Unwind::Cancelled,
    };
    throw(reason, payload)
}

/// Unwinds to the edge of the scope that was cancelled or whose deadline passed. A program that was built
/// without unwinding ends here, and is told what was cut short, why, and what would help.
#[cold]
pub(crate) fn throw(reason: Reason, payload: Unwind) -> ! {
    if cfg!(panic = "abort") {
        fenced::abort(&cannot_unwind(reason, &payload));
    }
    resume_unwind(Box::new(payload))
}

fn cannot_unwind(reason: Reason, payload: &Unwind) -> String {
    let whose = on_coroutine(|task| match task {
        None => "a plain thread".to_owned(),
        Some(task) => format!("{},", task.origin),
    });
    let why = match (payload, cause()) {
        (Unwind::Elapsed(_), _) => "its deadline has passed".to_owned(),
        (Unwind::Cancelled, Some(cause)) => format!("it was cancelled {cause}"),
        (Unwind::Cancelled, None) => "it was cancelled".to_owned(),
    };
    format!(
        "{reason} in {whose} was cut short ({why}), which takes unwinding, and this program was built with \
         panic = \"abort\": set panic = \"unwind\" in its profile, or cut only waits that return an error"
    )
}

/// What a waiter is in for as long as this lives: a scope, or a deadline that it puts back.
///
/// It ends where it began: on the same waiter, before those around it. Other code that switches stacks can
/// have it end elsewhere, or never. What it would put back is gone then, so the process ends instead.
pub(crate) struct Stay {
    waiter: NonNull<Waiter>,
    number: u32,
}

impl Stay {
    #[inline]
    pub(crate) fn begin(waiter: &Waiter) -> Self {
        Self {
            waiter: NonNull::from(waiter),
            number: waiter.begin_stay(),
        }
    }

    /// Called first where the guard is dropped, which then puts back what it changed.
    #[inline]
    pub(crate) fn end(&self) {
        // Looked at only if it is the caller's own: else it may be gone.
        if current_waiter() != self.waiter
            // SAFETY: the caller's own waiter outlives the call.
            || !unsafe { self.waiter.as_ref() }.end_stay(self.number)
        {
            ended_elsewhere();
        }
    }
}

#[cold]
fn ended_elsewhere() -> ! {
    fenced::abort(
        "a timeout, shield, token's run or group was left on another stack than it was entered on, or out of order",
    );
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn without_unwinding_a_line_says_what_was_cut_short_and_why() {
        let passed = Unwind::Elapsed(now());
        let line = cannot_unwind(Reason::Condvar, &passed);
        assert!(
            line.starts_with("condition variable in a plain thread was cut short (its deadline")
        );
        let line = crate::run(|| {
            let token = crate::cancel::CancelToken::new();
            let parked = crate::task::Builder::new().name("nap").spawn({
                let token = token.clone();
                move || {
                    token.run(|| {
                        token.cancel();
                        cannot_unwind(Reason::Sleep, &Unwind::Cancelled)
                    })
                }
            });
            parked.unwrap().join().unwrap().unwrap()
        });
        assert!(line.starts_with("sleep in coroutine ") && line.contains("\"nap\", spawned at "));
        assert!(line.contains("(it was cancelled by a token)"), "{line}");
        assert!(line.contains("panic = \"unwind\""), "{line}");
    }
}
