//! What a select may do: one receive or one send, tried, queued, and taken back.

use std::{cell::Cell, fmt, time::Instant};

use super::{
    Receiver, RecvError, SendError, Sender,
    queue::{Aim, Place, Tried},
    receiver::Flavour,
};
use crate::{error::Interrupt, scheduler::now, waiter::Waiter};

/// One of a select's operations, as far as the select must know it.
///
/// It is *decided* once it has been done or can only fail; its result then waits to be taken.
pub(super) trait Operation {
    /// Does it, if that needs no waiting; whether it is decided.
    fn try_now(&self) -> bool;

    /// Whether it could be done, or fail, without waiting.
    fn is_ready(&self) -> bool;

    /// Queues the waiter, whose claim is armed; false, and not queued, if it could be done now.
    ///
    /// # Safety
    /// The operation stays in place until [`leave`](Self::leave) has been called, which is before the
    /// waiter arms its claim again.
    unsafe fn queue(&self, waiter: &Waiter, aim: Aim) -> bool;

    /// Takes the waiter out of the queue for that aim; called by the waiter, out of its wait.
    fn leave(&self, aim: Aim);

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
    place: Place<T>,
    failed: Cell<Option<RecvError>>,
}

impl<'a, T> Receive<'a, T> {
    /// A receive, not yet tried.
    pub fn new(receiver: &'a Receiver<T>) -> Self {
        Self {
            receiver,
            place: Place::new(None),
            failed: Cell::new(None),
        }
    }

    /// What came of it, once it is decided.
    pub(super) fn take(&self) -> Result<T, RecvError> {
        // SAFETY: called by the owner, out of its wait; the borrow ends here.
        let message = unsafe { self.place.held() }.take();
        message.ok_or_else(|| self.failed.take().unwrap_or(RecvError::Disconnected))
    }
}

impl<T> Operation for Receive<'_, T> {
    fn try_now(&self) -> bool {
        // SAFETY: called by the owner, out of its wait; the borrow ends with the statement, whose callee knows
        // nobody who knows of this place.
        match self.receiver.try_recv_into(unsafe { self.place.held() }) {
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

    unsafe fn queue(&self, waiter: &Waiter, aim: Aim) -> bool {
        match self.receiver.flavour() {
            // SAFETY: the caller's promise; `leave` takes it out.
            Flavour::Queue(channel) => unsafe { channel.queue_to_recv(&self.place, waiter, aim) },
            Flavour::Timer(_) | Flavour::Never => true,
        }
    }

    fn leave(&self, aim: Aim) {
        if let Flavour::Queue(channel) = self.receiver.flavour() {
            // SAFETY: the place is used by `queue` alone.
            unsafe { channel.leave_receivers(&self.place, aim) };
        }
    }

    fn was_served(&self) -> bool {
        // SAFETY: called by the owner, out of its wait; the borrow ends here.
        unsafe { self.place.held() }.is_some()
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
    place: Place<T>,
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
            place: Place::new(Some(message)),
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
            place: Place::new(message),
            failed: Cell::new(SendError::Disconnected),
            lender: Some(lender),
        }
    }

    /// What came of it, once it is decided.
    pub(super) fn take(&self) -> Result<(), SendError<T>> {
        self.spent.set(true);
        // SAFETY: called by the owner, out of its wait; the borrow ends here.
        match unsafe { self.place.held() }.take() {
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
        // SAFETY: called by the owner, out of its wait; the borrow ends with the function, which calls
        // nobody who knows of this place.
        let message = unsafe { self.place.held() };
        match self.sender.channel().try_send(message) {
            Tried::Done => self.spent.set(true),
            Tried::Disconnected => self.failed.set(SendError::Disconnected),
            Tried::WouldWait => return false,
        }
        true
    }

    fn is_ready(&self) -> bool {
        !self.spent.get() && self.sender.channel().can_send()
    }

    unsafe fn queue(&self, waiter: &Waiter, aim: Aim) -> bool {
        if self.spent.get() {
            return true;
        }
        // SAFETY: the caller's promise; `leave` takes it out.
        unsafe {
            self.sender
                .channel()
                .queue_to_send(&self.place, waiter, aim)
        }
    }

    fn leave(&self, aim: Aim) {
        // SAFETY: the place is used by `queue` alone.
        unsafe { self.sender.channel().leave_senders(&self.place, aim) };
    }

    fn was_served(&self) -> bool {
        // SAFETY: called by the owner, out of its wait; the borrow ends here.
        let gone = unsafe { self.place.held() }.is_none();
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
            // SAFETY: no wait is going on any more; the borrow ends here.
            **lender = unsafe { self.place.held() }.take();
        }
    }
}

impl<T> fmt::Debug for Deliver<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deliver { .. }")
    }
}
