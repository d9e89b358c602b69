//! The token of `park` and `unpark`: it ends a wait, or is kept for the next.

use super::{Armed, Claimed, Waiter};
use crate::sys::spin::SpinLock;

/// One waiter's token.
pub(crate) struct Parking(SpinLock<Parked>);

struct Parked {
    token: bool,
    waiting: Option<Armed>,
}

impl Parking {
    pub(crate) fn new() -> Self {
        Self(SpinLock::new(Parked {
            token: false,
            waiting: None,
        }))
    }

    /// Owner: takes the token, or arms the wait for it and returns true.
    pub(crate) fn arm(&self, waiter: &Waiter) -> bool {
        let mut parked = self.0.lock();
        if std::mem::take(&mut parked.token) {
            return false;
        }
        parked.waiting = Some(Armed::new(waiter, true));
        true
    }

    /// Owner: takes `arm` back after another waker won.
    pub(crate) fn forget(&self) {
        self.0.lock().waiting = None;
    }

    /// Ends the wait, or leaves the token for the next.
    pub(crate) fn unpark(&self) -> Option<Claimed> {
        let mut parked = self.0.lock();
        let claimed = parked.waiting.take().and_then(Armed::claim);
        if claimed.is_none() {
            parked.token = true;
        }
        claimed
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::{
        error::{Cause, Interrupt},
        scheduler::current_waiter,
        wait::{self, Interruptible, Waited, ready},
        waiter::Reason,
    };
    use loom::sync::Arc;

    fn park(parking: &Parking) -> Waited {
        wait::wait(
            Reason::Park,
            None,
            Interruptible::Yes,
            |waiter| parking.arm(waiter),
            || parking.forget(),
        )
    }

    fn unpark(parking: &Parking) {
        if let Some(claimed) = parking.unpark() {
            ready(claimed);
        }
    }

    /// Whenever it comes, a token ends one wait: this one or the next.
    #[test]
    fn loom_a_token_ends_one_wait_whenever_it_comes() {
        loom::model(|| {
            let parking = Arc::new(Parking::new());
            let theirs = parking.clone();
            let thread = loom::thread::spawn(move || unpark(&theirs));
            assert!(matches!(park(&parking), Waited::AtOnce | Waited::Notified));
            thread.join().unwrap();
            assert!(!parking.0.lock().token);
        });
    }

    /// A cancellation and a token race for the wait: the token is used or kept.
    #[test]
    fn loom_a_token_is_not_lost_to_a_wait_that_is_cancelled() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parking = Arc::new(Parking::new());
            let theirs = parking.clone();
            let unparker = loom::thread::spawn(move || unpark(&theirs));
            let owner = current_waiter().as_ptr() as usize;
            let canceller = loom::thread::spawn(move || {
                // SAFETY: the model's own thread waits for this one to end.
                let owner = unsafe { &*(owner as *const Waiter) };
                owner
                    .own_scope()
                    .cancel(Cause::Handle, &mut |claimed| ready(claimed));
            });
            let waited = park(&parking);
            unparker.join().unwrap();
            canceller.join().unwrap();
            let kept = parking.0.lock().token;
            match waited {
                Waited::AtOnce | Waited::Notified => assert!(!kept),
                waited => {
                    assert_eq!(waited, Waited::Interrupted(Interrupt::Cancelled));
                    assert!(kept);
                }
            }
        });
    }
}
