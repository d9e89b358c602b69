//! What the connections tell the actor.

use std::{net::SocketAddr, sync::Arc};

use super::{codec::Codec, error::Closed, queue::Tail, shared::ConnId, wire::Wire};

/// What the connections tell the actor.
pub(super) enum Event<C: Codec> {
    Opened(Arc<Wire>, SocketAddr, Tail<C::Out>),
    Received(ConnId, C::In),
    Closed(ConnId, Closed),
    /// To look for connections that ended without a way to say so.
    Unserved,
}
