//! The clients of a load: each asks one question at a time, over a connection that is kept if the server keeps it.
//!
//! Whatever a server does to a client is an outcome, which is counted, and no failure of the run.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt},
};

use super::{
    question::{Question, Reply, Said},
    tally::Failure,
};

/// Clients of one server, by number.
pub(super) struct Clients {
    server: SocketAddr,
    all: Vec<Client>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// Connections made so far, by which their source addresses go round.
    made: u32,
}

#[derive(Default)]
struct Client {
    connection: Option<Connection>,
    asked: Option<Asked>,
}

struct Connection {
    stream: TcpStream,
    /// Told from those before it on the same client, of which events may still be on their way.
    serial: u32,
    connected: bool,
    received: Vec<u8>,
}

struct Asked {
    question: Question,
    since: Instant,
}

/// The end of one request.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) client: usize,
    /// Since when the answer was waited for.
    pub(super) since: Instant,
    pub(super) outcome: Result<(), Failure>,
}

impl Clients {
    pub(super) fn new(server: SocketAddr) -> Result<Self> {
        Ok(Self {
            server,
            all: Vec::new(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            made: 0,
        })
    }

    /// One more client; its number.
    pub(super) fn add(&mut self) -> usize {
        self.all.push(Client::default());
        self.all.len() - 1
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Has a client ask, who has no question under way. If that fails at once, this is the end.
    pub(super) fn ask(
        &mut self,
        client: usize,
        question: Question,
        since: Instant,
    ) -> Result<(), Done> {
        self.all[client].asked = Some(Asked { question, since });
        let sent = match &self.all[client].connection {
            Some(_) => self.send(client),
            None => self.connect(client),
        };
        sent.map_err(|failure| self.end(client, Err(failure)))
    }

    /// Waits for what happens next, at most so long, and adds the requests that ended.
    pub(super) fn wait(&mut self, patience: Duration, done: &mut Vec<Done>) -> Result<()> {
        let patience = Timespec::try_from(patience)?;
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for index in 0..self.events.len() {
            let data = self.events[index].data.u64();
            let (client, serial) = ((data & 0xffff_ffff) as usize, (data >> 32) as u32);
            let known = |connection: &Connection| connection.serial == serial;
            if self.all[client].connection.as_ref().is_some_and(known) {
                done.extend(self.advance(client));
            }
        }
        Ok(())
    }

    /// Ends the requests that were waiting before `then`.
    pub(super) fn expire(&mut self, then: Instant, done: &mut Vec<Done>) {
        for client in 0..self.all.len() {
            let Client { connection, asked } = &self.all[client];
            if asked.as_ref().is_some_and(|asked| asked.since < then) {
                let connected = connection.as_ref().is_some_and(|to| to.connected);
                let failure = match connected {
                    true => Failure::TimedOut,
                    false => Failure::Unconnected,
                };
                done.push(self.end(client, Err(failure)));
            }
        }
    }

    /// Since when each unanswered request waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Instant> {
        let asked = self.all.iter().filter_map(|client| client.asked.as_ref());
        asked.map(|asked| asked.since)
    }

    fn connect(&mut self, client: usize) -> Result<(), Failure> {
        self.made = self.made.wrapping_add(1);
        let stream = open(self.server, self.made).map_err(|errno| match errno {
            Errno::CONNREFUSED => Failure::Refused,
            Errno::CONNRESET => Failure::Reset,
            _ => Failure::Load,
        })?;
        let data = EventData::new_u64(u64::from(self.made) << 32 | client as u64);
        let watched = EventFlags::IN | EventFlags::OUT;
        epoll::add(&self.epoll, stream.as_fd(), data, watched).map_err(|_| Failure::Load)?;
        self.all[client].connection = Some(Connection {
            stream,
            serial: self.made,
            connected: false,
            received: Vec::new(),
        });
        Ok(())
    }

    /// Sends the question; it is far smaller than a socket's buffer, which is empty.
    fn send(&mut self, client: usize) -> Result<(), Failure> {
        let server = self.server;
        let Client { connection, asked } = &mut self.all[client];
        let (Some(connection), Some(asked)) = (connection, asked) else {
            return Ok(());
        };
        connection.received.clear();
        let request = asked.question.request(server);
        let sent = connection.stream.write_all(&request);
        sent.map_err(|error| failure(&error))
    }

    /// Goes on with a client of whose connection something was told.
    fn advance(&mut self, client: usize) -> Option<Done> {
        match self.try_advance(client) {
            Ok(done) => done,
            Err(failure) => Some(self.end(client, Err(failure))),
        }
        // A connection that ends while nothing is asked on it is no failure: the next question makes another.
        .filter(|done| done.client != NOBODY)
    }

    fn try_advance(&mut self, client: usize) -> Result<Option<Done>, Failure> {
        let Some(connection) = &mut self.all[client].connection else {
            return Ok(None);
        };
        if !connection.connected {
            match sockopt::socket_error(&connection.stream) {
                Ok(Ok(())) => {}
                Ok(Err(errno)) | Err(errno) => return Err(failure(&errno.into())),
            }
            connection.connected = true;
            let data = u64::from(connection.serial) << 32 | client as u64;
            let data = EventData::new_u64(data);
            epoll::modify(&self.epoll, &connection.stream, data, EventFlags::IN)
                .map_err(|_| Failure::Load)?;
            self.send(client)?;
            return Ok(None);
        }
        let Client {
            connection: Some(connection),
            asked,
        } = &mut self.all[client]
        else {
            return Ok(None);
        };
        let count = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return Err(Failure::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(failure(&error)),
        };
        connection.received.extend_from_slice(&self.buffer[..count]);
        let Some(asked) = asked else {
            return Err(Failure::Wrong);
        };
        Ok(match asked.question.reply(&connection.received) {
            Reply::Partial => None,
            Reply::Whole { said, closes } => {
                let outcome = match said {
                    Said::Right => Ok(()),
                    Said::Status(status) => Err(Failure::Rejected(status)),
                    Said::Wrong => Err(Failure::Wrong),
                };
                let done = self.all[client].end(client, outcome);
                if closes {
                    self.all[client].connection = None;
                }
                Some(done)
            }
        })
    }

    /// Ends a client's request, and its connection with it.
    fn end(&mut self, client: usize, outcome: Result<(), Failure>) -> Done {
        self.all[client].connection = None;
        self.all[client].end(client, outcome)
    }
}

impl Client {
    fn end(&mut self, client: usize, outcome: Result<(), Failure>) -> Done {
        match self.asked.take() {
            Some(asked) => Done {
                client,
                since: asked.since,
                outcome,
            },
            None => Done {
                client: NOBODY,
                since: Instant::now(),
                outcome,
            },
        }
    }
}

/// Begins to connect, from an address of this machine that many may share: one alone has too few ports for clients whose
/// every request is a connection.
fn open(server: SocketAddr, number: u32) -> rustix::io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    let source = Ipv4Addr::new(127, 1, 0, 1 + (number % SOURCES) as u8);
    bind(&socket, &SocketAddr::from((source, 0)))?;
    match connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(errno) => Err(errno),
    }
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::TimedOut => Failure::Unconnected,
        _ => Failure::Reset,
    }
}

const SOURCES: u32 = 100;
const NOBODY: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use maniple_models::work::{Gathering, backend};

    use super::*;

    /// A server that reads each request and does so to its connection.
    fn server(treat: impl Fn(&mut TcpStream, &str) -> bool + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if !treat(&mut stream, &String::from_utf8_lossy(&buffer[..count])) {
                        break;
                    }
                }
            }
        });
        address
    }

    fn answer(stream: &mut TcpStream, request: &str, closes: bool) {
        let id: u64 = request[15..].split(' ').next().unwrap().parse().unwrap();
        let values = [0, 1, 2].map(|which| backend::value(which, id).unwrap());
        let mut bytes = Vec::new();
        Gathering::merged(id, values).write_to(closes, &mut bytes);
        stream.write_all(&bytes).unwrap();
    }

    /// How a request ends, and how many connections were made until then.
    fn ask(clients: &mut Clients, client: usize, id: u64) -> (Result<(), Failure>, u32) {
        let now = Instant::now();
        let mut done = Vec::new();
        if let Err(failed) = clients.ask(client, Question::Aggregate(id), now) {
            done.push(failed);
        }
        while done.is_empty() {
            assert!(now.elapsed() < Duration::from_secs(10), "nothing happens");
            clients.wait(Duration::from_secs(10), &mut done).unwrap();
        }
        assert_eq!(
            (done.len(), done[0].client, done[0].since),
            (1, client, now)
        );
        (done.remove(0).outcome, clients.made)
    }

    fn client(server: SocketAddr) -> (Clients, usize) {
        let mut clients = Clients::new(server).unwrap();
        let client = clients.add();
        (clients, client)
    }

    #[test]
    fn a_connection_is_used_again_if_it_is_kept() {
        let (mut clients, client) = client(server(|stream, request| {
            answer(stream, request, false);
            true
        }));
        assert_eq!(ask(&mut clients, client, 1), (Ok(()), 1));
        assert_eq!(ask(&mut clients, client, 2), (Ok(()), 1));
        assert_eq!(clients.waiting().count(), 0);
    }

    #[test]
    fn a_connection_that_ends_with_its_answer_is_made_anew() {
        let (mut clients, client) = client(server(|stream, request| {
            answer(stream, request, true);
            false
        }));
        assert_eq!(ask(&mut clients, client, 1), (Ok(()), 1));
        assert_eq!(ask(&mut clients, client, 2), (Ok(()), 2));
    }

    #[test]
    fn what_a_server_does_to_a_request_is_told() {
        let (mut clients, number) = client(server(|_, _| false));
        assert_eq!(ask(&mut clients, number, 1).0, Err(Failure::Closed));
        // The client can go on.
        assert_eq!(ask(&mut clients, number, 1), (Err(Failure::Closed), 2));
        let (mut clients, number) = client(server(|stream, _| {
            answer(stream, "GET /aggregate/9 ", false);
            true
        }));
        assert_eq!(ask(&mut clients, number, 1).0, Err(Failure::Wrong));
        let (mut clients, number) = client(server(|stream, _| {
            let busy = maniple_models::work::Answer::refusal(503, "busy");
            let mut bytes = Vec::new();
            busy.write_to(true, &mut bytes);
            stream.write_all(&bytes).is_ok()
        }));
        assert_eq!(ask(&mut clients, number, 1).0, Err(Failure::Rejected(503)));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut clients, number) = client(nobody.local_addr().unwrap());
        drop(nobody);
        assert_eq!(ask(&mut clients, number, 1).0, Err(Failure::Refused));
    }

    #[test]
    fn a_request_that_waits_for_too_long_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut clients, number) = client(listener.local_addr().unwrap());
        let asked = Instant::now();
        clients.ask(number, Question::Cpu(1), asked).unwrap();
        // Nobody reads, but the kernel takes connections for the listener.
        let mut done = Vec::new();
        clients.wait(Duration::from_secs(10), &mut done).unwrap();
        clients.expire(asked, &mut done);
        assert!(done.is_empty() && clients.waiting().eq([asked]));
        clients.expire(asked + Duration::from_nanos(1), &mut done);
        assert_eq!(done[0].outcome, Err(Failure::TimedOut));
        assert_eq!(clients.waiting().count(), 0);
    }
}
