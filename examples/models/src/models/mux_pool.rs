//! A multiplexing thread with a pool of workers that never touch a client's socket.
//!
//! One thread does all that has to do with clients: it accepts, reads, parses and writes.
//! What may take long, asking backends or computing, becomes a typed job for a worker,
//! which may block for as long as it likes. Answers come back through a mailbox whose
//! eventfd wakes the thread. The queue of jobs is bounded; beyond it a client is told 503
//! at once.

use std::{
    collections::HashMap, io, net::TcpListener, os::fd::OwnedFd, sync::Arc, thread::Builder,
};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Answer, Ask, Backends, Mailbox, Queue, Wire},
};

/// ① What crosses to a worker: not a socket, not bytes, but what is to be done.
struct Job {
    client: u64,
    ask: Ask,
}

/// ② What comes back: a value, which only the multiplexing thread makes into bytes.
struct Done {
    client: u64,
    answer: Answer,
}

fn serve(site: &Site) -> io::Result<()> {
    let jobs = Arc::new(Queue::new(QUEUE));
    let done = Arc::new(Mailbox::new()?);
    for _ in 0..site.workers {
        let (jobs, done, backends) = (Arc::clone(&jobs), Arc::clone(&done), site.backends());
        Builder::new().spawn(move || work(&jobs, &done, backends))?;
    }
    let listener = site.listen()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let (connections, answers) = (EventData::new_u64(LISTENER), EventData::new_u64(DONE));
    epoll::add(&epoll, &listener, connections, EventFlags::IN)?;
    epoll::add(&epoll, &*done, answers, EventFlags::IN)?;
    let mut server = Server {
        epoll,
        jobs,
        clients: HashMap::new(),
        last: DONE,
    };
    let mut events = Vec::with_capacity(256);
    loop {
        // ③ One wait for clients and for workers.
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&server.epoll, room, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => server.accept(&listener),
                DONE => done.take().into_iter().for_each(|done| server.give(&done)),
                client => server.attend_to(client),
            }
        }
    }
}

/// ④ A worker blocks, and only its own job waits. Whether the client is still there is not
/// its business.
fn work(jobs: &Queue<Job>, done: &Mailbox<Done>, mut backends: Backends) {
    loop {
        let Job { client, ask } = jobs.pop();
        let answer = ask.answer_in_turn(&mut backends);
        done.put(Done { client, answer });
    }
}

struct Server {
    epoll: OwnedFd,
    jobs: Arc<Queue<Job>>,
    clients: HashMap<u64, Wire>,
    last: u64,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    self.last += 1;
                    let added = Wire::new(stream).and_then(|wire| {
                        epoll::add(&self.epoll, &wire, EventData::new_u64(self.last), ALL)?;
                        Ok(wire)
                    });
                    self.clients.extend(added.map(|wire| (self.last, wire)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return after_failed_accept(&error),
            }
        }
    }

    fn attend_to(&mut self, client: u64) {
        if !self.advance(client).unwrap_or(false) {
            self.clients.remove(&client);
        }
    }

    /// Does what can be done for a client without waiting; false if it is done with.
    fn advance(&mut self, client: u64) -> io::Result<bool> {
        let Some(wire) = self.clients.get_mut(&client) else {
            return Ok(false);
        };
        loop {
            wire.write()?;
            wire.read()?;
            // Who does not read its answers gets no more of them.
            if wire.wants_write() {
                return Ok(true);
            }
            match wire.request().map(|request| request.ask) {
                None => return Ok(!wire.finished()),
                Some(Ask::Refused(answer)) => wire.answer(&answer),
                Some(ask) => {
                    if self.jobs.try_push(Job { client, ask }).is_err() {
                        // ⑤ The thread that writes is never busy with work, so that
                        // overload is told at once.
                        wire.answer(&Answer::refusal(503, "too many requests are waiting"));
                    }
                }
            }
        }
    }

    fn give(&mut self, done: &Done) {
        // The client may have gone meanwhile; its number is never used again.
        if let Some(wire) = self.clients.get_mut(&done.client) {
            wire.answer(&done.answer);
            self.attend_to(done.client);
        }
    }
}

/// Jobs that may wait. 64 workers do about 2000 in a second, so that the last one waits for
/// half of it.
const QUEUE: usize = 1024;

/// Edge-triggered, in and out: told once when a socket becomes ready, so that what is
/// watched never changes.
const ALL: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::ET);

/// What an event's number stands for: the listener, the mailbox, or else a client.
const LISTENER: u64 = 0;
const DONE: u64 = 1;

pub(super) const MODEL: Model = Model {
    number: 11,
    name: "mux-pool",
    title: "Multiplexing thread with a worker pool",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("mux_pool.rs")],
    serve,
};
