//! Until when a coroutine waits, and its timer.

use std::cell::Cell;

use crate::wheel::Key;

/// Until when a coroutine waits, and its timer.
///
/// Most waits with a deadline end before it, and the next has a later one. So the timer stays armed
/// when a wait ends, and when it fires too early it is armed anew for the wait of that time. Then a
/// connection's idle timeout costs two words a request, and its neighbours in the wheel stay cold.
pub(crate) struct Alarm {
    /// The tick at which the current wait ends, or [`Alarm::NEVER`].
    pub(crate) due: Cell<u64>,
    /// The armed timer, which fires at `armed_for` or after it.
    pub(super) timer: Cell<Option<Key>>,
    pub(super) armed_for: Cell<u64>,
}

impl Alarm {
    pub(crate) const NEVER: u64 = u64::MAX;

    pub(super) const fn new() -> Self {
        Self {
            due: Cell::new(Self::NEVER),
            timer: Cell::new(None),
            armed_for: Cell::new(0),
        }
    }

    /// Whether the current wait ends by itself.
    pub(crate) fn is_set(&self) -> bool {
        self.due.get() != Self::NEVER
    }
}
