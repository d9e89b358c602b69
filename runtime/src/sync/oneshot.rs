//! A channel for one message: an answer that somebody waits for.
//!
//! # How it works
//!
//! ```text
//!                      the sender ends
//!       ┌──────► OPEN ────────────────────────────────────► SENDER_GONE
//!       │        │  │ the receiver goes                          ▲
//! gives │  waits │  └──────────────────► RECEIVER_GONE           │
//!    up │        ▼                                               │
//!       └───── WAITING ──the sender begins to end──► ENDING ─────┘
//! ```
//!
//! Both halves share one block of memory. The message is the sender's until SENDER_GONE, then the
//! receiver's; it lies in the block rather than being handed over, so a receiver that gives up at that
//! very moment still finds it. The half that finds the other gone owns the block, and frees it.
//!
//! ENDING keeps a receiver whose wait something else ended from leaving it, for the few instructions in
//! which the sender tries to win that wait.

use std::{
    cell::Cell,
    fmt,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull,
    time::{Duration, Instant},
};

use super::{
    channel::{RecvError, RecvTimeoutError, TryRecvError},
    failed::Failed,
};
use crate::{
    loom::{AtomicU8, Ordering},
    scheduler::now,
    sys::spin::spin_while,
    wait::{self, Interruptible, Reason, Waited, ready},
    waiter::{Outcome, Waiter},
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
    let shared = NonNull::from(Box::leak(Box::new(Shared {
        state: AtomicU8::new(OPEN),
        waiting: Cell::new(None),
        message: Cell::new(None),
    })));
    let [sender, receiver] = [Half(shared), Half(shared)];
    (Sender { shared: sender }, Receiver { shared: receiver })
}

struct Shared<T> {
    state: AtomicU8,
    /// The receiver's, for the sender to look at while ENDING.
    waiting: Cell<Option<NonNull<Waiter>>>,
    /// The sender's until SENDER_GONE, then the receiver's.
    message: Cell<Option<T>>,
}

/// A half's hold on the block: valid until this half has found the other gone, or let it know that this one is.
struct Half<T>(NonNull<Shared<T>>);

// SAFETY: a message goes from one thread to another, and the state says whose it is. A shared half
// gives access to the state alone, which is atomic.
unsafe impl<T: Send> Send for Half<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Half<T> {}

impl<T> Deref for Half<T> {
    type Target = Shared<T>;

    #[inline]
    fn deref(&self) -> &Shared<T> {
        // SAFETY: a half uses the block until it ends, which is the last that it does with it.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Half<T> {
    /// Frees the block, and returns what is left in it.
    ///
    /// # Safety
    /// The other half has ended, so nobody else knows the block; and this is this one's end.
    #[inline]
    unsafe fn free(&self) -> Option<T> {
        // SAFETY: the caller's promise; it was made as a box.
        unsafe { Box::from_raw(self.0.as_ptr()) }
            .message
            .into_inner()
    }
}

const OPEN: u8 = 0;
/// The receiver has armed its waiter's claim, or has just been woken.
const WAITING: u8 = 1;
/// The sender is about to wake the receiver, which must not go meanwhile.
const ENDING: u8 = 2;
const SENDER_GONE: u8 = 3;
const RECEIVER_GONE: u8 = 4;

/// The half that sends the message; dropping it unused disconnects.
pub struct Sender<T> {
    shared: Half<T>,
}

impl<T> Sender<T> {
    /// Sends the message; never waits.
    ///
    /// # Errors
    /// The message, if the receiver is gone.
    #[inline]
    pub fn send(self, message: T) -> Result<(), T> {
        // Not dropped, since this is the half's end.
        let sender = ManuallyDrop::new(self);
        sender.end(Some(message)).map_or(Ok(()), Err)
    }

    /// Whether the receiver is gone, so that there is no use in making a message.
    pub fn is_closed(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == RECEIVER_GONE
    }

    /// The sender's last act. The message comes back if nobody can receive it.
    #[inline]
    fn end(&self, message: Option<T>) -> Option<T> {
        let shared = &*self.shared;
        shared.message.set(message);
        let mut state = shared.state.load(Ordering::Acquire);
        loop {
            let next = match state {
                OPEN => SENDER_GONE,
                WAITING => ENDING,
                _ => break,
            };
            // Release pairs with the receiver's look at the message; acquire with its waiting, or its going.
            match shared
                .state
                .compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(OPEN) => return None,
                Ok(_) => {
                    wake(shared);
                    return None;
                }
                Err(other) => state = other,
            }
        }
        // SAFETY: the receiver is gone, and nothing follows.
        unsafe { self.shared.free() }
    }
}

/// Ends the ending: from here on the block is the receiver's.
fn wake<T>(shared: &Shared<T>) {
    let waiter = shared.waiting.get();
    // SAFETY: the waiter stays in its wait until it has been claimed and made ready, or the state is no
    // longer ENDING.
    let claimed = waiter.and_then(|waiter| unsafe { Waiter::claim(waiter, Outcome::Notified) });
    // Release as in `end`.
    shared.state.store(SENDER_GONE, Ordering::Release);
    if let Some(claimed) = claimed {
        ready(claimed);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}

/// The half that receives the message.
pub struct Receiver<T> {
    shared: Half<T>,
}

impl<T> Receiver<T> {
    /// Receives the message, waiting for it.
    ///
    /// # Errors
    /// If the sender is gone without sending, the scope is cancelled or its deadline passed.
    pub fn recv(mut self) -> Result<T, RecvError> {
        Ok(self.recv_up_to(None)?)
    }

    /// Receives the message if it is there.
    ///
    /// # Errors
    /// If it is not, and whether that can change.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.take() {
            Some(Some(message)) => Ok(message),
            Some(None) => Err(TryRecvError::Disconnected),
            None => {
                wait::spend();
                Err(TryRecvError::Empty)
            }
        }
    }

    /// Receives a message like [`Receiver::recv`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If the message did not come in time or cannot come any more, or the scope is cancelled.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(now().checked_add(timeout))
    }

    /// Receives a message like [`Receiver::recv`], waiting until `deadline`.
    ///
    /// # Errors
    /// If the message did not come in time or cannot come any more, or the scope is cancelled.
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        Ok(self.recv_up_to(deadline)?)
    }

    /// Whether the sender is gone, with or without sending.
    pub fn is_closed(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == SENDER_GONE
    }

    #[inline]
    fn recv_up_to(&mut self, deadline: Option<Instant>) -> Result<T, Failed> {
        wait::check()?;
        match self.take() {
            Some(message) => had(message),
            None => self.wait_up_to(deadline),
        }
    }

    /// Apart, so that the way without a wait needs no room for one.
    #[inline(never)]
    fn wait_up_to(&mut self, deadline: Option<Instant>) -> Result<T, Failed> {
        loop {
            let shared = &*self.shared;
            let waited = wait::wait(
                Reason::ChannelRecv,
                deadline,
                Interruptible::Yes,
                |waiter| {
                    waiter.claim.arm(true);
                    shared.waiting.set(Some(NonNull::from(waiter)));
                    // Release pairs with the sender's look at the waiter.
                    let waits = shared.turn(OPEN, WAITING);
                    // Nobody else knows of this wait.
                    waits || !waiter.claim.disarm()
                },
                || {
                    if !shared.turn(WAITING, OPEN) {
                        // The sender may still be about to claim the waiter.
                        spin_while(|| shared.state.load(Ordering::Acquire) == ENDING);
                    }
                },
            );
            // In any case it looks once more: the message may have come at this moment.
            if let Some(message) = self.take() {
                return had(message);
            }
            match waited {
                Waited::TimedOut => return Err(Failed::Timeout),
                Waited::Interrupted(interrupt) => return Err(interrupt.into()),
                Waited::AtOnce | Waited::Notified | Waited::Again => {}
            }
        }
    }

    /// The message, if the sender left one and it has not been taken; `None` while there is a sender.
    #[inline]
    fn take(&mut self) -> Option<Option<T>> {
        // Acquire pairs with the sender's release: what it left is in view, and this half's, which is borrowed
        // uniquely.
        let is_over = self.shared.state.load(Ordering::Acquire) == SENDER_GONE;
        is_over.then(|| self.shared.message.take())
    }
}

#[inline]
fn had<T>(message: Option<T>) -> Result<T, Failed> {
    let message = message.ok_or(Failed::Disconnected)?;
    wait::spend();
    Ok(message)
}

impl<T> Shared<T> {
    /// Goes from one state to another, unless the sender has moved it from there.
    fn turn(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl<T> Drop for Receiver<T> {
    #[inline]
    fn drop(&mut self) {
        let is_over = self.shared.state.load(Ordering::Acquire) == SENDER_GONE;
        if is_over || !self.shared.turn(OPEN, RECEIVER_GONE) {
            // SAFETY: the sender is gone, and nothing follows.
            drop(unsafe { self.shared.free() });
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::cancel::CancelToken;
    use loom::{
        cell::UnsafeCell,
        thread::{JoinHandle, spawn},
    };
    use std::sync::Arc;

    fn model(body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(body);
    }

    /// loom's cell finds accesses that nothing orders, and the allocation that it is tracked with one
    /// that nobody drops.
    type Message = loom::alloc::Track<UnsafeCell<u32>>;

    fn message() -> Message {
        loom::alloc::Track::new(UnsafeCell::new(1))
    }

    /// Changes the message, which the receiver alone may do, and drops it.
    fn consume(message: &Message) {
        // SAFETY: received, and thus this thread's.
        message
            .get_ref()
            .with_mut(|message| unsafe { *message += 1 });
    }

    fn sender(sender: Sender<Message>) -> JoinHandle<bool> {
        spawn(move || match sender.send(message()) {
            Ok(()) => true,
            Err(back) => {
                consume(&back);
                false
            }
        })
    }

    /// It comes while the receiver looks, is about to wait, or waits.
    #[test]
    fn loom_oneshot_a_message_reaches_one_who_waits() {
        model(|| {
            let (send, receive) = channel();
            let sending = sender(send);
            consume(&receive.recv().unwrap());
            assert!(sending.join().unwrap());
        });
    }

    /// Either half frees the block, once, and no message is left in it.
    #[test]
    fn loom_oneshot_a_receiver_that_goes_leaves_the_message_to_one_of_them() {
        model(|| {
            let (send, mut receive) = channel();
            let sending = sender(send);
            let received = receive.try_recv().inspect(consume).is_ok();
            drop(receive);
            assert!(sending.join().unwrap() || !received);
        });
    }

    #[test]
    fn loom_oneshot_a_sender_that_goes_ends_the_wait() {
        model(|| {
            let (send, receive) = channel::<Message>();
            let going = spawn(move || drop(send));
            assert_eq!(receive.recv().err(), Some(RecvError::Disconnected));
            going.join().unwrap();
        });
    }

    /// A message and a cancellation race for a wait: the message is had then, or is still there later,
    /// when another waiter of the same receiver waits for it.
    #[test]
    fn loom_oneshot_a_receiver_that_is_cancelled_can_wait_again() {
        model(|| {
            let (send, mut receive) = channel();
            let token = CancelToken::new();
            let under = token.clone();
            let receiving = spawn(move || {
                let cut = under.run(|| receive.recv_up_to(None).inspect(consume).is_ok());
                if cut != Ok(true) {
                    consume(&receive.recv().unwrap());
                }
            });
            let cancelling = spawn(move || token.cancel());
            assert!(send.send(message()).is_ok());
            receiving.join().unwrap();
            cancelling.join().unwrap();
        });
    }
}
