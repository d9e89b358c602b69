//! Faults on purpose, at the door: cancel at the k-th suspension. For tests; off without the feature
//! `fault-injection`.
//!
//! A test that runs a scenario once for each k, until no suspension is left to strike at, has seen a
//! cancellation at every point where one can come. Suspensions are counted per thread, so such scenarios
//! run on one worker.

use std::cell::RefCell;

struct Fault {
    left: u32,
    strike: Box<dyn FnOnce()>,
}

thread_local! {
    static NEXT: RefCell<Option<Fault>> = const { RefCell::new(None) };
}

/// Calls `strike` at the suspension of this thread that follows `after` others.
pub(crate) fn arm(after: u32, strike: Box<dyn FnOnce()>) {
    NEXT.set(Some(Fault {
        left: after,
        strike,
    }));
}

/// Takes the fault back; whether it had not struck.
pub(crate) fn disarm() -> bool {
    NEXT.take().is_some()
}

/// Counts a suspension that is about to happen.
pub(crate) fn at_the_door() {
    let count = |next: &mut Option<Fault>| match next {
        Some(fault) if fault.left > 0 => {
            fault.left -= 1;
            None
        }
        _ => next.take(),
    };
    // A thread's last destructors wait too, when this may be gone: nothing is armed then.
    let due = NEXT.try_with(|next| count(&mut next.borrow_mut()));
    if let Ok(Some(fault)) = due {
        (fault.strike)();
    }
}
