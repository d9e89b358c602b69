//! Channels: many senders, many receivers, each message to one of them, in order.
//!
//! Names and semantics are crossbeam-channel's, plus a `Cancelled` case wherever a call may wait. A
//! channel is disconnected when all its senders or all its receivers are gone: receiving then first
//! drains what is left, sending gives the message back.
//!
//! [`select!`](crate::select!) waits for several channels at once, [`Select`] for a list that is made at run
//! time. One thing differs from crossbeam-channel there: a send has its message from the beginning.

#[doc(hidden)]
pub mod cases;
mod choice;
mod error;
mod operation;
mod queue;
mod receiver;
mod select;
mod sender;
mod timer;

use std::sync::Arc;

pub use error::{
    ReadyError, ReadyTimeoutError, RecvError, RecvTimeoutError, SelectError, SelectTimeoutError,
    SendError, SendTimeoutError, TryReadyError, TryRecvError, TrySelectError, TrySendError,
};
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use select::{Select, SelectedOperation};
pub use sender::Sender;
pub use timer::{after, at, never, tick};

#[doc(no_inline)]
pub use crate::{select, select_biased};

use queue::Channel;

/// A channel that holds at most `capacity` messages; sending to a full one waits.
///
/// With a capacity of zero every send waits for its receive.
///
/// # Examples
/// ```
/// use maniple::sync::channel;
/// let (sender, receiver) = channel::bounded(1);
/// let (_, received) = maniple::join!(
///     (0..3).for_each(|n| sender.send(n).unwrap()),
///     [receiver.recv(), receiver.recv(), receiver.recv()]
/// );
/// assert_eq!(received, [Ok(0), Ok(1), Ok(2)]);
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Some(capacity))
}

/// A channel without a limit: sending never waits, and memory grows with what is not received.
///
/// # Examples
/// ```
/// let (sender, receiver) = maniple::sync::channel::unbounded();
/// sender.send("message").unwrap();
/// drop(sender);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), ["message"]);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel::new(capacity));
    (Sender::new(channel.clone()), Receiver::new(channel))
}

#[cfg(all(test, loom))]
mod loom_models;
