//! A claim: who may end a wait, decided by one compare-and-swap.
//!
//! ```text
//!            arm (owner)                  win(outcome) (one waker does)
//!   IDLE ───────────────► ARMED ───────────────────────────► CLAIMED(outcome)
//!    ▲                      │ disarm (owner, nobody claimed)       │
//!    └──────────────────────┴──────────────── settle (owner) ◄─────┘
//! ```
//!
//! A list's waker, the timer, the reactor and a canceller race for the same wait; the one whose
//! claim succeeds must then make the waiter ready, once. All others lose and do nothing, so a late
//! waker of an earlier wait is a no-op: it can reach the claim only through a list node, a timer or a
//! scope link, and those are removed before the wait returns.
//!
//! Arming is sequentially consistent and so is a canceller's flag-then-claim: either the owner sees
//! the flag after arming, or the canceller sees the armed claim.

use crate::{
    loom::{AtomicU32, Ordering, order_store_before_load},
    sys::fenced,
};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What it waited for happened; the notifier counts on it being used.
    Notified,
    /// Its deadline passed first.
    TimedOut,
    /// Its scope was cancelled first.
    Cancelled,
}

pub(crate) struct Claim(AtomicU32);

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const ARMED_UNCANCELLABLE: u32 = 3;
const CLAIMED: u32 = 4;
/// A plain thread's claim while its waker still holds the thread's handle.
const CLAIMING: u32 = 8;
/// Above the state's bits: which outcome was claimed.
const OUTCOME_SHIFT: u32 = 4;

impl Claim {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(IDLE))
    }

    /// Owner: from now on the wait can be claimed.
    ///
    /// One wait at a time: a waker of the one would end the other, whose node would stay in its list. So a second
    /// ends the process.
    #[inline]
    pub(crate) fn arm(&self, cancellable: bool) {
        let word = if cancellable {
            ARMED
        } else {
            ARMED_UNCANCELLABLE
        };
        // SeqCst: the store half of the handshake with `cancel` described above.
        if self.0.swap(word, Ordering::SeqCst) != IDLE {
            waits_already();
        }
        order_store_before_load();
    }

    /// Owner: whether no wait has begun that has not ended.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == IDLE
    }

    /// Owner: takes the arming back. False if somebody claimed the wait, which must then be
    /// consumed by suspending.
    #[inline]
    pub(crate) fn disarm(&self) -> bool {
        let armed = self.0.load(Ordering::Relaxed);
        armed & ARMED != 0
            && self
                .0
                .compare_exchange(armed, IDLE, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
    }

    /// Waker: tries to become the one that ends this wait.
    #[inline]
    pub(crate) fn win(&self, outcome: Outcome, is_thread: bool) -> bool {
        let armed = self.0.load(Ordering::SeqCst);
        if armed & ARMED == 0 || (armed == ARMED_UNCANCELLABLE && outcome == Outcome::Cancelled) {
            return false;
        }
        let claimed =
            (outcome as u32) << OUTCOME_SHIFT | if is_thread { CLAIMING } else { CLAIMED };
        // AcqRel: acquire what the owner wrote before arming (its home worker), release what the
        // waker wrote before claiming (a value handed over). SeqCst for the cancel handshake.
        self.0
            .compare_exchange(armed, claimed, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Waker of a plain thread: publishes the claim; the thread may be gone right after.
    pub(crate) fn publish(&self) {
        let claimed = self.0.load(Ordering::Relaxed);
        self.0
            .store(claimed & !CLAIMING | CLAIMED, Ordering::Release);
    }

    /// Owner: the outcome, if a waker is done with it.
    #[inline]
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let word = self.0.load(Ordering::Acquire);
        if word & CLAIMED == 0 {
            return None;
        }
        Some(match word >> OUTCOME_SHIFT {
            0 => Outcome::Notified,
            1 => Outcome::TimedOut,
            _ => Outcome::Cancelled,
        })
    }

    /// Owner: whether a waker has won and is still busy with it.
    pub(crate) fn is_being_claimed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CLAIMING != 0
    }

    /// Owner: ends the wait, ready for the next.
    #[inline]
    pub(crate) fn settle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

#[cold]
fn waits_already() -> ! {
    fenced::abort("a wait was begun within another that had not ended");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_claim_wins() {
        let claim = Claim::new();
        assert!(!claim.win(Outcome::Notified, false), "nobody waits");
        claim.arm(true);
        assert!(claim.win(Outcome::TimedOut, false));
        assert!(!claim.win(Outcome::Notified, false));
        assert_eq!(claim.outcome(), Some(Outcome::TimedOut));
        claim.settle();
        assert!(
            !claim.win(Outcome::Notified, false),
            "late waker is a no-op"
        );
    }

    #[test]
    fn an_uncancellable_wait_ignores_cancellers_alone() {
        let claim = Claim::new();
        claim.arm(false);
        assert!(!claim.win(Outcome::Cancelled, false));
        assert!(claim.win(Outcome::Notified, false));
        assert!(!claim.disarm(), "a claimed wait must be consumed");
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::loom::AtomicBool;
    use loom::sync::Arc;

    #[test]
    fn loom_two_wakers_one_winner() {
        loom::model(|| {
            let claim = Arc::new(Claim::new());
            claim.arm(true);
            let theirs = claim.clone();
            let thread = loom::thread::spawn(move || theirs.win(Outcome::Notified, false));
            let mine = claim.win(Outcome::TimedOut, false);
            let theirs = thread.join().unwrap();
            assert!(mine ^ theirs);
        });
    }

    /// The owner arms and looks at the flag; the canceller raises the flag and tries to claim. The
    /// cancel is never missed by both.
    #[test]
    fn loom_a_cancel_is_seen_by_one_side() {
        loom::model(|| {
            let shared = Arc::new((Claim::new(), AtomicBool::new(false)));
            let canceller = shared.clone();
            let thread = loom::thread::spawn(move || {
                canceller.1.store(true, Ordering::SeqCst);
                order_store_before_load();
                canceller.0.win(Outcome::Cancelled, false)
            });
            shared.0.arm(true);
            let noticed = shared.1.load(Ordering::SeqCst) && shared.0.disarm();
            let claimed = thread.join().unwrap();
            assert!(noticed || claimed);
            assert!(!(noticed && claimed));
        });
    }
}
