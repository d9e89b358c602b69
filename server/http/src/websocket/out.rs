//! The way out of a WebSocket, which all who send on it share.
//!
//! Frames leave whole, one after the other: a sender has the lock while it writes one. A write that is cut short in the middle of
//! a frame leaves the rest behind, and the next one begins with it, so that cancelling a sender breaks nothing.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    io::{self, IoSlice, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use maniple::sync::Mutex;

use super::{
    error::Error,
    frame::{Head, MAX_HEAD, Opcode, apply},
    message::Frame,
};
use crate::server::{UpgradedWriter, out::is_own_timeout, upgrade::line::Line};

/// Payloads up to this are copied behind their heads, which is one call of the kernel with one buffer.
const COPIED: usize = 16 * 1024;

/// A buffer that has grown beyond this is given back.
const KEPT: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Out {
    state: Mutex<State>,
    /// A Close frame has been sent, or nothing can be any more.
    closed: AtomicBool,
    /// The peer was too slow for a queue.
    lagged: AtomicBool,
    line: Line,
}

#[derive(Debug)]
struct State {
    /// None once the connection has ended.
    writer: Option<UpgradedWriter>,
    /// A frame, or the rest of one that a cut write has left.
    buffer: Vec<u8>,
    sent: usize,
    masks: Option<Masks>,
}

/// What a client masks with: nobody who only chooses payloads can foresee it (RFC 6455, 10.3).
#[derive(Debug)]
struct Masks {
    keys: RandomState,
    count: u64,
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        let own = || self.keys.hash_one(self.count);
        let hash = maniple::sim::random().unwrap_or_else(own).to_ne_bytes();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl Out {
    pub(super) fn new(writer: UpgradedWriter, masked: bool) -> Self {
        Self {
            line: writer.line(),
            closed: AtomicBool::new(false),
            lagged: AtomicBool::new(false),
            state: Mutex::new(State {
                writer: Some(writer),
                buffer: Vec::new(),
                sent: 0,
                masks: masked.then(|| Masks {
                    keys: RandomState::new(),
                    count: 0,
                }),
            }),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sends a frame; none behind a Close.
    pub(super) fn send(&self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        let mut state = self.state.lock();
        if self.is_closed() {
            return Err(self.why_closed());
        }
        // What is behind a Close counts for nothing, whether or not it has left.
        if opcode == Opcode::Close {
            self.closed.store(true, Ordering::Release);
        }
        state
            .send(opcode, payload)
            .map_err(|error| self.explain(error))
    }

    /// Sends a frame that is ready to be sent, if it is not to be masked.
    pub(super) fn send_frame(&self, frame: &Frame) -> Result<(), Error> {
        let mut state = self.state.lock();
        if self.is_closed() {
            return Err(self.why_closed());
        }
        let sent = match &state.masks {
            Some(_) => state.send(frame.opcode(), frame.payload()),
            None => state.send_ready(frame.whole()),
        };
        sent.map_err(|error| self.explain(error))
    }

    /// Says that nothing more comes, if nobody is in the middle of a frame.
    pub(super) fn end(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(state) = self.state.try_lock()
            && let Some(writer) = &state.writer
        {
            // An error says that the peer is gone already.
            let _ = writer.shutdown();
        }
    }

    /// Ends the connection, also in the middle of a frame.
    pub(super) fn cut(&self) {
        self.closed.store(true, Ordering::Release);
        self.line.cut();
    }

    /// Ends it since a queue has run over.
    pub(super) fn cut_laggard(&self) {
        self.lagged.store(true, Ordering::Release);
        self.cut();
    }

    /// Ends it and gives up the half of the connection.
    pub(super) fn give_up(&self) {
        self.cut();
        let writer = self.state.lock().writer.take();
        drop(writer);
    }

    /// What to say instead of an error that the connection's end has caused.
    pub(super) fn why_closed(&self) -> Error {
        match self.lagged.load(Ordering::Acquire) {
            true => Error::Lagged,
            false => Error::Closed,
        }
    }

    fn explain(&self, error: io::Error) -> Error {
        if is_own_timeout(&error) {
            self.cut();
            return Error::Unanswered("message");
        }
        match self.lagged.load(Ordering::Acquire) {
            true => Error::Lagged,
            false => Error::Io(error),
        }
    }
}

impl State {
    fn send(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        self.flush()?;
        let mask = self.masks.as_mut().map(Masks::next);
        if mask.is_none() && payload.len() > COPIED {
            let mut head = Vec::with_capacity(MAX_HEAD);
            Head::write(opcode, payload.len(), None, &mut head);
            return self.write_both(&head, payload);
        }
        Head::write(opcode, payload.len(), mask, &mut self.buffer);
        let head = self.buffer.len();
        self.buffer.extend_from_slice(payload);
        if let Some(mask) = mask {
            apply(mask, 0, &mut self.buffer[head..]);
        }
        let flushed = self.flush();
        // Of what was cut short before it began nothing is left.
        if self.sent == 0 {
            self.buffer.clear();
        }
        flushed
    }

    fn send_ready(&mut self, frame: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.write_both(frame, &[])
    }

    /// Writes what has not left of the buffer.
    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.buffer.len() {
            let writer = self.writer.as_mut().ok_or_else(gone)?;
            self.sent += some(writer.write(&self.buffer[self.sent..]))?;
        }
        self.buffer.clear();
        self.sent = 0;
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Writes a frame in two parts; the rest stays in the buffer if that is cut short after it began.
    fn write_both(&mut self, one: &[u8], other: &[u8]) -> io::Result<()> {
        let writer = self.writer.as_mut().ok_or_else(gone)?;
        let mut sent = 0;
        while sent < one.len() + other.len() {
            let (one, other) = (
                &one[sent.min(one.len())..],
                &other[sent.saturating_sub(one.len())..],
            );
            let written = match one {
                [] => writer.write(other),
                _ if other.is_empty() => writer.write(one),
                _ => writer.write_vectored(&[IoSlice::new(one), IoSlice::new(other)]),
            };
            match some(written) {
                Ok(count) => sent += count,
                Err(error) => {
                    if sent > 0 {
                        self.buffer.extend_from_slice(one);
                        self.buffer.extend_from_slice(other);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn some(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        written => written,
    }
}

#[cold]
fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
