//! What a server, its handles and its acceptors share.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use maniple::{cancel::CancelToken, log_limit::LogLimit, sync::Notify};

use super::{health::Health, refusal::Refusals, service::Service, state::STATES};
use crate::{
    middleware::ServerNumbers,
    transport::{Address, TlsCounts},
};

#[derive(Debug)]
pub(super) struct Shared {
    /// Where it listens; it goes by the name of the first.
    pub(super) addresses: Vec<Address>,
    pub(super) departure: Departure,
    /// Cancelled when the drain begins.
    pub(super) stop: CancelToken,
    pub(super) drained: AtomicBool,
    pub(super) refusals: Arc<Refusals>,
    pub(super) failed_accepts: LogLimit,
    /// Held by each who is told that it is one too many.
    pub(super) turned_away: Arc<()>,
    pub(super) service: Arc<Service>,
    /// Of listeners that speak TLS.
    pub(super) handshakes: Vec<TlsCounts>,
}

impl Shared {
    pub(super) fn address(&self) -> &Address {
        &self.addresses[0]
    }

    #[track_caller]
    pub(super) fn local_addr(&self) -> SocketAddr {
        match self.address() {
            Address::Tcp(address) => *address,
            other => panic!("local_addr of a server that listens at {other}, not on TCP"),
        }
    }

    /// What it tells for metrics.
    pub(super) fn numbers(&self) -> ServerNumbers {
        let by_state = self.service.registry.by_state();
        let mut handshakes = Vec::new();
        for (at, counts) in self.handshakes.iter().enumerate() {
            let counts = counts.read();
            match at {
                0 => handshakes.extend(counts),
                _ => handshakes
                    .iter_mut()
                    .zip(counts)
                    .for_each(|(sum, one)| sum.1 += one.1),
            }
        }
        ServerNumbers {
            connections: STATES.into_iter().zip(by_state).collect(),
            refused: self.refusals.count(),
            handshakes,
        }
    }

    /// Says that it is to end, and begins to drain once the others have had time to hear of it.
    pub(super) fn leave(&self) {
        self.departure.announce();
        if self.departure.delay.is_zero() {
            self.begin_drain();
        }
    }

    pub(super) fn begin_drain(&self) {
        self.departure.announce();
        self.service.registry.begin_drain(self.departure.idle);
    }

    /// Begins to drain where others accept what comes from now on.
    pub(super) fn hand_over(&self) {
        self.departure.handed_over.store(true, Ordering::SeqCst);
        let idle = self.departure.idle.max(LAST_REQUEST);
        self.service.registry.begin_drain(idle);
    }
}

/// How long an idle connection's client has for a last request where the service goes on in other hands: longer than
/// what it sent just now is on its way.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// The time between the word that a server is to end and the end of its accepting.
#[derive(Debug)]
pub(super) struct Departure {
    /// How long it goes on as before.
    pub(super) delay: Duration,
    /// How long idle connections may then send a last request.
    pub(super) idle: Duration,
    /// Whether others accept from the same listeners.
    pub(super) handed_over: AtomicBool,
    pub(super) health: Option<Health>,
    announced: Notify,
}

impl Departure {
    pub(super) fn new(delay: Duration, idle: Duration, health: Option<Health>) -> Self {
        Self {
            delay,
            idle,
            handed_over: AtomicBool::new(false),
            health,
            announced: Notify::new(),
        }
    }

    fn announce(&self) {
        if let Some(health) = &self.health {
            health.begin_drain();
        }
        self.announced.notify_one();
    }

    /// Waits for the word and lets the delay pass; unwinds if it is cancelled.
    pub(super) fn wait(&self) {
        self.announced.notified();
        maniple::sleep(self.delay);
    }
}
