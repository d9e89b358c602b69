//! Topics and their members as code sees them that does not care who carries the messages.

use std::time::Duration;

use super::{Hub, Lag, Member, PublishError, Received, RecvError, SubscribeError};

/// Topics with members: a [`Hub`] within the process, or a broker's topics, which processes share (crate `maniple-topics`). Clones
/// are the same.
///
/// # Examples
/// ```
/// use maniple_parts::hub::{Hub, Lag, Listen, Topics};
///
/// fn shout(rooms: &impl Topics<String>, room: &str) -> Option<String> {
///     let mut member = rooms.subscribe(room, Lag::DropOldest).ok()?;
///     rooms.publish(room, "hey".to_owned()).ok()?;
///     Some(member.recv().ok()?.message)
/// }
/// let rooms = Hub::builder("rooms").build().unwrap();
/// assert_eq!(shout(&rooms, "garden").as_deref(), Some("hey"));
/// ```
pub trait Topics<M>: Clone + Send + Sync + 'static {
    /// Who is subscribed to a topic.
    type Member: Listen<M>;

    /// Makes the caller a member of a topic, which receives what is published from then on.
    ///
    /// # Errors
    /// If a limit is reached, the topics are closed, or a broker is not there or refuses.
    fn subscribe(&self, topic: &str, lag: Lag) -> Result<Self::Member, SubscribeError>;

    /// Publishes a message to a topic. Once it returns, the message is with the members, or with the broker that they have it from.
    ///
    /// # Errors
    /// If the topics are closed, the scope is cancelled or its deadline passes, or a broker is not there or refuses.
    fn publish(&self, topic: &str, message: M) -> Result<(), PublishError>;
}

/// A member of a topic: what [`Topics::subscribe`] makes. Dropping it leaves the topic.
pub trait Listen<M>: Send + 'static {
    /// Receives the next message, waiting for one.
    ///
    /// # Errors
    /// Fails as [`Member::recv`] does, and with [`RecvError::Gap`] where messages may be missing before the next one. After that, go on.
    fn recv(&mut self) -> Result<Received<M>, RecvError>;

    /// Receives the next message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// Fails as [`recv`](Self::recv) does, and with [`RecvError::Elapsed`] if no message came in time.
    fn recv_timeout(&mut self, timeout: Duration) -> Result<Received<M>, RecvError>;

    /// The topic's name.
    fn topic(&self) -> &str;
}

impl<M: Clone + Send + Sync + 'static> Topics<M> for Hub<M> {
    type Member = Member<M>;

    fn subscribe(&self, topic: &str, lag: Lag) -> Result<Member<M>, SubscribeError> {
        Hub::subscribe(self, topic, lag)
    }

    fn publish(&self, topic: &str, message: M) -> Result<(), PublishError> {
        Hub::publish(self, topic, message).map(drop)
    }
}

impl<M: Clone + Send + Sync + 'static> Listen<M> for Member<M> {
    fn recv(&mut self) -> Result<Received<M>, RecvError> {
        Member::recv(self)
    }

    fn recv_timeout(&mut self, timeout: Duration) -> Result<Received<M>, RecvError> {
        Member::recv_timeout(self, timeout)
    }

    fn topic(&self) -> &str {
        Member::topic(self)
    }
}
