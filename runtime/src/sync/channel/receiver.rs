//! The receiving half of a channel, and its iterators.

use std::{
    fmt,
    iter::FusedIterator,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::failed::Failed,
    error::{RecvError, RecvTimeoutError, TryRecvError},
    queue::{Channel, Exchange, Tried, message_of},
    timer::{Timer, recv_never},
};
use crate::{scheduler::now, wait};

/// The receiving half of a channel; clones receive from the same channel, each message goes to one.
pub struct Receiver<T> {
    flavour: Flavour<T>,
}

/// Where a receiver's messages come from.
pub(super) enum Flavour<T> {
    Queue(Arc<Channel<T>>),
    Timer(Arc<Timer<T>>),
    Never,
}

impl<T> Receiver<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        Self::of(Flavour::Queue(channel))
    }

    pub(super) fn on_time(timer: Timer<T>) -> Self {
        Self::of(Flavour::Timer(Arc::new(timer)))
    }

    pub(super) fn of(flavour: Flavour<T>) -> Self {
        Self { flavour }
    }

    pub(super) fn flavour(&self) -> &Flavour<T> {
        &self.flavour
    }

    #[inline]
    fn recv_up_to(
        &self,
        exchange: &mut Exchange<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        let message = match &self.flavour {
            Flavour::Queue(channel) => return channel.recv(exchange, deadline),
            Flavour::Timer(timer) => timer.recv(deadline),
            Flavour::Never => recv_never(deadline),
        }?;
        *exchange.payload() = Some(message);
        Ok(())
    }

    /// Receives a message, waiting for one.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone, the scope is cancelled or its deadline passed.
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut exchange = Exchange::new(None);
        self.recv_up_to(&mut exchange, None)?;
        Ok(message_of(exchange))
    }

    /// Receives without waiting.
    ///
    /// # Errors
    /// If the channel is empty, and whether that can change.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut message = None;
        let tried = self.try_recv_into(&mut message);
        wait::spend();
        match (message, tried) {
            (Some(message), _) => Ok(message),
            (None, Tried::Disconnected) => Err(TryRecvError::Disconnected),
            (None, _) => Err(TryRecvError::Empty),
        }
    }

    pub(super) fn try_recv_into(&self, message: &mut Option<T>) -> Tried {
        let due = match &self.flavour {
            Flavour::Queue(channel) => return channel.try_recv(message),
            Flavour::Timer(timer) => timer.take(now()),
            Flavour::Never => None,
        };
        match due {
            Some(due) => *message = Some(due),
            None => return Tried::WouldWait,
        }
        Tried::Done
    }

    /// Receives a message like [`Receiver::recv`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If no message came in time, none can come any more or the scope is cancelled.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(now().checked_add(timeout))
    }

    /// Receives a message like [`Receiver::recv`], waiting until `deadline`.
    ///
    /// # Errors
    /// If no message came in time, none can come any more or the scope is cancelled.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let mut exchange = Exchange::new(None);
        self.recv_up_to(&mut exchange, deadline)?;
        Ok(message_of(exchange))
    }

    /// Receives until the channel is disconnected and drained, or the wait is cut short.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Receives what is there, without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Messages that wait in the channel.
    pub fn len(&self) -> usize {
        match &self.flavour {
            Flavour::Queue(channel) => channel.len(),
            Flavour::Timer(timer) => timer.is_due(now()).into(),
            Flavour::Never => 0,
        }
    }

    /// Whether no message waits in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a send would have to wait for room, or for its receiver where there is no room at all.
    pub fn is_full(&self) -> bool {
        match &self.flavour {
            Flavour::Queue(channel) => channel.is_full(),
            Flavour::Timer(_) => !self.is_empty(),
            Flavour::Never => true,
        }
    }

    /// Whether both are halves of one channel. Two of [`never`](super::never) are.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        match (&self.flavour, &other.flavour) {
            (Flavour::Queue(one), Flavour::Queue(other)) => Arc::ptr_eq(one, other),
            (Flavour::Timer(one), Flavour::Timer(other)) => Arc::ptr_eq(one, other),
            (Flavour::Never, Flavour::Never) => true,
            _ => false,
        }
    }

    /// How many messages it holds at most, or `None` without a limit.
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavour {
            Flavour::Queue(channel) => channel.capacity(),
            Flavour::Timer(_) => Some(1),
            Flavour::Never => Some(0),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let flavour = match &self.flavour {
            Flavour::Queue(channel) => {
                channel.add_receiver();
                Flavour::Queue(channel.clone())
            }
            Flavour::Timer(timer) => Flavour::Timer(timer.clone()),
            Flavour::Never => Flavour::Never,
        };
        Self { flavour }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Flavour::Queue(channel) = &self.flavour {
            channel.remove_receiver();
        }
    }
}

// As for senders.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}

/// Made by [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

/// Made by [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// An iterator that owns its receiver.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
