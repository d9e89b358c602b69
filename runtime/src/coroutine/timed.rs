//! The timers of coroutines: when a wait ends by itself, and what a timer that fires means.
//!
//! What keeps the timers is the caller's: `insert` keeps one that fires at a tick, and `remove` takes out one that has
//! not fired.

use std::ptr;

use super::{
    begun::{Ready, Running, Timed, lost_a_timer},
    task::Header,
};
use crate::wheel::Key;

/// Has the wait of the coroutine that runs end at the tick `due`, by its timer if that fires no later.
#[inline(always)]
pub(crate) fn set_alarm(
    task: Running<'_>,
    due: u64,
    insert: impl FnOnce(u64, Timed) -> Key,
    remove: impl FnOnce(Key) -> Option<Timed>,
) {
    let alarm = &task.alarm;
    alarm.due.set(due);
    if alarm.timer.get().is_none() || alarm.armed_for.get() > due {
        set_timer(task, due, insert, remove);
    }
}

fn set_timer(
    task: Running<'_>,
    due: u64,
    insert: impl FnOnce(u64, Timed) -> Key,
    remove: impl FnOnce(Key) -> Option<Timed>,
) {
    take_timer_back(&task, remove);
    task.timer().arm(due, insert);
}

/// Takes a coroutine's timer out of where it is kept, if it has one.
#[inline]
pub(super) fn take_timer_back(task: &Header, remove: impl FnOnce(Key) -> Option<Timed>) {
    let Some(key) = task.alarm.timer.take() else {
        return;
    };
    match remove(key) {
        Some(timed) if ptr::eq(&raw const *timed, task) => timed.settle(),
        _ => lost_a_timer(),
    }
}

/// What a timer that has fired means.
pub(crate) enum Fired {
    /// Its coroutine waits for longer, and the timer is to be armed again.
    Early(Timed),
    /// Its coroutine's wait is over, which has its next turn.
    Due(Ready),
    /// Nothing any more.
    Late,
}

/// A timer has fired at the tick `present`.
pub(crate) fn fire(timed: Timed, present: u64) -> Fired {
    let alarm = &timed.alarm;
    let is_due = alarm.due.get() <= present;
    if !is_due && alarm.is_set() {
        return Fired::Early(timed);
    }
    alarm.timer.set(None);
    if !is_due {
        timed.settle();
        return Fired::Late;
    }
    timed.win().map_or(Fired::Late, Fired::Due)
}

/// Arms a timer again that has fired early.
pub(crate) fn arm_again(timed: Timed, insert: impl FnOnce(u64, Timed) -> Key) {
    let due = timed.alarm.due.get();
    timed.arm(due, insert);
}
