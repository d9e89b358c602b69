//! Why nobody was subscribed, and why nothing was published.

use std::sync::Arc;

/// Bytes of a topic's name at most.
pub const MAX_TOPIC_NAME: usize = 256;

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
    /// The broker of a hub that processes share is not there, or refuses.
    #[error("topic `{topic}` of hub `{hub}`: {reason}")]
    Broker {
        /// The hub's name.
        hub: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// What is wrong.
        reason: Arc<str>,
    },
    /// The caller was cancelled, or its deadline passed, while it waited for a broker.
    #[error("subscribing to `{topic}` of hub `{hub}` was cut short")]
    CutShort {
        /// The hub's name.
        hub: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
    },
}

/// Why a message was not published. No member has got it, except that of a [`Broker`](Self::Broker) and of a wait that was cut short
/// nobody may know. Each case names the hub.
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
    /// The broker of a hub that processes share is not there, or refuses.
    #[error("publishing to `{topic}` of hub `{hub}`: {reason}")]
    Broker {
        /// The hub's name.
        hub: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// What is wrong.
        reason: Arc<str>,
        /// Whether members may have got it all the same: it was under way when the broker was lost.
        may_have_arrived: bool,
    },
}
