//! The ring of a broadcast: numbered messages, each until all have read it who were there when it came.
//!
//! ```text
//!    first                              end
//!      │ unread 1 │ unread 2 │ unread 2 │        a receiver is the number of the message it reads next
//! ```
//!
//! A receiver that was woken and has not run since is *owed a turn*. While there is one, a sender that may wait does so
//! rather than have a full ring cost anybody a message or the channel.
//!
//! What a receiver has not read is a tail of the ring, so the front is read by all first. Nobody takes part
//! who is behind the front: such a receiver is told what it missed, or is not counted any more.

use std::collections::VecDeque;

use super::{Lag, TryRecvError, message::Shares};
use crate::{
    wait::{self, Won},
    waiter::Claimed,
};

/// The ring, and who waits at it, under their lock.
pub(super) type Locked<'a, T> = wait::Locked<'a, Ring<T>, Waiting<T>, 2>;

/// A waiting sender's message.
pub(super) type Waiting<T> = Option<Shares<T>>;

/// Each waits with its message.
pub(super) const SENDING: usize = 0;
pub(super) const RECEIVING: usize = 1;

pub(super) struct Ring<T> {
    slots: VecDeque<Slot<T>>,
    /// The number of the front slot's message.
    first: u64,
    pub(super) capacity: usize,
    lag: Lag,
    pub(super) senders: usize,
    pub(super) receivers: usize,
    /// Those who wait to receive are to look again.
    news: bool,
    /// Receivers that were woken and have not run since.
    owed: usize,
    /// Receivers left, so the front may have no readers any more.
    stale: bool,
}

struct Slot<T> {
    /// One for each who is to read it, and those of receivers that left.
    message: Shares<T>,
    unread: usize,
}

/// Why a send was not done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Disconnected,
}

/// What is to be done outside the lock, where messages are dropped and waiters made ready.
pub(super) enum Chore<T> {
    Drop(Shares<T>),
    /// And what had to go for its message.
    Wake(Claimed, Option<Shares<T>>),
    WakeAll(Won<Waiting<T>>),
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize, lag: Lag) -> Self {
        Self {
            slots: VecDeque::new(),
            first: 0,
            capacity,
            lag,
            senders: 1,
            receivers: 0,
            news: false,
            owed: 0,
            stale: false,
        }
    }

    /// The number that the next message will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// How many messages a receiver that reads `next` could read.
    pub(super) fn ahead_of(&self, next: u64) -> usize {
        match next < self.first && self.lag == Lag::Disconnect {
            true => 0,
            false => (self.end() - next.max(self.first)) as usize,
        }
    }

    /// Takes out the oldest message, and with [`Lag::Disconnect`] who has not read it.
    fn make_room(&mut self) -> Option<Shares<T>> {
        if self.lag == Lag::Disconnect {
            self.uncount(self.unread_of_oldest(), self.first);
        }
        self.pop()
    }

    fn unread_of_oldest(&self) -> usize {
        self.slots.front().map_or(0, |slot| slot.unread)
    }

    /// A receiver that was woken runs.
    pub(super) fn has_its_turn(&mut self) {
        self.owed -= 1;
    }

    /// Reads message `next` and advances it.
    pub(super) fn try_recv(&mut self, next: &mut u64) -> Result<Shares<T>, TryRecvError> {
        if *next < self.first {
            if self.lag == Lag::Disconnect {
                return Err(TryRecvError::Expelled);
            }
            let missed = self.first - std::mem::replace(next, self.first);
            return Err(TryRecvError::Lagged(missed));
        }
        let at = (*next - self.first) as usize;
        let Some(slot) = self.slots.get_mut(at) else {
            return Err(match self.senders {
                0 => TryRecvError::Disconnected,
                _ => TryRecvError::Empty,
            });
        };
        *next += 1;
        slot.unread -= 1;
        if at > 0 || slot.unread > 0 {
            return Ok(slot.message.split());
        }
        // The last reader gets all that is left, and thereby the original.
        self.pop().ok_or(TryRecvError::Empty)
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }

    fn pop(&mut self) -> Option<Shares<T>> {
        let slot = self.slots.pop_front()?;
        self.first += 1;
        Some(slot.message)
    }

    /// So many receivers, who have read all before `from`, count no more.
    fn uncount(&mut self, receivers: usize, from: u64) {
        self.receivers -= receivers;
        self.stale = true;
        let read = (from - self.first) as usize;
        self.slots
            .iter_mut()
            .skip(read)
            .for_each(|slot| slot.unread -= receivers);
    }
}

impl<T> Locked<'_, T> {
    /// Takes the message in; returns what had to go for it. One that may wait is refused while somebody is owed a turn
    /// who might make room.
    pub(super) fn try_send(
        &mut self,
        message: &mut Option<Shares<T>>,
        may_wait: bool,
    ) -> (Result<(), Refused>, Option<Shares<T>>) {
        if self.receivers == 0 {
            return (Err(Refused::Disconnected), None);
        }
        let waits = self.lag == Lag::Block || may_wait;
        let is_kept_full = self.is_full() && (self.lag == Lag::Block || self.owed > 0);
        if waits && (is_kept_full || !self.is_empty(SENDING)) {
            return (Err(Refused::Full), None);
        }
        let gone = match self.is_full() {
            true => self.make_room(),
            false => None,
        };
        if self.receivers == 0 {
            return (Err(Refused::Disconnected), gone);
        }
        message
            .take()
            .into_iter()
            .for_each(|message| self.push(message));
        (Ok(()), gone)
    }

    /// A receiver that reads `next` is gone.
    pub(super) fn receiver_leaves(&mut self, next: u64) -> Option<(Chore<T>, bool)> {
        if next >= self.first || self.lag != Lag::Disconnect {
            let unread_from = next.max(self.first);
            self.uncount(1, unread_from);
        }
        self.chore()
    }

    pub(super) fn sender_leaves(&mut self) -> Option<(Chore<T>, bool)> {
        self.senders -= 1;
        self.news |= self.senders == 0;
        self.chore()
    }

    /// The next thing to do after a change, and whether there may be more: then to be asked again.
    #[inline]
    pub(super) fn chore(&mut self) -> Option<(Chore<T>, bool)> {
        if !self.may_be_due() {
            return None;
        }
        let chore = self.due()?;
        Some((chore, self.may_be_due()))
    }

    #[inline]
    fn may_be_due(&self) -> bool {
        self.news || self.stale || !self.is_empty(SENDING)
    }

    fn due(&mut self) -> Option<Chore<T>> {
        if std::mem::take(&mut self.news) && !self.is_empty(RECEIVING) {
            let all = self.notify_all(RECEIVING);
            self.owed += all.count();
            return Some(Chore::WakeAll(all));
        }
        if self.stale {
            if self.slots.front().is_some_and(|slot| slot.unread == 0) {
                return self.pop().map(Chore::Drop);
            }
            self.stale = false;
        }
        let needs_room = self.receivers > 0 && self.is_full();
        if needs_room && (self.lag == Lag::Block || self.owed > 0) {
            return None;
        }
        let mut sent = None;
        let expels_all =
            needs_room && self.lag == Lag::Disconnect && self.unread_of_oldest() == self.receivers;
        let disconnected = self.receivers == 0 || expels_all;
        // One that is notified and still has its message finds that nobody is there to receive it.
        let sender = self.notify_one_with(SENDING, |_, message| {
            if !disconnected {
                sent = message.take();
            }
        });
        let gone = match needs_room && sender.is_some() {
            true => self.make_room(),
            false => None,
        };
        sent.into_iter().for_each(|message| self.push(message));
        sender.map(|sender| Chore::Wake(sender, gone))
    }

    fn push(&mut self, mut message: Shares<T>) {
        let unread = self.receivers;
        message.issue(unread);
        self.slots.push_back(Slot { message, unread });
        self.news |= !self.is_empty(RECEIVING);
    }
}
