//! A barrier: so many come together, then all go on.
//!
//! The one who completes the number takes everyone out of the list and starts the next round under
//! one lock. Whoever gives up takes itself out under the same lock, or finds that the round it had come
//! for is over: it was one of the number then, and goes on as the others do.

use std::fmt;

use crate::{
    sys::spin::SpinLock,
    wait::{self, Cuttable, Reason, WaitList, WaitNode, Waited},
};

/// Lets strands wait for each other until so many have come; then it starts anew.
///
/// # Examples
/// ```
/// use maniple::sync::Barrier;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// let (barrier, prepared) = (Barrier::new(2), AtomicU32::new(0));
/// let work = || {
///     prepared.fetch_add(1, Ordering::Relaxed);
///     barrier.wait();
///     assert_eq!(prepared.load(Ordering::Relaxed), 2);
/// };
/// maniple::join!(work(), work());
/// ```
pub struct Barrier {
    state: SpinLock<State>,
    size: usize,
}

struct State {
    /// How many of this round are in the list.
    arrived: usize,
    waiters: WaitList,
}

/// What [`Barrier::wait`] returns: whether the caller is the round's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for one in each round: the one who came last.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier that opens when `size` have come; at 0, as at 1, it is always open.
    #[cfg(not(loom))]
    pub const fn new(size: usize) -> Self {
        Self {
            state: SpinLock::new(State {
                arrived: 0,
                waiters: WaitList::new(),
            }),
            size,
        }
    }

    /// A barrier that opens when `size` have come; at 0, as at 1, it is always open.
    #[cfg(loom)]
    pub fn new(size: usize) -> Self {
        Self {
            state: SpinLock::new(State {
                arrived: 0,
                waiters: WaitList::new(),
            }),
            size,
        }
    }

    /// Waits until all have come.
    ///
    /// A cancellation point: in a cancelled scope, or once its deadline passes, the caller unwinds to the
    /// scope's edge and counts as if it had not come.
    pub fn wait(&self) -> BarrierWaitResult {
        if let Err(interrupt) = wait::check() {
            wait::unwind(Reason::Barrier, interrupt);
            return BarrierWaitResult(false);
        }
        let node = WaitNode::new();
        loop {
            let mut opened = None;
            let mut left = false;
            let waited = wait::wait(
                Reason::Barrier,
                None,
                Cuttable::Yes,
                |strand| {
                    let mut state = self.state.lock();
                    if state.arrived + 1 < self.size {
                        state.arrived += 1;
                        // SAFETY: under the list's lock; taken out below unless notified.
                        unsafe { state.waiters.arm(&node, strand, Cuttable::Yes) };
                        return true;
                    }
                    state.arrived = 0;
                    // SAFETY: under the list's lock.
                    opened = Some(unsafe { state.waiters.notify_all() });
                    false
                },
                || {
                    let mut state = self.state.lock();
                    // SAFETY: under the list's lock, in this list or none.
                    left = unsafe { state.waiters.remove(&node) };
                    state.arrived -= usize::from(left);
                },
            );
            if let Some(others) = opened {
                others.ready();
                wait::spend();
                return BarrierWaitResult(true);
            }
            match waited {
                Waited::Cut(interrupt) if left => wait::unwind(Reason::Barrier, interrupt),
                Waited::Again if left => continue,
                _ => {}
            }
            return BarrierWaitResult(false);
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("size", &self.size)
            .field("arrived", &self.state.lock().arrived)
            .finish()
    }
}
