//! Layered chat whose readers and senders are jobs of a pool that was started ahead.
//!
//! Two layers, as with a sender for each client, and a worker pool under the lower one:
//! a client takes two workers, one that reads and one that writes, and gives them back when
//! it leaves. Nothing is started while clients come and go, and the number of
//! workers is the number of clients, times two. Who comes when all are taken waits in the
//! kernel's backlog until somebody leaves. So a silent client has its price: it takes the
//! place of one who would talk.
//!
//! The policy for laggards is the milder one: they miss the oldest lines they have not
//! read, and are told how many.

use std::io;

use maniple::net::TcpListener;
use maniple_parts::{
    actor::{Laggard, LineCodec, Server},
    pool::{Pool, WhenFull},
};
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::{Client, Model, Service, Stalled, chat_senders::Hall};
use crate::{
    site::Site,
    work::chat::{LONGEST_LINE, SEND_BUFFER},
};

fn serve(site: &Site) -> io::Result<()> {
    let runtime = maniple::Runtime::builder().workers(site.cores).build()?;
    runtime.run(|| {
        // ① All coroutines that will ever talk to clients, with their stacks.
        let pool = Pool::builder("talkers")
            .workers(site.workers.max(2))
            .queue(16)
            .when_full(WhenFull::Wait)
            .build()?;
        let listener = TcpListener::bind(site.listen)?;
        // Those that are accepted inherit it.
        set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
        site.announce(listener.local_addr()?)?;
        Server::builder("chat", LineCodec::new(LONGEST_LINE), Hall::default())
            // ② As many connections as the pool has pairs of workers: a reader always finds
            // its sender.
            .on_pool(&pool)
            .outgoing(256)
            // ③ Nobody is cut, and nobody is waited for: what a laggard pays with is lines.
            .laggard(Laggard::DropOldest)
            .listen(listener)?
            .serve()
            .map_err(io::Error::other)?;
        Ok(())
    })
}

pub(super) const MODEL: Model = Model {
    number: 29,
    name: "chat-mixed",
    title: "Layered chat from a worker pool",
    service: Service::Chat(Stalled::MissesLines),
    silent_client: Client::HoldsAWorker,
    keeps_connections: true,
    sources: &[
        include_str!("chat_mixed.rs"),
        include_str!("chat_senders.rs"),
    ],
    serve,
};
