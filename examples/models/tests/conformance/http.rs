//! The service over HTTP: what clients may rely on in every model.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc,
    time::Duration,
};

use maniple_models::{
    Client, Model, Service,
    work::{
        Gathering,
        backend::{self, MISSING},
    },
};

use rustix::net::sockopt;

use super::process::{Ports, Running};

/// How many workers a model with a fixed number has here.
const WORKERS: usize = 4;

/// Only to stop a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A write that takes so long has met full buffers. If it was another reason, less is tested.
const STALLED: Duration = Duration::from_millis(100);

pub fn conforms(model: &Model) {
    let ports = Ports::reserve();
    let backends = Running::start(&["backends", "--backends", &ports.said()]);
    let workers = WORKERS.to_string();
    let mut server = Running::start(&[
        model.name,
        "--listen=127.0.0.1:0",
        "--cores=2",
        "--workers",
        &workers,
        "--backends",
        backends.said(),
    ]);
    let at = server.address();

    merges_what_the_backends_say(at);
    connections_are_kept_as_the_model_says(at, model.keeps_connections);
    requests_may_follow_each_other_unasked(at, model.keeps_connections);
    a_request_may_come_byte_by_byte(at);
    a_client_that_has_ended_its_output_is_answered(at);
    a_connection_ends_when_the_client_asks_for_that(at);
    refusals_have_their_status(at);
    clients_that_leave_hurt_nobody(at);
    many_are_served_at_once(at);
    silent_clients_cost_what_the_model_says(at, model.silent_client);
    if model.keeps_connections {
        a_client_that_reads_late_is_not_read_from_and_loses_nothing(at);
    }
    if model.service == Service::Http {
        a_backend_that_is_gone_is_told_and_comes_back(at, backends, model.keeps_connections);
    }
    assert!(server.lives());
}

/// A client's connection.
pub struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    closes: bool,
    pub body: String,
}

impl Peer {
    pub fn connect(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub fn ask(&mut self, target: &str) -> Reply {
        self.send(get(target));
        self.reply()
    }

    pub fn reply(&mut self) -> Reply {
        loop {
            if let Some(reply) = self.take() {
                return reply;
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).expect("an answer in time");
            assert!(
                count > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&self.received)
            );
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    fn take(&mut self) -> Option<Reply> {
        let text = std::str::from_utf8(&self.received).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let field = |name: &str| {
            let mut lines = head
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(": "));
            lines
                .find(|(field, _)| *field == name)
                .map(|(_, value)| value)
        };
        let length = field("content-length").expect("a length").parse().unwrap();
        let body = rest.get(..length)?.to_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let closes = field("connection") == Some("close");
        let taken = head.len() + 4 + length;
        self.received.drain(..taken);
        Some(Reply {
            status,
            closes,
            body,
        })
    }

    /// The status that the server answers with; `None` if it ended the connection instead.
    pub fn status(&mut self, target: &str) -> Option<u16> {
        let _ = self.stream.write_all(get(target).as_bytes());
        loop {
            if let Some(reply) = self.take() {
                return Some(reply.status);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error} where an answer was due, or the end"),
            }
        }
    }

    /// The server ends the connection and says nothing more.
    pub fn ends(mut self) {
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => {}
            // Where it had not read all that was sent.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?} where the end was due"),
        }
        assert!(self.received.is_empty(), "and said more");
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: conformance\r\n\r\n")
}

/// Asks on a connection of its own.
pub fn ask(at: SocketAddr, target: &str) -> Reply {
    Peer::connect(at).ask(target)
}

fn merged(id: u64) -> String {
    Gathering::merged(
        id,
        [0, 1, 2].map(|which| backend::value(which, id).unwrap()),
    )
    .body
}

fn merges_what_the_backends_say(at: SocketAddr) {
    for id in [0, 7, u64::MAX] {
        let reply = ask(at, &format!("/aggregate/{id}"));
        assert_eq!((reply.status, reply.body), (200, merged(id)));
    }
    let reply = ask(at, &format!("/aggregate/{MISSING}"));
    let why = "backend b: there is no such id\n";
    assert_eq!((reply.status, reply.body.as_str()), (502, why));
    let reply = ask(at, "/cpu?us=2000");
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (200, "{\"burnt_us\":2000}\n")
    );
}

fn connections_are_kept_as_the_model_says(at: SocketAddr, keeps: bool) {
    let mut peer = Peer::connect(at);
    for id in 0..3 {
        let reply = peer.ask(&format!("/aggregate/{id}"));
        assert_eq!((reply.status, reply.body), (200, merged(id)));
        assert_eq!(reply.closes, !keeps);
        if !keeps {
            return peer.ends();
        }
    }
}

fn requests_may_follow_each_other_unasked(at: SocketAddr, keeps: bool) {
    let mut peer = Peer::connect(at);
    let asked = if keeps { 20 } else { 1 };
    let requests: String = (0..asked)
        .map(|id| get(&format!("/aggregate/{id}")))
        .collect();
    peer.send(requests);
    for id in 0..asked {
        assert_eq!(peer.reply().body, merged(id), "in the order of asking");
    }
}

fn a_request_may_come_byte_by_byte(at: SocketAddr) {
    let mut peer = Peer::connect(at);
    for byte in get("/cpu?us=1").bytes() {
        peer.send([byte]);
    }
    assert_eq!(peer.reply().status, 200);
}

fn a_client_that_has_ended_its_output_is_answered(at: SocketAddr) {
    for target in ["/aggregate/5", "/cpu?us=10", "/nowhere"] {
        let mut peer = Peer::connect(at);
        peer.send(get(target));
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert!([200, 404].contains(&peer.reply().status));
        peer.ends();
    }
    let half = Peer::connect(at);
    (&half.stream).write_all(b"GET /aggr").unwrap();
    half.stream.shutdown(Shutdown::Write).unwrap();
    half.ends();
}

fn a_connection_ends_when_the_client_asks_for_that(at: SocketAddr) {
    let mut peer = Peer::connect(at);
    peer.send("GET /aggregate/1 HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n");
    let reply = peer.reply();
    assert!(reply.closes && reply.status == 200);
    peer.ends();
}

fn refusals_have_their_status(at: SocketAddr) {
    let long = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "a".repeat(9000));
    for (request, status) in [
        (get("/nowhere").as_str(), 404),
        (get("/aggregate/-1").as_str(), 400),
        ("POST /aggregate/1 HTTP/1.1\r\nhost: c\r\n\r\n", 405),
        ("GET /aggregate/1 HTTP/1.1\r\n\r\n", 400),
        ("\0\0\0 nonsense\r\n\r\n", 400),
        (&long, 431),
    ] {
        let mut peer = Peer::connect(at);
        peer.send(request);
        assert_eq!(peer.reply().status, status, "{request:?}");
    }
}

fn clients_that_leave_hurt_nobody(at: SocketAddr) {
    for _ in 0..8 {
        // Before a word, in the middle of one, and before the answer; with a reset, since data is left unread.
        drop(Peer::connect(at));
        Peer::connect(at).send("GET /aggregate/1 HT");
        Peer::connect(at).send(get("/aggregate/2"));
        let mut peer = Peer::connect(at);
        peer.send(get("/nowhere"));
        peer.stream.peek(&mut [0]).unwrap();
    }
    assert_eq!(ask(at, "/aggregate/3").body, merged(3));
}

fn many_are_served_at_once(at: SocketAddr) {
    let clients: Vec<_> = (0..32_u64)
        .map(|id| std::thread::spawn(move || (id, ask(at, &format!("/aggregate/{id}")))))
        .collect();
    for client in clients {
        let (id, reply) = client.join().unwrap();
        assert_eq!(reply.body, merged(id));
    }
}

fn silent_clients_cost_what_the_model_says(at: SocketAddr, cost: Client) {
    let silent = match cost {
        Client::StopsAll => 0,
        Client::HoldsItsShare => return a_silent_client_holds_its_share_and_no_more(at),
        Client::HoldsAWorker => WORKERS - 1,
        Client::CostsMemory => 4 * WORKERS,
    };
    let silent: Vec<_> = (0..silent)
        .map(|client| {
            let mut peer = Peer::connect(at);
            if client % 2 == 1 {
                peer.send("GET /aggregate/1 HTTP/1.1\r\nho");
            }
            peer
        })
        .collect();
    for id in 0..3 {
        assert_eq!(ask(at, &format!("/aggregate/{id}")).body, merged(id));
    }
    drop(silent);
}

/// Of so many clients some have another worker than the silent one, and the others are served when that has gone.
fn a_silent_client_holds_its_share_and_no_more(at: SocketAddr) {
    let mut silent = Peer::connect(at);
    silent.send("GET /aggregate/1 HTTP/1.1\r\nho");
    let (told, answered) = mpsc::channel();
    let clients: Vec<_> = (0..16_u64)
        .map(|id| {
            let told = told.clone();
            std::thread::spawn(move || {
                assert_eq!(ask(at, &format!("/aggregate/{id}")).body, merged(id));
                told.send(()).unwrap();
            })
        })
        .collect();
    answered
        .recv_timeout(PATIENCE)
        .expect("one of them is served");
    drop(silent);
    for client in clients {
        client.join().unwrap();
    }
}

/// A client that asks and asks and does not read: the server stops taking its requests, and goes on where it was once
/// there is room again.
fn a_client_that_reads_late_is_not_read_from_and_loses_nothing(at: SocketAddr) {
    let mut peer = Peer::connect(at);
    sockopt::set_socket_send_buffer_size(&peer.stream, 16 * 1024).unwrap();
    peer.stream.set_write_timeout(Some(STALLED)).unwrap();
    let request = get("/nowhere");
    let requests = request.repeat(1000);
    let mut sent = 0;
    loop {
        match peer
            .stream
            .write(&requests.as_bytes()[sent % requests.len()..])
        {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} after {sent} bytes"),
        }
        assert!(
            sent < 64 * 1024 * 1024,
            "the server takes what it cannot answer"
        );
    }
    for _ in 0..sent / request.len() {
        assert_eq!(peer.reply().status, 404);
    }
}

fn many_unasked(at: SocketAddr, target: &str, status: u16) {
    const COUNT: usize = 10_000;
    let mut peer = Peer::connect(at);
    let mut sending = peer.stream.try_clone().unwrap();
    let requests = get(target).repeat(COUNT);
    let sender = std::thread::spawn(move || sending.write_all(requests.as_bytes()));
    for _ in 0..COUNT {
        assert_eq!(peer.reply().status, status);
    }
    sender.join().unwrap().unwrap();
}

fn a_backend_that_is_gone_is_told_and_comes_back(at: SocketAddr, backends: Running, keeps: bool) {
    let addresses = backends.said().to_owned();
    drop(backends);
    let reply = ask(at, "/aggregate/9");
    assert_eq!(reply.status, 502, "{}", reply.body);
    if keeps {
        // A failure that is known at once must not be handled within the handling of the one before.
        many_unasked(at, "/aggregate/9", 502);
    }
    let _backends = Running::start(&["backends", "--backends", &addresses]);
    // Each worker may have a connection that it has not yet found to be dead.
    let served = (0..100).any(|_| ask(at, "/aggregate/9").body == merged(9));
    assert!(served, "nothing is served after the backends came back");
}
