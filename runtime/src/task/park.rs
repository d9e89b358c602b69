//! Parking: a wait for a token that anybody may give.

use std::time::{Duration, Instant};

use crate::{
    error::Interrupt,
    scheduler::{on_coroutine, on_waiter, suspend_parked_thread},
    wait::{self, Interruptible, Reason, Waited},
    waiter::{Outcome, Parking, Waiter},
};

/// Waits until [`Current::unpark`](super::Current::unpark) is called for this coroutine; returns at once if it
/// already was.
///
/// On a plain thread this is [`std::thread::park`], which may also return for no reason. A cancellation point on
/// both: a cancelled scope, or its deadline, unwinds to the scope's edge.
///
/// # Examples
/// ```
/// maniple::run(|| {
///     let me = maniple::current().unwrap();
///     let other = maniple::spawn(move || me.unpark());
///     maniple::park();
///     other.join().unwrap();
/// });
/// ```
pub fn park() {
    park_until(None);
}

/// Parks like [`park`], for at most `timeout`.
pub fn park_timeout(timeout: Duration) {
    park_until(crate::scheduler::now().checked_add(timeout));
}

fn park_until(deadline: Option<Instant>) {
    on_coroutine(|task| match task {
        Some(task) => park_coroutine(&task.parking, deadline),
        None => on_waiter(|waiter| park_thread(waiter, deadline)),
    });
}

#[inline(always)]
fn park_coroutine(parking: &Parking, deadline: Option<Instant>) {
    loop {
        let waited = wait::wait(
            Reason::Park,
            deadline,
            Interruptible::Yes,
            |waiter| parking.arm(waiter),
            || parking.forget(),
        );
        match waited {
            Waited::AtOnce | Waited::Notified | Waited::TimedOut => return,
            Waited::Interrupted(interrupt) => return wait::unwind(Reason::Park, interrupt),
            Waited::Again => {}
        }
    }
}

/// Ended by `Thread::unpark` too, which is the standard library's and not ours.
#[cold]
fn park_thread(waiter: &Waiter, own_deadline: Option<Instant>) {
    if let Err(interrupt) = wait::check() {
        return wait::unwind(Reason::Park, interrupt);
    }
    let cut = |interrupt| {
        waiter.note_cut();
        wait::unwind(Reason::Park, interrupt);
    };
    waiter.claim.arm(true);
    if waiter.is_cancelled() && waiter.claim.disarm() {
        return cut(Interrupt::Cancelled);
    }
    let scope_deadline = waiter.deadline();
    let deadline = match (own_deadline, scope_deadline) {
        (Some(own), Some(scope)) => Some(own.min(scope)),
        (own, scope) => own.or(scope),
    };
    match suspend_parked_thread(waiter, deadline) {
        Some(Outcome::TimedOut) if deadline == scope_deadline => cut(Interrupt::Elapsed),
        Some(Outcome::Cancelled) if waiter.is_cancelled() => cut(Interrupt::Cancelled),
        _ => {}
    }
}
