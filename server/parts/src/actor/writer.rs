//! A connection's sender: messages from the queue to bytes, and its end.

use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use maniple::{cancel::is_cancelled, net::Shutdown, panics, sim, sync::channel::Sender};

use super::{
    codec::{Codec, CodecError},
    error::Closed,
    queue::{Found, Head},
    shared::Shared,
    wire::Wire,
};
use crate::lines::panic_message;

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
                wire.log_panic(&text);
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
            sim::dawdle();
            // Beside an error there may be messages that came before it.
            let over = match self.collect(next, &mut output) {
                Err(reason) if output.is_empty() => return Err(reason),
                over => over,
            };
            let mut until = maniple::time::now() + timeout;
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
                until = maniple::time::now() + timeout;
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

impl<C: Codec> Drop for Writer<C> {
    fn drop(&mut self) {
        self.shared.senders.fetch_sub(1, Ordering::Relaxed);
        if !self.has_begun {
            let text = "its sender could not begin".to_owned();
            self.wire.end(Closed::Unserved(text));
        }
    }
}

/// Messages are collected up to this, in bytes, before they are sent.
const BATCH: usize = 16 * 1024;
