//! One topic: a ring of messages for each way to treat laggards, and turns among the publishers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use maniple::{
    cancel::shield,
    sim,
    sync::{
        Mutex, broadcast,
        channel::{Receiver, SendError, SendTimeoutError, Sender, bounded},
    },
};

use super::lag::Lag;

pub(super) struct Topic<M> {
    /// Full while somebody publishes. A channel rather than a lock, since waiting for one is never cut short.
    turn: (Sender<()>, Receiver<()>),
    rings: Mutex<Rings<M>>,
}

/// Each there since its first member.
struct Rings<M> {
    waited_for: Option<broadcast::Sender<M>>,
    dropping: Option<broadcast::Sender<M>>,
    disconnecting: Option<broadcast::Sender<M>>,
}

impl<M> Rings<M> {
    fn all(&self) -> impl Iterator<Item = &broadcast::Sender<M>> {
        let all = [&self.waited_for, &self.dropping, &self.disconnecting];
        all.into_iter().flatten()
    }
}

/// What cut a publisher short.
pub(super) enum Cut {
    Cancelled,
    Elapsed,
}

impl<T> From<SendError<T>> for Cut {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Elapsed(_) => Cut::Elapsed,
            SendError::Cancelled(_) | SendError::Disconnected(_) => Cut::Cancelled,
        }
    }
}

impl<M> Topic<M> {
    pub(super) fn new() -> Self {
        Self {
            turn: bounded(1),
            rings: Mutex::new(Rings {
                waited_for: None,
                dropping: None,
                disconnecting: None,
            }),
        }
    }

    pub(super) fn subscribe(&self, lag: Lag, queue: usize) -> broadcast::Receiver<M> {
        let mut rings = self.rings.lock();
        let (ring, lag) = match lag {
            Lag::Wait => (&mut rings.waited_for, broadcast::Lag::Block),
            Lag::DropOldest => (&mut rings.dropping, broadcast::Lag::DropOldest),
            Lag::Disconnect => (&mut rings.disconnecting, broadcast::Lag::Disconnect),
        };
        match ring {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(queue, lag);
                *ring = Some(sender);
                receiver
            }
        }
    }

    pub(super) fn members(&self) -> usize {
        let rings = self.rings.lock();
        rings.all().map(broadcast::Sender::receiver_count).sum()
    }
}

impl<M: Clone> Topic<M> {
    /// To all members or none; how many there are, and a panic of what an older message left behind.
    pub(super) fn publish(&self, message: M) -> Result<(usize, thread::Result<()>), Cut> {
        self.turn.0.send(())?;
        let _turn = Turn(&self.turn.1);
        let rings = {
            let rings = self.rings.lock();
            let (dropping, disconnecting) = (rings.dropping.clone(), rings.disconnecting.clone());
            [rings.waited_for.clone(), dropping, disconnecting]
        };
        // All clones before the first send: a clone that panics must not leave half of them sent.
        let mut left = rings.iter().flatten().count();
        let mut original = Some(message);
        let [first, others @ ..] = rings.map(|ring| {
            let ring = ring?;
            left -= 1;
            let message = match left {
                0 => original.take(),
                _ => original.clone(),
            };
            message.map(|message| (ring, message))
        });
        let mut reached = 0;
        if let Some((ring, message)) = first {
            match ring.send(message) {
                Ok(()) => reached += ring.receiver_count(),
                // Its last member has left.
                Err(SendError::Disconnected(_)) => {}
                Err(cut) => return Err(cut.into()),
            }
        }
        let mut dropped = Ok(());
        for (ring, message) in others.into_iter().flatten() {
            sim::dawdle();
            // Neither waits but for members that are to have their turn; one without members refuses. It may drop a
            // message, whose destructor is the user's and must not keep the other ring from its share.
            let sent = catch_unwind(AssertUnwindSafe(|| send_after_turns(&ring, message)));
            dropped = dropped.and(sent);
            reached += ring.receiver_count();
        }
        Ok((reached, dropped))
    }
}

/// Sends to laggards' rings. Members that wait and have been woken have their turn before anybody is judged, if
/// they get it in time. Not cut short: others may have got the message already.
fn send_after_turns<M>(ring: &broadcast::Sender<M>, message: M) {
    if let Err(SendTimeoutError::Timeout(message)) = shield(|| ring.send_timeout(message, TURN)) {
        drop(ring.try_send(message));
    }
}

/// How long a publisher waits for members to have their turn.
const TURN: Duration = Duration::from_secs(1);

/// A publisher's turn, over when dropped.
struct Turn<'a>(&'a Receiver<()>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}
