//! How connections begin, wait and end: half-closed, reset, slow, idle, too many, and in a drain.

#[macro_use]
extern crate maniple_driven;

#[path = "driven/mod.rs"]
mod driven;

use std::{
    io::{self, Read, Write},
    panic::panic_any,
    time::Duration,
};

use crate::driven::{Reserved, Runtime};
use maniple::{
    JoinHandle,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::channel::{Receiver, Sender, unbounded},
};
use maniple_server::{
    Body, BodyError, DrainReport, Request, Response, Router, Server, ServerHandle, StatusCode,
    server::Builder,
};

/// A server whose `/gate` waits until the test lets it pass.
struct Served {
    handle: ServerHandle,
    serving: JoinHandle<io::Result<DrainReport>>,
    gate: Sender<()>,
    entered: Receiver<()>,
    _runtime: Runtime,
}

impl Served {
    fn start() -> Self {
        Self::with(|settings| settings)
    }

    fn with(settings: impl FnOnce(Builder) -> Builder) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), settings)
    }

    fn at(address: SocketAddr, settings: impl FnOnce(Builder) -> Builder) -> Self {
        let (gate, opened) = unbounded();
        let (enter, entered) = unbounded();
        let routes = routes().get("/gate", move |_: &mut Request| {
            let _ = enter.send(());
            let _ = opened.recv();
            "passed"
        });
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let server = settings(Server::builder(routes)).bind(address).unwrap();
        Self {
            handle: server.handle(),
            serving: runtime.spawn(move || server.serve()),
            gate,
            entered,
            _runtime: runtime,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.handle.local_addr()).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    fn ask(&self, bytes: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    }

    /// Sends what ends with the connection, and returns the answer.
    fn say(&self, bytes: &str) -> String {
        to_end(self.ask(bytes))
    }

    /// A connection whose request has been answered, all but its being kept.
    fn kept(&self) -> TcpStream {
        let mut stream = self.ask(&get("/"));
        read_until(&mut stream, "hello");
        stream
    }

    fn wait_for_connections(&self, count: usize) {
        let until = maniple::time::now() + Duration::from_secs(60);
        while self.handle.connections() != count {
            assert!(
                maniple::time::now() < until,
                "{} connections",
                self.handle.connections()
            );
            crate::driven::thread::yield_now();
        }
    }

    fn drained(self) -> DrainReport {
        self.handle.drain();
        self.serving.join().unwrap().unwrap()
    }
}

fn routes() -> Router {
    Router::new()
        .get("/", |_: &mut Request| "hello")
        .post("/", |request: &mut Request| -> Result<Vec<u8>, BodyError> {
            Ok(request.read_body()?.to_vec())
        })
        .post("/ignore", |_: &mut Request| StatusCode::ACCEPTED)
        .get("/panic", |_: &mut Request| -> &'static str {
            panic!("intended")
        })
        .get("/bomb", |_: &mut Request| -> &'static str {
            panic_any(Bomb)
        })
        .get("/mined", |_: &mut Request| {
            Response::text(Body::from_reader(Mined(io::Cursor::new("part"))))
        })
        .get("/mined-interim", |_: &mut Request| {
            Response::text(Body::from_reader(Mined(io::Cursor::new(""))))
                .with_status(StatusCode::CONTINUE)
        })
        .get("/mined-nothing", |_: &mut Request| {
            Response::text(Body::from_reader(Mined(io::Cursor::new(""))))
                .with_status(StatusCode::NO_CONTENT)
        })
        .get("/mined-error", |_: &mut Request| {
            Response::text(Body::from_reader(io::Cursor::new("part").chain(MinedError)))
        })
        .get("/large", |_: &mut Request| vec![b'x'; 64 * 1024 * 1024])
        .get("/endless", |_: &mut Request| {
            Response::text(Body::from_reader(io::repeat(b'x')))
        })
        .get("/broken", |_: &mut Request| {
            Response::text(Body::from_reader(io::Cursor::new("part").chain(Broken)))
        })
        .get("/short", |_: &mut Request| {
            Response::text(Body::from_sized_reader(io::Cursor::new("part"), 5))
        })
        .get("/sized", |_: &mut Request| {
            Response::text(Body::from_sized_reader(io::repeat(b'x'), 100_000))
        })
        .get("/last", |_: &mut Request| {
            Response::text("bye").with_header("connection", "close")
        })
        .get("/interim", |_: &mut Request| StatusCode::CONTINUE)
        .get("/nothing", |_: &mut Request| {
            Response::text("unseen").with_status(StatusCode::NO_CONTENT)
        })
        .get("/unchanged", |_: &mut Request| {
            Response::text("unseen").with_status(StatusCode::NOT_MODIFIED)
        })
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("intended"))
    }
}

/// Panics when it is dropped, with another that does.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

/// A reader that panics when it is dropped.
struct Mined<R>(R);

impl<R: Read> Read for Mined<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R> Drop for Mined<R> {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

/// Gives errors that panic when they are shown, and when they are dropped.
struct MinedError;

impl Read for MinedError {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(Self))
    }
}

impl std::error::Error for MinedError {}

impl std::fmt::Debug for MinedError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic_any(Bomb);
    }
}

impl std::fmt::Display for MinedError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic_any(Bomb);
    }
}

impl Drop for MinedError {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_any(Bomb);
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn last(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

fn to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(ended.is_ok(), "{ended:?} after {answer:?}");
    answer
}

fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(end) {
        let mut byte = [0];
        assert_ne!(stream.read(&mut byte).unwrap(), 0, "{answer:?}");
        answer.push(byte[0].into());
    }
    answer
}

fn statuses(answers: &str) -> Vec<u16> {
    answers
        .match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| answers.get(at + 9..at + 12)?.parse().ok())
        .collect()
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let served = Served::start();
    let stream = served.ask(&get("/gate"));
    served.entered.recv().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    served.gate.send(()).unwrap();
    assert!(to_end(stream).ends_with("passed"));
}

#[test]
fn an_end_within_a_head_or_a_body_is_400() {
    let served = Served::start();
    for begun in [
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let stream = served.ask(begun);
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = driven::without_questions(begun.as_bytes(), to_end(stream));
        assert_eq!(statuses(&answer), [400], "{begun:?}");
    }
    let silent = served.connect();
    silent.shutdown(Shutdown::Write).unwrap();
    assert_eq!(to_end(silent), "");
}

#[test]
fn a_reset_while_an_answer_is_written_ends_only_that_connection() {
    let served = Served::start();
    for path in ["/large", "/endless"] {
        let mut stream = served.ask(&get(path));
        read_until(&mut stream, "xxxx");
        // Unread bytes make this a reset.
        drop(stream);
    }
    served.wait_for_connections(0);
    assert_eq!(statuses(&served.say(&last("/"))), [200]);
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let served = Served::with(|settings| settings.body_timeout(Duration::from_millis(50)));
    let streams = ["/large", "/endless"].map(|path| served.ask(&get(path)));
    served.wait_for_connections(2);
    served.wait_for_connections(0);
    drop(streams);
}

#[test]
fn an_idle_connection_is_closed_in_time_also_after_a_body_that_came_out_even() {
    let served = Served::with(|settings| settings.idle_timeout(Duration::from_millis(50)));
    assert_eq!(to_end(served.kept()), "");
    let mut stream = served
        .ask("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    read_until(&mut stream, "\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert!(to_end(stream).ends_with("hello"));
}

#[test]
fn a_body_that_trickles_runs_out_of_time() {
    let served = Served::with(|settings| settings.body_timeout(Duration::from_millis(200)));
    let mut stream = served.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    let mut sending = stream.try_clone().unwrap();
    let (stop, stopped) = maniple::sync::mpsc::channel::<()>();
    let sender = crate::driven::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(20)).is_err() {
            if sending.write_all(b"x").is_err() {
                break;
            }
        }
    });
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 408 "));
    stop.send(()).unwrap();
    sender.join().unwrap();
}

#[test]
fn what_was_asked_before_a_panic_is_answered() {
    let served = Served::start();
    let answers = served.say(&[get("/"), get("/panic"), get("/")].concat());
    assert_eq!(statuses(&answers), [200, 500]);
    assert!(answers.contains("500 Internal Server Error\r\n"));
}

#[test]
fn destructors_and_messages_that_panic_take_no_answer_away() {
    let served = Served::start();
    let answers = served.say(&[get("/"), get("/bomb")].concat());
    assert_eq!(statuses(&answers), [200, 500]);
    let behind = last("/");
    let answers = served.say(&[get("/mined"), behind.clone()].concat());
    assert_eq!(statuses(&answers), [200, 200]);
    assert!(answers.contains("\r\npart\r\n0\r\n\r\n"), "{answers:?}");
    let answers = served.say(&[get("/mined-interim"), behind.clone()].concat());
    assert_eq!(statuses(&answers), [500, 200]);
    let answers = served.say(&[get("/mined-nothing"), behind].concat());
    assert_eq!(statuses(&answers), [204, 200]);
    let broken = served.say(&get("/mined-error"));
    assert!(broken.ends_with("\r\n4\r\npart\r\n"), "{broken:?}");
}

#[test]
fn the_end_of_a_connection_is_as_asked_and_said() {
    let served = Served::start();
    let closes = "\r\nconnection: close\r\n";
    for (asked, closed) in [
        (last("/"), true),
        (get("/last"), true),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), false),
        (
            "GET / HTTP/1.0\r\nConnection: close\r\n\r\n".to_owned(),
            true,
        ),
    ] {
        let answer = served.say(&asked);
        assert_eq!(statuses(&answer), [200], "{asked:?}");
        assert!(
            answer.contains(closes) || !closed,
            "{asked:?} -> {answer:?}"
        );
    }
    let mut kept = served.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = read_until(&mut kept, "hello");
    assert!(
        answer.contains("\r\nconnection: keep-alive\r\n"),
        "{answer:?}"
    );
    kept.write_all(last("/").as_bytes()).unwrap();
    assert_eq!(statuses(&to_end(kept)), [200]);
}

#[test]
fn requests_behind_the_last_do_not_take_its_answer_away() {
    let served = Served::start();
    for _ in 0..50 {
        let answers = served.say(&[last("/"), get("/").repeat(1_000)].concat());
        assert_eq!(statuses(&answers), [200]);
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let served = Served::start();
    let answers = served.say(&[get("/nothing"), get("/unchanged"), last("/")].concat());
    assert_eq!(statuses(&answers), [204, 304, 200]);
    assert!(!answers.contains("unseen"), "{answers:?}");
    let head = "HEAD /sized HTTP/1.1\r\nHost: h\r\n\r\nHEAD /endless HTTP/1.1\r\nHost: h\r\n\r\n";
    let answers = served.say(&[head, &last("/")].concat());
    assert_eq!(statuses(&answers), [200, 200, 200]);
    assert!(answers.contains("\r\ncontent-length: 100000\r\n"));
    assert!(answers.contains("\r\ntransfer-encoding: chunked\r\n"));
    assert!(!answers.contains("xx"));
}

#[test]
fn a_body_that_breaks_off_cannot_be_taken_for_whole() {
    let served = Served::start();
    let chunked = served.say(&get("/broken"));
    assert!(chunked.ends_with("\r\n4\r\npart\r\n"), "{chunked:?}");
    let short = served.say(&get("/short"));
    assert!(short.contains("content-length: 5\r\n") && short.ends_with("part"));
    let sized = served.say(&last("/sized"));
    assert_eq!(sized.split("\r\n\r\n").nth(1).map(str::len), Some(100_000));
}

#[test]
fn an_answer_of_1xx_is_none() {
    let served = Served::start();
    let answers = served.say(&[get("/interim"), last("/")].concat());
    assert_eq!(statuses(&answers), [500, 200]);
}

#[test]
fn large_bodies_arrive_whole_in_both_directions() {
    let served = Served::start();
    let body: String = ('a'..='z').cycle().take(1_500_000).collect();
    let by_length = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let chunks: String = body
        .as_bytes()
        .chunks(7_001)
        .map(|chunk| {
            let chunk = std::str::from_utf8(chunk).unwrap();
            format!("{:X};ext=1\r\n{chunk}\r\n", chunk.len())
        })
        .collect();
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {chunks}0\r\nA-Trailer: x\r\n\r\n"
    );
    for request in [by_length, chunked] {
        let mut stream = served.connect();
        let mut sending = stream.try_clone().unwrap();
        let sender = crate::driven::thread::spawn(move || sending.write_all(request.as_bytes()));
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        sender.join().unwrap().unwrap();
        assert!(answer.ends_with(body.as_bytes()));
    }
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let served = Served::with(|settings| settings.max_connections(1));
    let first = served.kept();
    let second = served.ask(&last("/"));
    assert_eq!(served.handle.connections(), 1);
    drop(first);
    assert_eq!(statuses(&to_end(second)), [200]);
}

#[test]
fn a_drain_closes_idle_connections_at_once() {
    let served = Served::with(|settings| settings.drain_grace(Duration::from_secs(600)));
    let idle = [served.kept(), served.kept()];
    let mut even = served
        .ask("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    read_until(&mut even, "\r\n\r\n");
    even.write_all(b"hello").unwrap();
    read_until(&mut even, "hello");
    let report = served.drained();
    assert_eq!((report.idle, report.cancelled), (3, 0), "{report:?}");
    for stream in idle.into_iter().chain([even]) {
        assert_eq!(to_end(stream), "");
    }
}

#[test]
fn a_drain_answers_pipelined_requests_that_had_arrived() {
    let served = Served::start();
    let together = served.ask(&[get("/gate"), get("/"), get("/")].concat());
    let mut apart = served.ask(&get("/gate"));
    served.entered.recv().unwrap();
    served.entered.recv().unwrap();
    apart.write_all(get("/").as_bytes()).unwrap();
    served.handle.drain();
    served.gate.send(()).unwrap();
    served.gate.send(()).unwrap();
    let report = served.drained();
    assert_eq!((report.finished, report.cancelled), (5, 0), "{report:?}");
    for (stream, expected) in [(together, 3), (apart, 2)] {
        let answers = to_end(stream);
        assert_eq!(statuses(&answers), vec![200; expected], "{answers:?}");
        let closes = answers.match_indices("connection: close").count();
        assert_eq!(closes, 1, "the last says so: {answers:?}");
    }
}

#[test]
fn a_drain_answers_what_waits_to_be_accepted() {
    let served = Served::with(|settings| settings.max_connections(1));
    let first = served.ask(&get("/gate"));
    served.entered.recv().unwrap();
    let waiting: Vec<_> = (0..20).map(|_| served.ask(&get("/"))).collect();
    served.handle.drain();
    served.gate.send(()).unwrap();
    let report = served.drained();
    assert_eq!((report.finished, report.cancelled), (21, 0), "{report:?}");
    for stream in waiting.into_iter().chain([first]) {
        assert_eq!(statuses(&to_end(stream)), [200]);
    }
}

#[test]
fn a_drain_resets_none_of_those_who_connect_meanwhile() {
    let (mut answered, mut rounds) = (0, 0);
    while rounds < 12 {
        // Which nobody else has once the server is gone.
        let reserved = Reserved::new();
        let address = reserved.address();
        let served = Served::at(address, |settings| settings);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                crate::driven::thread::spawn(move || {
                    let mut answers = 0;
                    // Whoever comes too late gets no answer at first, and is refused later.
                    let patience = Duration::from_millis(200);
                    while let Ok(mut stream) = TcpStream::connect_timeout(&address, patience) {
                        let mut answer = String::new();
                        stream.write_all(last("/").as_bytes()).unwrap();
                        stream.read_to_string(&mut answer).unwrap();
                        assert!(answer.ends_with("hello"), "{answer:?}");
                        answers += 1;
                    }
                    answers
                })
            })
            .collect();
        while served.handle.connections() == 0 {
            crate::driven::thread::yield_now();
        }
        served.drained();
        for client in clients {
            answered += client.join().unwrap();
        }
        rounds += 1;
    }
    assert!(answered > rounds);
}

#[test]
fn a_drain_leaves_a_new_connection_time_for_its_request() {
    let served = Served::start();
    let mut stream = served.connect();
    served.wait_for_connections(1);
    served.handle.drain();
    stream.write_all(get("/").as_bytes()).unwrap();
    assert_eq!(statuses(&to_end(stream)), [200]);
    assert_eq!(served.drained().finished, 1);
}

#[test]
fn a_drain_waits_briefly_for_connections_that_say_nothing() {
    let served = Served::with(|settings| settings.drain_grace(Duration::from_secs(600)));
    let silent = served.connect();
    served.wait_for_connections(1);
    let report = served.drained();
    assert_eq!((report.idle, report.cancelled), (1, 0), "{report:?}");
    assert_eq!(to_end(silent), "");
}

#[test]
fn after_a_drain_nobody_is_let_in() {
    let reserved = Reserved::new();
    let address = reserved.address();
    let served = Served::at(address, |settings| settings);
    let handle = served.handle.clone();
    served.drained();
    assert!(handle.is_drained() && handle.is_draining());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn cancelling_the_caller_of_serve_drains() {
    let served = Served::start();
    let stream = served.ask(&get("/gate"));
    served.entered.recv().unwrap();
    served.serving.cancel();
    while !served.handle.is_draining() {
        crate::driven::thread::yield_now();
    }
    served.gate.send(()).unwrap();
    assert_eq!(statuses(&to_end(stream)), [200]);
}
