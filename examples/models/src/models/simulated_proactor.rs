//! A proactor made of a reactor: the main thread does the reading and writing, and workers
//! are told of completed reads.
//!
//! The main thread knows no HTTP. It waits for readiness, moves bytes, and hands what came
//! in to a worker; the worker parses, does the work, and gives back bytes to write and what
//! is to follow. To the worker it looks as if the system had read for it. At most so many
//! completed reads are under way; beyond, no further socket is read until one has been
//! handled.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    thread::Builder,
};

use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::retry_on_intr,
};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Backends, Mailbox, Queue, Request},
};

/// ① What crosses to a worker: a read that is complete. A part of a request crosses as
/// well; only workers can tell.
struct ReadDone {
    client: u64,
    bytes: Vec<u8>,
}

/// ② What comes back: an operation to start, and its buffer.
struct WriteThis {
    client: u64,
    bytes: Vec<u8>,
    /// What has been received and not been used yet.
    rest: Vec<u8>,
    then: Then,
}

/// What is to follow on a connection when all is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Read,
    /// The rest may have another request in it.
    HandleRest,
    /// Say that nothing more will come, and throw away what the client still sends, lest it
    /// lose the last answer.
    Linger,
    Close,
}

fn serve(site: &Site) -> io::Result<()> {
    let reads = Arc::new(Queue::new(UNDER_WAY));
    let writes = Arc::new(Mailbox::new()?);
    for _ in 0..site.workers {
        let (reads, writes, backends) = (Arc::clone(&reads), Arc::clone(&writes), site.backends());
        Builder::new().spawn(move || work(&reads, &writes, backends))?;
    }
    let listener = site.listen()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let (connections, answers) = (EventData::new_u64(LISTENER), EventData::new_u64(WRITES));
    epoll::add(&epoll, &listener, connections, EventFlags::IN)?;
    epoll::add(&epoll, &*writes, answers, EventFlags::IN)?;
    let mut main = Main {
        epoll,
        reads,
        under_way: 0,
        stalled: VecDeque::new(),
        clients: HashMap::new(),
        last: WRITES,
    };
    let mut events = Vec::with_capacity(256);
    loop {
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&main.epoll, room, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => main.accept(&listener),
                WRITES => writes.take().into_iter().for_each(|it| main.handled(it)),
                client => main.attend_to(client),
            }
        }
    }
}

/// ③ The completion handler: from bytes to bytes. All that is HTTP is here, and so shared
/// by all cores.
fn work(reads: &Queue<ReadDone>, writes: &Mailbox<WriteThis>, mut backends: Backends) {
    loop {
        let ReadDone {
            client,
            bytes: mut rest,
        } = reads.pop();
        let mut bytes = Vec::new();
        let mut then = Then::Read;
        if let Some(request) = Request::take(&mut rest) {
            if request.is_broken() {
                then = Then::Linger;
            } else if request.closes {
                then = Then::Close;
            } else if !rest.is_empty() {
                then = Then::HandleRest;
            }
            let closes = request.closes;
            let answer = request.ask.answer_in_turn(&mut backends);
            answer.write_to(closes, &mut bytes);
        }
        writes.put(WriteThis {
            client,
            bytes,
            rest,
            then,
        });
    }
}

struct Main {
    epoll: OwnedFd,
    reads: Arc<Queue<ReadDone>>,
    /// How many reads are with workers, or wait for one.
    under_way: usize,
    /// Who would be read from, were there not too many of them.
    stalled: VecDeque<u64>,
    clients: HashMap<u64, Connection>,
    last: u64,
}

struct Connection {
    stream: TcpStream,
    at: At,
    received: Vec<u8>,
    unsent: Vec<u8>,
    then: Then,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Reading,
    Stalled,
    /// Its bytes are with a worker.
    Handled,
    Writing,
    Lingering,
}

impl Main {
    fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    self.last += 1;
                    let added = Connection::over(stream).and_then(|it| {
                        epoll::add(&self.epoll, &it.stream, EventData::new_u64(self.last), ALL)?;
                        Ok(it)
                    });
                    self.clients.extend(added.map(|it| (self.last, it)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return after_failed_accept(&error),
            }
        }
    }

    fn attend_to(&mut self, client: u64) {
        match self.advance(client) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(true) => {}
            Ok(false) | Err(_) => drop(self.clients.remove(&client)),
        }
    }

    /// ④ Carries out what was asked for: reads until there is something, writes until all
    /// is out. False at the end.
    fn advance(&mut self, client: u64) -> io::Result<bool> {
        let Some(connection) = self.clients.get_mut(&client) else {
            return Ok(false);
        };
        loop {
            match connection.at {
                At::Handled | At::Stalled => return Ok(true),
                At::Reading if self.under_way == UNDER_WAY => {
                    // ⑤ No room: the bytes stay in the kernel, and in the end with the client.
                    connection.at = At::Stalled;
                    self.stalled.push_back(client);
                }
                At::Reading => {
                    if connection.then != Then::HandleRest && connection.read()? == 0 {
                        return Ok(false);
                    }
                    connection.at = At::Handled;
                    self.under_way += 1;
                    let bytes = std::mem::take(&mut connection.received);
                    self.reads.push(ReadDone { client, bytes });
                }
                At::Writing => {
                    connection.write()?;
                    connection.at = match connection.then {
                        Then::Close => return Ok(false),
                        Then::Linger => At::Lingering,
                        Then::Read | Then::HandleRest => At::Reading,
                    };
                    if connection.at == At::Lingering {
                        connection.stream.shutdown(Shutdown::Write)?;
                    }
                }
                At::Lingering => {
                    connection.received.clear();
                    if connection.read()? == 0 {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// A worker has handled a read: writes, and reads from somebody who had to wait for that.
    fn handled(&mut self, done: WriteThis) {
        self.under_way -= 1;
        if let Some(connection) = self.clients.get_mut(&done.client) {
            connection.received = done.rest;
            connection.unsent = done.bytes;
            connection.then = done.then;
            connection.at = At::Writing;
            self.attend_to(done.client);
        }
        while self.under_way < UNDER_WAY
            && let Some(client) = self.stalled.pop_front()
        {
            if let Some(connection) = self.clients.get_mut(&client) {
                connection.at = At::Reading;
                self.attend_to(client);
            }
        }
    }
}

impl Connection {
    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            at: At::Reading,
            received: Vec::new(),
            unsent: Vec::new(),
            then: Then::Read,
        })
    }

    /// How many bytes have come; 0 at the end of input.
    fn read(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let count = retry_on_intr(|| rustix::io::read(&self.stream, &mut chunk))?;
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = retry_on_intr(|| rustix::io::write(&self.stream, &self.unsent))?;
            self.unsent.drain(..count);
        }
        Ok(())
    }
}

/// Completed reads that wait for a worker or have one. It is also the bound of the queue,
/// which so is never full.
const UNDER_WAY: usize = 1024;

/// Edge-triggered, in and out: told once when a socket becomes ready, so that what is
/// watched never changes.
const ALL: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::ET);

/// What an event's number stands for: the listener, the mailbox, or else a client.
const LISTENER: u64 = 0;
const WRITES: u64 = 1;

pub(super) const MODEL: Model = Model {
    number: 15,
    name: "simulated-proactor",
    title: "Simulated proactor",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("simulated_proactor.rs")],
    serve,
};
