//! A connection as a drain sees it: whether it may be ended now.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicU8, Ordering},
};

use maniple::{
    JoinHandle,
    cancel::is_cancelled,
    net::{Shutdown, TcpStream},
    sync::Mutex,
};

/// A connection and what it is doing.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    state: AtomicU8,
    server: Mutex<Option<JoinHandle<()>>>,
}

/// Has not begun its first request.
pub(crate) const FRESH: u8 = 0;
/// Waits for a further request; a drain may end it.
pub(crate) const IDLE: u8 = 1;
/// Has begun to read a request.
const BUSY: u8 = 2;
/// Was idle when the drain came by: its reading side has been shut, so it answers what had arrived
/// and then finds the end.
const ENDING: u8 = 3;

impl Line {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            state: AtomicU8::new(FRESH),
            server: Mutex::new(None),
        }
    }

    /// Has a coroutine serve the connection from now on, by spawning it; nobody if the caller is cancelled.
    pub(crate) fn entrust(&self, spawn: impl FnOnce() -> JoinHandle<()>) {
        // Locked before it begins: it may be done, and have spawned the next, before the spawner goes on.
        let mut server = self.server.lock();
        // Whoever cancelled the caller does not know of the one who would follow.
        if !is_cancelled() {
            *server = Some(spawn());
        }
    }

    /// The coroutine that was to serve the connection.
    pub(crate) fn disown(&self) -> Option<JoinHandle<()>> {
        self.server.lock().take()
    }

    /// Cancels the coroutine that serves the connection; whether there is one.
    pub(crate) fn cancel(&self) -> bool {
        let server = self.server.lock();
        let serves = server.as_ref().map(JoinHandle::cancel).is_some();
        // One on standby has to be begun to end.
        let _ = self.stream.shutdown(Shutdown::Read);
        serves
    }

    /// Whether it has waited for a first request.
    pub(crate) fn has_rested(&self) -> bool {
        self.state.load(Ordering::Relaxed) != FRESH
    }

    /// From now on a drain may shut the connection.
    #[inline]
    pub(crate) fn rest(&self) {
        // A drain that comes by before this is visible to it sweeps again. What it has shut stays so.
        let _ = self
            .state
            .compare_exchange(BUSY, IDLE, Ordering::Release, Ordering::Relaxed);
    }

    /// A request may have come: a drain leaves the connection alone.
    #[inline]
    pub(crate) fn work(&self) {
        if self.state.swap(BUSY, Ordering::AcqRel) == ENDING {
            self.state.store(ENDING, Ordering::Release);
        }
    }

    /// Whether a drain has shut the reading side.
    pub(crate) fn is_ending(&self) -> bool {
        self.state.load(Ordering::Acquire) == ENDING
    }

    /// Ends a connection that is in that state: it will find no more than has arrived.
    pub(crate) fn end_if(&self, state: u8) -> bool {
        let ends = self
            .state
            .compare_exchange(state, ENDING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if ends {
            // An error says that the peer is gone already.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        ends
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
