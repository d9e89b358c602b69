//! A barrier: so many come together, then all go on.
//!
//! The one who completes the number takes everyone out of the list and starts the next round under
//! one lock. A waiter that gives up takes itself out under the same lock, or finds that the round it had come
//! for is over: it was one of the number then, and goes on as the others do.

use std::fmt;

use crate::wait::{self, Interruptible, Node, QUEUE, Reason, Waited, Waiters};

/// Lets waiters wait for each other until so many have come; then it starts anew.
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
    waiters: Waiters<State>,
    size: usize,
}

struct State {
    /// How many of this round are in the list.
    arrived: usize,
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
            waiters: Waiters::new(State { arrived: 0 }),
            size,
        }
    }

    /// A barrier that opens when `size` have come; at 0, as at 1, it is always open.
    #[cfg(loom)]
    pub fn new(size: usize) -> Self {
        Self {
            waiters: Waiters::new(State { arrived: 0 }),
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
        loop {
            let mut state = self.waiters.lock();
            if state.arrived + 1 >= self.size {
                state.arrived = 0;
                let others = state.notify_all(QUEUE);
                drop(state);
                others.ready();
                wait::spend();
                return BarrierWaitResult(true);
            }
            state.arrived += 1;
            let (mut node, mut left) = (Node::new(()), false);
            let waited = state.wait(
                QUEUE,
                &mut node,
                Reason::Barrier,
                None,
                Interruptible::Yes,
                |mut state, was_queued| {
                    left = was_queued;
                    state.arrived -= usize::from(left);
                },
            );
            match waited {
                Waited::Interrupted(interrupt) if left => wait::unwind(Reason::Barrier, interrupt),
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
            .field("arrived", &self.waiters.lock().arrived)
            .finish()
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::cancel::CancelToken;
    use loom::{
        cell::UnsafeCell,
        sync::Arc,
        thread::{JoinHandle, spawn},
    };

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(body);
    }

    /// What each of `N` has done, in each of two rounds. loom's cells find accesses that nothing orders.
    struct Meeting<const N: usize> {
        barrier: Barrier,
        done: [[UnsafeCell<bool>; N]; 2],
    }

    // SAFETY: loom holds the accesses to the cells against each other.
    unsafe impl<const N: usize> Sync for Meeting<N> {}

    impl<const N: usize> Meeting<N> {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                barrier: Barrier::new(N),
                done: [(); 2].map(|()| [(); N].map(|()| UnsafeCell::new(false))),
            })
        }

        /// Comes to so many rounds and returns how many it led.
        fn come(&self, me: usize, rounds: usize) -> usize {
            let lead = |done: &[UnsafeCell<bool>; N]| {
                // SAFETY: others read this cell only after they have met its owner.
                done[me].with_mut(|done| unsafe { *done = true });
                let leads = self.barrier.wait().is_leader();
                // SAFETY: nobody writes them after the meeting.
                assert!(done.iter().all(|done| done.with(|done| unsafe { *done })));
                usize::from(leads)
            };
            self.done[..rounds].iter().map(lead).sum()
        }
    }

    fn start<const N: usize>(
        meeting: &Arc<Meeting<N>>,
        me: usize,
        rounds: usize,
    ) -> JoinHandle<usize> {
        let meeting = meeting.clone();
        spawn(move || meeting.come(me, rounds))
    }

    fn assert_settled(barrier: &Barrier) {
        let state = barrier.waiters.lock();
        assert_eq!(state.arrived, 0);
        assert!(state.is_empty(QUEUE));
    }

    /// Nobody goes on before all have come, nor is left behind, though one may be back for the next round before
    /// the other has left the first; and each round has one leader.
    #[test]
    fn loom_barrier_two_meet_round_after_round() {
        model(3, || {
            let meeting = Meeting::<2>::new();
            let other = start(&meeting, 1, 2);
            let led = meeting.come(0, 2);
            assert_eq!(led + other.join().unwrap(), 2);
            assert_settled(&meeting.barrier);
        });
    }

    /// The last to come wakes several, each of whom sees what all have done.
    #[test]
    fn loom_barrier_all_go_on_when_the_last_has_come() {
        model(1, || {
            let meeting = Meeting::<3>::new();
            let others = [1, 2].map(|me| start(&meeting, me, 1));
            let led = meeting.come(0, 1);
            let others: usize = others.map(|other| other.join().unwrap()).iter().sum();
            assert_eq!(led + others, 1);
            assert_settled(&meeting.barrier);
        });
    }

    /// One is cancelled while another comes: either they have met, or the place is free for a third. It is never
    /// both, which would leave the third alone, nor neither, which would leave the second.
    #[test]
    fn loom_barrier_one_who_is_cancelled_has_come_or_leaves_its_place() {
        model(3, || {
            let barrier = Arc::new(Barrier::new(2));
            let token = CancelToken::new();
            let (theirs, under) = (barrier.clone(), token.clone());
            let hasty = spawn(move || under.run(|| theirs.wait().is_leader()));
            let theirs = barrier.clone();
            let patient = spawn(move || theirs.wait().is_leader());
            token.cancel();
            let other = hasty.join().unwrap();
            let led = other.unwrap_or_else(|_| barrier.wait().is_leader());
            assert!(led ^ patient.join().unwrap());
            assert_settled(&barrier);
        });
    }
}
