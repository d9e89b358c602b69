//! One connection as its reader, its sender and the actor see it.
//!
//! ```text
//!   socket ──► reader: bytes to messages ──► events (bounded, the server's) ──► actor
//!      ▲                                                                          │
//!      └────── sender: messages to bytes ◄── queue (bounded, the connection's) ◄──┘
//! ```
//!
//! The reader alone reports the end, after all that it received. Anyone else who ends a connection (the sender that
//! cannot write, the actor, a drain) leaves the reason in the wire and stops the reader.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use maniple::{
    cancel::CancelToken,
    log_limit::LogLimit,
    log_within,
    net::{Shutdown, TcpStream},
    sync::{Mutex, OwnedSemaphorePermit},
};

use super::{
    error::Closed,
    shared::{ConnId, Shared},
};
use crate::lines::MOST_LINES;

/// A connection as all who handle it see it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) id: ConnId,
    pub(super) stream: TcpStream,
    /// Ends the reader.
    pub(super) reading: CancelToken,
    /// Ends the sender, in the middle of a write too.
    pub(super) writing: CancelToken,
    /// Why it ends; the first reason stays.
    pub(super) reason: Mutex<Option<Closed>>,
    /// What is queued is all that is still to be sent.
    pub(super) closing: AtomicBool,
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

    #[cold]
    pub(super) fn log_panic(&self, text: &str) {
        static RATE: LogLimit = LogLimit::new(MOST_LINES);
        let (name, id) = (&self.shared.name, self.id);
        log_within!(RATE, error, "{name}, connection {id}: {text}");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}
