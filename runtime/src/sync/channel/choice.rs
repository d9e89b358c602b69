//! The wait under every select: until one of several operations can be done.
//!
//! # How it works
//!
//! First every operation is tried, from a random one on. If none can be done, the waiter arms its claim
//! once and queues a node for each, from a random one on as well, since several may be on one channel. The one
//! that wins the claim exchanges a message through that node, and so decides which operation it is. The other nodes
//! are then taken out: a waker that finds one meanwhile fails to claim it and goes on to the next waiter.
//!
//! Between the try and the queueing another waiter may have come, so each channel is asked once more under
//! its lock; if it says yes, the waiter takes its claim and nodes back and tries again. It never meets itself:
//! its own nodes do not count.
//!
//! Who wants to know of readiness alone queues among the channels' watchers, is woken with all of them, and
//! looks.

use std::time::Instant;
#[cfg(not(loom))]
use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{operation::Operation, queue::Aim};
use crate::{
    error::Interrupt,
    scheduler::now,
    wait::{self, Reason, Waited, in_several},
};

/// The operations of one select, by their index; there may be gaps.
pub(super) trait Operations {
    fn count(&self) -> usize;
    fn at(&self, index: usize) -> Option<&dyn Operation>;
}

/// In which order the operations are asked, and queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Order {
    /// From a random one on, in a random direction.
    Random,
    /// As they are listed, so that the first of those that can be done is chosen.
    Listed,
}

impl Order {
    /// All indexes below `count`.
    fn of(self, count: usize) -> impl Iterator<Item = usize> {
        let (start, backwards) = match (self, count) {
            (Order::Listed, _) | (Order::Random, 0 | 1) => (0, false),
            (Order::Random, _) => roll(count),
        };
        (0..count).map(move |step| {
            // In a random direction, so that what comes after an idle operation is not preferred.
            let step = if backwards { count - step } else { step };
            (start + step) % count
        })
    }
}

/// Decides one operation without waiting, or finds one that is ready.
pub(super) fn try_all(operations: &impl Operations, aim: Aim, order: Order) -> Option<usize> {
    order.of(operations.count()).find(|&index| {
        operations.at(index).is_some_and(|operation| match aim {
            Aim::Exchange => operation.try_now(),
            Aim::Readiness => operation.is_ready(),
        })
    })
}

/// Tries like [`try_all`], waiting until `deadline`; none if that passes.
pub(super) fn wait_for_one(
    operations: &impl Operations,
    aim: Aim,
    order: Order,
    deadline: Option<Instant>,
) -> Result<Option<usize>, Interrupt> {
    wait::check()?;
    if let Some(found) = try_all(operations, aim, order) {
        wait::spend();
        return Ok(Some(found));
    }
    let each = || (0..operations.count()).filter_map(|index| Some((index, operations.at(index)?)));
    loop {
        if deadline.is_some_and(|deadline| deadline <= now()) {
            wait::spend();
            return Ok(None);
        }
        let waited = in_several(|wait| {
            let possible = order
                .of(operations.count())
                .filter_map(|index| operations.at(index))
                .any(|operation| !operation.queue(wait, aim));
            let waited = if possible && wait.call_off() {
                Waited::AtOnce
            } else {
                // Who has claimed the wait is consumed here too.
                let due = each().filter_map(|(_, operation)| operation.due()).min();
                let until = [due, deadline].into_iter().flatten().min();
                wait.wait(Reason::Select, until)
            };
            each().for_each(|(_, operation)| operation.leave(wait, aim));
            waited
        });
        match waited {
            Waited::Notified => {
                if let Some((served, _)) = each().find(|(_, operation)| operation.was_served()) {
                    return Ok(Some(served));
                }
                // Notified without an exchange: of readiness, or one of the channels was disconnected.
            }
            Waited::Interrupted(interrupt) => return Err(interrupt),
            Waited::AtOnce | Waited::TimedOut | Waited::Again => {}
        }
        if let Some(found) = try_all(operations, aim, order) {
            return Ok(Some(found));
        }
    }
}

/// A model must do the same each time.
#[cfg(loom)]
fn roll(_: usize) -> (usize, bool) {
    (0, false)
}

/// A random index below `count`, and whether to go backwards from there.
#[cfg(not(loom))]
fn roll(count: usize) -> (usize, bool) {
    static SEED: AtomicU64 = AtomicU64::new(1);
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    thread_local! {
        static STATE: Cell<u64> = Cell::new(SEED.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN));
    }
    // Marsaglia's xorshift64*; its low bits are the weak ones.
    let drawn = STATE.with(|state| {
        let mut next = state.get();
        next ^= next >> 12;
        next ^= next << 25;
        next ^= next >> 27;
        state.set(next);
        next.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    });
    // Scaled rather than divided (Lemire, "Fast random integer generation in an interval").
    let index = ((drawn >> 1) * count as u64) >> 31;
    (index as usize, drawn & 1 == 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::super::{
        bounded,
        operation::{Deliver, Receive},
        receiver::Flavour,
    };
    use super::*;
    use crate::wait::Several;

    /// Acts when the select queues on it, in the middle of the others: races that are rare, made certain.
    struct Meddler<F: Fn() -> bool>(F);

    impl<F: Fn() -> bool> Operation for Meddler<F> {
        fn try_now(&self) -> bool {
            false
        }
        fn is_ready(&self) -> bool {
            false
        }
        fn queue<'s>(&'s self, _: &Several<'s>, _: Aim) -> bool {
            (self.0)()
        }
        fn leave(&self, _: &Several<'_>, _: Aim) {}
        fn was_served(&self) -> bool {
            false
        }
        fn due(&self) -> Option<Instant> {
            None
        }
        fn cut(&self, _: Interrupt) {}
        fn reset(&self) {}
        fn is_spent(&self) -> bool {
            false
        }
        fn half(&self) -> *const () {
            std::ptr::null()
        }
    }

    struct Two<'a>([&'a dyn Operation; 2]);

    impl Operations for Two<'_> {
        fn count(&self) -> usize {
            2
        }
        fn at(&self, index: usize) -> Option<&dyn Operation> {
            self.0.get(index).copied().map(|operation| operation as _)
        }
    }

    /// Waits, and holds that it was not the time limit that ended it.
    fn decide(operations: [&dyn Operation; 2]) -> Result<Option<usize>, Interrupt> {
        find(operations, Aim::Exchange)
    }

    fn find(operations: [&dyn Operation; 2], aim: Aim) -> Result<Option<usize>, Interrupt> {
        let limit = now() + Duration::from_secs(30);
        let found = wait_for_one(&Two(operations), aim, Order::Listed, Some(limit));
        assert!(now() < limit, "it slept though there was something to do");
        found
    }

    #[test]
    fn who_is_served_while_queueing_keeps_the_message_even_if_another_could_be_done() {
        let (send, receive) = bounded(0);
        let served = Receive::new(&receive);
        let meddler = Meddler(|| {
            send.try_send(1).expect("the select waits here already");
            false
        });
        let decided = decide([&served, &meddler]);
        assert_eq!((decided, served.take()), (Ok(Some(0)), Ok(1)));
        assert!(send.try_send(2).is_err(), "nobody is left in the queue");
    }

    #[test]
    fn a_sender_that_came_between_the_try_and_the_queueing_is_met() {
        let (send, receive) = bounded(0);
        let Flavour::Queue(channel) = receive.flavour() else {
            unreachable!("it has a queue");
        };
        std::thread::scope(|scope| {
            let begun = Cell::new(false);
            let meddler = Meddler(|| {
                if !begun.replace(true) {
                    scope.spawn(|| send.send(1).unwrap());
                    while !channel.has_waiting_senders() {
                        std::thread::yield_now();
                    }
                }
                true
            });
            let met = Receive::new(&receive);
            let decided = decide([&meddler, &met]);
            // The sender's thread ends also where the test fails.
            _ = receive.try_recv();
            assert_eq!((decided, met.take()), (Ok(Some(1)), Ok(1)));
        });
    }

    #[test]
    fn a_message_that_came_between_the_try_and_the_queueing_is_met() {
        let (send, receive) = bounded(1);
        let (met, sent) = (Receive::new(&receive), Cell::new(false));
        let meddler = Meddler(|| {
            if !sent.replace(true) {
                send.try_send(1).unwrap();
            }
            true
        });
        let decided = decide([&meddler, &met]);
        assert_eq!((decided, met.take()), (Ok(Some(1)), Ok(1)));
    }

    #[test]
    fn room_that_came_between_the_try_and_the_queueing_is_used() {
        let (send, receive) = bounded(1);
        send.try_send(1).unwrap();
        let met = Deliver::new(&send, 2);
        let meddler = Meddler(|| {
            _ = receive.try_recv();
            true
        });
        let decided = decide([&meddler, &met]);
        assert_eq!((decided, met.take()), (Ok(Some(1)), Ok(())));
        assert_eq!(receive.try_recv(), Ok(2));
    }

    #[test]
    fn readiness_that_came_between_the_look_and_the_queueing_is_seen() {
        let (send, receive) = bounded(1);
        let (watched, sent) = (Receive::new(&receive), Cell::new(false));
        let meddler = Meddler(|| {
            if !sent.replace(true) {
                send.try_send(1).unwrap();
            }
            true
        });
        assert_eq!(find([&meddler, &watched], Aim::Readiness), Ok(Some(1)));
        assert_eq!(receive.try_recv(), Ok(1), "and was only looked at");
    }

    #[test]
    fn readiness_that_comes_and_goes_while_queueing_is_waited_for_again() {
        let (send, receive) = bounded(1);
        let (watched, times) = (Receive::new(&receive), Cell::new(0));
        let meddler = Meddler(|| {
            send.try_send(times.get()).unwrap();
            if times.replace(times.get() + 1) < 3 {
                receive.try_recv().unwrap();
            }
            true
        });
        assert_eq!(find([&watched, &meddler], Aim::Readiness), Ok(Some(0)));
        assert_eq!((receive.try_recv(), times.get()), (Ok(3), 4));
    }
}
