//! Chat in two layers, with a sender for each client: the owner of the rooms writes to
//! queues, and never to a socket.
//!
//! Each client has two coroutines, one that reads and one that writes, and a bounded queue
//! before the latter. Above them one coroutine has all rooms and waits for nothing but the
//! next event. A client who does not read fills its own queue. When that is full, the
//! policy decides, and here it says: it is cut, the others are told that it left, and
//! nobody waits for it.
//!
//! Readers, senders and the loop are `maniple_parts::actor`; what stands here is what a chat
//! room adds.

use std::io;

use maniple::net::TcpListener;
use maniple_parts::actor::{Actor, Closed, CodecError, ConnId, Laggard, LineCodec, Outbox, Server};
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::{Client, Model, Service, Stalled};
use crate::{
    site::Site,
    work::{
        Line, Rooms,
        chat::{Heard, LONGEST_LINE, SEND_BUFFER},
    },
};

fn serve(site: &Site) -> io::Result<()> {
    let runtime = maniple::Runtime::builder().workers(site.cores).build()?;
    runtime.run(|| {
        let listener = TcpListener::bind(site.listen)?;
        // Those that are accepted inherit it.
        set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
        site.announce(listener.local_addr()?)?;
        // ① Every queue has a bound, and each bound says what happens there.
        Server::builder("chat", LineCodec::new(LONGEST_LINE), Hall::default())
            .max_connections(10_000)
            .events(1024)
            .outgoing(256)
            .laggard(Laggard::Disconnect)
            .listen(listener)?
            .serve()
            .map_err(io::Error::other)?;
        Ok(())
    })
}

/// The actor: the rooms, which one coroutine owns.
#[derive(Default)]
pub(super) struct Hall(Rooms<ConnId>);

impl Actor for Hall {
    type In = String;
    type Out = Line;

    fn received(&mut self, conn: ConnId, line: String, out: &mut Outbox<Line>) {
        self.hear(conn, Heard::of(&line), out);
    }

    // ② Once for each connection that ended: by the client, the network, or the policy.
    fn closed(&mut self, conn: ConnId, reason: Closed, out: &mut Outbox<Line>) {
        let heard = match reason {
            Closed::Codec(CodecError::TooLong { .. }) => Heard::TooLong,
            _ => Heard::End,
        };
        self.hear(conn, heard, out);
    }

    // ③ For a policy that drops instead (model 29): it takes the place of the lines that
    // are missing.
    fn dropped(count: u64) -> Option<Line> {
        Some(format!("* {count} lines dropped").into())
    }
}

impl Hall {
    fn hear(&mut self, conn: ConnId, heard: Heard, out: &mut Outbox<Line>) {
        for (member, line) in self.0.hear(conn, heard) {
            // ④ Queued or not, this does not wait. A member that is cut here leaves in
            // an event to come.
            out.send(member, line);
        }
    }
}

pub(super) const MODEL: Model = Model {
    number: 28,
    name: "chat-senders",
    title: "Layered chat, a sender for each client",
    service: Service::Chat(Stalled::IsCut),
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("chat_senders.rs")],
    serve,
};
