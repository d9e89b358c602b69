//! The queue of a channel, and who waits to put something in or to take something out.
//!
//! A queue and two wait lists under one spin lock. A value goes straight from a sender to a waiting
//! receiver, and from a waiting sender into the place that a receiver frees, so whoever is woken finds
//! its business done and does not lock again; and nobody who comes later can overtake it.
//!
//! Watchers wait in two lists more: they want to know that they could send or receive, and do neither. Each
//! change that makes it possible wakes all of them; they look again, and find it or wait again.

use std::{cell::UnsafeCell, collections::VecDeque, ptr::NonNull, time::Instant};

use crate::{
    error::Interrupt,
    loom::{AtomicUsize, Ordering},
    scheduler::on_waiter,
    sys::{
        fenced,
        spin::{SpinGuard, SpinLock},
    },
    wait::{self, Interruptible, OldWon, Reason, WaitList, WaitNode, Waited, ready},
    waiter::{Claimed, Waiter},
};

pub(super) struct Channel<T> {
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
    /// Wait until a send need not wait.
    send_watchers: WaitList,
    /// Wait until a receive need not wait.
    recv_watchers: WaitList,
}

/// What a select wants of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// That it is done.
    Exchange,
    /// That it could be done without waiting.
    Readiness,
}

/// A waiting sender's message, or where a waiting receiver gets one.
#[repr(C)]
pub(super) struct Place<T> {
    node: WaitNode,
    value: UnsafeCell<Option<T>>,
}

impl<T> Place<T> {
    pub(super) fn new(value: Option<T>) -> Self {
        Self {
            node: WaitNode::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The message, which is there: it was received, or could not be sent.
    pub(super) fn into_message(self) -> T {
        self.value.into_inner().expect("a message that is there")
    }

    /// The value, for the owner.
    ///
    /// # Safety
    /// No wait with this place is going on, and no other borrow of the value exists.
    #[allow(
        clippy::mut_from_ref,
        reason = "the caller promises that it is the only one"
    )]
    pub(super) unsafe fn held(&self) -> &mut Option<T> {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.value.get() }
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
pub(super) enum Tried {
    Done,
    WouldWait,
    Disconnected,
}

/// Who has been claimed under the lock, to be made ready once it is free.
#[must_use = "who was claimed sleeps for ever unless it is made ready"]
enum Woken {
    Nobody,
    /// The other side of an exchange.
    Peer(Claimed),
    Many(OldWon),
}

impl Woken {
    /// All that wait in a list, which is under its lock.
    #[inline]
    fn all_of(list: &WaitList) -> Self {
        if list.is_empty() {
            return Woken::Nobody;
        }
        // SAFETY: under the lock.
        Woken::Many(unsafe { list.notify_all() })
    }

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
    /// Sends without waiting; `value` is left in place if that is not possible.
    fn try_send(&mut self, value: &mut Option<T>) -> (Tried, Woken) {
        if self.disconnected {
            return (Tried::Disconnected, Woken::Nobody);
        }
        // SAFETY: under the lock; receivers' nodes are places of this type.
        let receiver = unsafe {
            self.receivers.notify_one_with(|node| {
                if let Some(value) = value.take() {
                    Place::put(node, value);
                }
            })
        };
        if let Some(receiver) = receiver {
            return (Tried::Done, Woken::Peer(receiver));
        }
        if !self.has_room() {
            return (Tried::WouldWait, Woken::Nobody);
        }
        self.queue.extend(value.take());
        (Tried::Done, Woken::all_of(&self.recv_watchers))
    }

    fn has_room(&self) -> bool {
        self.capacity
            .is_none_or(|capacity| self.queue.len() < capacity)
    }

    /// Receives without waiting into an empty place; a sender whose message was taken in is woken.
    fn try_recv(&mut self, into: &mut Option<T>) -> (Tried, Woken) {
        *into = self.queue.pop_front();
        let queue = into.is_some().then_some(&mut self.queue);
        // SAFETY: under the lock; senders' nodes are places of this type.
        let sender = unsafe {
            self.senders.notify_one_with(|node| match queue {
                Some(queue) => queue.extend(Place::<T>::take(node)),
                None => *into = Place::<T>::take(node),
            })
        };
        let woken = match sender {
            Some(sender) => Woken::Peer(sender),
            None if into.is_some() => Woken::all_of(&self.send_watchers),
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
            state: SpinLock::new(State {
                queue: VecDeque::new(),
                capacity,
                disconnected: false,
                senders: WaitList::new(),
                receivers: WaitList::new(),
                send_watchers: WaitList::new(),
                recv_watchers: WaitList::new(),
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
        !self.state.lock().senders.is_empty()
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

    /// Sends what is in `place`, where it stays on failure.
    ///
    /// Here and below a message is moved from place to place and handed on by reference, since each move by value
    /// may take its size on the stack once more.
    #[inline]
    pub(super) fn send(&self, place: &Place<T>, deadline: Option<Instant>) -> Result<(), Failed> {
        wait::check()?;
        let mut state = self.state.lock();
        // SAFETY: before it waits, the place is this call's alone.
        let (tried, woken) = state.try_send(unsafe { place.held() });
        match tried {
            Tried::Done => {
                drop(state);
                woken.ready();
                wait::spend();
                Ok(())
            }
            Tried::WouldWait => {
                on_waiter(|waiter| self.wait_to_send(waiter, state, place, deadline))
            }
            Tried::Disconnected => Err(Failed::Disconnected),
        }
    }

    fn wait_to_send<'a>(
        &'a self,
        waiter: &Waiter,
        mut state: SpinGuard<'a, State<T>>,
        place: &Place<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        // SAFETY: before it waits and after its wait, the place is this call's alone.
        let held = || unsafe { place.held() };
        loop {
            // SAFETY: under the lock; taken out below unless notified.
            unsafe { state.senders.arm(&place.node, waiter, Interruptible::Yes) };
            let watchers = Woken::all_of(&state.recv_watchers);
            drop(state);
            watchers.ready();
            let waited = wait::finish(
                waiter,
                Reason::ChannelSend,
                deadline,
                Interruptible::Yes,
                || {
                    // SAFETY: under the lock, in this list or none.
                    unsafe { self.state.lock().senders.remove(&place.node) };
                },
            );
            return match waited {
                // Notified without an exchange: the channel was disconnected.
                _ if held().is_none() => Ok(()),
                Waited::AtOnce | Waited::Notified => Err(Failed::Disconnected),
                Waited::TimedOut => Err(Failed::Timeout),
                Waited::Interrupted(interrupt) => Err(interrupt.into()),
                Waited::Again => {
                    state = self.state.lock();
                    let (tried, woken) = state.try_send(held());
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

    /// Receives into `place`, which is empty.
    #[inline]
    pub(super) fn recv(&self, place: &Place<T>, deadline: Option<Instant>) -> Result<(), Failed> {
        wait::check()?;
        let mut state = self.state.lock();
        // SAFETY: before it waits, the place is this call's alone.
        let (tried, woken) = state.try_recv(unsafe { place.held() });
        match tried {
            Tried::Done => {
                drop(state);
                woken.ready();
                wait::spend();
                Ok(())
            }
            Tried::WouldWait => {
                on_waiter(|waiter| self.wait_to_recv(waiter, state, place, deadline))
            }
            Tried::Disconnected => Err(Failed::Disconnected),
        }
    }

    fn wait_to_recv<'a>(
        &'a self,
        waiter: &Waiter,
        mut state: SpinGuard<'a, State<T>>,
        place: &Place<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Failed> {
        // SAFETY: before it waits and after its wait, the place is this call's alone.
        let held = || unsafe { place.held() };
        loop {
            // SAFETY: under the lock; taken out below unless notified.
            unsafe { state.receivers.arm(&place.node, waiter, Interruptible::Yes) };
            let watchers = Woken::all_of(&state.send_watchers);
            drop(state);
            watchers.ready();
            let waited = wait::finish(
                waiter,
                Reason::ChannelRecv,
                deadline,
                Interruptible::Yes,
                || {
                    // SAFETY: under the lock, in this list or none.
                    unsafe { self.state.lock().receivers.remove(&place.node) };
                },
            );
            return match waited {
                _ if held().is_some() => Ok(()),
                // Notified without an exchange: the channel was disconnected.
                Waited::AtOnce | Waited::Notified => Err(Failed::Disconnected),
                Waited::TimedOut => Err(Failed::Timeout),
                Waited::Interrupted(interrupt) => Err(interrupt.into()),
                Waited::Again => {
                    state = self.state.lock();
                    let (tried, woken) = state.try_recv(held());
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
        state.disconnected || state.has_room() || !state.receivers.is_empty()
    }

    /// Whether a receive would not wait.
    pub(super) fn can_recv(&self) -> bool {
        let state = self.state.lock();
        state.disconnected || !state.queue.is_empty() || !state.senders.is_empty()
    }

    /// Queues a waiter that has armed its claim, and its place with a message, unless sending could
    /// succeed or fail at once; what the waiter waits for itself does not count. Tells whether it did.
    ///
    /// # Safety
    /// As for [`WaitList::queue`], with [`leave_senders`](Self::leave_senders) to take it out.
    pub(super) unsafe fn queue_to_send(&self, place: &Place<T>, waiter: &Waiter, aim: Aim) -> bool {
        let state = self.state.lock();
        // SAFETY: under the lock; the rest is the caller's promise.
        let woken = unsafe {
            if state.disconnected || state.has_room() || state.receivers.holds_another_than(waiter)
            {
                return false;
            }
            match aim {
                Aim::Exchange => {
                    state.senders.queue(&place.node, waiter);
                    Woken::all_of(&state.recv_watchers)
                }
                Aim::Readiness => {
                    state.send_watchers.queue(&place.node, waiter);
                    Woken::Nobody
                }
            }
        };
        drop(state);
        woken.ready();
        true
    }

    /// As [`queue_to_send`](Self::queue_to_send), with an empty place to receive.
    ///
    /// # Safety
    /// As there, with [`leave_receivers`](Self::leave_receivers).
    pub(super) unsafe fn queue_to_recv(&self, place: &Place<T>, waiter: &Waiter, aim: Aim) -> bool {
        let state = self.state.lock();
        let has_message = !state.queue.is_empty();
        // SAFETY: under the lock; the rest is the caller's promise.
        let woken = unsafe {
            if state.disconnected || has_message || state.senders.holds_another_than(waiter) {
                return false;
            }
            match aim {
                Aim::Exchange => {
                    state.receivers.queue(&place.node, waiter);
                    Woken::all_of(&state.send_watchers)
                }
                Aim::Readiness => {
                    state.recv_watchers.queue(&place.node, waiter);
                    Woken::Nobody
                }
            }
        };
        drop(state);
        woken.ready();
        true
    }

    /// Takes a place out, if it is still there.
    ///
    /// # Safety
    /// It was queued to send with the same aim, if at all.
    pub(super) unsafe fn leave_senders(&self, place: &Place<T>, aim: Aim) {
        let state = self.state.lock();
        let list = match aim {
            Aim::Exchange => &state.senders,
            Aim::Readiness => &state.send_watchers,
        };
        // SAFETY: under the lock; the caller's promise.
        unsafe { list.remove(&place.node) };
    }

    /// Takes a place out, if it is still there.
    ///
    /// # Safety
    /// It was queued to receive with the same aim, if at all.
    pub(super) unsafe fn leave_receivers(&self, place: &Place<T>, aim: Aim) {
        let state = self.state.lock();
        let list = match aim {
            Aim::Exchange => &state.receivers,
            Aim::Readiness => &state.recv_watchers,
        };
        // SAFETY: under the lock; the caller's promise.
        unsafe { list.remove(&place.node) };
    }

    /// Wakes all who wait; what the senders among them hold goes back to them.
    fn disconnect(&self) {
        let woken = {
            let mut state = self.state.lock();
            state.disconnected = true;
            [
                &state.senders,
                &state.receivers,
                &state.send_watchers,
                &state.recv_watchers,
            ]
            // A node notified without an exchange means disconnection.
            .map(Woken::all_of)
        };
        woken.into_iter().for_each(Woken::ready);
    }
}

/// Why a send or receive did not happen.
pub(super) enum Failed {
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
