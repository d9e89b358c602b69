//! Process and thread group: pre-forked processes, one connection at a time in each, and
//! threads that call A, B and C side by side.
//!
//! The process is the unit that waits for clients, and whose crash costs one client. Within
//! it a request takes the longest of its calls instead of their sum: the one who talks to
//! the client starts a thread for each further call and joins them. The number of processes
//! bounds the clients at work, and three times that number the calls.

use std::{
    io,
    net::{TcpListener, TcpStream},
    panic::resume_unwind,
    thread::{self, ScopedJoinHandle},
};

use super::{Client, Model, Service, prefork::keep_at_work};
use crate::{
    site::{Site, after_failed_accept},
    work::{Answer, Backends, Conversation, Gathering, Unavailable},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    // ① Workers are forked, buried and replaced as in `prefork`. Only they start threads:
    // the parent could not fork then.
    keep_at_work(site.workers, |_| work(&listener, site.backends()))
}

fn work(listener: &TcpListener, mut backends: Backends) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => drop(converse(stream, &mut backends)),
            Err(error) => after_failed_accept(&error),
        }
    }
}

fn converse(stream: TcpStream, backends: &mut Backends) -> io::Result<()> {
    let mut client = Conversation::new(stream)?;
    while let Some(request) = client.request()? {
        let answer = request.ask.answer(|id| ask_side_by_side(backends, id));
        client.last_answer(&answer)?;
    }
    Ok(())
}

fn ask_side_by_side(backends: &mut Backends, id: u64) -> Result<Answer, Unavailable> {
    let [a, b, c] = &mut backends.each;
    // ② Nobody leaves the scope before its threads have ended: so they may borrow, here the
    // connections to the backends.
    let (a, b, c) = thread::scope(|scope| {
        let thread = || thread::Builder::new().stack_size(STACK);
        let b = thread().spawn_scoped(scope, || b.ask(id));
        let c = thread().spawn_scoped(scope, || c.ask(id));
        // ③ Two threads are enough, since this one makes a call too.
        (a.ask(id), joined(1, b), joined(2, c))
    });
    Ok(Gathering::merged(id, [a?, b?, c?]))
}

type Call<'scope> = ScopedJoinHandle<'scope, Result<u64, Unavailable>>;

/// ④ What came of a call, if the kernel had a thread for it.
fn joined(which: usize, call: io::Result<Call<'_>>) -> Result<u64, Unavailable> {
    match call {
        Ok(call) => call.join().unwrap_or_else(|panic| resume_unwind(panic)),
        Err(error) => Err(Unavailable::new(which, error)),
    }
}

/// Address space for a thread's stack; memory is taken by the page, as it is used.
const STACK: usize = 256 * 1024;

pub(super) const MODEL: Model = Model {
    number: 6,
    name: "process-threads",
    title: "Process and thread group",
    service: Service::Http,
    silent_client: Client::HoldsAWorker,
    keeps_connections: false,
    sources: &[
        include_str!("process_threads.rs"),
        include_str!("prefork.rs"),
    ],
    serve,
};
