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

mod member;
mod topic;

use std::{
    collections::HashMap,
    fmt, io,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use maniple::sync::Mutex;

pub use member::{Member, Received, RecvError};
use topic::{Cut, Topic};

/// What happens when a member is as many messages behind as the hub's queues hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// Publishers to its topic wait for it, each for as long as its own deadline allows.
    Wait,
    /// The oldest message is dropped; with its next message the member is told how many were.
    DropOldest,
    /// The member is disconnected: what it had not read is gone, and receiving says
    /// [`RecvError::Disconnected`].
    Disconnect,
}

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

type Topics<M> = HashMap<Arc<str>, Arc<Topic<M>>>;

struct Shared<M> {
    name: Arc<str>,
    limits: Limits,
    /// `None` once the hub is closed.
    topics: Mutex<Option<Topics<M>>>,
    published: AtomicU64,
    dropped: AtomicU64,
    disconnected: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    topics: usize,
    members: usize,
    queue: usize,
}

impl Hub<()> {
    /// Settings for a hub of that name, which stands in its errors.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            name: name.into(),
            limits: Limits {
                topics: 10_000,
                members: 10_000,
                queue: 64,
            },
        }
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

impl<M> Shared<M> {
    fn close(&self) {
        // Not dropped under the lock: messages go with it, whose destructors are the user's.
        let topics = self.topics.lock().take();
        drop(topics);
    }

    fn forget_if_empty(&self, name: &str) {
        let forgotten = {
            let mut topics = self.topics.lock();
            let Some(topics) = topics.as_mut() else {
                return;
            };
            match topics.get(name) {
                Some(topic) if topic.members() == 0 => topics.remove(name),
                _ => None,
            }
        };
        drop(forgotten);
    }
}

/// Bytes of a topic's name at most.
pub const MAX_TOPIC_NAME: usize = 256;

/// Settings of a hub; made by [`Hub::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    name: String,
    limits: Limits,
}

impl Builder {
    /// Topics at a time. Default: 10,000; at least 1.
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.limits.topics = topics;
        self
    }

    /// Members of a topic. Default: 10,000; at least 1.
    pub fn max_members(mut self, members: usize) -> Self {
        self.limits.members = members;
        self
    }

    /// Messages that a member may be behind before its [`Lag`] decides. Default: 64; at least 1.
    pub fn queue(mut self, messages: usize) -> Self {
        self.limits.queue = messages;
        self
    }

    /// Makes the hub, for messages of one type.
    ///
    /// # Errors
    /// If a setting is 0 (`InvalidInput`); the message names the hub.
    pub fn build<M>(self) -> io::Result<Hub<M>> {
        let Limits {
            topics,
            members,
            queue,
        } = self.limits;
        if [topics, members, queue].contains(&0) {
            let text = format!(
                "hub `{}`: max_topics, max_members and queue must be at least 1",
                self.name
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let shared = Shared {
            name: self.name.into(),
            limits: self.limits,
            topics: Mutex::new(Some(HashMap::new())),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            disconnected: AtomicU64::new(0),
        };
        Ok(Hub {
            owner: Arc::new(Owner {
                shared: Arc::new(shared),
            }),
        })
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

/// Why nobody was subscribed. Each case names the hub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A further topic would be one too many.
    #[error("hub `{hub}` has {limit} topics, its limit: raise max_topics")]
    TooManyTopics {
        /// The hub's name.
        hub: Arc<str>,
        /// Topics that it has at most.
        limit: usize,
    },
    /// A further member would be one too many.
    #[error("topic `{topic}` of hub `{hub}` has {limit} members, its limit: raise max_members")]
    TooManyMembers {
        /// The hub's name.
        hub: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// Members that it has at most.
        limit: usize,
    },
    /// The topic's name is longer than [`MAX_TOPIC_NAME`].
    #[error("a topic's name in hub `{hub}` has at most {MAX_TOPIC_NAME} bytes")]
    NameTooLong {
        /// The hub's name.
        hub: Arc<str>,
    },
    /// The hub is closed.
    #[error("hub `{hub}` is closed")]
    Closed {
        /// The hub's name.
        hub: Arc<str>,
    },
}

/// Why a message was not published; no member has got it. Each case names the hub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub is closed.
    #[error("hub `{hub}` is closed")]
    Closed {
        /// The hub's name.
        hub: Arc<str>,
    },
    /// The publisher was cancelled while it waited.
    #[error("publishing to `{topic}` of hub `{hub}` was cancelled")]
    Cancelled {
        /// The hub's name.
        hub: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The publisher's deadline passed while it waited.
    #[error("publishing to `{topic}` of hub `{hub}` ran into the deadline: a member is behind")]
    Elapsed {
        /// The hub's name.
        hub: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
    },
}
