//! A process per connection: the loop that accepts forks, and the child talks to the client
//! until it leaves.
//!
//! The child inherits the connection and a copy of all memory, which the kernel makes page
//! by page as one of the two writes. What happens in it, a crash or a leak, ends with it;
//! what it learns, others do not. Each client costs a process, each process its own
//! connections to A, B and C, and nothing here bounds their number but the kernel's limits.

use std::{io, net::TcpStream, process};

use super::{Client, Model, Service};
use crate::{
    fork::{self, Fork},
    site::{Site, after_failed_accept},
    work::{Backends, Conversation},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                after_failed_accept(&error);
                continue;
            }
        };
        // ① Children that have ended are zombies until they are asked for. Asking here,
        // without waiting, needs no signal handler: nothing interrupts `accept`, no notice
        // is lost, and no zombie takes a place that this fork needs.
        while fork::ended()?.is_some() {}
        // ② One goes in, two come out.
        match fork::fork() {
            Ok(Fork::Child) => {
                // ③ Each of the two closes what belongs to the other.
                drop(listener);
                let talked = converse(stream, site.backends());
                process::exit(i32::from(talked.is_err()));
            }
            // ④ The child has the connection now, or, where the kernel gives no further
            // process, nobody: then the client sees it closed.
            Ok(Fork::Parent(_)) | Err(_) => drop(stream),
        }
    }
}

/// Talks to one client, in a process that is there for nothing else.
fn converse(stream: TcpStream, mut backends: Backends) -> io::Result<()> {
    let mut client = Conversation::new(stream)?;
    while let Some(request) = client.request()? {
        client.answer(&request.ask.answer_in_turn(&mut backends))?;
    }
    Ok(())
}

pub(super) const MODEL: Model = Model {
    number: 2,
    name: "fork",
    title: "Process per connection",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("fork.rs")],
    serve,
};
