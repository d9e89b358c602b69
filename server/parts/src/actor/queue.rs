//! A connection's outgoing queue: from the actor to the connection's sender, within bounds.
//!
//! ```text
//!   actor ──► Tail ──► messages ──► Head ──► sender ──► socket
//!               ▲                     │
//!               └── "had its turn" ◄──┘
//! ```
//!
//! A full queue says that the peer lags only if the sender could have emptied it: while it waits for the peer to take
//! what has been written it is *stuck*, and then the [`Laggard`] decides at once. A sender that has merely had no turn
//! since is given one: the actor waits until the queue is half empty, or the sender stuck or ended. So a peer that does
//! not read has nobody wait for it, and who sends more than the senders can write is slowed down.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use maniple::{
    cancel::{Interrupt, check},
    panics,
    sync::channel::{Receiver, RecvError, Sender, bounded},
};

use super::settings::{Bounds, Laggard};

/// A queue that decides by `lag`, and the size of its messages in bytes.
pub(super) fn queue<M>(bounds: Bounds, lag: Laggard, size: fn(&M) -> usize) -> (Tail<M>, Head<M>) {
    let shared = Arc::new(Queue {
        bounds,
        lag,
        state: Mutex::new(State {
            messages: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            is_idle: false,
            is_stuck: false,
            is_awaited: false,
            has_ended: false,
        }),
    });
    let (ring, bell) = bounded(1);
    let (tell, turns) = bounded(1);
    let tail = Tail {
        shared: shared.clone(),
        size,
        ring,
        turns,
    };
    (tail, Head { shared, bell, tell })
}

struct Queue<M> {
    bounds: Bounds,
    lag: Laggard,
    /// Never held over a wait, nor over what is the user's.
    state: Mutex<State<M>>,
}

struct State<M> {
    /// With their sizes.
    messages: VecDeque<(M, usize)>,
    bytes: usize,
    /// Since the sender was told.
    dropped: u64,
    /// The sender waits for a message.
    is_idle: bool,
    /// The sender waits for the peer, or has had no turn in all the time that it may take.
    is_stuck: bool,
    /// The actor waits for the sender.
    is_awaited: bool,
    has_ended: bool,
}

impl<M> Queue<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    fn has_room(&self, bounds: Bounds, size: usize) -> bool {
        let fits = self.bytes.saturating_add(size) <= bounds.bytes;
        self.messages.is_empty() || (self.messages.len() < bounds.messages && fits)
    }

    fn is_half_empty(&self, bounds: Bounds) -> bool {
        self.messages.len() <= bounds.messages / 2 && self.bytes <= bounds.bytes / 2
    }

    fn pop(&mut self) -> Option<M> {
        let (message, size) = self.messages.pop_front()?;
        self.bytes -= size;
        Some(message)
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Lagged,
    /// The sender has ended.
    Ended,
}

/// Where the actor puts messages in. Dropped, it lets the sender end once it has sent what is there.
pub(super) struct Tail<M> {
    shared: Arc<Queue<M>>,
    size: fn(&M) -> usize,
    /// Rung when the sender may wait for a message.
    ring: Sender<()>,
    turns: Receiver<()>,
}

/// How long a sender may have no turn before it counts as stuck: one that waits for a worker of a pool, or whose worker
/// is held.
const TURN: Duration = Duration::from_secs(1);

impl<M> Tail<M> {
    /// Takes a message in. Gives way to the sender if there is no room and it has not had its turn.
    pub(super) fn send(&self, message: M) -> Result<(), Refused> {
        let Queue { bounds, lag, .. } = *self.shared;
        let size = (self.size)(&message);
        loop {
            let mut state = self.shared.lock();
            if state.has_ended {
                return Err(Refused::Ended);
            }
            if state.has_room(bounds, size) {
                state.messages.push_back((message, size));
                state.bytes = state.bytes.saturating_add(size);
                let is_idle = std::mem::take(&mut state.is_idle);
                drop(state);
                if is_idle {
                    // A bell that rings already is enough.
                    let _ = self.ring.try_send(());
                }
                return Ok(());
            }
            match (state.is_stuck, lag) {
                (false, _) => {
                    state.is_awaited = true;
                    drop(state);
                    self.wait_for_a_turn(size);
                }
                (true, Laggard::Disconnect) => return Err(Refused::Lagged),
                (true, Laggard::DropOldest) => {
                    let oldest = state.pop();
                    state.dropped += 1;
                    drop(state);
                    panics::catch(|| drop(oldest));
                }
            }
        }
    }

    #[cold]
    fn wait_for_a_turn(&self, size: usize) {
        if self.turns.recv_timeout(TURN).is_err() {
            let mut state = self.shared.lock();
            state.is_awaited = false;
            state.is_stuck = !state.has_room(self.shared.bounds, size);
        }
    }

    /// Messages that wait, and their bytes.
    pub(super) fn len(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.messages.len(), state.bytes)
    }
}

/// Where the sender takes messages out.
pub(super) struct Head<M> {
    shared: Arc<Queue<M>>,
    bell: Receiver<()>,
    tell: Sender<()>,
}

/// What the sender finds.
#[derive(Debug)]
pub(super) enum Found<M> {
    Message(M),
    /// So many were dropped here.
    Dropped(u64),
}

impl<M> Head<M> {
    /// What is first in the queue, or will be; `None` if nothing more is to come.
    pub(super) fn wait(&self) -> Result<Option<Found<M>>, Interrupt> {
        check()?;
        loop {
            if let Some(found) = self.look(true) {
                return Ok(Some(found));
            }
            match self.bell.recv() {
                Ok(()) => {}
                // What was put in before the tail went is there to be seen.
                Err(RecvError::Disconnected) => return Ok(self.look(false)),
                Err(RecvError::Cancelled) => return Err(Interrupt::Cancelled),
                Err(RecvError::Elapsed) => return Err(Interrupt::Elapsed),
            }
        }
    }

    /// What is first in the queue.
    pub(super) fn take(&self) -> Option<Found<M>> {
        self.look(false)
    }

    fn look(&self, will_wait: bool) -> Option<Found<M>> {
        let mut state = self.shared.lock();
        state.is_stuck = false;
        let found = match std::mem::take(&mut state.dropped) {
            0 => state.pop().map(Found::Message),
            count => Some(Found::Dropped(count)),
        };
        state.is_idle = will_wait && found.is_none();
        let had_its_turn = state.is_half_empty(self.shared.bounds);
        self.tell_if(had_its_turn, state);
        found
    }

    /// Whether the sender waits for the peer.
    pub(super) fn set_stuck(&self, is_stuck: bool) {
        let mut state = self.shared.lock();
        state.is_stuck = is_stuck;
        self.tell_if(is_stuck, state);
    }

    fn tell_if(&self, had_its_turn: bool, mut state: MutexGuard<'_, State<M>>) {
        if had_its_turn && std::mem::take(&mut state.is_awaited) {
            drop(state);
            // If one is under way it will do.
            let _ = self.tell.try_send(());
        }
    }
}

impl<M> Drop for Head<M> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.has_ended = true;
        let left = std::mem::take(&mut state.messages);
        state.bytes = 0;
        self.tell_if(true, state);
        for message in left {
            panics::catch(|| drop(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(lag: Laggard) -> (Tail<u32>, Head<u32>) {
        let bounds = Bounds {
            messages: 3,
            bytes: 100,
        };
        queue(bounds, lag, |&message| message as usize)
    }

    fn rest(head: &Head<u32>) -> Vec<u32> {
        let next = || match head.take()? {
            Found::Message(message) => Some(message),
            Found::Dropped(count) => Some(1000 + count as u32),
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_stuck_sender_is_judged_at_once() {
        let (tail, head) = small(Laggard::Disconnect);
        head.set_stuck(true);
        (1..=3).for_each(|n| assert_eq!(tail.send(n), Ok(())));
        assert_eq!(tail.send(4), Err(Refused::Lagged));
        assert_eq!(rest(&head), [1, 2, 3]);
        let (tail, head) = small(Laggard::DropOldest);
        head.set_stuck(true);
        (1..=5).for_each(|n| assert_eq!(tail.send(n), Ok(())));
        assert_eq!(rest(&head), [1002, 3, 4, 5]);
    }

    #[test]
    fn bytes_are_bounded_but_for_one_message() {
        let (tail, head) = small(Laggard::Disconnect);
        head.set_stuck(true);
        assert_eq!(tail.send(60), Ok(()));
        assert_eq!(tail.send(40), Ok(()));
        assert_eq!(tail.send(1), Err(Refused::Lagged));
        assert_eq!(tail.len(), (2, 100));
        assert_eq!(rest(&head), [60, 40]);
        assert_eq!(tail.send(5000), Ok(()));
        head.set_stuck(true);
        assert_eq!(tail.send(0), Err(Refused::Lagged));
        assert_eq!(rest(&head), [5000]);
    }

    #[test]
    fn a_sender_without_a_turn_is_given_one() {
        let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
        for lag in [Laggard::Disconnect, Laggard::DropOldest] {
            runtime.run(|| {
                let (tail, head) = small(lag);
                let sender = maniple::spawn(move || {
                    let mut all = Vec::new();
                    while let Ok(Some(Found::Message(message))) = head.wait() {
                        all.push(message);
                    }
                    all
                });
                (0..100).for_each(|n| assert_eq!(tail.send(n % 7), Ok(())));
                drop(tail);
                assert_eq!(sender.join().unwrap().len(), 100);
            });
        }
    }

    #[test]
    fn senders_that_wait_for_an_actor_learn_that_it_has_ended() {
        let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let (tail, head) = small(Laggard::Disconnect);
            (1..=3).for_each(|n| assert_eq!(tail.send(n), Ok(())));
            let ending = maniple::spawn(move || drop(head));
            assert_eq!(tail.send(4), Err(Refused::Ended));
            ending.join().unwrap();
        });
    }

    #[test]
    fn a_sender_that_never_has_a_turn_counts_as_stuck() {
        let (tail, head) = small(Laggard::Disconnect);
        (1..=3).for_each(|n| assert_eq!(tail.send(n), Ok(())));
        assert_eq!(tail.send(4), Err(Refused::Lagged));
        assert_eq!(tail.send(5), Err(Refused::Lagged), "and at once");
        assert_eq!(rest(&head), [1, 2, 3]);
    }
}
