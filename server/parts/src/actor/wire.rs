//! The low layer: one connection, its reader and its sender.
//!
//! ```text
//!   socket ──► reader: bytes to messages ──► events (bounded, the server's) ──► actor
//!      ▲                                                                          │
//!      └────── sender: messages to bytes ◄── queue (bounded, the connection's) ◄──┘
//! ```
//!
//! The reader alone reports the end, after all that it received. Anyone else who ends a connection (the sender that
//! cannot write, the actor, a drain) leaves the reason in the wire and stops the reader.

use std::{
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::{CancelToken, is_cancelled, shield},
    log_limit::LogLimit,
    log_within,
    net::{Shutdown, TcpStream},
    panics,
    sync::{
        Mutex, OwnedSemaphorePermit,
        channel::{Receiver, Sender},
    },
};

use super::{
    codec::{Codec, CodecError},
    outbox::ConnId,
    queue::{Found, Head},
    server::{Event, Shared},
};
use crate::{MOST_LINES, pool::panic_message};

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// The peer ended its side; it may still read. A message that it had begun is dropped.
    #[error("the peer ended its side")]
    End,
    /// Reading or writing failed: as a rule, the peer reset the connection.
    #[error("the connection broke: {0}")]
    Failed(#[source] io::Error),
    /// The peer sent what is no message, or the actor sent what cannot be written.
    #[error(transparent)]
    Codec(CodecError),
    /// Nothing came for the idle time.
    #[error("nothing came for too long")]
    Idle,
    /// The outgoing queue was full while the peer took nothing, and laggards are disconnected.
    #[error("the peer fell behind")]
    Lagged,
    /// The peer did not take what was sent within the write timeout.
    #[error("the peer took nothing for too long")]
    WriteTimeout,
    /// The actor closed it.
    #[error("closed by the actor")]
    ByActor,
    /// The server drains, or its runtime ends.
    #[error("the server drains")]
    Drained,
    /// No coroutine could be had for it: out of stacks, or the pool refused.
    #[error("the connection could not be served: {0}")]
    Unserved(String),
}

/// A connection as all who handle it see it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) id: ConnId,
    stream: TcpStream,
    /// Ends the reader.
    reading: CancelToken,
    /// Ends the sender, in the middle of a write too.
    writing: CancelToken,
    /// Why it ends; the first reason stays.
    reason: Mutex<Option<Closed>>,
    /// What is queued is all that is still to be sent.
    closing: AtomicBool,
    shared: Arc<Shared>,
    /// After the stream, so that it is closed before another is accepted.
    _place: OwnedSemaphorePermit,
}

impl Wire {
    pub(super) fn new(
        id: ConnId,
        stream: TcpStream,
        shared: Arc<Shared>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            id,
            stream,
            reading: CancelToken::new(),
            writing: CancelToken::new(),
            reason: Mutex::new(None),
            closing: AtomicBool::new(false),
            _place: place,
        }
    }

    /// Ends the reading; what is queued is still sent.
    pub(super) fn end(&self, reason: Closed) {
        self.reason.lock().get_or_insert(reason);
        self.reading.cancel();
    }

    /// Ends both directions at once.
    pub(super) fn cut(&self, reason: Closed) {
        self.end(reason);
        self.writing.cancel();
        // An error says that the peer is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(super) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

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
                log_panic(&wire, &text);
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
        let max_message = self.shared.limits.message;
        let mut input = Vec::new();
        let mut pace = Instant::now();
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
                    Ok(None) if input.len() - start > max_message => {
                        return Closed::Codec(CodecError::TooLong { limit: max_message });
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
        let now = Instant::now();
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
        let until = Instant::now() + LINGER;
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
        self.shared.report_unserved(&events, self.wire.id, reason);
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

/// Writes what the actor sends.
pub(super) struct Writer<C: Codec> {
    pub(super) wire: Arc<Wire>,
    pub(super) shared: Arc<Shared>,
    pub(super) codec: C,
    pub(super) queue: Head<C::Out>,
    /// What tells the peer how many messages were dropped.
    pub(super) notice: fn(u64) -> Option<C::Out>,
    pub(super) has_begun: bool,
    /// Dropped last, to tell the reader.
    pub(super) _ended: Sender<()>,
}

impl<C: Codec> Writer<C> {
    pub(super) fn run(mut self) {
        self.has_begun = true;
        let wire = self.wire.clone();
        let shared = self.shared.clone();
        let write = || {
            shared
                .abort
                .run(|| wire.writing.run(|| self.write_to_the_end()))
        };
        match catch_unwind(AssertUnwindSafe(write)) {
            Ok(Ok(Ok(Ok(())))) => {}
            Ok(Ok(Ok(Err(reason)))) => wire.end(reason),
            Ok(_) => wire.end(Closed::Drained),
            Err(_) if is_cancelled() => wire.end(Closed::Drained),
            Err(payload) => {
                let text = format!("encoding panicked: {}", panic_message(&*payload));
                log_panic(&wire, &text);
                panics::discard(payload);
                wire.end(Closed::Codec(CodecError::Malformed(text.into())));
            }
        }
        // An error says that the peer is gone already.
        let _ = wire.stream.shutdown(Shutdown::Write);
    }

    /// Until there is nothing more to come.
    fn write_to_the_end(&mut self) -> Result<(), Closed> {
        let timeout = self.shared.limits.write_timeout;
        let mut output = Vec::new();
        let mut last = None;
        loop {
            let Ok(next) = self.queue.wait() else {
                return Err(Closed::Drained);
            };
            // Beside an error there may be messages that came before it.
            let over = match self.collect(next, &mut output) {
                Err(reason) if output.is_empty() => return Err(reason),
                over => over,
            };
            let mut until = Instant::now() + timeout;
            let is_last = self.wire.closing.load(Ordering::Acquire);
            if is_last {
                // What is left has one timeout in all.
                until = *last.get_or_insert(until);
            }
            let mut rest = &output[..];
            let mut owed = self.owed(rest);
            loop {
                match maniple::deadline(until, || self.write(&mut rest)) {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) if maniple::cancel::is_cancelled_error(&error) => {
                        return Err(Closed::Drained);
                    }
                    Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => {
                        return Err(Closed::Failed(error));
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
                // A connection becomes writable only once a third of the kernel's buffer is free, for which a slow
                // peer may need long. What counts is what it has acknowledged.
                let left = self.owed(rest);
                if is_last || left >= owed {
                    // Else what breaks off here would have an orderly end. An error says that the peer is gone.
                    let _ = self.wire.stream.reset_on_close();
                    return Err(Closed::WriteTimeout);
                }
                owed = left;
                until = Instant::now() + timeout;
            }
            if over? {
                return Ok(());
            }
            output.clear();
            output.shrink_to(2 * BATCH);
        }
    }

    /// How much the peer has not acknowledged, with what is still to be written.
    fn owed(&self, rest: &[u8]) -> usize {
        let unacknowledged = self.wire.stream.unacknowledged().unwrap_or(0);
        unacknowledged.saturating_add(rest.len())
    }

    /// Writes all, and has the actor know while that waits for the peer. What is left when it is cut is in `output`.
    fn write(&self, output: &mut &[u8]) -> io::Result<()> {
        let mut stream = &self.wire.stream;
        while !output.is_empty() {
            let written = match stream.try_write(output) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.queue.set_stuck(true);
                    let written = stream.write(output);
                    self.queue.set_stuck(false);
                    written
                }
                written => written,
            };
            *output = &output[written?..];
        }
        Ok(())
    }

    /// Puts what is there into one write, up to a message that cannot be written. Whether it was the last.
    fn collect(
        &mut self,
        mut next: Option<Found<C::Out>>,
        output: &mut Vec<u8>,
    ) -> Result<bool, Closed> {
        if next.is_none() {
            return Ok(true);
        }
        while let Some(found) = next {
            let message = match found {
                Found::Message(message) => Some(message),
                Found::Dropped(count) => (self.notice)(count),
            };
            if let Some(message) = message {
                let whole = output.len();
                if let Err(error) = self.codec.encode(&message, output) {
                    output.truncate(whole);
                    return Err(Closed::Codec(error));
                }
            }
            if output.len() >= BATCH {
                break;
            }
            next = self.queue.take();
        }
        Ok(false)
    }
}

#[cold]
fn log_panic(wire: &Wire, text: &str) {
    static RATE: LogLimit = LogLimit::new(MOST_LINES);
    let (name, id) = (&wire.shared.name, wire.id);
    log_within!(RATE, error, "{name}, connection {id}: {text}");
}

impl<C: Codec> Drop for Writer<C> {
    fn drop(&mut self) {
        self.shared.senders.fetch_sub(1, Ordering::Relaxed);
        if !self.has_begun {
            let text = "its sender could not begin".to_owned();
            self.wire.end(Closed::Unserved(text));
        }
    }
}

/// Read at a time.
const READ: usize = 4 * 1024;

/// Messages are collected up to this, in bytes, before they are sent.
const BATCH: usize = 16 * 1024;

/// How long the peer may go on sending after the server has closed its side.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 16 * 1024 * 1024;
