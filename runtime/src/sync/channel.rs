//! Channels: many senders, many receivers, each message to one of them, in order.
//!
//! Names and semantics are crossbeam-channel's, plus a `Cancelled` case wherever a call may wait. A
//! channel is disconnected when all its senders or all its receivers are gone: receiving then first
//! drains what is left, sending gives the message back.
//!
//! # How it works
//!
//! A queue and two wait lists under one spin lock. A value goes straight from a sender to a waiting
//! receiver, and from a waiting sender into the place that a receiver frees, so whoever is woken finds
//! its business done and does not lock again; and nobody who comes later can overtake it.

use std::{
    cell::UnsafeCell,
    collections::VecDeque,
    fmt, io,
    iter::FusedIterator,
    ptr::NonNull,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    error::{Cancelled, Interrupt},
    scheduler::{current_strand, now},
    sys::spin::{SpinGuard, SpinLock},
    wait::{self, Cuttable, Reason, WaitList, WaitNode, Waited, ready},
};

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
    let channel = Arc::new(Channel {
        state: SpinLock::new(State {
            queue: VecDeque::new(),
            capacity,
            disconnected: false,
            senders: WaitList::new(),
            receivers: WaitList::new(),
        }),
        sender_count: AtomicUsize::new(1),
        receiver_count: AtomicUsize::new(1),
    });
    (
        Sender {
            channel: channel.clone(),
        },
        Receiver { channel },
    )
}

struct Channel<T> {
    state: SpinLock<State<T>>,
    sender_count: AtomicUsize,
    receiver_count: AtomicUsize,
}

struct State<T> {
    queue: VecDeque<T>,
    capacity: Option<usize>,
    disconnected: bool,
    /// Each waits with a message in its [`Place`].
    senders: WaitList,
    /// Each waits with an empty [`Place`].
    receivers: WaitList,
}

/// A waiting sender's message, or where a waiting receiver gets one.
#[repr(C)]
struct Place<T> {
    node: WaitNode,
    value: UnsafeCell<Option<T>>,
}

impl<T> Place<T> {
    fn new(value: Option<T>) -> Self {
        Self {
            node: WaitNode::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// # Safety
    /// `node` is a place's, its owner's wait has been claimed by the caller and not been made ready.
    unsafe fn put(node: NonNull<WaitNode>, value: T) {
        // SAFETY: the node is the place's first field; the owner does not run.
        unsafe { *node.cast::<Self>().as_ref().value.get() = Some(value) };
    }

    /// # Safety
    /// As for `put`.
    unsafe fn take(node: NonNull<WaitNode>) -> Option<T> {
        // SAFETY: as for `put`.
        unsafe { (*node.cast::<Self>().as_ref().value.get()).take() }
    }
}

/// What a try found.
enum Tried<T> {
    Done(T),
    WouldWait,
    Disconnected,
}

impl<T> State<T> {
    /// Sends without waiting; `value` is left in place if that is not possible.
    fn try_send(&mut self, value: &mut Option<T>) -> (Tried<()>, Option<crate::strand::Claimed>) {
        if self.disconnected {
            return (Tried::Disconnected, None);
        }
        // SAFETY: under the lock; receivers' nodes are places of this type.
        let receiver = unsafe {
            self.receivers.notify_one_with(|node| {
                if let Some(value) = value.take() {
                    Place::put(node, value);
                }
            })
        };
        if receiver.is_some() {
            return (Tried::Done(()), receiver);
        }
        if self
            .capacity
            .is_some_and(|capacity| self.queue.len() >= capacity)
        {
            return (Tried::WouldWait, None);
        }
        self.queue.extend(value.take());
        (Tried::Done(()), None)
    }

    /// Receives without waiting; the claimed strand is a sender whose message was taken in.
    fn try_recv(&mut self) -> (Tried<T>, Option<crate::strand::Claimed>) {
        let queued = self.queue.pop_front();
        let mut waiting = None;
        // SAFETY: under the lock; senders' nodes are places of this type.
        let sender = unsafe {
            self.senders
                .notify_one_with(|node| waiting = Place::<T>::take(node))
        };
        let found = match queued {
            Some(value) => {
                self.queue.extend(waiting);
                Some(value)
            }
            None => waiting,
        };
        let tried = match found {
            Some(value) => Tried::Done(value),
            None if self.disconnected => Tried::Disconnected,
            None => Tried::WouldWait,
        };
        (tried, sender)
    }
}

impl<T> Channel<T> {
    fn try_send(&self, value: &mut Option<T>) -> Tried<()> {
        let (tried, receiver) = self.state.lock().try_send(value);
        if let Some(receiver) = receiver {
            ready(receiver);
        }
        tried
    }

    fn try_recv(&self) -> Tried<T> {
        let (tried, sender) = self.state.lock().try_recv();
        if let Some(sender) = sender {
            ready(sender);
        }
        tried
    }

    /// On failure the message comes back with the cause.
    #[inline]
    fn send(&self, message: T, deadline: Option<Instant>) -> Result<(), (T, Failed)> {
        if let Err(interrupt) = wait::check() {
            return Err((message, interrupt.into()));
        }
        let mut message = Some(message);
        let mut state = self.state.lock();
        let (tried, receiver) = state.try_send(&mut message);
        let failed = match tried {
            Tried::Done(()) => {
                drop(state);
                if let Some(receiver) = receiver {
                    ready(receiver);
                }
                wait::spend();
                return Ok(());
            }
            Tried::WouldWait => match self.wait_to_send(state, &mut message, deadline) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            },
            Tried::Disconnected => Failed::Disconnected,
        };
        match message {
            Some(message) => Err((message, failed)),
            None => Ok(()),
        }
    }

    fn wait_to_send<'a>(
        &'a self,
        mut state: SpinGuard<'a, State<T>>,
        message: &mut Option<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        let place = Place::new(message.take());
        // SAFETY: before it waits and after its wait, the place is this call's alone.
        let held = || unsafe { &mut *place.value.get() };
        // SAFETY: the caller's own strand outlives the call.
        let strand = unsafe { current_strand().as_ref() };
        loop {
            // SAFETY: under the lock; taken out below unless notified.
            unsafe { state.senders.arm(&place.node, strand, Cuttable::Yes) };
            drop(state);
            let waited = wait::finish(strand, Reason::ChannelSend, deadline, Cuttable::Yes, || {
                // SAFETY: under the lock, in this list or none.
                unsafe { self.state.lock().senders.remove(&place.node) };
            });
            *message = held().take();
            return match waited {
                // Notified without an exchange: the channel was disconnected.
                _ if message.is_none() => Ok(()),
                Waited::AtOnce | Waited::Notified => Err(Failed::Disconnected),
                Waited::TimedOut => Err(Failed::Timeout),
                Waited::Cut(interrupt) => Err(interrupt.into()),
                Waited::Again => {
                    state = self.state.lock();
                    let (tried, receiver) = state.try_send(message);
                    match tried {
                        Tried::WouldWait => {
                            *held() = message.take();
                            continue;
                        }
                        Tried::Done(()) => {
                            drop(state);
                            if let Some(receiver) = receiver {
                                ready(receiver);
                            }
                            Ok(())
                        }
                        Tried::Disconnected => Err(Failed::Disconnected),
                    }
                }
            };
        }
    }

    #[inline]
    fn recv(&self, deadline: Option<Instant>) -> Result<T, Failed> {
        wait::check()?;
        let mut state = self.state.lock();
        let (tried, sender) = state.try_recv();
        match tried {
            Tried::Done(message) => {
                drop(state);
                if let Some(sender) = sender {
                    ready(sender);
                }
                wait::spend();
                Ok(message)
            }
            Tried::WouldWait => self.wait_to_recv(state, deadline),
            Tried::Disconnected => Err(Failed::Disconnected),
        }
    }

    fn wait_to_recv<'a>(
        &'a self,
        mut state: SpinGuard<'a, State<T>>,
        deadline: Option<Instant>,
    ) -> Result<T, Failed> {
        let place = Place::new(None);
        // SAFETY: the caller's own strand outlives the call.
        let strand = unsafe { current_strand().as_ref() };
        loop {
            // SAFETY: under the lock; taken out below unless notified.
            unsafe { state.receivers.arm(&place.node, strand, Cuttable::Yes) };
            drop(state);
            let waited = wait::finish(strand, Reason::ChannelRecv, deadline, Cuttable::Yes, || {
                // SAFETY: under the lock, in this list or none.
                unsafe { self.state.lock().receivers.remove(&place.node) };
            });
            // SAFETY: the wait is over, so the place is this call's alone.
            if let Some(message) = unsafe { (*place.value.get()).take() } {
                return Ok(message);
            }
            match waited {
                // Notified without an exchange: the channel was disconnected.
                Waited::AtOnce | Waited::Notified => return Err(Failed::Disconnected),
                Waited::TimedOut => return Err(Failed::Timeout),
                Waited::Cut(interrupt) => return Err(interrupt.into()),
                Waited::Again => {
                    state = self.state.lock();
                    let (tried, sender) = state.try_recv();
                    match tried {
                        Tried::WouldWait => {}
                        Tried::Disconnected => return Err(Failed::Disconnected),
                        Tried::Done(message) => {
                            drop(state);
                            if let Some(sender) = sender {
                                ready(sender);
                            }
                            return Ok(message);
                        }
                    }
                }
            }
        }
    }

    /// Wakes all who wait; what the senders among them hold goes back to them.
    fn disconnect(&self) {
        let mut claimed = Vec::new();
        {
            let mut state = self.state.lock();
            state.disconnected = true;
            // SAFETY: under the lock. A node notified without an exchange means disconnection.
            claimed.extend(std::iter::from_fn(|| unsafe { state.senders.notify_one() }));
            // SAFETY: as above.
            claimed.extend(std::iter::from_fn(|| unsafe {
                state.receivers.notify_one()
            }));
        }
        claimed.into_iter().for_each(ready);
    }
}

/// Why a send or receive did not happen.
enum Failed {
    Disconnected,
    Timeout,
    Cancelled,
}

impl From<Interrupt> for Failed {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => Failed::Cancelled,
            Interrupt::Elapsed => Failed::Timeout,
        }
    }
}

/// The sending half of a channel; clones send to the same channel.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends a message, waiting for room in a bounded channel.
    ///
    /// # Errors
    /// The message, if all receivers are gone, the scope is cancelled or its deadline passed first.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.channel
            .send(message, None)
            .map_err(|(message, failed)| match failed {
                Failed::Disconnected => SendError::Disconnected(message),
                Failed::Timeout => SendError::Elapsed(message),
                Failed::Cancelled => SendError::Cancelled(message),
            })
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// The message, if the channel is full or all receivers are gone.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut message = Some(message);
        let tried = self.channel.try_send(&mut message);
        match (tried, message) {
            (Tried::WouldWait, Some(message)) => Err(TrySendError::Full(message)),
            (Tried::Disconnected, Some(message)) => Err(TrySendError::Disconnected(message)),
            _ => Ok(()),
        }
    }

    /// As [`Sender::send`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// The message, if there was no room in time, all receivers are gone or the scope is cancelled.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, now().checked_add(timeout))
    }

    /// As [`Sender::send`], waiting until `deadline`.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, Some(deadline))
    }

    fn send_until(&self, message: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        self.channel
            .send(message, deadline)
            .map_err(|(message, failed)| match failed {
                Failed::Disconnected => SendTimeoutError::Disconnected(message),
                Failed::Timeout => SendTimeoutError::Timeout(message),
                Failed::Cancelled => SendTimeoutError::Cancelled(message),
            })
    }

    /// Messages that wait in the channel.
    pub fn len(&self) -> usize {
        self.channel.state.lock().queue.len()
    }

    /// Whether no message waits in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages it holds at most, or `None` without a limit.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.state.lock().capacity
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.sender_count.fetch_add(1, Ordering::Relaxed);
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.channel.sender_count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.channel.disconnect();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender { .. }")
    }
}

/// The receiving half of a channel; clones receive from the same channel, each message goes to one.
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Receiver<T> {
    /// Receives a message, waiting for one.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone, the scope is cancelled or its deadline passed.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.channel.recv(None).map_err(|failed| match failed {
            Failed::Disconnected => RecvError::Disconnected,
            Failed::Timeout => RecvError::Elapsed,
            Failed::Cancelled => RecvError::Cancelled,
        })
    }

    /// Receives without waiting.
    ///
    /// # Errors
    /// If the channel is empty, and whether that can change.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.channel.try_recv() {
            Tried::Done(message) => Ok(message),
            Tried::WouldWait => Err(TryRecvError::Empty),
            Tried::Disconnected => Err(TryRecvError::Disconnected),
        }
    }

    /// As [`Receiver::recv`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// If no message came in time, none can come any more or the scope is cancelled.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(now().checked_add(timeout))
    }

    /// As [`Receiver::recv`], waiting until `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        self.channel.recv(deadline).map_err(|failed| match failed {
            Failed::Disconnected => RecvTimeoutError::Disconnected,
            Failed::Timeout => RecvTimeoutError::Timeout,
            Failed::Cancelled => RecvTimeoutError::Cancelled,
        })
    }

    /// Receives until the channel is disconnected and drained, or the wait is cut short.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Receives what is there, without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Messages that wait in the channel.
    pub fn len(&self) -> usize {
        self.channel.state.lock().queue.len()
    }

    /// Whether no message waits in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages it holds at most, or `None` without a limit.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.state.lock().capacity
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.receiver_count.fetch_add(1, Ordering::Relaxed);
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.channel.receiver_count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.channel.disconnect();
            // Nobody will receive these; dropped outside the lock, since that is the user's code.
            let undelivered = std::mem::take(&mut self.channel.state.lock().queue);
            drop(undelivered);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver { .. }")
    }
}

/// Made by [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

/// Made by [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// An iterator that owns its receiver.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

macro_rules! error {
    ($(#[$doc:meta])* $name:ident<T> { $($(#[$case_doc:meta])* $case:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum $name<T> { $($(#[$case_doc])* $case(T),)* }

        impl<T> $name<T> {
            /// The message that was not sent.
            pub fn into_inner(self) -> T {
                match self { $($name::$case(message) => message,)* }
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$case(_) => $text,)* })
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$case(_) => concat!(stringify!($case), "(..)"),)* })
            }
        }

        impl<T> std::error::Error for $name<T> {}
    };
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$case_doc])* $case,)* }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$case => $text,)* })
            }
        }

        impl std::error::Error for $name {}
    };
}

error! {
    /// Why [`Sender::send`] gave the message back.
    SendError<T> {
        /// All receivers are gone.
        Disconnected => "sending on a channel without receivers",
        /// The scope was cancelled.
        Cancelled => "sending was cancelled",
        /// The scope's deadline passed.
        Elapsed => "sending ran into the deadline",
    }
}

error! {
    /// Why [`Sender::try_send`] gave the message back.
    TrySendError<T> {
        /// There is no room.
        Full => "sending on a full channel",
        /// All receivers are gone.
        Disconnected => "sending on a channel without receivers",
    }
}

error! {
    /// Why [`Sender::send_timeout`] gave the message back.
    SendTimeoutError<T> {
        /// There was no room in time.
        Timeout => "sending timed out",
        /// All receivers are gone.
        Disconnected => "sending on a channel without receivers",
        /// The scope was cancelled.
        Cancelled => "sending was cancelled",
    }
}

error! {
    /// Why [`Receiver::recv`] has no message.
    RecvError {
        /// The channel is empty and all senders are gone.
        Disconnected => "receiving on an empty channel without senders",
        /// The scope was cancelled.
        Cancelled => "receiving was cancelled",
        /// The scope's deadline passed.
        Elapsed => "receiving ran into the deadline",
    }
}

error! {
    /// Why [`Receiver::try_recv`] has no message.
    TryRecvError {
        /// The channel is empty.
        Empty => "receiving on an empty channel",
        /// The channel is empty and all senders are gone.
        Disconnected => "receiving on an empty channel without senders",
    }
}

error! {
    /// Why [`Receiver::recv_timeout`] has no message.
    RecvTimeoutError {
        /// No message came in time.
        Timeout => "receiving timed out",
        /// The channel is empty and all senders are gone.
        Disconnected => "receiving on an empty channel without senders",
        /// The scope was cancelled.
        Cancelled => "receiving was cancelled",
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => io::Error::new(io::ErrorKind::BrokenPipe, error),
            RecvError::Cancelled => Cancelled.into(),
            RecvError::Elapsed => Interrupt::Elapsed.into(),
        }
    }
}
