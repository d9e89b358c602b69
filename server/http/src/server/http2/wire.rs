//! A connection's transport as `h2` reads and writes it: without waiting. Who polls waits, with [`Wire::interest`].

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use maniple::{net::Interest, time::coarse_now};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{super::state::Connection, watch::Watch};
use crate::transport::Held;

/// What who polls the connection and what is polled share.
pub(super) struct Wire {
    connection: Arc<Connection>,
    /// What came before HTTP/2 was known to be spoken, and how much of it was read.
    ahead: RefCell<Vec<u8>>,
    read_ahead: Cell<usize>,
    pub(super) watch: RefCell<Watch>,
    /// Whether there was nothing to read.
    is_empty: Cell<bool>,
    held: RefCell<Held>,
    /// Since when there has been no room for what is to be sent.
    full_since: Cell<Option<Instant>>,
    /// Whether the peer has ended, or the transport failed.
    is_over: Cell<bool>,
}

impl Wire {
    pub(super) fn new(connection: Arc<Connection>, ahead: Vec<u8>, watch: Watch) -> Self {
        Self {
            connection,
            ahead: RefCell::new(ahead),
            read_ahead: Cell::new(0),
            watch: RefCell::new(watch),
            is_empty: Cell::new(false),
            held: RefCell::default(),
            full_since: Cell::new(None),
            is_over: Cell::new(false),
        }
    }

    /// What to wait for beside wakers, after a poll that came to nothing.
    pub(super) fn interest(&self) -> Option<Interest<'_>> {
        let (reads, writes) = (self.is_empty.get(), self.full_since.get().is_some());
        self.connection.transport.interest(reads, writes)
    }

    /// When the client must have taken something of what is to be sent.
    pub(super) fn taken_until(&self, stall: Duration) -> Option<Instant> {
        self.full_since.get()?.checked_add(stall)
    }

    /// Whether nothing can be read or sent any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Says why the connection ends, before `h2` does, which cannot add words (RFC 9113, 6.8). Where a frame is half sent it is
    /// left out.
    pub(super) fn say_why(&self, last_stream: u32, code: u32, words: &str) {
        if !self.watch.borrow().is_between_frames() {
            return;
        }
        let length = (8 + words.len() as u32).to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([GOAWAY, 0, 0, 0, 0, 0]);
        frame.extend(last_stream.to_be_bytes());
        frame.extend(code.to_be_bytes());
        frame.extend(words.as_bytes());
        self.held.borrow_mut().push(&frame);
    }

    fn settle<T>(&self, done: io::Result<T>) -> Poll<io::Result<T>> {
        if done.is_err() {
            self.is_over.set(true);
        }
        Poll::Ready(done)
    }

    /// Whether all that was written has left.
    fn try_flush(&self) -> io::Result<bool> {
        let transport = &self.connection.transport;
        let mut held = self.held.borrow_mut();
        let before = held.left();
        if before > 0 {
            let sent = held.try_send(transport);
            if held.left() < before {
                // It takes something.
                self.full_since.set(None);
            }
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(self.is_full());
                }
                Err(error) => return Err(error),
            }
        }
        while transport.unsent() > 0 {
            match transport.try_write(&[]) {
                Ok(_) if transport.unsent() == 0 => {}
                Ok(_) => return Ok(self.is_full()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(self.is_full());
                }
                Err(error) => return Err(error),
            }
        }
        self.full_since.set(None);
        Ok(true)
    }

    /// There is no room: no.
    fn is_full(&self) -> bool {
        let since = self.full_since.get().unwrap_or_else(coarse_now);
        self.full_since.set(Some(since));
        false
    }
}

const GOAWAY: u8 = 7;

/// The transport, to be given to `h2`.
pub(super) struct Polled(pub(super) Rc<Wire>);

impl AsyncRead for Polled {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        let mut ahead = wire.ahead.borrow_mut();
        if !ahead.is_empty() {
            let left = &ahead[wire.read_ahead.get()..];
            let count = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..count]);
            wire.watch.borrow_mut().came(&left[..count], coarse_now());
            wire.read_ahead.set(wire.read_ahead.get() + count);
            if wire.read_ahead.get() == ahead.len() {
                *ahead = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let transport = &wire.connection.transport;
        transport.wake_by(context.waker());
        // `h2` asks again for each request that it hands out, and all of them came with one read.
        if wire.is_empty.get() && !transport.may_be_readable() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        match transport.try_read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                wire.is_empty.set(false);
                wire.is_over.set(count == 0);
                let came = &buffer.filled()[before..];
                wire.watch.borrow_mut().came(came, coarse_now());
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wire.is_empty.set(true);
                Poll::Pending
            }
            Err(error) => wire.settle(Err(error)),
        }
    }
}

impl AsyncWrite for Polled {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &*self.0;
        wire.connection.transport.wake_by(context.waker());
        if wire.held.borrow().is_full() {
            match wire.try_flush() {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(error) => return wire.settle(Err(error)),
            }
        }
        wire.held.borrow_mut().push(bytes);
        wire.watch.borrow_mut().left(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        wire.connection.transport.wake_by(context.waker());
        match wire.try_flush() {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => wire.settle(Err(error)),
        }
    }

    /// Who serves the connection ends it, once all of this is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
