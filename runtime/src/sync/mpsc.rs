//! The channels of [`channel`](super::channel) under the names of [`std::sync::mpsc`].
//!
//! For code that comes from there: change the path and go on. What is different: a receiver may be cloned, a
//! [`SyncSender`] is a [`Sender`], and whatever may wait has a `Cancelled` and an `Elapsed` case in its error.
//!
//! ```
//! use maniple::sync::mpsc;
//! let (sender, receiver) = mpsc::sync_channel(1);
//! maniple::run(|| {
//!     let sending = maniple::spawn(move || (0..3).try_for_each(|n| sender.send(n)));
//!     assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2]);
//!     sending.join().unwrap().unwrap();
//! });
//! ```

pub use super::channel::{
    IntoIter, Iter, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender,
    Sender as SyncSender, TryIter, TryRecvError, TrySendError,
};
use super::channel::{bounded, unbounded};

/// A channel without a limit, as [`std::sync::mpsc::channel`]: sending never waits.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    unbounded()
}

/// A channel that holds at most `bound` messages, as [`std::sync::mpsc::sync_channel`]; with a bound of zero
/// every send waits for its receive.
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    bounded(bound)
}
