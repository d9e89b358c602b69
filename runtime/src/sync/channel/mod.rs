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
#[allow(unsafe_code)]
mod select;
mod sender;
mod timer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use error::{
    ReadyError, ReadyTimeoutError, RecvError, RecvTimeoutError, SelectError, SelectTimeoutError,
    SendError, SendTimeoutError, TryReadyError, TryRecvError, TrySelectError, TrySendError,
};
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use select::{Select, SelectedOperation};
pub use sender::Sender;

#[doc(no_inline)]
pub use crate::{select, select_biased};

use crate::scheduler::now;
use queue::Channel;
use receiver::Flavour;
use timer::Timer;

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

/// A receiver that gets one message, `duration` from now: the instant at which it was due.
///
/// It is never disconnected: who receives a second time waits until something else ends the wait.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// let due = maniple::sync::channel::after(Duration::from_millis(5)).recv().unwrap();
/// assert!(Instant::now() >= due);
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    now().checked_add(duration).map_or_else(never, at)
}

/// Delivers one message like [`after`], at a set time; at once if that has passed.
pub fn at(when: Instant) -> Receiver<Instant> {
    Receiver::on_time(Timer::new(Some(when), None))
}

/// A receiver that gets a message every `period`, the first one after a whole period: the instant at
/// which it was due.
///
/// At most one waits to be received. Who comes too late for the next ones as well gets that one, and
/// another a period later. It is never disconnected.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// let period = Duration::from_millis(2);
/// let begun = Instant::now();
/// for at in maniple::sync::channel::tick(period).iter().take(3) {
///     assert!(at > begun);
/// }
/// assert!(begun.elapsed() >= 3 * period);
/// ```
pub fn tick(period: Duration) -> Receiver<Instant> {
    Receiver::on_time(Timer::new(now().checked_add(period), Some(period)))
}

/// A receiver that gets no message and is never disconnected, to stand for a channel that is not there.
///
/// # Examples
/// ```
/// use maniple::sync::channel::{Receiver, TryRecvError, never};
/// let absent: Receiver<u32> = never();
/// assert_eq!(absent.try_recv(), Err(TryRecvError::Empty));
/// ```
pub fn never<T>() -> Receiver<T> {
    Receiver::of(Flavour::Never)
}

#[cfg(all(test, loom))]
mod loom_models;
