//! The inbox: how other threads hand a worker the coroutines they have woken.
//!
//! Many threads push, the owner takes everything at once. It is a [`Chain`], so a push never allocates or fails. One
//! word holds both the chain and whether the owner is parked, so exactly one pusher learns that it has to ring the
//! bell, and none has to when the owner is awake.
//!
//! ```text
//!   EMPTY ── push ──► chain ── push ──► chain ── take ──► EMPTY
//!   EMPTY ── park (owner) ──► PARKED ── push: "ring" ───► chain on PARKED ── take: "rung for" ──► EMPTY
//!                                    ── nudge: "ring" ──► NUDGED ─────────── take: "rung for" ──► EMPTY
//! ```
//!
//! When the owner parks, who rings, and what else it must look at before it sleeps: see [`idle`](crate::idle).

use crate::{
    loom::Ordering,
    sys::list::{Chain, Handle, Mark},
};

/// The chain of what was pushed, and below it one of the marks that are here.
pub(crate) struct Inbox<H: Handle>(Chain<H>);

const AWAKE: Mark = Mark::None;

/// The owner sleeps.
const PARKED: Mark = Mark::First;

/// The owner's sleep was ended by somebody who gave it nothing.
const NUDGED: Mark = Mark::Second;

impl<H: Handle> Inbox<H> {
    pub(crate) fn new() -> Self {
        Self(Chain::new())
    }

    /// Gives the owner a node; true if the owner is parked and the caller must wake it. Then the inbox is still there
    /// until it has; otherwise it may be gone.
    pub(crate) fn push(&self, handle: H) -> bool {
        self.0.push(handle, PARKED)
    }

    /// Owner: whether there is nothing to take, at a glance.
    #[inline]
    pub(crate) fn looks_empty(&self) -> bool {
        self.0.looks_empty()
    }

    /// Owner: takes all nodes, oldest first, and is awake from now on. True if somebody has ended its sleep,
    /// and has rung the bell for it or is about to.
    pub(crate) fn take(&self, each: impl FnMut(H)) -> bool {
        match self.0.take(each) {
            (AWAKE, _) | (PARKED, false) => false,
            (PARKED, true) | (NUDGED, _) => true,
        }
    }

    /// Owner: announces that it is about to sleep; false if there is something to take first.
    pub(crate) fn park(&self) -> bool {
        // Nothing is handed over by it.
        self.0.replace(AWAKE, PARKED, Ordering::Relaxed)
    }

    /// Makes a parked owner's claim to be asleep void; true if the caller must wake it.
    pub(crate) fn nudge(&self) -> bool {
        // Release: the owner's acquiring swap sees what led to it.
        self.0.looks_like(PARKED) && self.0.replace(PARKED, NUDGED, Ordering::Release)
    }
}

#[cfg(test)]
use crate::{loom::AtomicPtr, sys::list::Chained};

#[cfg(test)]
struct Node {
    next: AtomicPtr<Node>,
    value: u32,
}

#[cfg(test)]
impl Chained for Node {
    fn next(&self) -> &AtomicPtr<Node> {
        &self.next
    }
}

#[cfg(test)]
fn node(value: u32) -> Box<Node> {
    Box::new(Node {
        next: AtomicPtr::new(std::ptr::null_mut()),
        value,
    })
}

#[cfg(test)]
fn drain(inbox: &Inbox<Box<Node>>) -> Vec<u32> {
    let mut values = Vec::new();
    inbox.take(|node| values.push(node.value));
    values
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn takes_all_in_the_order_of_pushing() {
        let inbox = Inbox::new();
        for value in 0..5 {
            assert!(!inbox.push(node(value)));
        }
        assert_eq!(drain(&inbox), [0, 1, 2, 3, 4]);
        assert!(inbox.looks_empty());
    }

    /// A waker between its push and its ring, beside a worker that ends, as coroutines: the ring is the last that
    /// anybody does with a home, which must be there still.
    fn end_beside_wakers(waits: bool) {
        use crate::{sim, sync::Semaphore};
        use std::sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        };

        struct Home {
            inbox: Inbox<Box<Node>>,
            bell: Semaphore,
            is_gone: AtomicBool,
        }
        let home = Arc::new(Home {
            inbox: Inbox::new(),
            bell: Semaphore::new(0),
            is_gone: AtomicBool::new(false),
        });
        let act = |wakes: fn(&Inbox<Box<Node>>) -> bool| {
            let home = home.clone();
            crate::spawn(move || {
                sim::point();
                if wakes(&home.inbox) {
                    sim::point();
                    sim::always!(
                        !home.is_gone.load(Ordering::Relaxed),
                        "rings at a home that is gone"
                    );
                    home.bell.add_permits(1);
                }
            })
        };
        let wakers = [act(|inbox| inbox.push(node(1))), act(Inbox::nudge)];
        let hear = || home.bell.acquire().expect("nobody cuts it").forget();
        // The first sleep is ended by the clock.
        let (mut timer, mut heard, mut owed, mut came) = (true, 0, 0, false);
        while !came {
            if home.inbox.park() && !std::mem::take(&mut timer) {
                hear();
                heard += 1;
            }
            sim::point();
            owed += usize::from(home.inbox.take(|_node| came = true));
        }
        while waits && heard < owed {
            hear();
            heard += 1;
        }
        home.is_gone.store(true, Ordering::Relaxed);
        wakers
            .into_iter()
            .for_each(|waker| waker.join().expect("it rings"));
    }

    #[test]
    fn a_worker_that_does_not_wait_for_who_has_to_ring_is_found_within_a_thousand_seeds() {
        let fails = |seed| crate::sim::run(seed, |_| end_beside_wakers(false)).err();
        let failure = (0..1000).find_map(fails).expect("the fault is found");
        println!("found by {failure}");
        assert!(failure.what().contains("a home that is gone"), "{failure}");
        crate::sim::check(0..1000, |_| end_beside_wakers(true));
        crate::sim::check_orders(2, |_| end_beside_wakers(true));
    }

    #[test]
    fn only_one_pusher_rings_for_a_parked_owner() {
        let inbox = Inbox::new();
        assert!(inbox.park());
        assert!(inbox.push(node(1)), "the owner slept");
        assert!(!inbox.push(node(2)), "it is being woken");
        assert!(!inbox.nudge());
        assert!(!inbox.park(), "there is something to take");
        assert_eq!(drain(&inbox), [1, 2]);
    }

    #[test]
    fn the_owner_learns_of_each_ring_that_it_is_owed() {
        let inbox = Inbox::<Box<Node>>::new();
        let take = || inbox.take(drop);
        assert!(!take());
        assert!(inbox.park());
        assert!(!take(), "nobody came");
        for push_after in [false, true] {
            assert!(inbox.park() && inbox.nudge());
            assert!(!push_after || !inbox.push(node(1)));
            assert!(take(), "it was nudged");
        }
        assert!(!inbox.push(node(1)));
        assert!(!take(), "it did not sleep");
        assert!(inbox.park() && inbox.push(node(2)) && !inbox.push(node(3)));
        assert!(take());
        assert!(!take(), "each ring once");
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::loom::AtomicBool;
    use loom::sync::Arc;

    /// Two pushers against an owner that parks: every node arrives, and if the owner went to sleep
    /// before a push then somebody rang.
    #[test]
    fn loom_no_push_is_lost_and_no_sleeper_is_left() {
        loom::model(|| {
            let shared = Arc::new((Inbox::new(), AtomicBool::new(false)));
            let pushers: Vec<_> = (0..2)
                .map(|value| {
                    let shared = shared.clone();
                    loom::thread::spawn(move || {
                        if shared.0.push(node(value)) {
                            shared.1.store(true, Ordering::Release);
                        }
                    })
                })
                .collect();
            let mut seen = drain(&shared.0);
            let slept = shared.0.park();
            for pusher in pushers {
                pusher.join().unwrap();
            }
            let rang = shared.1.load(Ordering::Acquire);
            let before = seen.len();
            seen.extend(drain(&shared.0));
            seen.sort_unstable();
            assert_eq!(seen, [0, 1]);
            if slept && before < 2 {
                assert!(rang, "a node came while the owner slept and nobody rang");
            }
        });
    }

    /// What the owner lets go at its end. An access to the cell after that is what the model looks for.
    struct Remote {
        inbox: Inbox<Box<Node>>,
        descriptor: loom::cell::UnsafeCell<()>,
    }

    // SAFETY: the cell is empty.
    unsafe impl Send for Remote {}
    // SAFETY: as above.
    unsafe impl Sync for Remote {}

    /// The kernel's counter, which outlasts the worker.
    #[derive(Default)]
    struct Counter {
        rings: loom::sync::Mutex<usize>,
        rung: loom::sync::Condvar,
    }

    impl Counter {
        fn ring(&self, home: &Remote) {
            home.descriptor.with(|_| ());
            *self.rings.lock().unwrap() += 1;
            self.rung.notify_one();
        }

        /// Waits until it has been rung so often.
        fn hear(&self, times: usize) -> usize {
            let mut rings = self.rings.lock().unwrap();
            while *rings < times {
                rings = self.rung.wait(rings).unwrap();
            }
            *rings
        }
    }

    /// The owner ends once it has run what it waited for and has heard the rings that it is owed, also if others have
    /// woken it in between, the clock too: nobody looks at it after that.
    #[test]
    fn loom_a_home_outlasts_those_who_have_to_ring() {
        end_a_home(|counter, owed| assert_eq!(counter.hear(owed), owed, "each ring ends a sleep"));
    }

    #[test]
    #[should_panic]
    fn loom_a_home_that_does_not_wait_is_looked_at_when_it_is_gone() {
        end_a_home(|_counter, _owed| {});
    }

    fn end_a_home(wait: fn(&Counter, usize)) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(move || {
            let home = Arc::new(Remote {
                inbox: Inbox::new(),
                descriptor: loom::cell::UnsafeCell::new(()),
            });
            let counter = Arc::new(Counter::default());
            let act = |wakes: fn(&Inbox<Box<Node>>) -> bool| {
                let (home, counter) = (home.clone(), counter.clone());
                loom::thread::spawn(move || {
                    if wakes(&home.inbox) {
                        counter.ring(&home);
                    }
                })
            };
            act(|inbox| inbox.push(node(1)));
            act(Inbox::nudge);
            let (mut heard, mut owed, mut came) = (0, 0, false);
            // The first sleep is ended by the clock.
            let mut timer = true;
            while !came {
                if home.inbox.park() && !std::mem::take(&mut timer) {
                    heard = counter.hear(heard + 1);
                }
                let rung_for = home.inbox.take(|_node| came = true);
                owed += usize::from(rung_for);
            }
            wait(&counter, owed);
            home.descriptor.with_mut(|_| ());
        });
    }
}
