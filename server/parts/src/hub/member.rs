//! A member of a topic: its place in the topic's messages, and what it missed.

use std::{
    fmt,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use maniple::{
    sim,
    sync::broadcast::{self, RecvTimeoutError, TryRecvError},
};

use super::shared::Shared;

/// A member of a topic; receives what is published since it subscribed. Dropping it leaves the topic.
///
/// # Examples
/// ```
/// use maniple_parts::hub::{Hub, Lag, RecvError};
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let hub = Hub::builder("news").queue(1).build()?;
/// let mut member = hub.subscribe("weather", Lag::Disconnect)?;
/// hub.publish("weather", "sun")?;
/// assert_eq!(member.recv()?.message, "sun");
/// hub.publish("weather", "rain")?;
/// hub.publish("weather", "hail")?;
/// assert!(matches!(member.recv(), Err(RecvError::Disconnected { .. })));
/// # Ok(())
/// # }
/// ```
pub struct Member<M> {
    /// Dropped before the look whether anybody is left.
    receiver: broadcast::Receiver<M>,
    place: Place<M>,
    /// Missed, and not reported yet.
    dropped: u64,
    /// Has been told that it was disconnected.
    told: bool,
}

/// What a member leaves when it is dropped, also if dropping what it had not read panics.
struct Place<M> {
    topic: Arc<str>,
    shared: Weak<Shared<M>>,
}

/// A message, and what went missing before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received<M> {
    /// Messages dropped since the member's last one; 0 unless its lag is
    /// [`DropOldest`](super::Lag::DropOldest).
    pub dropped: u64,
    /// The message.
    pub message: M,
}

impl<M> Received<M> {
    /// The same with another message.
    pub fn map<N>(self, f: impl FnOnce(M) -> N) -> Received<N> {
        Received {
            dropped: self.dropped,
            message: f(self.message),
        }
    }

    /// The same, and so many more dropped before it.
    pub fn after(self, dropped: u64) -> Self {
        Self {
            dropped: self.dropped.saturating_add(dropped),
            ..self
        }
    }
}

/// Why a member has no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The member fell behind and its lag is [`Disconnect`](super::Lag::Disconnect).
    #[error("disconnected from `{topic}` for falling behind")]
    Disconnected {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// Messages may be missing before the next one, and nobody knows how many: a broker was lost, and is there again. What is
    /// published from here on comes. Only of hubs that processes share.
    #[error("messages of `{topic}` may be missing: the broker was lost meanwhile")]
    Gap {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The hub is closed and all has been received.
    #[error("the hub of `{topic}` is closed")]
    Closed {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The member was cancelled while it waited.
    #[error("receiving from `{topic}` was cancelled")]
    Cancelled {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The deadline passed, or the time limit of the call.
    #[error("no message from `{topic}` in time")]
    Elapsed {
        /// The topic's name.
        topic: Arc<str>,
    },
}

impl<M> Member<M> {
    pub(super) fn new(
        topic: Arc<str>,
        receiver: broadcast::Receiver<M>,
        shared: Weak<Shared<M>>,
    ) -> Self {
        Self {
            receiver,
            place: Place { topic, shared },
            dropped: 0,
            told: false,
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.place.topic
    }

    /// Messages that could be received at once.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether no message could be received at once.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M: Clone> Member<M> {
    /// Receives the next message, waiting for one, in a coroutine or a plain thread.
    ///
    /// # Errors
    /// If the member was disconnected for its lag, the hub is closed and all has been received, the scope is
    /// cancelled or its deadline passed. After the latter two nothing is lost: call it again.
    pub fn recv(&mut self) -> Result<Received<M>, RecvError> {
        self.recv_by(|receiver| receiver.recv().map_err(RecvTimeoutError::from))
    }

    /// Receives the next message like [`Member::recv`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If the member was disconnected for its lag, the hub is closed and all has been received, the scope is
    /// cancelled or its deadline passed. After the latter two nothing is lost: call it again; [`RecvError::Elapsed`]
    /// if no message came in time.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Received<M>, RecvError> {
        self.recv_by(|receiver| receiver.recv_timeout(timeout))
    }

    /// Receives without waiting; `None` if there is no message.
    ///
    /// # Errors
    /// Fails as [`Member::recv`] does, but for cancellation and deadlines, which it does not look at.
    pub fn try_recv(&mut self) -> Result<Option<Received<M>>, RecvError> {
        let received = self.recv_by(|receiver| {
            receiver.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Lagged(missed) => RecvTimeoutError::Lagged(missed),
                TryRecvError::Expelled => RecvTimeoutError::Expelled,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        });
        match received {
            Err(RecvError::Elapsed { .. }) => Ok(None),
            received => received.map(Some),
        }
    }

    fn recv_by(
        &mut self,
        mut recv: impl FnMut(&mut broadcast::Receiver<M>) -> Result<M, RecvTimeoutError>,
    ) -> Result<Received<M>, RecvError> {
        let topic = || self.place.topic.clone();
        loop {
            match recv(&mut self.receiver) {
                Ok(message) => {
                    let dropped = std::mem::take(&mut self.dropped);
                    return Ok(Received { dropped, message });
                }
                // What is left has to be fetched: by then more may have been dropped.
                Err(RecvTimeoutError::Lagged(missed)) => {
                    sim::dawdle();
                    self.dropped += missed;
                    if let Some(shared) = self.place.shared.upgrade() {
                        shared.dropped.fetch_add(missed, Relaxed);
                    }
                }
                Err(RecvTimeoutError::Expelled) => {
                    let is_news = !std::mem::replace(&mut self.told, true);
                    if let Some(shared) = self.place.shared.upgrade().filter(|_| is_news) {
                        shared.disconnected.fetch_add(1, Relaxed);
                    }
                    return Err(RecvError::Disconnected { topic: topic() });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RecvError::Closed { topic: topic() });
                }
                Err(RecvTimeoutError::Cancelled) => {
                    return Err(RecvError::Cancelled { topic: topic() });
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(RecvError::Elapsed { topic: topic() });
                }
            }
        }
    }
}

impl<M> Drop for Place<M> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.forget_if_empty(&self.topic);
        }
    }
}

impl<M> fmt::Debug for Member<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("topic", &self.topic())
            .field("waiting", &self.len())
            .finish()
    }
}
