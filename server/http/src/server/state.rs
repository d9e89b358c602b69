//! A connection as a drain sees it: whether it may be ended now.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use maniple::{
    JoinHandle,
    cancel::{CancelToken, Cause, is_cancelled},
    net::Shutdown,
};

use crate::{
    proxied::header::ProxyHeader,
    transport::{Policy, Transport},
};

/// A connection and what it is doing.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    /// Bytes a second of an answer that the client must take in the long run.
    pub(crate) slowest: u64,
    /// Of the listener that it came by.
    policy: Option<Arc<Policy>>,
    proxy: OnceLock<Box<ProxyHeader>>,
    state: AtomicU8,
    /// Cancelled when its server begins to drain.
    drain: OnceLock<CancelToken>,
    /// Held for some instructions, and not while a coroutine is spawned: a closure that is refused there is
    /// dropped there, and comes back to [`Connection::disown`].
    server: Mutex<Server>,
}

/// Who serves a connection: one coroutine after the other.
#[derive(Debug, Default)]
struct Server {
    /// The present one's, once its spawner has come back with it.
    handle: Option<JoinHandle<()>>,
    /// How many there have been.
    turn: u32,
    /// Whether the present one has ended without having begun.
    unbegun: bool,
    /// Whether there is to be no other, and the present one is to end.
    cancelled: bool,
}

/// Has not begun its first request.
pub(crate) const FRESH: u8 = 0;
/// Waits for a further request; a drain may end it.
pub(crate) const IDLE: u8 = 1;
/// Has begun to read a request.
const BUSY: u8 = 2;
/// Speaks HTTP no more: its new owner ends it.
const HANDED_OVER: u8 = 4;
/// Was idle when the drain came by: its reading side has been shut, so it answers what had arrived
/// and then finds the end.
const ENDING: u8 = 3;

/// Speaks HTTP/2, which has a drain of its own.
#[cfg(feature = "http2")]
const MANY: u8 = 5;

/// What connections do, by their state.
pub(crate) const STATES: [&str; 6] = ["new", "idle", "busy", "ending", "handed_over", "http2"];

impl Connection {
    pub(crate) fn new(transport: Transport, slowest: u64) -> Self {
        Self {
            transport,
            slowest,
            policy: None,
            proxy: OnceLock::new(),
            state: AtomicU8::new(FRESH),
            drain: OnceLock::new(),
            server: Mutex::default(),
        }
    }

    /// The same, from a listener with such a policy.
    pub(crate) fn under(self, policy: Option<Arc<Policy>>) -> Self {
        Self { policy, ..self }
    }

    pub(crate) fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref()
    }

    /// What stood before its first request.
    pub(crate) fn proxy(&self) -> Option<&ProxyHeader> {
        self.proxy.get().map(|header| &**header)
    }

    pub(crate) fn set_proxy(&self, header: ProxyHeader) {
        self.proxy.get_or_init(|| Box::new(header));
    }

    /// It is a server's, whose drain cancels this.
    pub(crate) fn know_of_drain(&self, drain: &CancelToken) {
        self.drain.get_or_init(|| drain.clone());
    }

    /// Cancelled when its server begins to drain, if it has one.
    #[cold]
    pub(crate) fn drain_token(&self) -> CancelToken {
        self.drain.get().cloned().unwrap_or_default()
    }

    /// Has a coroutine serve the connection from now on, by spawning it; nobody if the caller is cancelled.
    /// Returns it if it has ended already without having begun.
    pub(crate) fn entrust(&self, spawn: impl FnOnce() -> JoinHandle<()>) -> Option<JoinHandle<()>> {
        let turn = {
            let mut server = self.server();
            // The one who cancelled the caller does not know of the coroutine that would follow.
            if server.cancelled || is_cancelled() {
                return None;
            }
            server.turn += 1;
            server.unbegun = false;
            let former = server.handle.take();
            let turn = server.turn;
            drop(server);
            drop(former);
            turn
        };
        let handle = spawn();
        let mut server = self.server();
        if server.turn != turn {
            // It is done, and has spawned the next, before its spawner went on.
            drop(server);
            return None;
        }
        if server.unbegun {
            return Some(handle);
        }
        if server.cancelled {
            handle.cancel();
        }
        server.handle = Some(handle);
        None
    }

    /// The coroutine that was to serve the connection and ended unbegun; `None` if its spawner will have it.
    pub(crate) fn disown(&self) -> Option<JoinHandle<()>> {
        let mut server = self.server();
        server.unbegun = true;
        server.handle.take()
    }

    /// Cancels the coroutine that serves the connection; whether there is one.
    pub(crate) fn cancel(&self) -> bool {
        let mut server = self.server();
        server.cancelled = true;
        if let Some(handle) = &server.handle {
            handle.cancel();
        }
        let serves = server.turn > 0 && !server.unbegun;
        drop(server);
        // One on standby has to be begun to end, and who was handed one may be anywhere.
        let _ = self.transport.shutdown(match self.is(HANDED_OVER) {
            true => Shutdown::Both,
            false => Shutdown::Read,
        });
        serves
    }

    /// Cancels the coroutine that serves the connection, as its client has gone; whether there is one.
    pub(crate) fn abandon(&self) -> bool {
        let server = self.server();
        if let Some(handle) = &server.handle {
            handle.cancel_because(Cause::Disconnected);
        }
        server.handle.is_some()
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        // Nothing that can panic leaves it half changed.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// It speaks HTTP no more.
    pub(crate) fn hand_over(&self) {
        self.state.store(HANDED_OVER, Ordering::Release);
        // A drain that came to its end meanwhile has not ended both directions.
        if self.is_cut() {
            let _ = self.transport.shutdown(Shutdown::Both);
        }
    }

    /// From now on many requests share it.
    #[cfg(feature = "http2")]
    pub(crate) fn share(&self) {
        self.state.store(MANY, Ordering::Release);
    }

    /// Whether the server has ended it.
    #[cold]
    pub(crate) fn is_cut(&self) -> bool {
        self.server().cancelled
    }

    /// What it is doing, as a place in [`STATES`].
    pub(crate) fn doing(&self) -> usize {
        usize::from(self.state.load(Ordering::Relaxed))
    }

    /// Whether it is in that state, at this moment.
    pub(crate) fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Relaxed) == state
    }

    /// Ends a connection that is in that state: it will find no more than has arrived.
    pub(crate) fn end_if(&self, state: u8) -> bool {
        let ends = self
            .state
            .compare_exchange(state, ENDING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if ends {
            // An error says that the peer is gone already.
            let _ = self.transport.shutdown(Shutdown::Read);
        }
        ends
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let descriptor = self.transport.descriptor();
        descriptor.expect("what has no descriptor is not put on standby")
    }
}
