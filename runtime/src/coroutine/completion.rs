//! The end of a coroutine as others see it: how far it is, who is told, and whether anybody asks for the result.

use std::{mem::replace, task::Waker};

use crate::{
    sys::spin::SpinLock,
    waiter::{Armed, Claimed, Waiter},
};

pub(super) struct Completion(SpinLock<State>);

struct State {
    /// The result is in its place and the body will not touch it again.
    settled: bool,
    /// None of its user's code is to come any more, but its awaiter's waker: the result may be taken.
    over: bool,
    /// The coroutine has left its stack for good.
    done: bool,
    /// Nobody will ask for the result.
    detached: bool,
    awaiting: Awaiting,
}

/// Who is to be told of the end: there is one handle.
enum Awaiting {
    Nobody,
    Waiter(Armed),
    /// Another executor's.
    Waker(Waker),
}

/// What the coroutine learns as its result is settled.
pub(super) struct Settled {
    /// The result is its own to drop.
    pub(super) detached: bool,
    /// Another executor's task waits for it.
    pub(super) awaited: bool,
}

impl Completion {
    #[inline]
    pub(super) fn new() -> Self {
        Self(SpinLock::new(State {
            settled: false,
            over: false,
            done: false,
            detached: false,
            awaiting: Awaiting::Nobody,
        }))
    }

    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.0.lock().done
    }

    /// Arms `waiter` to be woken once it is done; false if it is.
    #[inline]
    pub(super) fn arm(&self, waiter: &Waiter, cancellable: bool) -> bool {
        let mut state = self.0.lock();
        if state.done {
            return false;
        }
        state.awaiting = Awaiting::Waiter(Armed::new(waiter, cancellable));
        true
    }

    /// Whether its result may be taken; if not, `waker` is woken once it may.
    pub(super) fn is_over_or_wakes(&self, waker: &Waker) -> bool {
        // Cloned before, and a former one dropped after the lock is held: a waker is anybody's code.
        let waker = waker.clone();
        let _former = {
            let mut state = self.0.lock();
            if state.over {
                return true;
            }
            replace(&mut state.awaiting, Awaiting::Waker(waker))
        };
        false
    }

    /// Nobody is to be told any more.
    pub(super) fn forget_awaiter(&self) {
        let awaiting = replace(&mut self.0.lock().awaiting, Awaiting::Nobody);
        drop(awaiting);
    }

    /// The handle gives the result up. True if it is settled, and so the caller's to drop; else the coroutine's.
    #[inline]
    pub(super) fn detach(&self) -> bool {
        let mut state = self.0.lock();
        state.detached = true;
        state.settled
    }

    /// The result is in its place; with `over` it may be taken, too.
    #[inline]
    pub(super) fn settle(&self, over: bool) -> Settled {
        let mut state = self.0.lock();
        state.settled = true;
        state.over = over;
        Settled {
            detached: state.detached,
            awaited: matches!(state.awaiting, Awaiting::Waker(_)),
        }
    }

    /// From here on the result may be taken.
    #[inline]
    pub(super) fn set_over(&self) {
        self.0.lock().over = true;
    }

    /// Another executor's task that is to be woken, now that the result may be taken.
    pub(super) fn waker_if_over(&self) -> Option<Waker> {
        let mut state = self.0.lock();
        if !state.over || !matches!(state.awaiting, Awaiting::Waker(_)) {
            return None;
        }
        match replace(&mut state.awaiting, Awaiting::Nobody) {
            Awaiting::Waker(waker) => Some(waker),
            Awaiting::Waiter(_) | Awaiting::Nobody => None,
        }
    }

    /// The coroutine has left its stack for good: who waits for that, to be made ready.
    #[inline]
    pub(super) fn finish(&self) -> Option<Claimed> {
        let mut state = self.0.lock();
        state.done = true;
        match replace(&mut state.awaiting, Awaiting::Nobody) {
            Awaiting::Waiter(joiner) => joiner.claim(),
            // A waker was woken before, and none is left since.
            Awaiting::Nobody | Awaiting::Waker(_) => None,
        }
    }
}
