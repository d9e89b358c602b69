//! A hub: topics, members who subscribe to them, and what becomes of members that fall behind.
//!
//! A topic is up to three [broadcast channels](maniple::sync::broadcast), one for each [`Lag`] that a member
//! has chosen. A message is stored once for each of them, however many members there are. Publishers to one
//! topic take turns, so all its members get its messages in one order; topics know nothing of each other.
//!
//! ```text
//!   publish ──► turn ──► ring of those waited for ──► member, member …     the only step that waits for members
//!                  └───► ring that drops its oldest ──► member …
//!                  └───► ring that disconnects laggards ──► member …
//! ```
//!
//! Members who are waited for come first: if the publisher is cut short while it waits, nobody has got the
//! message.

mod builder;
mod error;
mod lag;
mod member;
mod shared;
mod topic;
mod topics;

use std::{
    fmt,
    panic::resume_unwind,
    sync::{Arc, atomic::Ordering::Relaxed},
};

pub use builder::Builder;
pub use error::{MAX_TOPIC_NAME, PublishError, SubscribeError};
pub use lag::Lag;
pub use member::{Member, Received, RecvError};
use shared::Shared;
use topic::{Cut, Topic};
pub use topics::{Listen, Topics};

/// Topics by name and their members. Clones are the same hub.
///
/// A topic begins with its first member and is forgotten with its last. When the last clone is dropped the
/// hub is closed.
///
/// # Examples
/// ```
/// use maniple_parts::hub::{Hub, Lag};
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let hub = Hub::builder("news").queue(2).build()?;
/// let mut steady = hub.subscribe("weather", Lag::DropOldest)?;
/// assert_eq!(hub.publish("sports", "unheard")?, 0);
/// for message in ["sun", "rain", "hail"] {
///     assert_eq!(hub.publish("weather", message)?, 1);
/// }
/// let received = steady.recv()?;
/// assert_eq!((received.dropped, received.message), (1, "rain"));
/// drop(steady);
/// assert_eq!(hub.stats().topics, 0);
/// # Ok(())
/// # }
/// ```
pub struct Hub<M> {
    owner: Arc<Owner<M>>,
}

/// Closes the hub with the last handle.
struct Owner<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Drop for Owner<M> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<M> Hub<M> {
    /// Makes the caller a member of a topic, which receives what is published from now on; what is on its way, while
    /// its publisher waits, it may or may not receive.
    ///
    /// # Errors
    /// If a limit is reached or the hub is closed.
    pub fn subscribe(&self, topic: &str, lag: Lag) -> Result<Member<M>, SubscribeError> {
        let shared = &self.owner.shared;
        let hub = || shared.name.clone();
        if topic.len() > MAX_TOPIC_NAME {
            return Err(SubscribeError::NameTooLong { hub: hub() });
        }
        let mut topics = shared.topics.lock();
        let Some(topics) = topics.as_mut() else {
            return Err(SubscribeError::Closed { hub: hub() });
        };
        let (name, found) = match topics.get_key_value(topic) {
            Some((name, found)) => (name.clone(), found.clone()),
            None if topics.len() >= shared.limits.topics => {
                let limit = shared.limits.topics;
                return Err(SubscribeError::TooManyTopics { hub: hub(), limit });
            }
            None => {
                let (name, made) = (Arc::from(topic), Arc::new(Topic::new()));
                topics.insert(Arc::clone(&name), Arc::clone(&made));
                (name, made)
            }
        };
        if found.members() >= shared.limits.members {
            return Err(SubscribeError::TooManyMembers {
                hub: hub(),
                topic: name,
                limit: shared.limits.members,
            });
        }
        let receiver = found.subscribe(lag, shared.limits.queue);
        Ok(Member::new(name, receiver, Arc::downgrade(shared)))
    }

    /// Members of a topic now; those disconnected for their lag are none.
    pub fn members(&self, topic: &str) -> usize {
        let topics = self.owner.shared.topics.lock();
        let found = topics.as_ref().and_then(|topics| topics.get(topic));
        found.map_or(0, |topic| topic.members())
    }

    /// The hub's numbers.
    pub fn stats(&self) -> Stats {
        let shared = &self.owner.shared;
        let topics = shared.topics.lock();
        let topics = topics.iter().flatten();
        let members = topics.map(|(_, topic)| topic.members());
        let (topics, members) = members.fold((0, 0), |(n, sum), members| (n + 1, sum + members));
        Stats {
            topics,
            members,
            published: shared.published.load(Relaxed),
            dropped: shared.dropped.load(Relaxed),
            disconnected: shared.disconnected.load(Relaxed),
        }
    }

    /// Closes the hub: nothing can be published or subscribed to any more. Members receive what they had not
    /// read and then [`RecvError::Closed`]; a publisher that waits for one goes on waiting.
    pub fn close(&self) {
        self.owner.shared.close();
    }

    /// The hub's name.
    pub fn name(&self) -> &str {
        &self.owner.shared.name
    }
}

impl<M: Clone> Hub<M> {
    /// Publishes a message to a topic and returns how many members it went to; 0 if nobody listens. A member that joins
    /// or leaves at the same moment may be counted or not.
    ///
    /// Each member but the last to read it gets a clone, so make that cheap: an `Arc<str>` rather than a `String`.
    ///
    /// It waits for its turn among the topic's publishers, and for members with [`Lag::Wait`] that are behind. A
    /// coroutine that has such a member of the same topic may wait for itself: give it a deadline. Members of another
    /// lag are judged only once those that wait to receive have had a turn, for which it waits a second at most.
    ///
    /// # Errors
    /// If the hub is closed; if the scope is cancelled or its deadline passes in such a wait, and then no
    /// member has got the message.
    ///
    /// # Panics
    /// If cloning the message does, and then no member has got it; or if dropping an older one does that a member
    /// missed, and then all have got the new one.
    pub fn publish(&self, topic: &str, message: M) -> Result<usize, PublishError> {
        let shared = &self.owner.shared;
        let (name, found) = {
            let topics = shared.topics.lock();
            let Some(topics) = topics.as_ref() else {
                let hub = shared.name.clone();
                return Err(PublishError::Closed { hub });
            };
            let Some((name, found)) = topics.get_key_value(topic) else {
                return Ok(0);
            };
            (name.clone(), found.clone())
        };
        let (reached, dropped) = found.publish(message).map_err(|cut| {
            let (hub, topic) = (shared.name.clone(), name.clone());
            match cut {
                Cut::Cancelled => PublishError::Cancelled { hub, topic },
                Cut::Elapsed => PublishError::Elapsed { hub, topic },
            }
        })?;
        shared.published.fetch_add(1, Relaxed);
        if reached == 0 {
            // All that were there have been disconnected, and may never notice.
            shared.forget_if_empty(&name);
        }
        match dropped {
            Ok(()) => Ok(reached),
            Err(payload) => resume_unwind(payload),
        }
    }
}

impl<M> Clone for Hub<M> {
    fn clone(&self) -> Self {
        Self {
            owner: self.owner.clone(),
        }
    }
}

impl<M> fmt::Debug for Hub<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("name", &self.name())
            .field("stats", &self.stats())
            .finish()
    }
}

/// A hub's numbers; made by [`Hub::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Topics now: each has a member, or had one that was disconnected just now.
    pub topics: usize,
    /// Members of all topics now.
    pub members: usize,
    /// Messages published to topics.
    pub published: u64,
    /// Messages dropped for members, as far as these have been told.
    pub dropped: u64,
    /// Members disconnected for their lag, as far as these have been told.
    pub disconnected: u64,
}
