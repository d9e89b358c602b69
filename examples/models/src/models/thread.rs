//! A thread per connection: the loop that accepts starts a thread for each client, which
//! talks to it until it leaves.
//!
//! The state of a conversation is where the thread stands in its code. The kernel does the
//! switching, and the number of threads is the number of clients: nothing here bounds it
//! but the kernel's limits.

use std::{io, net::TcpStream, thread::Builder};

use super::{Client, Model, Service};
use crate::{
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
        let backends = site.backends();
        // ① Where the kernel gives no further thread, the client sees its connection closed.
        let thread = Builder::new().stack_size(STACK);
        drop(thread.spawn(move || converse(stream, backends)));
    }
}

/// Talks to one client. What goes wrong on its connection ends this thread and nothing else.
fn converse(stream: TcpStream, mut backends: Backends) -> io::Result<()> {
    let mut client = Conversation::new(stream)?;
    // ② The whole protocol: read, do, write, each of which may block, and only this client waits.
    while let Some(request) = client.request()? {
        client.answer(&request.ask.answer_in_turn(&mut backends))?;
    }
    Ok(())
}

/// Address space for a thread's stack; memory is taken by the page, as it is used.
const STACK: usize = 256 * 1024;

pub(super) const MODEL: Model = Model {
    number: 3,
    name: "thread",
    title: "Thread per connection",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("thread.rs")],
    serve,
};
