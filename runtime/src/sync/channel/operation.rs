//! What a select may do: one receive or one send, tried, queued, and taken back.

use std::{cell::Cell, fmt, time::Instant};

use super::{
    Receiver, RecvError, SendError, Sender,
    queue::{Aim, Tried},
    receiver::Flavour,
};
use crate::{
    error::Interrupt,
    scheduler::now,
    wait::{Entry, Several},
};

/// One of a select's operations, as far as the select must know it.
///
/// It is *decided* once it has been done or can only fail; its result then waits to be taken.
pub(super) trait Operation {
    /// Does it, if that needs no waiting; whether it is decided.
    fn try_now(&self) -> bool;

    /// Whether it could be done, or fail, without waiting.
    fn is_ready(&self) -> bool;

    /// Queues the caller; false, and not queued, if it could be done now.
    fn queue<'s>(&'s self, wait: &Several<'s>, aim: Aim) -> bool;

    /// Takes the caller out of the queue for that aim, once its wait is over.
    fn leave(&self, wait: &Several<'_>, aim: Aim);

    /// After a wait: whether a waker exchanged a message, which decides it.
    fn was_served(&self) -> bool;

    /// When the clock makes it possible.
    fn due(&self) -> Option<Instant>;

    /// Decides it: it fails for that reason.
    fn cut(&self, interrupt: Interrupt);

    /// Makes it undecided; nobody takes the result.
    fn reset(&self);

    /// Whether it has had its one time.
    fn is_spent(&self) -> bool;

    /// The address of the half that it is on, to know it again.
    fn half(&self) -> *const ();
}

/// Receives into its place.
pub struct Receive<'a, T> {
    receiver: &'a Receiver<T>,
    place: Entry<Option<T>>,
    failed: Cell<Option<RecvError>>,
}

impl<'a, T> Receive<'a, T> {
    /// A receive, not yet tried.
    pub fn new(receiver: &'a Receiver<T>) -> Self {
        Self {
            receiver,
            place: Entry::new(None),
            failed: Cell::new(None),
        }
    }

    /// What came of it, once it is decided.
    pub(super) fn take(&self) -> Result<T, RecvError> {
        let message = self.place.with(Option::take);
        message.ok_or_else(|| self.failed.take().unwrap_or(RecvError::Disconnected))
    }
}

impl<T> Operation for Receive<'_, T> {
    fn try_now(&self) -> bool {
        match self.place.with(|place| self.receiver.try_recv_into(place)) {
            Tried::Done => {}
            Tried::Disconnected => self.failed.set(Some(RecvError::Disconnected)),
            Tried::WouldWait => return false,
        }
        true
    }

    fn is_ready(&self) -> bool {
        match self.receiver.flavour() {
            Flavour::Queue(channel) => channel.can_recv(),
            Flavour::Timer(timer) => timer.is_due(now()),
            Flavour::Never => false,
        }
    }

    fn queue<'s>(&'s self, wait: &Several<'s>, aim: Aim) -> bool {
        match self.receiver.flavour() {
            Flavour::Queue(channel) => channel.queue_to_recv(&self.place, wait, aim),
            Flavour::Timer(_) | Flavour::Never => true,
        }
    }

    fn leave(&self, wait: &Several<'_>, aim: Aim) {
        if let Flavour::Queue(channel) = self.receiver.flavour() {
            channel.leave_receivers(&self.place, wait, aim);
        }
    }

    fn was_served(&self) -> bool {
        self.place.with(|place| place.is_some())
    }

    fn due(&self) -> Option<Instant> {
        match self.receiver.flavour() {
            Flavour::Timer(timer) => timer.next(),
            Flavour::Queue(_) | Flavour::Never => None,
        }
    }

    fn cut(&self, interrupt: Interrupt) {
        self.failed.set(Some(match interrupt {
            Interrupt::Cancelled => RecvError::Cancelled,
            Interrupt::Elapsed => RecvError::Elapsed,
        }));
    }

    fn reset(&self) {
        drop(self.take());
    }

    fn is_spent(&self) -> bool {
        false
    }

    fn half(&self) -> *const () {
        std::ptr::from_ref(self.receiver).cast()
    }
}

impl<T> fmt::Debug for Receive<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receive { .. }")
    }
}

/// Sends what is in its place, once.
pub struct Deliver<'a, T> {
    sender: &'a Sender<T>,
    place: Entry<Option<T>>,
    /// Whether the message is gone for good: sent, or returned to the caller.
    spent: Cell<bool>,
    failed: Cell<fn(T) -> SendError<T>>,
    /// Where a message goes back to that was not sent.
    lender: Option<&'a mut Option<T>>,
}

impl<'a, T> Deliver<'a, T> {
    /// A send, not yet tried.
    pub fn new(sender: &'a Sender<T>, message: T) -> Self {
        Self {
            sender,
            place: Entry::new(Some(message)),
            spent: Cell::new(false),
            failed: Cell::new(SendError::Disconnected),
            lender: None,
        }
    }

    /// A send of what is in `lender`, which keeps it unless this becomes the operation of the select.
    pub fn lent(sender: &'a Sender<T>, lender: &'a mut Option<T>) -> Self {
        let message = lender.take();
        Self {
            sender,
            spent: Cell::new(message.is_none()),
            place: Entry::new(message),
            failed: Cell::new(SendError::Disconnected),
            lender: Some(lender),
        }
    }

    /// What came of it, once it is decided.
    pub(super) fn take(&self) -> Result<(), SendError<T>> {
        self.spent.set(true);
        match self.place.with(Option::take) {
            None => Ok(()),
            Some(message) => Err(self.failed.get()(message)),
        }
    }
}

impl<T> Operation for Deliver<'_, T> {
    fn try_now(&self) -> bool {
        if self.spent.get() {
            return false;
        }
        let tried = self
            .place
            .with(|message| self.sender.channel().try_send(message));
        match tried {
            Tried::Done => self.spent.set(true),
            Tried::Disconnected => self.failed.set(SendError::Disconnected),
            Tried::WouldWait => return false,
        }
        true
    }

    fn is_ready(&self) -> bool {
        !self.spent.get() && self.sender.channel().can_send()
    }

    fn queue<'s>(&'s self, wait: &Several<'s>, aim: Aim) -> bool {
        self.spent.get() || self.sender.channel().queue_to_send(&self.place, wait, aim)
    }

    fn leave(&self, wait: &Several<'_>, aim: Aim) {
        self.sender.channel().leave_senders(&self.place, wait, aim);
    }

    fn was_served(&self) -> bool {
        let gone = self.place.with(|place| place.is_none());
        gone && !self.spent.replace(true)
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn cut(&self, interrupt: Interrupt) {
        self.failed.set(match interrupt {
            Interrupt::Cancelled => SendError::Cancelled,
            Interrupt::Elapsed => SendError::Elapsed,
        });
    }

    fn reset(&self) {}

    fn is_spent(&self) -> bool {
        self.spent.get()
    }

    fn half(&self) -> *const () {
        std::ptr::from_ref(self.sender).cast()
    }
}

impl<T> Drop for Deliver<'_, T> {
    fn drop(&mut self) {
        if let Some(lender) = &mut self.lender
            && !self.spent.get()
        {
            **lender = self.place.payload().take();
        }
    }
}

impl<T> fmt::Debug for Deliver<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deliver { .. }")
    }
}
