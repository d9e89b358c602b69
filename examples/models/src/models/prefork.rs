//! Pre-forked processes that accept on one socket, which all of them inherited.
//!
//! As many processes as may wait, forked before the first client comes. Each blocks in
//! `accept`, serves one connection, and blocks in `accept` again: the kernel hands each
//! connection to one process that is free, and a client that finds none free waits in the
//! one backlog. The parent serves nobody; it waits for children to end, and puts new ones in
//! their place.

use std::{
    io,
    net::{TcpListener, TcpStream},
    process, thread,
    time::Duration,
};

use rustix::process::Pid;

use super::{Client, Model, Service};
use crate::{
    fork::{self, Fork},
    site::{Site, after_failed_accept},
    work::{Backends, Conversation},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    keep_at_work(site.workers, |_| work(&listener, site.backends()))
}

/// Has always `count` processes at work, each of which is told its place.
pub(super) fn keep_at_work(count: usize, work: impl Fn(usize)) -> io::Result<()> {
    let mut workers: Vec<Option<Pid>> = vec![None; count];
    loop {
        // ① Each empty place gets a process. The parent never has a second thread, so it
        // may fork whenever it wants.
        let mut failed = None;
        for (place, worker) in workers.iter_mut().enumerate() {
            if worker.is_none() && failed.is_none() {
                match fork::fork() {
                    Ok(Fork::Child) => {
                        work(place);
                        process::exit(1);
                    }
                    Ok(Fork::Parent(child)) => *worker = Some(child),
                    Err(error) => failed = Some(error),
                }
            }
        }
        // ② Here the parent is all the time. Nothing else is asked of it, so it can wait
        // for the dead and needs no signal.
        let ended = match failed {
            None => Some(fork::next_to_end()?),
            Some(error) => {
                eprintln!("model: a worker fewer than wanted: {error}");
                thread::sleep(Duration::from_secs(1));
                fork::ended()?
            }
        };
        if let Some(worker) = workers.iter_mut().find(|worker| **worker == ended) {
            *worker = None;
        }
        // Workers that end as soon as they begin must not make it fork without a breath.
        thread::sleep(Duration::from_millis(10));
    }
}

/// The life of a worker: it ends only if it is killed.
fn work(listener: &TcpListener, mut backends: Backends) {
    loop {
        // ③ All of them wait in this call on the same socket, and a connection wakes one.
        match listener.accept() {
            Ok((stream, _)) => drop(converse(stream, &mut backends)),
            Err(error) => after_failed_accept(&error),
        }
    }
}

pub(super) fn converse(stream: TcpStream, backends: &mut Backends) -> io::Result<()> {
    let mut client = Conversation::new(stream)?;
    while let Some(request) = client.request()? {
        // ④ One answer for each connection: a client that kept it would keep the process.
        client.last_answer(&request.ask.answer_in_turn(backends))?;
    }
    Ok(())
}

pub(super) const MODEL: Model = Model {
    number: 4,
    name: "prefork",
    title: "Pre-forked processes",
    service: Service::Http,
    silent_client: Client::HoldsAWorker,
    keeps_connections: false,
    sources: &[include_str!("prefork.rs")],
    serve,
};
