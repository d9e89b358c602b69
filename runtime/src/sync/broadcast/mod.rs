//! Broadcast channels: each message to every receiver that is there when it is sent, in one order for all.
//!
//! A bounded ring holds what some receiver has not read. What happens when it is full is chosen once for
//! the channel, as a [`Lag`]: the slowest receiver decides over the senders' pace, or misses messages, or
//! is disconnected.

mod error;
#[allow(unsafe_code)]
mod message;
mod ring;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub use super::channel::{SendError, SendTimeoutError, TrySendError};
use super::failed::Failed;
use crate::{
    scheduler::now,
    sys::fenced,
    wait::{self, Interruptible, Node, Reason, Waited, Waiters, ready},
};
pub use error::{RecvError, RecvTimeoutError, TryRecvError};
use message::Shares;
use ring::{Chore, Locked, RECEIVING, Refused, Ring, SENDING, Waiting};

/// What happens when a message is sent while some receiver has not read any of the last `capacity`.
///
/// A receiver that waits and is woken has its turn first: until all have had theirs a full channel has senders wait,
/// whatever its lag, but for those that only try. So nobody misses a message, or is disconnected, for want of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lag {
    /// The sender waits for the slowest receiver.
    Block,
    /// The oldest message is dropped; who has not read it is told by [`RecvError::Lagged`].
    DropOldest,
    /// A receiver that has not read the oldest message is disconnected, told by [`RecvError::Expelled`].
    Disconnect,
}

/// A channel whose slowest receiver may be at most `capacity` messages behind.
///
/// # Panics
/// If `capacity` is zero.
///
/// # Examples
/// ```
/// use maniple::sync::broadcast::{self, Lag};
/// let (sender, mut first) = broadcast::channel(2, Lag::Block);
/// let mut second = sender.subscribe();
/// maniple::join!(
///     {
///         (0..5).for_each(|n| sender.send(n).unwrap());
///         drop(sender);
///     },
///     assert_eq!(std::iter::from_fn(|| first.recv().ok()).sum::<i32>(), 10),
///     assert_eq!(std::iter::from_fn(|| second.recv().ok()).sum::<i32>(), 10)
/// );
/// ```
///
/// With [`Lag::DropOldest`]:
/// ```
/// use maniple::sync::broadcast::{self, Lag, RecvError};
/// let (sender, mut receiver) = broadcast::channel(2, Lag::DropOldest);
/// (0..5).for_each(|n| sender.send(n).unwrap());
/// assert_eq!(receiver.recv(), Err(RecvError::Lagged(3)));
/// assert_eq!((receiver.recv(), receiver.recv()), (Ok(3), Ok(4)));
/// ```
pub fn channel<T>(capacity: usize, lag: Lag) -> (Sender<T>, Receiver<T>) {
    assert!(
        capacity > 0,
        "a broadcast channel holds one message at least"
    );
    let shared = Arc::new(Shared {
        ring: Waiters::new(Ring::new(capacity, lag)),
    });
    let receiver = shared.subscribe();
    (Sender { shared }, receiver)
}

struct Shared<T> {
    ring: Waiters<Ring<T>, Waiting<T>, 2>,
}

impl<T> Shared<T> {
    fn subscribe(self: &Arc<Self>) -> Receiver<T> {
        let mut ring = self.ring.lock();
        ring.receivers += 1;
        let next = ring.end();
        drop(ring);
        Receiver {
            shared: self.clone(),
            next,
        }
    }

    /// Does what is due after a change of the ring, beginning with `chore`.
    #[inline]
    fn tidy(&self, chore: Option<(Chore<T>, bool)>) {
        if chore.is_some() {
            self.do_all(chore);
        }
    }

    #[inline(never)]
    fn do_all(&self, mut chore: Option<(Chore<T>, bool)>) {
        // Dropped last: a message's destructor is the user's and may panic.
        let mut gone = Vec::new();
        while let Some((due, more)) = chore {
            match due {
                Chore::Drop(message) => gone.push(message),
                Chore::Wake(claimed, message) => {
                    gone.extend(message);
                    ready(claimed);
                }
                Chore::WakeAll(all) => all.ready(),
            }
            chore = match more {
                true => self.ring.lock().chore(),
                false => None,
            };
        }
        fenced::drop_all(gone);
    }

    fn try_send(&self, message: &mut Option<Shares<T>>) -> Result<(), Refused> {
        let mut ring = self.ring.lock();
        let (sent, gone) = ring.try_send(message, false);
        self.leave(ring);
        drop(gone);
        sent
    }

    /// On failure the message comes back with the cause.
    #[inline]
    fn send(&self, message: T, deadline: Option<Instant>) -> Result<(), (T, Failed)> {
        if let Err(interrupt) = wait::check() {
            return Err((message, interrupt.into()));
        }
        let mut message = Some(Shares::new(message));
        let mut ring = self.ring.lock();
        let (tried, gone) = ring.try_send(&mut message, true);
        let sent = match tried {
            Err(Refused::Full) => self.wait_to_send(ring, &mut message, deadline),
            Ok(()) | Err(Refused::Disconnected) => {
                self.leave(ring);
                drop(gone);
                wait::spend();
                tried.map_err(|_| Failed::Disconnected)
            }
        };
        match (sent, message.and_then(whole)) {
            (Err(failed), Some(message)) => Err((message, failed)),
            _ => Ok(()),
        }
    }

    /// Nothing has gone for the message, which is not in the ring.
    fn wait_to_send<'a>(
        &'a self,
        mut ring: Locked<'a, T>,
        message: &mut Option<Shares<T>>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        let mut node = Node::new(None);
        loop {
            *node.payload() = message.take();
            let waited = ring.wait(
                SENDING,
                &mut node,
                Reason::ChannelSend,
                deadline,
                Interruptible::Yes,
                |_, _| {},
            );
            *message = node.payload().take();
            if message.is_none() {
                return Ok(());
            }
            // Others may have waited only because this one did.
            self.leave(self.ring.lock());
            match waited {
                // Notified without an exchange: nobody is there to receive it.
                Waited::AtOnce | Waited::Notified => return Err(Failed::Disconnected),
                Waited::TimedOut => return Err(Failed::Timeout),
                Waited::Interrupted(interrupt) => return Err(interrupt.into()),
                Waited::Again => {}
            }
            ring = self.ring.lock();
            let (tried, gone) = ring.try_send(message, true);
            if tried != Err(Refused::Full) {
                self.leave(ring);
                drop(gone);
                return tried.map_err(|_| Failed::Disconnected);
            }
        }
    }

    fn try_recv(&self, next: &mut u64) -> Result<Shares<T>, TryRecvError> {
        let mut ring = self.ring.lock();
        let received = ring.try_recv(next);
        self.leave(ring);
        received
    }

    #[inline]
    fn recv(&self, next: &mut u64, deadline: Option<Instant>) -> Result<Shares<T>, RecvError> {
        wait::check()?;
        let mut ring = self.ring.lock();
        match ring.try_recv(next) {
            Err(TryRecvError::Empty) => self.wait_to_recv(ring, next, deadline),
            received => {
                self.leave(ring);
                wait::spend();
                received.map_err(RecvError::from)
            }
        }
    }

    fn wait_to_recv<'a>(
        &'a self,
        mut ring: Locked<'a, T>,
        next: &mut u64,
        deadline: Option<Instant>,
    ) -> Result<Shares<T>, RecvError> {
        loop {
            let mut node = Node::new(None);
            let waited = ring.wait(
                RECEIVING,
                &mut node,
                Reason::ChannelRecv,
                deadline,
                Interruptible::Yes,
                |_, _| {},
            );
            match waited {
                // A message that came meanwhile stays in the ring, for this receiver too.
                Waited::TimedOut => return Err(RecvError::Elapsed),
                Waited::Interrupted(interrupt) => return Err(interrupt.into()),
                Waited::AtOnce | Waited::Notified | Waited::Again => {}
            }
            ring = self.ring.lock();
            if waited == Waited::Notified {
                ring.has_its_turn();
            }
            let received = ring.try_recv(next);
            if !matches!(received, Err(TryRecvError::Empty)) {
                self.leave(ring);
                return received.map_err(RecvError::from);
            }
        }
    }

    /// Unlocks the ring and does what its changes made due.
    #[inline]
    fn leave(&self, mut ring: Locked<'_, T>) {
        let chore = ring.chore();
        drop(ring);
        self.tidy(chore);
    }
}

/// A message that was not sent, so nobody else has a share in it.
fn whole<T>(message: Shares<T>) -> Option<T> {
    message.try_into_message().ok()
}

/// The sending half of a broadcast channel; clones send to the same receivers.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends a message to all receivers, waiting for room if the channel's [`Lag`] is `Block`, and else for
    /// receivers that have been woken and not had their turn.
    ///
    /// A receiver on a stack that a shutdown has given up has no turn any more, and is not dropped either: a sender of
    /// another runtime that may outlive it should send with a timeout.
    ///
    /// # Errors
    /// The message, if there is no receiver, the scope is cancelled or its deadline passed first.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.shared
            .send(message, None)
            .map_err(|(message, failed)| failed.of(message))
    }

    /// Sends without waiting, also for receivers that have had no turn since they were woken.
    ///
    /// # Errors
    /// The message, if there is no receiver, or no room and the channel's [`Lag`] is `Block`.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut message = Some(Shares::new(message));
        let tried = self.shared.try_send(&mut message);
        wait::spend();
        match (tried, message.and_then(whole)) {
            (Err(Refused::Full), Some(message)) => Err(TrySendError::Full(message)),
            (Err(Refused::Disconnected), Some(message)) => Err(TrySendError::Disconnected(message)),
            _ => Ok(()),
        }
    }

    /// Sends a message like [`Sender::send`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// The message, if there was no room in time, there is no receiver or the scope is cancelled.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, now().checked_add(timeout))
    }

    /// Sends a message like [`Sender::send`], waiting until `deadline`.
    ///
    /// # Errors
    /// Fails as [`Sender::send_timeout`] does.
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, Some(deadline))
    }

    fn send_until(&self, message: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        self.shared
            .send(message, deadline)
            .map_err(|(message, failed)| failed.in_time_of(message))
    }

    /// A receiver of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.subscribe()
    }

    /// How many receivers there are; one that was disconnected for its lag is none.
    pub fn receiver_count(&self) -> usize {
        self.shared.ring.lock().receivers
    }

    /// How many messages the slowest receiver may be behind.
    pub fn capacity(&self) -> usize {
        self.shared.ring.lock().capacity
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.ring.lock().senders += 1;
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let chore = self.shared.ring.lock().sender_leaves();
        self.shared.tidy(chore);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}

/// A receiving half of a broadcast channel: gets every message sent since it was made.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The number of the message that it reads next.
    next: u64,
}

impl<T: Clone> Receiver<T> {
    /// Receives the next message, waiting for one. The last receiver of a message gets the original, all
    /// others a clone.
    ///
    /// # Errors
    /// If messages were missed, the receiver was disconnected for its lag, all has been received and all
    /// senders are gone, the scope is cancelled or its deadline passed.
    pub fn recv(&mut self) -> Result<T, RecvError> {
        let message = self.shared.recv(&mut self.next, None)?;
        Ok(message.into_message())
    }

    /// Receives without waiting.
    ///
    /// # Errors
    /// If messages were missed, the receiver was disconnected for its lag, all has been received and all senders are
    /// gone, the scope is cancelled or its deadline passed; or if there is no message.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let tried = self.shared.try_recv(&mut self.next);
        wait::spend();
        Ok(tried?.into_message())
    }

    /// Receives a message like [`Receiver::recv`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If messages were missed, the receiver was disconnected for its lag, all has been received and all senders are
    /// gone, the scope is cancelled or its deadline passed; or if no message came in time.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let deadline = now().checked_add(timeout);
        let message = self.shared.recv(&mut self.next, deadline)?;
        Ok(message.into_message())
    }

    /// Receives a message like [`Receiver::recv`], waiting until `deadline`.
    ///
    /// # Errors
    /// Fails as [`Receiver::recv_timeout`] does.
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        let message = self.shared.recv(&mut self.next, Some(deadline))?;
        Ok(message.into_message())
    }
}

impl<T> Receiver<T> {
    /// Another receiver of what is sent from now on, whatever this one has still to read.
    pub fn resubscribe(&self) -> Receiver<T> {
        self.shared.subscribe()
    }

    /// Messages that this receiver could read at once.
    pub fn len(&self) -> usize {
        self.shared.ring.lock().ahead_of(self.next)
    }

    /// Whether there is no message to be read at once.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let chore = self.shared.ring.lock().receiver_leaves(self.next);
        self.shared.tidy(chore);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}

#[cfg(all(test, loom))]
mod loom_models;
