//! What a server may have, and what becomes of a peer that takes nothing.

use std::time::Duration;

/// What happens when a connection's outgoing queue is full and its peer takes nothing more: what the kernel holds
/// for it is full too. A queue that is full only because its sender has had no turn yet is waited for instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Laggard {
    /// The connection is cut at once; its reason is [`Closed::Lagged`](super::Closed::Lagged).
    Disconnect,
    /// The oldest message in the queue is dropped; before the next one the peer is told what
    /// [`Actor::dropped`](super::Actor::dropped) says.
    DropOldest,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) events: usize,
    pub(super) outgoing: Bounds,
    pub(super) message: usize,
    /// So many messages in so much time.
    pub(super) rate: Option<(u32, Duration)>,
    pub(super) write_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) drain_grace: Duration,
}

/// What a queue may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) messages: usize,
    /// More than that if it is one message.
    pub(super) bytes: usize,
}
