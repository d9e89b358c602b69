//! Pre-forked processes with a listening socket each, all on one port (`SO_REUSEPORT`).
//!
//! The kernel picks a socket, hence a process, for each connection by a hash of the
//! addresses and ports of both sides, before anybody accepts. So nobody contends for a
//! common queue; but nobody helps out either: a connection that was given to a process that
//! is busy waits for it, however many others are free.

use std::{io, net::TcpListener};

use super::{
    Client, Model, Service,
    prefork::{converse, keep_at_work},
};
use crate::site::{Site, after_failed_accept};

fn serve(site: &Site) -> io::Result<()> {
    // ① The parent makes the sockets and keeps them: the backlog of a worker that dies
    // waits for the one that takes its place. A socket of the worker's own would end with
    // it, and with it the connections in its backlog.
    let listeners = site.listen_shared(site.workers)?;
    // ② Workers are forked, buried and replaced as in `prefork`; here each place goes with
    // a socket.
    keep_at_work(site.workers, |place| work(&listeners[place], site))
}

fn work(listener: &TcpListener, site: &Site) {
    let mut backends = site.backends();
    loop {
        // ③ Nobody else waits on this socket.
        match listener.accept() {
            Ok((stream, _)) => drop(converse(stream, &mut backends)),
            Err(error) => after_failed_accept(&error),
        }
    }
}

pub(super) const MODEL: Model = Model {
    number: 4,
    name: "prefork-reuseport",
    title: "Pre-forked processes with SO_REUSEPORT",
    service: Service::Http,
    silent_client: Client::HoldsItsShare,
    keeps_connections: false,
    sources: &[
        include_str!("prefork_reuseport.rs"),
        include_str!("prefork.rs"),
    ],
    serve,
};
