//! Pre-spawned threads that each accept.
//!
//! As many threads as may wait, started before the first client comes. Each blocks in
//! `accept`, serves one connection, and blocks in `accept` again. There is no queue in the
//! program: the kernel hands each connection to one thread that is free, and a client that
//! finds none free waits in the backlog. The threads share the listening socket and nothing else.

use std::{
    io,
    net::{TcpListener, TcpStream},
    thread,
};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Backends, Conversation},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    thread::scope(|scope| {
        // ① All threads there will ever be. Where the kernel gives fewer, fewer serve.
        for _ in 1..site.workers {
            let thread = thread::Builder::new().stack_size(STACK);
            if let Err(error) = thread.spawn_scoped(scope, || work(&listener, site.backends())) {
                eprintln!("model: a thread fewer than wanted: {error}");
            }
        }
        // ② This thread is one of them.
        work(&listener, site.backends())
    })
}

/// The life of a worker, who keeps its connections to A, B and C from one client to the next.
fn work(listener: &TcpListener, mut backends: Backends) -> ! {
    loop {
        // ③ All of them wait in this call on the same socket, and a connection wakes one.
        match listener.accept() {
            Ok((stream, _)) => drop(converse(stream, &mut backends)),
            Err(error) => after_failed_accept(&error),
        }
    }
}

fn converse(stream: TcpStream, backends: &mut Backends) -> io::Result<()> {
    let mut client = Conversation::new(stream)?;
    while let Some(request) = client.request()? {
        // ④ One answer for each connection: a client that kept it would keep the thread.
        client.last_answer(&request.ask.answer_in_turn(backends))?;
    }
    Ok(())
}

/// Address space for a thread's stack; memory is taken by the page, as it is used.
const STACK: usize = 256 * 1024;

pub(super) const MODEL: Model = Model {
    number: 5,
    name: "thread-pool",
    title: "Pre-spawned threads",
    service: Service::Http,
    silent_client: Client::HoldsAWorker,
    keeps_connections: false,
    sources: &[include_str!("thread_pool.rs")],
    serve,
};
