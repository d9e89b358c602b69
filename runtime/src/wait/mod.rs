//! Waiting: the one primitive under every blocking call. Deadlines and cancellation enter here alone.
//!
//! A wait arms the caller's claim, makes it known to its waker, leaves through the door and
//! takes itself out again if something else woke it. `queue` has the common way to be known: a list.
//!
//! A waiter that was *notified* counts as served: it acts on the notification before it looks at
//! cancellation again, so no notification is lost between a waker and a cancelled waiter.

mod queue;

use std::{panic::resume_unwind, time::Instant};

use crate::{
    coroutine::{self, WaiterAct},
    driver::sim,
    error::{Cause, Interrupt, Unwind},
    scheduler::{Worker, now, on_coroutine, on_waiter, suspend, yield_turn},
    sys::fenced,
    waiter::{Outcome, Waiter},
};

pub(crate) use crate::{scheduler::ready, waiter::Reason};
pub(crate) use queue::{Entry, Locked, Node, Place, QUEUE, Several, Waiters, Won, in_several};

/// The files by which a wait's frames are known in a backtrace.
pub(crate) const FILES: [&str; 2] = [file!(), queue::FILE];

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
    coroutine::on_waiter(Wait {
        reason,
        own_deadline,
        interruptible,
        arm,
        forget,
    })
}

struct Wait<A, F> {
    reason: Reason,
    own_deadline: Option<Instant>,
    interruptible: Interruptible,
    arm: A,
    forget: F,
}

impl<A: FnOnce(&Waiter) -> bool, F: FnOnce()> WaiterAct for Wait<A, F> {
    type Result = Waited;

    #[inline(always)]
    fn act(self, waiter: &Waiter) -> Waited {
        if !(self.arm)(waiter) {
            return Waited::AtOnce;
        }
        let (reason, interruptible) = (self.reason, self.interruptible);
        finish(
            waiter,
            reason,
            self.own_deadline,
            interruptible,
            self.forget,
        )
    }
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
                waiter.note_cut();
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
                waiter.note_cut();
                Waited::Interrupted(Interrupt::Elapsed)
            } else {
                Waited::TimedOut
            }
        }
        Outcome::Cancelled => {
            forget();
            if waiter.is_cancelled() {
                waiter.note_cut();
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
            return Err(refuse(waiter, Interrupt::Cancelled));
        }
        match waiter.deadline() {
            None => Ok(()),
            Some(deadline) if recent() < deadline => Ok(()),
            Some(_) => Err(refuse(waiter, Interrupt::Elapsed)),
        }
    })
}

/// A refused call still uses up budget, so a loop that tries again at any error cannot starve others.
#[cold]
fn refuse(waiter: &Waiter, interrupt: Interrupt) -> Interrupt {
    waiter.note_cut();
    spend();
    if sim::is_any() {
        sim::note_refused();
    }
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

/// Lets time pass for the caller until then: in a simulated world, the time that something takes.
pub(crate) fn pass(
    reason: Reason,
    until: Instant,
    interruptible: Interruptible,
) -> Result<(), Interrupt> {
    loop {
        let arm = |waiter: &Waiter| {
            waiter.claim.arm(interruptible == Interruptible::Yes);
            true
        };
        match wait(reason, Some(until), interruptible, arm, || {}) {
            Waited::Interrupted(interrupt) => return Err(interrupt),
            Waited::Again => {}
            Waited::TimedOut | Waited::AtOnce | Waited::Notified => return Ok(()),
        }
    }
}

/// In a simulated world another may have its turn here, and the coroutine goes on later.
pub(crate) fn point() {
    if sim::current().is_some() {
        spend();
    }
}

/// A [`point`] within what shall cost nothing: there in builds with debug assertions alone.
#[inline(always)]
pub(crate) fn point_of_tests() {
    if cfg!(debug_assertions) && sim::is_any() {
        point();
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
