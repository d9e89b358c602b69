//! Servers around an actor: one owner of all state, and a reader and a sender for each connection.
//!
//! ```text
//!   two coroutines a connection                     one coroutine
//!   reader ──► messages ──┐
//!   reader ──► messages ──┴─► events (bounded) ──► Actor: &mut self, no locks
//!   sender ◄── queue (bounded) ◄───────────────────── Outbox: send, close
//! ```
//!
//! The actor is called with one event at a time, so it needs no locks and sees all connections in one order. A
//! connection's events are `opened`, its messages in order, and `closed`, once each way it may end ([`Closed`]).
//!
//! - *Back-pressure.* While the actor is behind, the queue of events fills and readers stop reading. No peer can
//!   have the actor wait: if one does not read, and its outgoing queue is full, that is for [`Laggard`] to decide.
//!   But senders that have had no turn are given one ([`Outbox`]), so a flood slows down its sender, and
//!   costs no other peer its connection. [`Builder::rate`] bounds what one connection may send in the first place.
//! - *The end of a connection.* When the peer ends its side, also if it only half-closes, or breaks the protocol,
//!   `closed` is called and may still send; what is queued by then is written, for at most the write timeout, and
//!   then the connection is closed. A reset ends both ways.
//! - *Panics.* A panic of the actor may leave its state half changed, so it ends the server: all connections are cut
//!   and [`Server::serve`] returns [`ServeError::Panicked`]. A codec's panic ends its connection alone.

mod acceptor;
mod builder;
mod codec;
mod error;
mod event;
mod outbox;
mod queue;
mod reader;
mod server;
mod settings;
mod shared;
mod state;
mod wire;
mod writer;

use std::net::SocketAddr;

pub use builder::Builder;
pub use codec::{Codec, CodecError, LineCodec};
pub use error::{Closed, ServeError};
pub use outbox::Outbox;
pub use server::{Report, Server, ServerHandle};
pub use settings::Laggard;
pub use shared::ConnId;

/// What a server does: its state, and how events change it.
///
/// The calls come one after the other, from the coroutine or thread that called [`Server::serve`]. They are shielded
/// from cancellation and should not wait: while one does, all connections do, and the drain.
///
/// # Examples
/// See [`Server`].
pub trait Actor {
    /// What is received: the codec's [`Codec::In`].
    type In;
    /// What is sent: the codec's [`Codec::Out`].
    type Out;

    /// A connection was accepted.
    fn opened(&mut self, conn: ConnId, peer: SocketAddr, out: &mut Outbox<Self::Out>) {
        let _ = (conn, peer, out);
    }

    /// A message came.
    fn received(&mut self, conn: ConnId, message: Self::In, out: &mut Outbox<Self::Out>);

    /// Nothing more comes from a connection. If `reason` leaves it able to send, a farewell may still be sent; then it
    /// is closed.
    fn closed(&mut self, conn: ConnId, reason: Closed, out: &mut Outbox<Self::Out>) {
        let _ = (conn, reason, out);
    }

    /// A period of [`Builder::tick`] is over.
    fn tick(&mut self, out: &mut Outbox<Self::Out>) {
        let _ = out;
    }

    /// The server begins to drain: all connections will be closed. Called once; one that was being accepted may still
    /// open after it.
    fn draining(&mut self, out: &mut Outbox<Self::Out>) {
        let _ = out;
    }

    /// With [`Laggard::DropOldest`], what to tell a peer for which so many messages were dropped, in their place.
    /// Called from the connection's sender.
    fn dropped(count: u64) -> Option<Self::Out> {
        let _ = count;
        None
    }
}
