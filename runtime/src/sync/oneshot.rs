//! A channel for one message: an answer that somebody waits for.
//!
//! # How it works
//!
//! A message, two flags and a wait list under one spin lock. The message is put there rather than handed over,
//! so a receiver that gives up at that very moment still finds it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::channel::{RecvError, RecvTimeoutError, TryRecvError};
use crate::{
    error::Interrupt,
    scheduler::{current_strand, now},
    sys::spin::SpinLock,
    wait::{self, Cuttable, Reason, WaitList, WaitNode, Waited, ready},
};

/// A channel for one message.
///
/// # Examples
/// ```
/// use maniple::sync::oneshot;
/// maniple::run(|| {
///     let (answer, question) = oneshot::channel();
///     maniple::spawn(move || answer.send(6 * 7));
///     assert_eq!(question.recv(), Ok(42));
/// });
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(SpinLock::new(State {
        message: None,
        sender_is_gone: false,
        receiver_is_gone: false,
        waiting: WaitList::new(),
    }));
    let sender = Sender {
        shared: Some(shared.clone()),
    };
    (sender, Receiver { shared })
}

struct State<T> {
    message: Option<T>,
    sender_is_gone: bool,
    receiver_is_gone: bool,
    /// The receiver, if it waits.
    waiting: WaitList,
}

/// The half that sends the message; dropping it unused disconnects.
pub struct Sender<T> {
    /// None once it has sent.
    shared: Option<Arc<SpinLock<State<T>>>>,
}

impl<T> Sender<T> {
    /// Sends the message; never waits.
    ///
    /// # Errors
    /// The message, if the receiver is gone.
    pub fn send(mut self, message: T) -> Result<(), T> {
        match self.shared.take() {
            Some(shared) => end(&shared, Some(message)).map_or(Ok(()), Err),
            None => Err(message),
        }
    }

    /// Whether the receiver is gone, so that there is no use in making a message.
    pub fn is_closed(&self) -> bool {
        let shared = self.shared.as_ref();
        shared.is_none_or(|shared| shared.lock().receiver_is_gone)
    }
}

/// The sender's last act. The message comes back if nobody can receive it.
fn end<T>(shared: &SpinLock<State<T>>, message: Option<T>) -> Option<T> {
    let receiver = {
        let mut state = shared.lock();
        state.sender_is_gone = true;
        if state.receiver_is_gone {
            return message;
        }
        state.message = message;
        // SAFETY: under the lock.
        unsafe { state.waiting.notify_one() }
    };
    if let Some(receiver) = receiver {
        ready(receiver);
    }
    None
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            end(&shared, None);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}

/// The half that receives the message.
pub struct Receiver<T> {
    shared: Arc<SpinLock<State<T>>>,
}

impl<T> Receiver<T> {
    /// Receives the message, waiting for it.
    ///
    /// # Errors
    /// If the sender is gone without sending, the scope is cancelled or its deadline passed.
    pub fn recv(mut self) -> Result<T, RecvError> {
        self.recv_up_to(None).map_err(|failed| match failed {
            Failed::Disconnected => RecvError::Disconnected,
            Failed::Timeout | Failed::Cut(Interrupt::Elapsed) => RecvError::Elapsed,
            Failed::Cut(Interrupt::Cancelled) => RecvError::Cancelled,
        })
    }

    /// Receives the message if it is there.
    ///
    /// # Errors
    /// If it is not, and whether that can change.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut state = self.shared.lock();
        match state.message.take() {
            Some(message) => Ok(message),
            None if state.sender_is_gone => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// As [`Receiver::recv`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If the message did not come in time or cannot come any more, or the scope is cancelled.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(now().checked_add(timeout))
    }

    /// As [`Receiver::recv`], waiting until `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        self.recv_up_to(deadline).map_err(|failed| match failed {
            Failed::Disconnected => RecvTimeoutError::Disconnected,
            Failed::Timeout | Failed::Cut(Interrupt::Elapsed) => RecvTimeoutError::Timeout,
            Failed::Cut(Interrupt::Cancelled) => RecvTimeoutError::Cancelled,
        })
    }

    /// Whether the sender is gone, with or without sending.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().sender_is_gone
    }

    fn recv_up_to(&mut self, deadline: Option<Instant>) -> Result<T, Failed> {
        wait::check().map_err(Failed::Cut)?;
        // SAFETY: the caller's own strand outlives the call.
        let strand = unsafe { current_strand().as_ref() };
        let node = WaitNode::new();
        let mut ended = None;
        loop {
            let mut state = self.shared.lock();
            if let Some(message) = state.message.take() {
                drop(state);
                wait::spend();
                return Ok(message);
            }
            if state.sender_is_gone {
                return Err(Failed::Disconnected);
            }
            if let Some(failed) = ended {
                return Err(failed);
            }
            // SAFETY: under the lock; taken out below unless notified.
            unsafe { state.waiting.arm(&node, strand, Cuttable::Yes) };
            drop(state);
            let waited = wait::finish(strand, Reason::ChannelRecv, deadline, Cuttable::Yes, || {
                // SAFETY: under the lock, in this list or none.
                unsafe { self.shared.lock().waiting.remove(&node) };
            });
            // In any case it looks once more: the message may have come at this moment.
            ended = match waited {
                Waited::TimedOut => Some(Failed::Timeout),
                Waited::Cut(interrupt) => Some(Failed::Cut(interrupt)),
                Waited::AtOnce | Waited::Notified | Waited::Again => None,
            };
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let undelivered = {
            let mut state = self.shared.lock();
            state.receiver_is_gone = true;
            state.message.take()
        };
        // Outside the lock, since that is the user's code.
        drop(undelivered);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}

/// Why there is no message.
enum Failed {
    Disconnected,
    Timeout,
    Cut(Interrupt),
}
