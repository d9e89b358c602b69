//! Select: a list of operations to wait for, made at run time; does one of them, or tells which could be done.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{
    ReadyError, ReadyTimeoutError, Receiver, RecvError, SelectError, SelectTimeoutError, SendError,
    Sender, TryReadyError, TrySelectError,
    choice::{Operations, Order, try_all, wait_for_one},
    operation::{Deliver, Operation, Receive},
    queue::Aim,
};
use crate::{error::Interrupt, scheduler::now, wait};

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
    is_biased: bool,
}

impl<'a> Select<'a> {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty list of which the first operation that can be done is chosen, and not one at random.
    ///
    /// What comes late in the list may wait for ever if something before it can always be done.
    pub fn new_biased() -> Self {
        Self {
            is_biased: true,
            ..Self::default()
        }
    }

    fn order(&self) -> Order {
        match self.is_biased {
            true => Order::Listed,
            false => Order::Random,
        }
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
        match self.wait(Aim::Exchange) {
            Ok(index) => Ok(self.selected(index)),
            Err(Interrupt::Cancelled) => Err(SelectError::Cancelled),
            Err(Interrupt::Elapsed) => Err(SelectError::Elapsed),
        }
    }

    fn wait(&self, aim: Aim) -> Result<usize, Interrupt> {
        assert!(
            self.operations
                .iter()
                .flatten()
                .any(|operation| !operation.is_spent()),
            "a select without operations never ends"
        );
        self.forget_received();
        loop {
            if let Some(index) = wait_for_one(&self.operations, aim, self.order(), None)? {
                return Ok(index);
            }
        }
    }

    /// Does an operation that needs no waiting; one of several at random.
    ///
    /// # Errors
    /// If there is none.
    pub fn try_select(&mut self) -> Result<SelectedOperation<'_>, TrySelectError> {
        self.forget_received();
        let tried = try_all(&self.operations, Aim::Exchange, self.order());
        wait::spend();
        match tried {
            Some(index) => Ok(self.selected(index)),
            None => Err(TrySelectError),
        }
    }

    /// Selects a case like [`Select::select`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If no operation could be done in time or the scope is cancelled.
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<SelectedOperation<'_>, SelectTimeoutError> {
        self.select_up_to(now().checked_add(timeout))
    }

    /// Selects a case like [`Select::select`], waiting until `deadline`.
    ///
    /// # Errors
    /// If no operation could be done in time or the scope is cancelled.
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
        self.forget_received();
        match wait_for_one(&self.operations, Aim::Exchange, self.order(), deadline) {
            Ok(Some(index)) => Ok(self.selected(index)),
            Ok(None) | Err(Interrupt::Elapsed) => Err(SelectTimeoutError::Timeout),
            Err(Interrupt::Cancelled) => Err(SelectTimeoutError::Cancelled),
        }
    }

    /// Waits until one operation could be done without waiting, and returns its index without doing it; one of
    /// several at random.
    ///
    /// An operation that would fail, because its channel is disconnected, is ready. What is ready now need not
    /// be later: another may come first, and in rare cases one has come already. So do it by a form that does
    /// not wait, such as [`Receiver::try_recv`], and wait again if that fails.
    ///
    /// A send that was added is not selected by this: its message stays, and takes part again.
    ///
    /// # Errors
    /// If the scope is cancelled or its deadline passes.
    ///
    /// # Panics
    /// If there is no operation to wait for.
    ///
    /// # Examples
    /// ```
    /// use maniple::sync::channel::{Select, bounded};
    /// let (first, second) = (bounded::<u8>(1), bounded(1));
    /// let mut select = Select::new();
    /// select.recv(&first.1);
    /// select.recv(&second.1);
    /// second.0.send("message").unwrap();
    /// assert_eq!(select.ready(), Ok(1));
    /// assert_eq!(select.ready(), Ok(1), "it is still there");
    /// assert_eq!(second.1.try_recv(), Ok("message"));
    /// assert!(select.try_ready().is_err());
    /// ```
    pub fn ready(&mut self) -> Result<usize, ReadyError> {
        self.wait(Aim::Readiness)
            .map_err(|interrupt| match interrupt {
                Interrupt::Cancelled => ReadyError::Cancelled,
                Interrupt::Elapsed => ReadyError::Elapsed,
            })
    }

    /// Tells which case can be done, like [`Select::ready`], without waiting.
    ///
    /// # Errors
    /// If no operation is ready.
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        let tried = try_all(&self.operations, Aim::Readiness, self.order());
        wait::spend();
        tried.ok_or(TryReadyError)
    }

    /// Tells which case can be done, like [`Select::ready`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If no operation was ready in time or the scope is cancelled.
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        self.ready_up_to(now().checked_add(timeout))
    }

    /// Tells which case can be done, like [`Select::ready`], waiting until `deadline`.
    ///
    /// # Errors
    /// If no operation was ready in time or the scope is cancelled.
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.ready_up_to(Some(deadline))
    }

    fn ready_up_to(&self, deadline: Option<Instant>) -> Result<usize, ReadyTimeoutError> {
        match wait_for_one(&self.operations, Aim::Readiness, self.order(), deadline) {
            Ok(Some(index)) => Ok(index),
            Ok(None) | Err(Interrupt::Elapsed) => Err(ReadyTimeoutError::Timeout),
            Err(Interrupt::Cancelled) => Err(ReadyTimeoutError::Cancelled),
        }
    }

    /// Drops what was received by an operation that was selected and leaked. Else its place would be dropped
    /// into by a sender, under the channel's lock, which a destructor may want.
    fn forget_received(&self) {
        self.operations
            .iter()
            .flatten()
            .for_each(|operation| operation.reset());
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
    /// If the channel is disconnected and empty.
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

impl<'a> Operations for Vec<Option<Box<dyn Operation + 'a>>> {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> Option<&dyn Operation> {
        self.get(index)?.as_deref().map(|operation| operation as _)
    }
}
