//! One thread, many connections: `epoll` says which of them are ready.
//!
//! The thread waits in one place for everything. So nothing else may wait, and what a client is at must be written down in
//! a structure: here what was received, what is to be sent, and who waits for which backend.

use std::{collections::HashMap, io, net::TcpListener, os::fd::OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Ask, Gathering, Unavailable, Upstream, Wire, backend::COUNT, burn},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut server = Server {
        epoll,
        upstreams: std::array::from_fn(|which| Upstream::new(which, site.backends[which])),
        clients: HashMap::new(),
        last: FIRST_CLIENT - 1,
    };
    let mut events = Vec::with_capacity(256);
    loop {
        // ① The only place where this process waits.
        match epoll::wait(
            &server.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => server.accept(&listener),
                which if which < FIRST_CLIENT => server.hear_from_backend(which as usize),
                client => server.attend_to(client),
            }
        }
    }
}

struct Server {
    epoll: OwnedFd,
    upstreams: [Upstream<u64>; COUNT],
    clients: HashMap<u64, Session>,
    last: u64,
}

/// ② What a blocking program would keep on its stack.
struct Session {
    wire: Wire,
    gathering: Option<Gathering>,
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
                    if let Ok(wire) = added {
                        let gathering = None;
                        self.clients.insert(self.last, Session { wire, gathering });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return after_failed_accept(&error),
            }
        }
    }

    /// Does all that can be done for a client without waiting, and forgets it once it is done with.
    fn attend_to(&mut self, client: u64) {
        if !self.advance(client).unwrap_or(false) {
            self.clients.remove(&client);
        }
    }

    /// False if the client is done with.
    fn advance(&mut self, client: u64) -> io::Result<bool> {
        let Some(session) = self.clients.get_mut(&client) else {
            return Ok(false);
        };
        session.wire.read()?;
        while let Some(request) = session.wire.request() {
            match request.ask {
                Ask::Aggregate(id) => {
                    session.gathering = Some(Gathering::new(id));
                    self.ask_backends(client, id);
                    return Ok(true);
                }
                // ③ Nobody else is served while this computes.
                Ask::Cpu(time) => session.wire.answer(&burn(time)),
                Ask::Refused(answer) => session.wire.answer(&answer),
            }
            session.wire.read()?;
        }
        session.wire.write()?;
        Ok(!session.wire.finished())
    }

    /// Asks all three; their answers come as events.
    fn ask_backends(&mut self, client: u64, id: u64) {
        for which in 0..COUNT {
            let upstream = &mut self.upstreams[which];
            match upstream.ask(id, client) {
                Ok(connected) => {
                    if connected && let Some(connection) = upstream.connection() {
                        let data = EventData::new_u64(which as u64);
                        let _ = epoll::add(&self.epoll, connection, data, ALL);
                    }
                    self.hear_from_backend(which);
                }
                Err(unavailable) => self.gather(client, which, Err(unavailable)),
            }
        }
    }

    fn hear_from_backend(&mut self, which: usize) {
        for (client, said) in self.upstreams[which].answers() {
            self.gather(client, which, said);
        }
    }

    /// ④ The leader, as a callback: nobody waits here for the three, the last of them goes on.
    fn gather(&mut self, client: u64, which: usize, said: Result<u64, Unavailable>) {
        // The client may have gone meanwhile; its number is never used again.
        let Some(session) = self.clients.get_mut(&client) else {
            return;
        };
        let gathered = session
            .gathering
            .as_mut()
            .and_then(|gathering| gathering.put(which, said));
        if let Some(answer) = gathered {
            session.gathering = None;
            session.wire.answer(&answer);
            self.attend_to(client);
        }
    }
}

/// Edge-triggered, in and out: told once when a socket becomes ready, so that what is watched never changes.
const ALL: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::ET);

/// What an event's number stands for: a backend, the listener, or a client.
const LISTENER: u64 = COUNT as u64;
const FIRST_CLIENT: u64 = LISTENER + 1;

pub(super) const MODEL: Model = Model {
    number: 9,
    name: "epoll",
    title: "Multiplexing with epoll",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("epoll.rs")],
    serve,
};
