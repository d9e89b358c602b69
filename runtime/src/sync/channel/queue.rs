//! The queue of a channel, and who waits to put something in or to take something out.
//!
//! A queue and two wait lists under one spin lock. A value goes straight from a sender to a waiting
//! receiver, and from a waiting sender into the place that a receiver frees, so the woken one finds
//! its business done and does not lock again; and nobody who comes later can overtake it.
//!
//! Watchers wait in two lists more: they want to know that they could send or receive, and do neither. Each
//! change that makes it possible wakes all of them; they look again, and find it or wait again.

use std::{collections::VecDeque, time::Instant};

use super::super::failed::Failed;
use crate::{
    loom::{AtomicUsize, Ordering},
    sys::fenced,
    wait::{self, Entry, Interruptible, Node, Place, Reason, Several, Waited, Waiters, Won, ready},
    waiter::Claimed,
};

pub(super) struct Channel<T> {
    state: Waiters<State<T>, Option<T>, 4>,
    sender_count: AtomicUsize,
    receiver_count: AtomicUsize,
}

struct State<T> {
    queue: VecDeque<T>,
    capacity: Option<usize>,
    disconnected: bool,
}

/// The queue and who waits at it, under their lock.
type Locked<'a, T> = wait::Locked<'a, State<T>, Option<T>, 4>;

/// A waiting sender's message, or where a waiting receiver gets one.
pub(super) type Exchange<T> = Node<Option<T>>;

/// Each waits with a message.
const SENDERS: usize = 0;
/// Each waits with an empty place.
const RECEIVERS: usize = 1;
/// Wait until a send need not wait.
const SEND_WATCHERS: usize = 2;
/// Wait until a receive need not wait.
const RECV_WATCHERS: usize = 3;

/// What a select wants of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// That it is done.
    Exchange,
    /// That it could be done without waiting.
    Readiness,
}

impl Aim {
    fn list(self, exchange: usize, readiness: usize) -> usize {
        match self {
            Aim::Exchange => exchange,
            Aim::Readiness => readiness,
        }
    }
}

/// The message, which is there: it was received, or could not be sent.
pub(super) fn message_of<T>(exchange: Exchange<T>) -> T {
    exchange.into_payload().expect("a message that is there")
}

/// What a try found.
pub(super) enum Tried {
    Done,
    WouldWait,
    Disconnected,
}

/// Who has been claimed under the lock, to be made ready once it is free.
#[must_use = "who was claimed sleeps for ever unless it is made ready"]
enum Woken<T> {
    Nobody,
    /// The other side of an exchange.
    Peer(Claimed),
    Many(Won<Option<T>>),
}

impl<T> Woken<T> {
    #[inline]
    fn ready(self) {
        match self {
            Woken::Nobody => {}
            Woken::Peer(claimed) => ready(claimed),
            Woken::Many(won) => won.ready(),
        }
    }
}

impl<T> State<T> {
    fn has_room(&self) -> bool {
        self.capacity
            .is_none_or(|capacity| self.queue.len() < capacity)
    }
}

impl<T> Locked<'_, T> {
    /// All that wait in a list.
    #[inline]
    fn all_in(&mut self, list: usize) -> Woken<T> {
        match self.is_empty(list) {
            true => Woken::Nobody,
            false => Woken::Many(self.notify_all(list)),
        }
    }

    /// Sends without waiting; `value` is left in place if that is not possible.
    fn try_send(&mut self, value: &mut Option<T>) -> (Tried, Woken<T>) {
        if self.disconnected {
            return (Tried::Disconnected, Woken::Nobody);
        }
        let receiver = self.notify_one_with(RECEIVERS, |_, place| *place = value.take());
        if let Some(receiver) = receiver {
            return (Tried::Done, Woken::Peer(receiver));
        }
        if !self.has_room() {
            return (Tried::WouldWait, Woken::Nobody);
        }
        self.queue.extend(value.take());
        (Tried::Done, self.all_in(RECV_WATCHERS))
    }

    /// Receives without waiting into an empty place; a sender whose message was taken in is woken.
    fn try_recv(&mut self, into: &mut Option<T>) -> (Tried, Woken<T>) {
        *into = self.queue.pop_front();
        let frees_a_place = into.is_some();
        let sender = self.notify_one_with(SENDERS, |state, message| match frees_a_place {
            true => state.queue.extend(message.take()),
            false => *into = message.take(),
        });
        let woken = match sender {
            Some(sender) => Woken::Peer(sender),
            None if into.is_some() => self.all_in(SEND_WATCHERS),
            None => Woken::Nobody,
        };
        let tried = match into {
            Some(_) => Tried::Done,
            None if self.disconnected => Tried::Disconnected,
            None => Tried::WouldWait,
        };
        (tried, woken)
    }
}

impl<T> Channel<T> {
    /// A channel with one sender and one receiver.
    pub(super) fn new(capacity: Option<usize>) -> Self {
        Self {
            state: Waiters::new(State {
                queue: VecDeque::new(),
                capacity,
                disconnected: false,
            }),
            sender_count: AtomicUsize::new(1),
            receiver_count: AtomicUsize::new(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }

    pub(super) fn is_disconnected(&self) -> bool {
        self.state.lock().disconnected
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.state.lock().capacity
    }

    /// Whether there is no room; without any room at all it is always so.
    pub(super) fn is_full(&self) -> bool {
        !self.state.lock().has_room()
    }

    #[cfg(test)]
    pub(super) fn has_waiting_senders(&self) -> bool {
        !self.state.lock().is_empty(SENDERS)
    }

    pub(super) fn add_sender(&self) {
        self.sender_count.fetch_add(1, Ordering::Relaxed);
    }

    /// The last one disconnects.
    pub(super) fn remove_sender(&self) {
        if self.sender_count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.disconnect();
        }
    }

    pub(super) fn add_receiver(&self) {
        self.receiver_count.fetch_add(1, Ordering::Relaxed);
    }

    /// The last one disconnects and drops what is left.
    pub(super) fn remove_receiver(&self) {
        if self.receiver_count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.disconnect();
            // Nobody will receive these; dropped outside the lock, since that is the user's code.
            let undelivered = std::mem::take(&mut self.state.lock().queue);
            fenced::drop_all(undelivered);
        }
    }

    pub(super) fn try_send(&self, value: &mut Option<T>) -> Tried {
        let (tried, woken) = self.state.lock().try_send(value);
        woken.ready();
        tried
    }

    pub(super) fn try_recv(&self, into: &mut Option<T>) -> Tried {
        let (tried, woken) = self.state.lock().try_recv(into);
        woken.ready();
        tried
    }

    /// Sends what is in `exchange`, where it stays on failure.
    ///
    /// Here and below a message is moved from place to place and handed on by reference, since each move by value
    /// may take its size on the stack once more.
    #[inline]
    pub(super) fn send(
        &self,
        exchange: &mut Exchange<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        wait::check()?;
        let mut state = self.state.lock();
        let (tried, woken) = state.try_send(exchange.payload());
        match tried {
            Tried::Done => {
                drop(state);
                woken.ready();
                wait::spend();
                Ok(())
            }
            Tried::WouldWait => self.wait_to_send(state, exchange, deadline),
            Tried::Disconnected => Err(Failed::Disconnected),
        }
    }

    fn wait_to_send<'a>(
        &'a self,
        mut state: Locked<'a, T>,
        exchange: &mut Exchange<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        loop {
            let watchers = state.all_in(RECV_WATCHERS);
            let waited = state.queue(
                SENDERS,
                Place::Last,
                exchange,
                Interruptible::Yes,
                |queued| {
                    watchers.ready();
                    queued.wait(Reason::ChannelSend, deadline, |_, _| {})
                },
            );
            return match waited {
                // Notified without an exchange: the channel was disconnected.
                _ if exchange.payload().is_none() => Ok(()),
                Waited::AtOnce | Waited::Notified => Err(Failed::Disconnected),
                Waited::TimedOut => Err(Failed::Timeout),
                Waited::Interrupted(interrupt) => Err(interrupt.into()),
                Waited::Again => {
                    state = self.state.lock();
                    let (tried, woken) = state.try_send(exchange.payload());
                    match tried {
                        Tried::WouldWait => continue,
                        Tried::Done => {
                            drop(state);
                            woken.ready();
                            Ok(())
                        }
                        Tried::Disconnected => Err(Failed::Disconnected),
                    }
                }
            };
        }
    }

    /// Receives into `exchange`, which is empty.
    #[inline]
    pub(super) fn recv(
        &self,
        exchange: &mut Exchange<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        wait::check()?;
        let mut state = self.state.lock();
        let (tried, woken) = state.try_recv(exchange.payload());
        match tried {
            Tried::Done => {
                drop(state);
                woken.ready();
                wait::spend();
                Ok(())
            }
            Tried::WouldWait => self.wait_to_recv(state, exchange, deadline),
            Tried::Disconnected => Err(Failed::Disconnected),
        }
    }

    fn wait_to_recv<'a>(
        &'a self,
        mut state: Locked<'a, T>,
        exchange: &mut Exchange<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        loop {
            let watchers = state.all_in(SEND_WATCHERS);
            let waited = state.queue(
                RECEIVERS,
                Place::Last,
                exchange,
                Interruptible::Yes,
                |queued| {
                    watchers.ready();
                    queued.wait(Reason::ChannelRecv, deadline, |_, _| {})
                },
            );
            return match waited {
                _ if exchange.payload().is_some() => Ok(()),
                // Notified without an exchange: the channel was disconnected.
                Waited::AtOnce | Waited::Notified => Err(Failed::Disconnected),
                Waited::TimedOut => Err(Failed::Timeout),
                Waited::Interrupted(interrupt) => Err(interrupt.into()),
                Waited::Again => {
                    state = self.state.lock();
                    let (tried, woken) = state.try_recv(exchange.payload());
                    match tried {
                        Tried::WouldWait => continue,
                        Tried::Disconnected => Err(Failed::Disconnected),
                        Tried::Done => {
                            drop(state);
                            woken.ready();
                            Ok(())
                        }
                    }
                }
            };
        }
    }

    /// Whether a send would not wait.
    pub(super) fn can_send(&self) -> bool {
        let state = self.state.lock();
        state.disconnected || state.has_room() || !state.is_empty(RECEIVERS)
    }

    /// Whether a receive would not wait.
    pub(super) fn can_recv(&self) -> bool {
        let state = self.state.lock();
        state.disconnected || !state.queue.is_empty() || !state.is_empty(SENDERS)
    }

    /// Queues one that waits in several lists, with its message, unless sending could succeed or fail at once;
    /// what it waits for itself does not count. Tells whether it did.
    pub(super) fn queue_to_send<'s>(
        &'s self,
        entry: &'s Entry<Option<T>>,
        wait: &Several<'s>,
        aim: Aim,
    ) -> bool {
        let mut state = self.state.lock();
        if state.disconnected || state.has_room() || wait.meets_another(&state, RECEIVERS) {
            return false;
        }
        wait.queue(&mut state, aim.list(SENDERS, SEND_WATCHERS), entry);
        let woken = match aim {
            Aim::Exchange => state.all_in(RECV_WATCHERS),
            Aim::Readiness => Woken::Nobody,
        };
        drop(state);
        woken.ready();
        true
    }

    /// Queues like [`queue_to_send`](Self::queue_to_send), with an empty place to receive.
    pub(super) fn queue_to_recv<'s>(
        &'s self,
        entry: &'s Entry<Option<T>>,
        wait: &Several<'s>,
        aim: Aim,
    ) -> bool {
        let mut state = self.state.lock();
        let has_message = !state.queue.is_empty();
        if state.disconnected || has_message || wait.meets_another(&state, SENDERS) {
            return false;
        }
        wait.queue(&mut state, aim.list(RECEIVERS, RECV_WATCHERS), entry);
        let woken = match aim {
            Aim::Exchange => state.all_in(SEND_WATCHERS),
            Aim::Readiness => Woken::Nobody,
        };
        drop(state);
        woken.ready();
        true
    }

    /// Takes out what was queued to send for that aim, if it was.
    pub(super) fn leave_senders(&self, entry: &Entry<Option<T>>, wait: &Several<'_>, aim: Aim) {
        wait.leave(&self.state, aim.list(SENDERS, SEND_WATCHERS), entry);
    }

    /// Takes out what was queued to receive for that aim, if it was.
    pub(super) fn leave_receivers(&self, entry: &Entry<Option<T>>, wait: &Several<'_>, aim: Aim) {
        wait.leave(&self.state, aim.list(RECEIVERS, RECV_WATCHERS), entry);
    }

    /// Wakes all who wait; what the senders among them hold goes back to them.
    fn disconnect(&self) {
        let woken = {
            let mut state = self.state.lock();
            state.disconnected = true;
            // A node notified without an exchange means disconnection.
            [SENDERS, RECEIVERS, SEND_WATCHERS, RECV_WATCHERS].map(|list| state.all_in(list))
        };
        woken.into_iter().for_each(Woken::ready);
    }
}
