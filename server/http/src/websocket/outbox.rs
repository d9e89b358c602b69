//! A bounded queue of messages to a peer, and what becomes of a peer that is too slow for it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use maniple::sync::{
    broadcast::Lag,
    channel::{self, SendError, TrySendError},
};

use super::{error::Error, message::Frame, sender::Sender};

/// A queue of messages to one peer; made by [`Sender::queue`]. Clones are the same queue.
///
/// Its coroutine sends them in order, and ends once the last clone is dropped and the queue is empty, or the connection
/// has ended.
///
/// # Examples
/// ```
/// use maniple::sync::broadcast::Lag;
/// use maniple_server::websocket::{Frame, WebSocket};
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let (server, mut client) = WebSocket::pair();
///     let queue = server.sender().queue(16, Lag::DropOldest);
///     queue.send(Frame::text("tick"))?;
///     assert_eq!(client.receive()?, Some("tick".into()));
///     assert_eq!(queue.dropped(), 0);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Outbox {
    frames: channel::Sender<Frame>,
    /// To drop the oldest; the others must not keep the queue open.
    oldest: Option<channel::Receiver<Frame>>,
    lag: Lag,
    sender: Sender,
    dropped: Arc<AtomicU64>,
}

impl Sender {
    /// A queue of up to so many messages in front of it, with a coroutine that sends them, and a policy for a peer that
    /// takes them too slowly.
    ///
    /// # Panics
    /// If `messages` is 0.
    #[track_caller]
    pub fn queue(&self, messages: usize, lag: Lag) -> Outbox {
        Outbox::new(self.clone(), messages, lag)
    }
}

impl Outbox {
    #[track_caller]
    pub(super) fn new(sender: Sender, messages: usize, lag: Lag) -> Self {
        assert!(messages > 0, "a queue holds at least one message");
        let (frames, queued) = channel::bounded::<Frame>(messages);
        let oldest = matches!(lag, Lag::DropOldest).then(|| queued.clone());
        let sending = sender.clone();
        // Detached: it ends with the queue or the connection.
        drop(maniple::spawn(move || {
            while let Ok(frame) = queued.recv() {
                if sending.send_frame(&frame).is_err() {
                    break;
                }
            }
        }));
        Self {
            frames,
            oldest,
            lag,
            sender,
            dropped: Arc::default(),
        }
    }

    /// Queues a message. If there is no room, [`Lag::Block`] waits for it; [`Lag::DropOldest`] drops the oldest message;
    /// [`Lag::Disconnect`] ends the connection.
    ///
    /// # Errors
    /// [`Error::Closed`] once the connection has ended; [`Error::Lagged`] if it ended since this queue was full;
    /// [`Error::Io`] if the wait for room was cut short.
    pub fn send(&self, message: impl Into<Frame>) -> Result<(), Error> {
        let out = &self.sender.out;
        if out.is_closed() {
            return Err(out.why_closed());
        }
        let mut frame = message.into();
        loop {
            frame = match (self.lag, self.frames.try_send(frame)) {
                (_, Ok(())) => return Ok(()),
                (_, Err(TrySendError::Disconnected(_))) => return Err(out.why_closed()),
                (Lag::DropOldest, Err(TrySendError::Full(frame))) => {
                    let oldest = self.oldest.as_ref().map(channel::Receiver::try_recv);
                    if let Some(Ok(_)) = oldest {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    frame
                }
                (Lag::Disconnect, Err(TrySendError::Full(_))) => {
                    out.cut_laggard();
                    return Err(Error::Lagged);
                }
                (_, Err(TrySendError::Full(frame))) => {
                    return self.frames.send(frame).map_err(|error| match error {
                        SendError::Disconnected(_) => out.why_closed(),
                        SendError::Cancelled(_) => {
                            Error::Io(std::io::Error::other(maniple::cancel::Cancelled))
                        }
                        SendError::Elapsed(_) => Error::Io(std::io::ErrorKind::TimedOut.into()),
                    });
                }
            };
        }
    }

    /// How many messages were dropped to make room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("waiting", &self.len())
            .field("lag", &self.lag)
            .finish_non_exhaustive()
    }
}
