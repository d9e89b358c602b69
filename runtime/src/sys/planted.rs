//! Faults that there once were, put in on purpose. For tests of what finds them; there with the feature
//! `fault-injection`.

use std::cell::Cell;

/// A fault that there once was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// A coroutine that waits while it unwinds leaves its panics with the thread: its neighbours are taken for
    /// unwinding meanwhile, and no wait of theirs is cut short.
    PanicsStayWithTheThread,
    /// What got no stack is dropped on the worker itself: it cannot wait there, and keeps all others from their turns.
    DropsOnTheWorker,
    /// A notification that finds nobody waiting is not kept: who has looked, and is about to wait, misses it.
    ForgetsNotifications,
    /// A request for permits that is given up has nobody look at the queue again: those behind it wait on, though there
    /// is enough for them.
    LeavesWithoutAWord,
    /// A pool of connections takes back one whose call was cut short: its answer comes to another call.
    KeepsWhatWasCut,
    /// A server's drain does not know of connections that are accepted while it is under way: it ends without them.
    ForgetsTheLate,
}

thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Puts a fault in, for this thread, which in a simulated world ends with that.
pub fn plant(fault: Planted) {
    PLANTED.set(Some(fault));
}

/// Whether it is in.
pub fn is_planted(fault: Planted) -> bool {
    PLANTED.try_with(Cell::get).ok().flatten() == Some(fault)
}
