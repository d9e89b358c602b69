//! Sessions in a structure: what a thread keeps that waits for many clients at once.
//!
//! Nothing here waits. A loop around it does, with `select`, `poll` or `epoll`, and tells
//! what has become ready; then [`Sessions::turn`] does all that can be done without
//! waiting. What a thread of its own would keep on its stack stands in `Session`: what was
//! received, what is to be sent, and which backends have answered.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use crate::{
    site::Door,
    work::{Answer, Ask, Gathering, Unavailable, Upstream, Wire, backend::COUNT, burn},
};

pub(super) mod epoll;
pub(super) mod inbox;
pub(super) mod poll;
pub(super) mod select;

/// What the loop does for its sessions.
pub(super) trait Host {
    /// Sees that this connection is watched from now on; `whose` names it. If it cannot be,
    /// it is closed.
    fn watch(&mut self, connection: BorrowedFd<'_>, whose: u64) -> io::Result<()>;

    /// Computes at once, while everybody else waits, unless the host has another place for
    /// that and gives the answer later.
    fn compute(&mut self, _client: u64, time: Duration) -> Option<Answer> {
        Some(burn(time))
    }
}

/// What a number stands for: a backend, the listener, or from here on a client.
pub(super) const LISTENER: u64 = COUNT as u64;
const FIRST_CLIENT: u64 = LISTENER + 1;

pub(super) struct Sessions<H> {
    pub host: H,
    upstreams: [Upstream<u64>; COUNT],
    clients: HashMap<u64, Session>,
    last: u64,
    /// Clients for whom something can be done.
    agenda: Vec<u64>,
}

/// ① What a blocking program would keep on its stack.
struct Session {
    wire: Wire,
    gathering: Option<Gathering>,
    on_agenda: bool,
}

/// A connection, and what is to be known of it.
pub(super) struct Watched<'a> {
    pub whose: u64,
    pub connection: BorrowedFd<'a>,
    pub reads: bool,
    pub writes: bool,
}

impl<H: Host> Sessions<H> {
    pub fn new(backends: [SocketAddr; COUNT], host: H) -> Self {
        Self {
            host,
            upstreams: std::array::from_fn(|which| Upstream::new(which, backends[which])),
            clients: HashMap::new(),
            last: FIRST_CLIENT - 1,
            agenda: Vec::new(),
        }
    }

    /// Takes all who knock.
    pub fn accept(&mut self, door: &mut Door) {
        while let Some(stream) = door.accept() {
            self.take(stream);
        }
    }

    /// A client just accepted. Its request is often there already.
    pub fn take(&mut self, stream: TcpStream) {
        let whose = self.last + 1;
        if self.host.watch(stream.as_fd(), whose).is_err() {
            return turn_away(stream);
        }
        if let Ok(wire) = Wire::new(stream) {
            self.last = whose;
            let session = Session {
                wire,
                gathering: None,
                on_agenda: false,
            };
            self.clients.insert(whose, session);
            self.note(whose);
        }
    }

    /// Something has happened on a connection.
    pub fn on_event(&mut self, whose: u64) {
        match whose {
            backend if backend < LISTENER => self.hear_from_backend(backend as usize),
            client => self.note(client),
        }
    }

    /// Puts a client on the agenda, once. It may have gone: its number is never used again.
    fn note(&mut self, client: u64) {
        if let Some(session) = self.clients.get_mut(&client)
            && !std::mem::replace(&mut session.on_agenda, true)
        {
            self.agenda.push(client);
        }
    }

    /// ② Does what can be done without waiting, for everybody on the agenda once: a client
    /// that sends without end gets its turn, and no more. True if somebody is on the agenda
    /// again, so that the loop looks for events but does not wait for them.
    pub fn turn(&mut self) -> bool {
        for client in std::mem::take(&mut self.agenda) {
            if !self.attend_to(client).unwrap_or(false) {
                self.clients.remove(&client);
            }
        }
        // What many clients ask goes out in one write.
        for which in 0..COUNT {
            if self.upstreams[which].wants_write() {
                self.hear_from_backend(which);
            }
        }
        !self.agenda.is_empty()
    }

    /// False if the client is done with.
    fn attend_to(&mut self, client: u64) -> io::Result<bool> {
        let Some(session) = self.clients.get_mut(&client) else {
            return Ok(false);
        };
        session.on_agenda = false;
        let more = session.wire.read()?;
        let mut asked = None;
        while let Some(request) = session.wire.request() {
            let answer = match request.ask {
                Ask::Aggregate(id) => {
                    session.gathering = Some(Gathering::new(id));
                    asked = Some(id);
                    None
                }
                // ③ Nobody else is served while this computes.
                Ask::Cpu(time) => self.host.compute(client, time),
                Ask::Refused(answer) => Some(answer),
            };
            if let Some(answer) = answer {
                session.wire.answer(&answer);
            }
        }
        session.wire.write()?;
        let (stays, more) = (!session.wire.finished(), more && session.wire.wants_read());
        if more {
            self.note(client);
        }
        if let Some(id) = asked {
            self.ask_backends(client, id);
        }
        Ok(stays)
    }

    /// Asks all three. Their answers come as events; a failure may be known at once.
    fn ask_backends(&mut self, client: u64, id: u64) {
        for which in 0..COUNT {
            let upstream = &mut self.upstreams[which];
            let failed = match (upstream.ask(id, client), upstream.connection()) {
                (Err(unavailable), _) => vec![(client, Err(unavailable))],
                (Ok(true), Some(connection)) => match self.host.watch(connection, which as u64) {
                    Ok(()) => continue,
                    Err(error) => upstream.fail(&error),
                },
                (Ok(_), _) => continue,
            };
            self.gather(which, failed);
        }
    }

    fn hear_from_backend(&mut self, which: usize) {
        let answers = self.upstreams[which].answers();
        self.gather(which, answers);
    }

    /// ④ The leader, as a callback: nobody waits here for the three, and the last of them goes on.
    fn gather(&mut self, which: usize, answers: Vec<(u64, Result<u64, Unavailable>)>) {
        for (client, said) in answers {
            let session = self.clients.get_mut(&client);
            let gathering = session.and_then(|session| session.gathering.as_mut());
            if let Some(answer) = gathering.and_then(|gathering| gathering.put(which, said)) {
                self.answer(client, &answer);
            }
        }
    }

    /// Answers the request of this client that is under way, unless the client has gone.
    pub fn answer(&mut self, client: u64, answer: &Answer) {
        if let Some(session) = self.clients.get_mut(&client) {
            session.gathering = None;
            session.wire.answer(answer);
            self.note(client);
        }
    }

    /// All may have something to do: for a loop that has lost track of events.
    pub fn look_at_all(&mut self) {
        for which in 0..COUNT {
            self.hear_from_backend(which);
        }
        let clients: Vec<u64> = self.clients.keys().copied().collect();
        for client in clients {
            self.note(client);
        }
    }

    /// What is to be watched now, and for what: for those ways to wait that must be told each time.
    pub fn watched(&self) -> impl Iterator<Item = Watched<'_>> {
        let upstreams = self.upstreams.iter().filter_map(|upstream| {
            Some(Watched {
                whose: upstream.which() as u64,
                connection: upstream.connection()?,
                reads: true,
                writes: upstream.wants_write(),
            })
        });
        let clients = self.clients.iter().map(|(&whose, session)| Watched {
            whose,
            connection: session.wire.as_fd(),
            reads: session.wire.wants_read(),
            writes: session.wire.wants_write(),
        });
        // Who waits for a backend and may send no more is not watched: its end would be
        // told again and again.
        upstreams
            .chain(clients)
            .filter(|watched| watched.reads || watched.writes)
    }
}

fn turn_away(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    Answer::refusal(503, "there is no room for another connection").write_to(true, &mut bytes);
    // Nothing has been sent on it yet: the kernel takes it without a wait.
    let _ = stream.write_all(&bytes);
}
