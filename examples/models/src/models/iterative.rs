//! Iterative: one process, one thread, one connection at a time.
//!
//! A client that comes meanwhile waits in the kernel, in the backlog of the listening socket:
//! that is the only queue, and the only bound. There is nothing to share, to lock or to
//! switch, and the process keeps its connections to A, B and C from one client to the next.
//! But whatever waits here, waits for all: a slow backend, and a client that says nothing.

use std::{io, net::TcpStream};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Backends, Conversation},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    let mut backends = site.backends();
    loop {
        match listener.accept() {
            // ① Nothing is accepted before this returns. What went wrong was this client's alone.
            Ok((stream, _)) => drop(converse(stream, &mut backends)),
            Err(error) => after_failed_accept(&error),
        }
    }
}

fn converse(stream: TcpStream, backends: &mut Backends) -> io::Result<()> {
    // ② Its time limits on reading and writing are what keeps one client from stopping the
    // server for good.
    let mut client = Conversation::new(stream)?;
    while let Some(request) = client.request()? {
        // ③ One answer for each connection, so that the others get their turn.
        client.last_answer(&request.ask.answer_in_turn(backends))?;
    }
    Ok(())
}

pub(super) const MODEL: Model = Model {
    number: 1,
    name: "iterative",
    title: "Iterative",
    service: Service::Http,
    silent_client: Client::StopsAll,
    keeps_connections: false,
    sources: &[include_str!("iterative.rs")],
    serve,
};
