//! A proactor: operations are started and left to the kernel, and when one is complete its
//! handler starts the next.
//!
//! Nothing here is told that it may read or write. It is told that something *was* read or
//! written, and it never sees a socket that is not ready. One thread starts everything, for
//! clients and backends, and waits in one place for whatever ends first. While an operation
//! is under way its buffer is the kernel's: see the file `ring`, where that is kept safe.

use std::{collections::HashMap, io, os::fd::OwnedFd, rc::Rc};

use rustix::net::{Shutdown, shutdown, sockopt};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Answer, Ask, Gathering, Request, Unavailable, backend::COUNT, burn},
};

mod backend;
mod ring;

use backend::Backend;
use ring::{Done, Ring, Verb};

fn serve(site: &Site) -> io::Result<()> {
    let ring = Ring::new()?;
    let listener = Rc::new(OwnedFd::from(site.listen()?));
    let mut server = Proactor {
        ring,
        clients: HashMap::new(),
        last: 0,
        backends: site.backends.map(Backend::new),
    };
    server.ring.start(Whose::Listener, listener, Verb::Accept);
    loop {
        // ① The demultiplexing of completions: who started the operation decides who
        // handles its end.
        for (whose, socket, done) in server.ring.wait()? {
            match (whose, done) {
                (Whose::Listener, Done::Accepted(accepted)) => server.accepted(accepted)?,
                (Whose::Client(id), done) => {
                    if server.client_went_on(id, done).is_err() {
                        server.clients.remove(&id);
                    }
                }
                (Whose::Backend(which), done) if server.backends[which].has(&socket) => {
                    if let Err(error) = server.backend_went_on(which, done) {
                        server.lose_backend(which, &error);
                    }
                }
                // Of a connection to a backend that has been given up.
                (Whose::Backend(_) | Whose::Listener, _) => {}
            }
        }
    }
}

/// For whom an operation is under way.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Listener,
    Client(u64),
    Backend(usize),
}

struct Proactor {
    ring: Ring<Whose>,
    clients: HashMap<u64, Session>,
    last: u64,
    backends: [Backend; COUNT],
}

/// A client has one operation under way, or none while its backends are asked.
struct Session {
    socket: Rc<OwnedFd>,
    received: Vec<u8>,
    gathering: Option<Gathering>,
    /// The request under way is the last.
    closes: bool,
    /// What else the client sends is thrown away.
    lingers: bool,
}

impl Proactor {
    fn accepted(&mut self, accepted: io::Result<OwnedFd>) -> io::Result<()> {
        let socket = match accepted {
            Ok(socket) => Rc::new(socket),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let why = "this kernel's io_uring cannot go on accepting: Linux 5.19 can";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            Err(error) => {
                after_failed_accept(&error);
                return Ok(());
            }
        };
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        self.last += 1;
        let session = Session {
            socket,
            received: Vec::new(),
            gathering: None,
            closes: false,
            lingers: false,
        };
        self.clients.insert(self.last, session);
        self.receive(self.last);
        Ok(())
    }

    /// ④ A silent client costs a buffer: the kernel must have it before there is anything
    /// to put in.
    fn receive(&mut self, client: u64) {
        let socket = self.clients[&client].socket.clone();
        let buffer = Verb::Receive(vec![0; 2048]);
        self.ring.start(Whose::Client(client), socket, buffer);
    }

    fn send(&mut self, client: u64, bytes: Vec<u8>) {
        let socket = self.clients[&client].socket.clone();
        self.ring
            .start(Whose::Client(client), socket, Verb::Send(bytes));
    }

    /// ⑤ A completion handler: what has been done decides what is started next. An error
    /// ends the session.
    fn client_went_on(&mut self, client: u64, done: Done) -> io::Result<()> {
        let Some(session) = self.clients.get_mut(&client) else {
            return Ok(());
        };
        match done {
            Done::Received(bytes) => {
                let bytes = bytes?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if session.lingers {
                    self.receive(client);
                    return Ok(());
                }
                session.received.extend_from_slice(&bytes);
                self.next_request(client);
            }
            Done::Sent(rest) => match rest? {
                rest if !rest.is_empty() => self.send(client, rest),
                _ if session.lingers => {
                    shutdown(&session.socket, Shutdown::Write)?;
                    self.receive(client);
                }
                _ if session.closes => drop(self.clients.remove(&client)),
                _ => self.next_request(client),
            },
            Done::Accepted(_) | Done::Connected(_) => {}
        }
        Ok(())
    }

    fn next_request(&mut self, client: u64) {
        let Some(session) = self.clients.get_mut(&client) else {
            return;
        };
        let Some(request) = Request::take(&mut session.received) else {
            return self.receive(client);
        };
        session.closes = request.closes;
        session.lingers = request.is_broken();
        match request.ask {
            Ask::Aggregate(id) => {
                session.gathering = Some(Gathering::new(id));
                (0..COUNT).for_each(|which| self.ask_backend(which, id, client));
            }
            // Nobody else is served while this computes.
            Ask::Cpu(time) => self.answer(client, &burn(time)),
            Ask::Refused(answer) => self.answer(client, &answer),
        }
    }

    fn answer(&mut self, client: u64, answer: &Answer) {
        let mut bytes = Vec::with_capacity(256);
        answer.write_to(self.clients[&client].closes, &mut bytes);
        self.send(client, bytes);
    }

    fn gather(&mut self, client: u64, which: usize, said: Result<u64, Unavailable>) {
        let gathered = self
            .clients
            .get_mut(&client)
            .and_then(|session| session.gathering.as_mut()?.put(which, said));
        if let Some(answer) = gathered {
            self.answer(client, &answer);
        }
    }
}

pub(super) const MODEL: Model = Model {
    number: 16,
    name: "proactor",
    title: "Proactor on io_uring",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("mod.rs"), include_str!("ring.rs")],
    serve,
};
