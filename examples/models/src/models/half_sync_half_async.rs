//! Half-sync/half-async: below, a thread that never waits for one client; above, workers
//! that may wait for anything; a queue between them.
//!
//! The asynchronous layer accepts, reads, and makes whole requests of what comes in when it
//! comes. The synchronous layer takes a request together with its connection, asks the
//! backends, writes the answer, and gives the connection back. The queue is bounded: while
//! it is full the lower layer stops reading, so that a client that sends too much is held
//! back by TCP.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::TcpListener,
    os::fd::OwnedFd,
    sync::Arc,
    thread::Builder,
};

use rustix::{
    event::{
        PollFd, PollFlags, Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
        poll,
    },
    io::Errno,
};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Ask, Backends, Mailbox, Queue, Wire},
};

/// ① What goes up: a whole request, and the connection, which is the worker's until it is answered.
struct Whole {
    client: u64,
    wire: Wire,
    ask: Ask,
}

/// What comes back down: the connection.
struct Answered {
    client: u64,
    wire: Wire,
}

fn serve(site: &Site) -> io::Result<()> {
    let requests = Arc::new(Queue::new(QUEUE));
    let answered = Arc::new(Mailbox::new()?);
    for _ in 0..site.workers {
        let (requests, answered) = (Arc::clone(&requests), Arc::clone(&answered));
        let backends = site.backends();
        Builder::new().spawn(move || work(&requests, &answered, backends))?;
    }
    let listener = site.listen()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let (connections, back) = (EventData::new_u64(LISTENER), EventData::new_u64(ANSWERED));
    epoll::add(&epoll, &listener, connections, EventFlags::IN)?;
    epoll::add(&epoll, &*answered, back, EventFlags::IN)?;
    let mut layer = AsyncLayer {
        epoll,
        requests,
        clients: HashMap::new(),
        last: ANSWERED,
    };
    let mut events = Vec::with_capacity(256);
    loop {
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&layer.epoll, room, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => layer.accept(&listener),
                ANSWERED => {
                    for Answered { client, wire } in answered.take() {
                        layer.clients.insert(client, wire);
                        layer.attend_to(client);
                    }
                }
                client => layer.attend_to(client),
            }
        }
    }
}

/// ② The synchronous layer: straight on, and blocking. It never meets half a request or a
/// silent client.
fn work(requests: &Queue<Whole>, answered: &Mailbox<Answered>, mut backends: Backends) {
    loop {
        let Whole {
            client,
            mut wire,
            ask,
        } = requests.pop();
        wire.answer(&ask.answer_in_turn(&mut backends));
        if write_all(&mut wire).is_ok() {
            answered.put(Answered { client, wire });
        }
    }
}

/// ③ Blocks until the kernel has taken the answer, which a client that does not read can
/// delay: for so long, and no longer.
fn write_all(wire: &mut Wire) -> io::Result<()> {
    loop {
        wire.write()?;
        if !wire.wants_write() {
            return Ok(());
        }
        match poll(&mut [PollFd::new(wire, PollFlags::OUT)], Some(&PATIENCE)) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

struct AsyncLayer {
    epoll: OwnedFd,
    requests: Arc<Queue<Whole>>,
    /// Those of which no request is with the workers.
    clients: HashMap<u64, Wire>,
    last: u64,
}

impl AsyncLayer {
    fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    self.last += 1;
                    let added = Wire::new(stream).and_then(|wire| {
                        epoll::add(&self.epoll, &wire, EventData::new_u64(self.last), ARRIVED)?;
                        Ok(wire)
                    });
                    self.clients.extend(added.map(|wire| (self.last, wire)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return after_failed_accept(&error),
            }
        }
    }

    /// Reads what is there. An event of a client that is with a worker may be let pass: all
    /// is read when it comes back.
    fn attend_to(&mut self, client: u64) {
        let Some(mut wire) = self.clients.remove(&client) else {
            return;
        };
        if wire.read().is_err() {
            return;
        }
        match wire.request() {
            // ④ Waits while the queue is full. Nothing is read or accepted then; windows
            // close, the backlog fills.
            Some(request) => self.requests.push(Whole {
                client,
                wire,
                ask: request.ask,
            }),
            None if wire.finished() => {}
            None => drop(self.clients.insert(client, wire)),
        }
    }
}

/// Requests that may wait for a worker.
const QUEUE: usize = 256;

/// How long a worker waits for a client to take its answer.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Edge-triggered: told once when bytes arrive, so that what is watched never changes.
const ARRIVED: EventFlags = EventFlags::IN.union(EventFlags::ET);

/// What an event's number stands for: the listener, the mailbox, or else a client.
const LISTENER: u64 = 0;
const ANSWERED: u64 = 1;

pub(super) const MODEL: Model = Model {
    number: 12,
    name: "half-sync-half-async",
    title: "Half-sync/half-async",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("half_sync_half_async.rs")],
    serve,
};
