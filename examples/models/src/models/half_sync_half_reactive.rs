//! Half-sync/half-reactive: a reactor finds out who is ready, and workers do everything
//! with those who are.
//!
//! The reactor accepts and waits for readiness, and not a byte passes through it. It puts
//! ready clients into a bounded queue; a worker takes one, reads, works, writes, and arms
//! the socket again for one event (`EPOLLONESHOT`), so that no two workers ever have the
//! same client. While the queue is full the reactor looks at nothing more, and clients wait
//! in the kernel.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::TcpListener,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::Builder,
};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Backends, Queue, Wire},
};

fn serve(site: &Site) -> io::Result<()> {
    let shared = Arc::new(Shared {
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        clients: Mutex::default(),
        ready: Queue::new(QUEUE),
    });
    for _ in 0..site.workers {
        let (shared, backends) = (Arc::clone(&shared), site.backends());
        Builder::new().spawn(move || work(&shared, backends))?;
    }
    let listener = site.listen()?;
    listener.set_nonblocking(true)?;
    let data = EventData::new_u64(LISTENER);
    epoll::add(&shared.epoll, &listener, data, EventFlags::IN)?;
    let mut last = LISTENER;
    let mut events = Vec::with_capacity(64);
    loop {
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&shared.epoll, room, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => shared.accept(&listener, &mut last),
                // ① That it is ready is all that the reactor knows of it. Waits while the
                // queue is full: nobody could attend to a further client anyway, and what
                // clients send meanwhile the kernel keeps, or holds back.
                client => shared.ready.push(client),
            }
        }
    }
}

/// ② A worker does for one client what can be done without waiting for it, and waits for
/// its backends.
fn work(shared: &Shared, mut backends: Backends) {
    loop {
        let client = shared.ready.pop();
        let taken = lock(&shared.clients).remove(&client);
        let Some(mut wire) = taken else { continue };
        // ③ Armed only when all is done: meanwhile its socket wakes nobody.
        if let Ok(true) = converse(&mut wire, &mut backends) {
            shared.watch(client, wire, false);
        }
    }
}

/// Reads, works and writes. False if the client is done with.
fn converse(wire: &mut Wire, backends: &mut Backends) -> io::Result<bool> {
    wire.write()?;
    wire.read()?;
    // Who does not read its answers gets no more of them.
    while !wire.wants_write()
        && let Some(request) = wire.request()
    {
        wire.answer(&request.ask.answer_in_turn(backends));
        wire.write()?;
    }
    Ok(!wire.finished())
}

/// What the reactor and the workers share.
struct Shared {
    epoll: OwnedFd,
    /// Those that wait for an event, or for a worker. A worker takes a client out while it
    /// attends to it.
    clients: Mutex<HashMap<u64, Wire>>,
    ready: Queue<u64>,
}

impl Shared {
    fn accept(&self, listener: &TcpListener, last: &mut u64) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    *last += 1;
                    if let Ok(wire) = Wire::new(stream) {
                        self.watch(*last, wire, true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return after_failed_accept(&error),
            }
        }
    }

    /// ④ Arms the client's socket for one event: that it can be read, or, while it takes no
    /// more of an answer, written. The lock is held so that the thread that is told finds
    /// the client.
    fn watch(&self, client: u64, wire: Wire, anew: bool) {
        let ready = if wire.wants_write() {
            EventFlags::OUT
        } else {
            EventFlags::IN
        };
        let (once, data) = (ready | EventFlags::ONESHOT, EventData::new_u64(client));
        let mut clients = lock(&self.clients);
        let armed = if anew {
            epoll::add(&self.epoll, &wire, data, once)
        } else {
            epoll::modify(&self.epoll, &wire, data, once)
        };
        if armed.is_ok() {
            clients.insert(client, wire);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients that are ready and may wait for a worker; enough that no worker waits for the reactor.
const QUEUE: usize = 256;

/// What an event's number stands for: the listener, or else a client.
const LISTENER: u64 = 0;

pub(super) const MODEL: Model = Model {
    number: 13,
    name: "half-sync-half-reactive",
    title: "Half-sync/half-reactive",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("half_sync_half_reactive.rs")],
    serve,
};
