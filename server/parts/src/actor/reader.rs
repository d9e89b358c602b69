//! A connection's reader: bytes to messages, messages to the actor, and the report of the end.

use std::{
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use maniple::{
    cancel::{is_cancelled, shield},
    panics,
    sync::channel::{Receiver, Sender},
};

use super::{
    codec::{Codec, CodecError},
    error::Closed,
    event::Event,
    shared::Shared,
    wire::Wire,
};
use crate::lines::panic_message;

/// Reads a connection, and reports to the actor.
pub(super) struct Reader<C: Codec> {
    pub(super) wire: Arc<Wire>,
    pub(super) shared: Arc<Shared>,
    pub(super) codec: C,
    /// `None` once the end has been reported.
    pub(super) events: Option<Sender<Event<C>>>,
    /// Disconnected once the sender has ended.
    pub(super) sender_ended: Receiver<()>,
}

impl<C: Codec> Reader<C> {
    pub(super) fn run(mut self) {
        let wire = self.wire.clone();
        let shared = self.shared.clone();
        let read = || {
            shared
                .abort
                .run(|| wire.reading.run(|| self.read_to_the_end()))
        };
        let reason = match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(Ok(reason))) => reason,
            Ok(_) => Closed::Drained,
            Err(_) if is_cancelled() => Closed::Drained,
            Err(payload) => {
                let text = format!("decoding panicked: {}", panic_message(&*payload));
                wire.log_panic(&text);
                panics::discard(payload);
                Closed::Codec(CodecError::Malformed(text.into()))
            }
        };
        let more = match reason {
            Closed::End | Closed::Failed(_) => More::Never,
            Closed::Codec(_) => More::Likely,
            _ => More::IfUnread,
        };
        self.report(reason);
        if more != More::Never && !wire.writing.is_cancelled() {
            let _ = shared.abort.run(|| self.linger(more));
        }
    }

    fn read_to_the_end(&mut self) -> Closed {
        let max_message_bytes = self.shared.limits.message;
        let mut input = Vec::new();
        let mut pace = maniple::time::now();
        loop {
            let filled = input.len();
            input.resize(filled + READ, 0);
            let read = (&self.wire.stream).read(&mut input[filled..]);
            input.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Closed::End,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Closed::Idle,
                Err(error) if maniple::cancel::is_cancelled_error(&error) => {
                    return Closed::Drained;
                }
                Err(error) => return Closed::Failed(error),
            }
            let mut start = 0;
            loop {
                match self.codec.decode(&input[start..]) {
                    Ok(Some((0, _))) => {
                        let text = "the codec made a message of nothing";
                        return Closed::Codec(CodecError::Malformed(text.into()));
                    }
                    Ok(Some((taken, _))) if taken > input.len() - start => {
                        let text = "the codec took more than there was";
                        return Closed::Codec(CodecError::Malformed(text.into()));
                    }
                    Ok(Some((taken, message))) => {
                        start += taken;
                        self.keep_pace(&mut pace);
                        if !self.tell(Event::Received(self.wire.id, message)) {
                            return Closed::Drained;
                        }
                    }
                    Ok(None) if input.len() - start > max_message_bytes => {
                        return Closed::Codec(CodecError::TooLong {
                            limit: max_message_bytes,
                        });
                    }
                    Ok(None) => break,
                    Err(error) => return Closed::Codec(error),
                }
            }
            input.drain(..start);
            // One long message must not have a connection keep so much for good.
            if input.len() < READ {
                input.shrink_to(2 * READ);
            }
        }
    }

    /// Waits if messages come faster than they may: each takes its share of the period, and `pace` is when those so far
    /// would have come without a burst.
    fn keep_pace(&self, pace: &mut Instant) {
        let Some((messages, period)) = self.shared.limits.rate else {
            return;
        };
        let now = maniple::time::now();
        *pace = (*pace).max(now) + period / messages;
        if let Some(ahead) = (*pace - now).checked_sub(period) {
            // Never a message. When the connection ends, what has been read is not waited for any more.
            let _ = self.sender_ended.recv_timeout(ahead);
        }
    }

    /// Waits for room. Not cut short: what was received is handled, and the end is reported. That ends, since
    /// the actor takes events as long as it is there.
    fn tell(&self, event: Event<C>) -> bool {
        let Some(events) = &self.events else {
            return false;
        };
        let backlog = &self.shared.backlog;
        backlog.fetch_add(1, Ordering::Relaxed);
        let told = shield(|| events.send(event)).is_ok();
        if !told {
            backlog.fetch_sub(1, Ordering::Relaxed);
        }
        told
    }

    fn reason(&self, own: Closed) -> Closed {
        self.wire.reason.lock().take().unwrap_or(own)
    }

    fn report(&mut self, own: Closed) {
        let reason = self.reason(own);
        self.tell(Event::Closed(self.wire.id, reason));
        self.events = None;
    }

    /// Closing with unread bytes would reset the connection, and so take from the peer what was sent last: waits
    /// until the sender is done, and then for a while reads what the peer still sends (RFC 9112, 9.6).
    fn linger(&self, more: More) {
        // Never a message, only the end.
        let _ = self.sender_ended.recv();
        let until = maniple::time::now() + LINGER;
        let mut buffer = vec![0; READ];
        let mut discarded = 0;
        if more == More::IfUnread {
            match self.wire.stream.try_read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => discarded = count,
            }
        }
        let _ = maniple::deadline(until, || {
            while discarded < MAX_LINGER_BYTES {
                match (&self.wire.stream).read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => discarded += count,
                }
            }
        });
    }
}

impl<C: Codec> Drop for Reader<C> {
    /// One that never began has its end to report all the same, from wherever it is dropped.
    fn drop(&mut self) {
        let Some(events) = self.events.take() else {
            return;
        };
        let reason = self.reason(Closed::Unserved("its reader could not begin".to_owned()));
        // Where a destructor runs nothing may be allowed to wait.
        self.shared.leave_unserved(self.wire.id, reason);
        // If there is no room, events are yet to come, and the look that follows each of them. If nobody is there to
        // receive, nobody is there to be told.
        let _ = events.try_send(Event::Unserved);
    }
}

/// Whether the peer may go on sending after the last that was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Never,
    /// If it has sent something that was not read.
    IfUnread,
    /// It is in the middle of something.
    Likely,
}

/// Read at a time.
const READ: usize = 4 * 1024;

/// How long the peer may go on sending after the server has closed its side.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 16 * 1024 * 1024;
