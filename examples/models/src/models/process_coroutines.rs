//! Process and coroutine group: pre-forked processes, one connection at a time in each, and
//! coroutines that call A, B and C side by side.
//!
//! The twin of `process-threads`: the same processes, the same bounds, the same time for a
//! request. But the calls run on one thread, which goes to the next coroutine where one
//! waits, so that a call costs no thread to start, switch to and join.

use std::{io, net::TcpListener, time::Duration};

use maniple::{Runtime, net::TcpStream};

use super::{Client, Model, Service, prefork::keep_at_work};
use crate::{
    site::{Site, after_failed_accept},
    work::{Answer, Backends, Conversation, Gathering, Unavailable},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    keep_at_work(site.workers, |_| {
        // ① First the fork, then the runtime: its threads would be missing in a child.
        match Runtime::builder().workers(1).build() {
            Ok(runtime) => runtime.run(|| work(&listener, site)),
            Err(error) => eprintln!("model: a worker without a runtime: {error}"),
        }
    })
}

fn work(listener: &TcpListener, site: &Site) {
    let mut backends = Backends::new(site.backends);
    loop {
        // ② Blocks the thread of all coroutines, on purpose: between two clients there are
        // none, and of all processes that block here the kernel wakes one. With epoll on a
        // common socket a connection would wake them all.
        match listener.accept() {
            Ok((stream, _)) => drop(converse(stream, &mut backends)),
            Err(error) => after_failed_accept(&error),
        }
    }
}

fn converse(stream: std::net::TcpStream, backends: &mut Backends<TcpStream>) -> io::Result<()> {
    let stream = TcpStream::try_from(stream)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut client = Conversation::over(stream);
    while let Some(request) = client.request()? {
        let answer = request.ask.answer(|id| ask_side_by_side(backends, id));
        client.last_answer(&answer)?;
    }
    Ok(())
}

fn ask_side_by_side(backends: &mut Backends<TcpStream>, id: u64) -> Result<Answer, Unavailable> {
    let [a, b, c] = &mut backends.each;
    // ③ Nobody passes this line before the children have ended: so they may borrow. Two are
    // enough, since the leader makes a call too.
    let (a, b, c) = maniple::join!(a.ask(id), b.ask(id), c.ask(id));
    Ok(Gathering::merged(id, [a?, b?, c?]))
}

/// How long a client may be silent, or not read.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const MODEL: Model = Model {
    number: 7,
    name: "process-coroutines",
    title: "Process and coroutine group",
    service: Service::Http,
    silent_client: Client::HoldsAWorker,
    keeps_connections: false,
    sources: &[
        include_str!("process_coroutines.rs"),
        include_str!("prefork.rs"),
    ],
    serve,
};
