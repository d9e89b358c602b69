//! What becomes of members that fall behind.

/// What happens when a member is as many messages behind as the hub's queues hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lag {
    /// Publishers to its topic wait for it, each for as long as its own deadline allows.
    Wait,
    /// The oldest message is dropped; with its next message the member is told how many were.
    DropOldest,
    /// The member is disconnected: what it had not read is gone, and receiving says
    /// [`RecvError::Disconnected`](super::RecvError::Disconnected).
    Disconnect,
}
