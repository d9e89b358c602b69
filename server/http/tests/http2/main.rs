//! HTTP/2 as its clients meet it, by the crate `h2` and by frames that are written byte by byte, and as the client of this crate
//! speaks it.

#![cfg(feature = "http2")]

#[macro_use]
extern crate maniple_driven;

mod asking;
mod bodies;
mod client;
mod draining;
#[path = "../driven/mod.rs"]
mod driven;
mod faults;
mod hostile;
mod limits;
mod links;
mod odd_servers;
#[cfg(feature = "tls")]
mod peers;
#[cfg(feature = "tls")]
mod proxied;
mod raw;
mod requests;
#[cfg(feature = "tls")]
mod secure;
#[cfg(feature = "tls")]
mod servers;
mod tunnels;

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use maniple::JoinHandle;
use maniple_server::{DrainReport, Router, Server, ServerHandle, server::Builder};

/// A running server, within a runtime; drained when dropped.
struct Served {
    handle: ServerHandle,
    serving: Option<JoinHandle<std::io::Result<DrainReport>>>,
}

impl Served {
    fn of(routes: Router) -> Self {
        Self::with(routes, |builder| builder)
    }

    fn with(routes: Router, settings: impl FnOnce(Builder) -> Builder) -> Self {
        let server = settings(Server::builder(routes))
            .bind("127.0.0.1:0")
            .unwrap();
        Self {
            handle: server.handle(),
            serving: Some(maniple::spawn(move || server.serve())),
        }
    }

    fn address(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    fn drain(mut self) -> DrainReport {
        self.handle.drain();
        self.serving.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

/// Runs a test in a runtime, and fails it if it takes longer than any should. In a world it is in one.
fn run(test: impl FnOnce() + Send + 'static) {
    if driven::is_simulated() {
        return test();
    }
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(test);
        _ = done.send(());
    });
    match ended.recv_timeout(LONGEST) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

const LONGEST: Duration = Duration::from_secs(60);
