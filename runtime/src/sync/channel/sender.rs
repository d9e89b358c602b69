//! The sending half of a channel.

use std::{
    fmt,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::{SendError, SendTimeoutError, TrySendError},
    queue::{Channel, Exchange, Tried, message_of},
};
use crate::{scheduler::now, wait};

/// The sending half of a channel; clones send to the same channel.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        Self { channel }
    }

    pub(super) fn channel(&self) -> &Channel<T> {
        &self.channel
    }

    /// Sends a message, waiting for room in a bounded channel.
    ///
    /// # Errors
    /// The message, if all receivers are gone, the scope is cancelled or its deadline passed first.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut exchange = Exchange::new(Some(message));
        self.channel
            .send(&mut exchange, None)
            .map_err(|failed| failed.of(message_of(exchange)))
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// The message, if the channel is full or all receivers are gone.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut message = Some(message);
        let tried = self.channel.try_send(&mut message);
        wait::spend();
        match (tried, message) {
            (Tried::WouldWait, Some(message)) => Err(TrySendError::Full(message)),
            (Tried::Disconnected, Some(message)) => Err(TrySendError::Disconnected(message)),
            _ => Ok(()),
        }
    }

    /// Sends a message like [`Sender::send`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// The message, if there was no room in time, all receivers are gone or the scope is cancelled.
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
        let mut exchange = Exchange::new(Some(message));
        self.channel
            .send(&mut exchange, deadline)
            .map_err(|failed| failed.in_time_of(message_of(exchange)))
    }

    /// Whether all receivers are gone.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.channel.is_disconnected()
    }

    /// Messages that wait in the channel.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether no message waits in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a send would have to wait for room, or for its receiver where there is no room at all.
    pub fn is_full(&self) -> bool {
        self.channel.is_full()
    }

    /// Whether both are halves of one channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }

    /// How many messages it holds at most, or `None` without a limit.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.capacity()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.add_sender();
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.remove_sender();
    }
}

// Nothing of a message can be seen through a half, and a send or receive is whole or has not happened.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}
