//! Select: waits until one of several operations can be done, and does that one.
//!
//! # How it works
//!
//! First every operation is tried, from a random one on. If none can be done, the strand arms its word
//! once and queues a node for each; whoever wins the word exchanges a message through that node, and so
//! decides which operation it is. The other nodes are then taken out: a waker that finds one meanwhile
//! fails to claim it and goes on to the next waiter.
//!
//! Between the try and the queueing another strand may have come, so each channel is asked once more under
//! its lock; if it says yes, the strand takes its word and nodes back and tries again. It never meets itself:
//! its own nodes do not count.

use std::{
    cell::Cell,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{
    Receiver, RecvError, SelectError, SelectTimeoutError, SendError, Sender, TrySelectError,
    operation::{Deliver, Operation, Receive},
};
use crate::{
    error::Interrupt,
    scheduler::{current_strand, now},
    wait::{self, Cuttable, Reason, Waited},
};

/// A list of receives and sends that is made at run time, to wait for one of them.
///
/// Where the operations are known when the program is written, [`select!`](crate::select!) is shorter and
/// does not allocate.
///
/// An operation is named by its index, in the order of adding. A receive takes part in every select until
/// it is removed. A send has its message from the beginning and takes part until it is selected; add it
/// again to send again. What was not sent is dropped with the `Select`.
///
/// # Examples
/// ```
/// use maniple::sync::channel::{Select, unbounded};
/// let channels: Vec<_> = (0..3).map(|_| unbounded()).collect();
/// let mut select = Select::new();
/// for (_, receiver) in &channels {
///     select.recv(receiver);
/// }
/// channels[1].0.send("message").unwrap();
/// let selected = select.select().unwrap();
/// let index = selected.index();
/// assert_eq!((index, selected.recv(&channels[index].1)), (1, Ok("message")));
/// ```
#[derive(Default)]
pub struct Select<'a> {
    /// Removed ones leave a gap, so that the others keep their index.
    operations: Vec<Option<Box<dyn Operation + 'a>>>,
}

impl<'a> Select<'a> {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a receive and returns its index.
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.add(Box::new(Receive::new(receiver)))
    }

    /// Adds a send of `message` and returns its index.
    pub fn send<T>(&mut self, sender: &'a Sender<T>, message: T) -> usize
    where
        T: 'a,
    {
        self.add(Box::new(Deliver::new(sender, message)))
    }

    fn add(&mut self, operation: Box<dyn Operation + 'a>) -> usize {
        self.operations.push(Some(operation));
        self.operations.len() - 1
    }

    /// Removes the operation of that index, with its message; the others keep theirs.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, index: usize) {
        let removed = self.operations.get_mut(index).and_then(Option::take);
        assert!(removed.is_some(), "there is no operation {index}");
    }

    /// Waits until one operation can be done, and does it; one of several at random.
    ///
    /// An operation counts as done also if it fails because its channel is disconnected.
    ///
    /// # Errors
    /// If the scope is cancelled or its deadline passes. No operation has been done then.
    ///
    /// # Panics
    /// If there is no operation to wait for.
    pub fn select(&mut self) -> Result<SelectedOperation<'_>, SelectError> {
        assert!(
            self.operations
                .iter()
                .flatten()
                .any(|operation| !operation.is_spent()),
            "a select without operations never ends"
        );
        loop {
            match wait_for_one(&self.operations, None) {
                Ok(Some(index)) => return Ok(self.selected(index)),
                Ok(None) => {}
                Err(Interrupt::Cancelled) => return Err(SelectError::Cancelled),
                Err(Interrupt::Elapsed) => return Err(SelectError::Elapsed),
            }
        }
    }

    /// Does an operation that needs no waiting; one of several at random.
    ///
    /// # Errors
    /// If there is none.
    pub fn try_select(&mut self) -> Result<SelectedOperation<'_>, TrySelectError> {
        match try_all(&self.operations) {
            Some(index) => Ok(self.selected(index)),
            None => Err(TrySelectError),
        }
    }

    /// As [`Select::select`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If no operation could be done in time or the scope is cancelled.
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<SelectedOperation<'_>, SelectTimeoutError> {
        self.select_up_to(now().checked_add(timeout))
    }

    /// As [`Select::select`], waiting until `deadline`.
    ///
    /// # Errors
    /// As [`Select::select_timeout`].
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<SelectedOperation<'_>, SelectTimeoutError> {
        self.select_up_to(Some(deadline))
    }

    fn select_up_to(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<SelectedOperation<'_>, SelectTimeoutError> {
        match wait_for_one(&self.operations, deadline) {
            Ok(Some(index)) => Ok(self.selected(index)),
            Ok(None) | Err(Interrupt::Elapsed) => Err(SelectTimeoutError::Timeout),
            Err(Interrupt::Cancelled) => Err(SelectTimeoutError::Cancelled),
        }
    }

    fn selected(&self, index: usize) -> SelectedOperation<'_> {
        let operation = self.operations[index].as_deref();
        SelectedOperation {
            operation: operation.expect("what was selected is in the list"),
            index,
        }
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Select { .. }")
    }
}

/// The operation that a [`Select`] has done, with its result.
///
/// A received message is dropped with it, unless [`recv`](Self::recv) has taken it out.
#[must_use = "what was received is dropped with it"]
pub struct SelectedOperation<'s> {
    operation: &'s dyn Operation,
    index: usize,
}

impl SelectedOperation<'_> {
    /// The operation's index.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What was received.
    ///
    /// # Errors
    /// As [`Receiver::recv`], if the channel is disconnected.
    ///
    /// # Panics
    /// If the operation is not a receive from this very receiver.
    pub fn recv<T>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        self.assert_on(std::ptr::from_ref(receiver).cast());
        // SAFETY: only a `Receive` is on a receiver, and there is one receiver at this address, of this type.
        unsafe { &*std::ptr::from_ref(self.operation).cast::<Receive<'_, T>>() }.take()
    }

    /// Whether the message was sent.
    ///
    /// # Errors
    /// The message, if the channel is disconnected.
    ///
    /// # Panics
    /// If the operation is not a send on this very sender.
    pub fn send<T>(self, sender: &Sender<T>) -> Result<(), SendError<T>> {
        self.assert_on(std::ptr::from_ref(sender).cast());
        // SAFETY: only a `Deliver` is on a sender, and there is one sender at this address, of this type.
        unsafe { &*std::ptr::from_ref(self.operation).cast::<Deliver<'_, T>>() }.take()
    }

    fn assert_on(&self, half: *const ()) {
        assert!(
            std::ptr::eq(self.operation.half(), half),
            "this is not the channel's half that was selected"
        );
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        self.operation.reset();
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectedOperation")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// The operations of one select, by their index; there may be gaps.
pub(super) trait Operations {
    fn count(&self) -> usize;
    fn at(&self, index: usize) -> Option<&dyn Operation>;
}

impl<'a> Operations for Vec<Option<Box<dyn Operation + 'a>>> {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> Option<&dyn Operation> {
        self.get(index)?.as_deref().map(|operation| operation as _)
    }
}

/// Decides one operation without waiting, if that is possible: tries each, from a random one on.
pub(super) fn try_all(operations: &impl Operations) -> Option<usize> {
    let count = operations.count();
    let (start, backwards) = match count {
        0 | 1 => (0, false),
        _ => roll(count),
    };
    (0..count)
        .map(|step| {
            // In a random direction, so that what comes after an idle operation is not preferred.
            let step = if backwards { count - step } else { step };
            (start + step) % count
        })
        .find(|&index| {
            operations
                .at(index)
                .is_some_and(|operation| operation.try_now())
        })
}

/// Decides one operation, waiting until `deadline`; none if that passes.
pub(super) fn wait_for_one(
    operations: &impl Operations,
    deadline: Option<Instant>,
) -> Result<Option<usize>, Interrupt> {
    wait::check()?;
    if let Some(decided) = try_all(operations) {
        wait::spend();
        return Ok(Some(decided));
    }
    let each = || (0..operations.count()).filter_map(|index| Some((index, operations.at(index)?)));
    // SAFETY: the caller's own strand outlives the call.
    let strand = unsafe { current_strand().as_ref() };
    loop {
        if deadline.is_some_and(|deadline| deadline <= now()) {
            return Ok(None);
        }
        strand.word.arm(true);
        // SAFETY: the operations stay where they are, and each leaves below.
        let possible = each().any(|(_, operation)| unsafe { !operation.queue(strand) });
        let waited = if possible && strand.word.disarm() {
            Waited::AtOnce
        } else {
            // Who has claimed the wait is consumed here too.
            let due = each().filter_map(|(_, operation)| operation.due()).min();
            let until = [due, deadline].into_iter().flatten().min();
            wait::finish(strand, Reason::Select, until, Cuttable::Yes, || {})
        };
        each().for_each(|(_, operation)| operation.leave());
        match waited {
            Waited::Notified => {
                if let Some((served, _)) = each().find(|(_, operation)| operation.was_served()) {
                    return Ok(Some(served));
                }
                // Notified without an exchange: one of the channels was disconnected.
            }
            Waited::Cut(interrupt) => return Err(interrupt),
            Waited::AtOnce | Waited::TimedOut | Waited::Again => {}
        }
        if let Some(decided) = try_all(operations) {
            return Ok(Some(decided));
        }
    }
}

/// A random index below `count`, and whether to go backwards from there.
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
    use super::super::{bounded, receiver::Flavour};
    use super::*;
    use crate::strand::Strand;

    /// Acts when the select queues on it, in the middle of the others: races that are rare, made certain.
    struct Meddler<F: Fn() -> bool>(F);

    impl<F: Fn() -> bool> Operation for Meddler<F> {
        fn try_now(&self) -> bool {
            false
        }
        unsafe fn queue(&self, _: &Strand) -> bool {
            (self.0)()
        }
        fn leave(&self) {}
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
        let limit = now() + Duration::from_secs(30);
        let decided = wait_for_one(&Two(operations), Some(limit));
        assert!(now() < limit, "it slept though there was something to do");
        decided
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
}
