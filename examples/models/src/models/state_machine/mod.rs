//! A state machine for each session: where a client is stands in one enum, and what follows
//! from an event in one table.
//!
//! One thread waits in `epoll`, as in multiplexing. But what it does then is not spread
//! over callbacks: each event goes into a pure function, State x Event -> (State, Effect),
//! which can be read, drawn and tested without a socket. The loop below has no opinion: it
//! turns what the kernel says into events, and does the effects.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    mem,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
};

use self::machine::{Effect, Event, State};
use super::{
    Client, Model, Service,
    multiplex::{
        Host, LISTENER,
        epoll::{EVENTS_AT_ONCE, Epoll},
    },
};
use crate::{
    site::{Door, Site},
    work::{Request, Upstream, backend::COUNT, burn},
};

mod machine;

fn serve(site: &Site) -> io::Result<()> {
    let mut door = Door::new(site.listen()?)?;
    let mut server = Server {
        epoll: Epoll::new(&door)?,
        upstreams: std::array::from_fn(|which| Upstream::new(which, site.backends[which])),
        sessions: HashMap::new(),
        last: LISTENER,
        due: Vec::new(),
    };
    let mut ready = Vec::with_capacity(EVENTS_AT_ONCE);
    loop {
        server.epoll.wait(&mut ready, !server.due.is_empty())?;
        for (client, event) in mem::take(&mut server.due) {
            server.proceed(client, event);
        }
        for event in ready.drain(..) {
            match event.data.u64() {
                LISTENER => {
                    while let Some(stream) = door.accept() {
                        server.begin(stream);
                    }
                }
                backend if backend < LISTENER => server.hear_from_backend(backend as usize),
                client => server.proceed(client, None),
            }
        }
        // What many clients ask goes out in one write.
        for which in 0..COUNT {
            if server.upstreams[which].wants_write() {
                server.hear_from_backend(which);
            }
        }
    }
}

struct Server {
    epoll: Epoll,
    upstreams: [Upstream<u64>; COUNT],
    sessions: HashMap<u64, Session>,
    last: u64,
    /// What happens with the next turn; `None` for those who had theirs and may have more to do.
    due: Vec<(u64, Option<Event>)>,
}

/// ③ The state, and bytes: nothing else says what a client is at.
struct Session {
    state: State,
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    thrown_away: usize,
}

impl Server {
    fn begin(&mut self, stream: TcpStream) {
        let set = stream.set_nodelay(true).and(stream.set_nonblocking(true));
        let watched = set.and_then(|()| self.epoll.watch(stream.as_fd(), self.last + 1));
        if watched.is_ok() {
            self.last += 1;
            let session = Session {
                state: State::Reading,
                stream,
                received: Vec::new(),
                unsent: Vec::new(),
                thrown_away: 0,
            };
            self.sessions.insert(self.last, session);
        }
    }

    /// ④ Steps, until the session can do nothing without a wait or has had its turn.
    fn proceed(&mut self, client: u64, mut event: Option<Event>) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let mut looks = 0;
        loop {
            if event.is_none() && looks == LOOKS_AT_ONCE {
                return self.due.push((client, None));
            } else if event.is_none() {
                looks += 1;
                event = session.look();
            }
            let Some(happened) = event.take() else { return };
            let (state, effect) = mem::replace(&mut session.state, State::Over).on(happened);
            session.state = state;
            match effect {
                Effect::Nothing => {}
                Effect::Ask(id) => return self.ask_backends(client, id),
                // ⑤ Nobody else is served while this computes.
                Effect::Compute(time) => event = Some(Event::Computed(burn(time))),
                Effect::Send { answer, last } => answer.write_to(last, &mut session.unsent),
                Effect::EndOutput => {
                    let failed = session.stream.shutdown(Shutdown::Write).is_err();
                    event = failed.then_some(Event::Broken);
                }
            }
            if matches!(session.state, State::Over) {
                self.sessions.remove(&client);
                return;
            }
        }
    }

    /// Asks all three. What fails at once happens to the session with the next turn: not
    /// within this step.
    fn ask_backends(&mut self, client: u64, id: u64) {
        for which in 0..COUNT {
            let upstream = &mut self.upstreams[which];
            let failed = match (upstream.ask(id, client), upstream.connection()) {
                (Err(unavailable), _) => vec![(client, Err(unavailable))],
                (Ok(true), Some(connection)) => match self.epoll.watch(connection, which as u64) {
                    Ok(()) => continue,
                    Err(error) => upstream.fail(&error),
                },
                (Ok(_), _) => continue,
            };
            for (client, said) in failed {
                self.due.push((client, Some(Event::Said(which, said))));
            }
        }
    }

    fn hear_from_backend(&mut self, which: usize) {
        for (client, said) in self.upstreams[which].answers() {
            self.proceed(client, Some(Event::Said(which, said)));
        }
    }
}

impl Session {
    /// ⑥ What the kernel has for a session in this state, as an event; `None` if it has
    /// nothing yet. A state that waits for something else does not read: the client is held
    /// back by that.
    fn look(&mut self) -> Option<Event> {
        let found = match self.state {
            State::Reading => self.read_request(),
            State::Answering(_) => self.write(),
            State::Lingering => self.throw_away(),
            State::Asking(..) | State::Computing(_) | State::Over => Ok(None),
        };
        match found {
            Ok(event) => event,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => Some(Event::Broken),
        }
    }

    fn read_request(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(request) = Request::take(&mut self.received) {
                return Ok(Some(Event::Request(request)));
            }
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk)? {
                0 => return Ok(Some(Event::Ended)),
                count => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn write(&mut self) -> io::Result<Option<Event>> {
        while !self.unsent.is_empty() {
            let count = self.stream.write(&self.unsent)?;
            self.unsent.drain(..count);
        }
        Ok(Some(Event::Sent))
    }

    fn throw_away(&mut self) -> io::Result<Option<Event>> {
        while self.thrown_away < LONGEST_LINGER {
            match self.stream.read(&mut [0; 2048])? {
                0 => break,
                count => self.thrown_away += count,
            }
        }
        Ok(Some(Event::Ended))
    }
}

/// How often a session looks for something to do before others have their turn.
const LOOKS_AT_ONCE: usize = 64;

/// How many bytes are thrown away before a client has had its chance.
const LONGEST_LINGER: usize = 1024 * 1024;

pub(super) const MODEL: Model = Model {
    number: 20,
    name: "state-machine",
    title: "A state machine for each session",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("mod.rs"), include_str!("machine.rs")],
    serve,
};
