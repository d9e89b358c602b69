//! What a server, its handles and its acceptors share.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use maniple::{cancel::CancelToken, log_limit::LogLimit};

use super::{refusal::Refusals, service::Service};
use crate::transport::Address;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: Address,
    /// Cancelled when the drain begins.
    pub(super) stop: CancelToken,
    pub(super) drained: AtomicBool,
    pub(super) refusals: Arc<Refusals>,
    pub(super) failed_accepts: LogLimit,
    pub(super) service: Arc<Service>,
}

impl Shared {
    #[track_caller]
    pub(super) fn local_addr(&self) -> SocketAddr {
        match self.address {
            Address::Tcp(address) => address,
            ref other => panic!("local_addr of a server that listens at {other}, not on TCP"),
        }
    }

    pub(super) fn begin_drain(&self) {
        self.service.registry.begin_drain();
    }
}
