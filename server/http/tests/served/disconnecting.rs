//! Clients that go away while a handler works for them, and those that have only ended their sending.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::Duration,
};

use maniple::{
    cancel::{Cause, cause, shield},
    net::{Shutdown, TcpStream},
    sync::channel::{Receiver, Sender, unbounded},
};
use maniple_server::{
    Body, Request, Response, Router, Server, StatusCode,
    server::{Builder, Disconnects},
};

use super::{statuses, transports};
use crate::driven;

const LONG: Duration = Duration::from_secs(60);

/// Longer than it takes until a handler is watched over, several times.
const A_WHILE: Duration = Duration::from_millis(250);

/// What happens to handlers, and the gate that lets them go on.
struct Told {
    begun: Receiver<()>,
    ended: Receiver<Option<Cause>>,
    gate: Sender<()>,
}

/// Routes whose handlers say when they have begun, wait for the gate, and say why the wait was cut.
fn routes() -> (Router, Told) {
    let (begin, begun) = unbounded();
    let (end, ended) = unbounded();
    let (gate, opened) = unbounded::<()>();
    let wait = move || {
        begin.send(()).unwrap();
        let passed = opened.recv();
        let why = cause();
        let _ = shield(|| end.send(why));
        match passed {
            Ok(()) => StatusCode::OK,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    };
    let (shielded, streamed, upload) = (wait.clone(), wait.clone(), wait.clone());
    let routes = Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/wait", move |_: &mut Request| wait())
        .get("/shielded", move |_: &mut Request| shield(&shielded))
        .post("/upload", move |request: &mut Request| {
            let status = upload();
            let _ = request.read_body();
            status
        })
        .get("/stream", move |_: &mut Request| {
            let streamed = streamed.clone();
            Response::text(Body::from_reader(Waits(Some(Box::new(streamed)))))
        });
    (routes, Told { begun, ended, gate })
}

/// Gives nothing before it was let go on.
struct Waits(Option<Box<dyn Fn() -> StatusCode + Send>>);

impl Read for Waits {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.take() {
            None => Ok(0),
            Some(wait) if wait() == StatusCode::OK => io::Cursor::new("streamed").read(buffer),
            Some(_) => Err(io::Error::other("cut")),
        }
    }
}

fn tcp(settings: impl FnOnce(Builder) -> Builder) -> (super::Served, Told) {
    let (routes, told) = routes();
    (super::Served::of(routes, settings), told)
}

fn each(disconnects: Disconnects) -> Vec<(transports::Served, Told)> {
    let (told, kept) = unbounded();
    let served = transports::Served::each_without_tls(|| {
        let (routes, of_them) = routes();
        told.send(of_them).ok();
        Server::builder(routes).disconnects(disconnects)
    });
    served.into_iter().zip(kept.try_iter()).collect()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Has closing look like the end of a process that is killed with bytes unread.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

impl Told {
    fn ends(&self) -> Option<Cause> {
        self.ended.recv_timeout(LONG).expect("the handler ends")
    }

    fn goes_on(&self) {
        let ended = self.ended.recv_timeout(A_WHILE);
        assert!(ended.is_err(), "{ended:?}");
    }
}

#[test]
fn a_client_that_closes_cuts_the_waits_of_its_handler() {
    for (served, told) in each(Disconnects::default()) {
        for path in ["/wait", "/wait", "/stream"] {
            let mut stream = served.connect();
            // Again on the same connection, and behind other requests.
            for _ in 0..2 {
                stream.write_all(get("/wait").as_bytes()).unwrap();
                told.begun.recv_timeout(LONG).unwrap();
                told.gate.send(()).unwrap();
                assert_eq!(told.ends(), None);
                assert_eq!(statuses(&head(&mut stream)), [200]);
            }
            let asked = get("/") + &get("/") + &get(path);
            stream.write_all(asked.as_bytes()).unwrap();
            told.begun.recv_timeout(LONG).unwrap();
            if path == "/stream" {
                // Its head has left, so nothing can be asked: it is bytes that are unread which tell.
                head(&mut stream);
            }
            drop(stream);
            let told_why = told.ended.recv_timeout(LONG).unwrap();
            assert_eq!(
                told_why,
                Some(Cause::Disconnected),
                "{}",
                served.handle.address()
            );
        }
    }
}

#[test]
fn a_reset_cuts_them_whatever_else_counts() {
    for disconnects in [Disconnects::Reset, Disconnects::Asked, Disconnects::End] {
        let (served, told) = tcp(|builder| builder.disconnects(disconnects));
        for path in ["/wait", "/stream"] {
            let mut stream = served.connect();
            stream.write_all(get(path).as_bytes()).unwrap();
            told.begun.recv_timeout(LONG).unwrap();
            reset(stream);
            assert_eq!(told.ends(), Some(Cause::Disconnected), "{path}");
        }
    }
}

#[test]
fn a_client_that_has_ended_its_sending_is_asked_once_and_gets_its_answer() {
    for (served, told) in each(Disconnects::default()) {
        let is_tcp = served.handle.address().to_string().starts_with("127");
        let mut stream = served.connect();
        let asked = get("/wait") + &get("/wait") + &get("/");
        stream.write_all(asked.as_bytes()).unwrap();
        stream.end_writing().unwrap();
        for _ in 0..2 {
            told.begun.recv_timeout(LONG).unwrap();
            if is_tcp {
                assert_eq!(head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
            }
            told.goes_on();
            told.gate.send(()).unwrap();
            assert_eq!(told.ends(), None);
            assert_eq!(statuses(&head(&mut stream)), [200]);
        }
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(statuses(&rest), [200]);
        assert!(rest.ends_with("hello"));
    }
}

#[test]
fn nobody_is_asked_who_would_take_it_for_something_else() {
    let (served, told) = tcp(|builder| builder);
    let post =
        "POST /upload HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    for (asked, first) in [
        ("GET /wait HTTP/1.0\r\n\r\n", 200),
        (post, 200),
        (&get("/stream"), 200),
    ] {
        let mut stream = served.connect();
        stream.write_all(asked.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        told.begun.recv_timeout(LONG).unwrap();
        told.goes_on();
        let soon = maniple::time::now() + Duration::from_millis(1);
        let before = stream
            .wait_readable_until(soon)
            .and_then(|()| stream.peek(&mut [0; 9]));
        match asked.contains("stream") {
            true => assert_eq!(before.unwrap(), 9),
            false => assert_eq!(before.unwrap_err().kind(), ErrorKind::TimedOut, "{asked}"),
        }
        told.gate.send(()).unwrap();
        assert_eq!(told.ends(), None);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        // The body that was announced has been asked for once the handler read it.
        let answer = answer.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
        assert_eq!(statuses(&answer), [first], "{asked}");
    }
}

#[test]
fn what_nobody_has_read_does_not_hide_that_a_client_has_gone() {
    let (served, told) = tcp(|builder| builder);
    let mut stream = served.connect();
    stream.write_all(get("/wait").as_bytes()).unwrap();
    told.begun.recv_timeout(LONG).unwrap();
    // More than is read with the first.
    stream.write_all(get("/").repeat(2_000).as_bytes()).unwrap();
    drop(stream);
    assert_eq!(told.ends(), Some(Cause::Disconnected));
    // Half-closed, all of them are answered.
    let mut stream = served.connect();
    stream.write_all(get("/wait").as_bytes()).unwrap();
    told.begun.recv_timeout(LONG).unwrap();
    stream.write_all(get("/").repeat(2_000).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    told.gate.send(()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let answers = driven::without_questions(b"", answers);
    assert_eq!(statuses(&answers), vec![200; 2_001]);
}

#[test]
fn the_setting_says_what_counts_as_gone() {
    for (disconnects, is_cut) in [
        (Disconnects::End, true),
        (Disconnects::Reset, false),
        (Disconnects::Ignored, false),
    ] {
        for (served, told) in each(disconnects) {
            let mut stream = served.connect();
            stream.write_all(get("/wait").as_bytes()).unwrap();
            told.begun.recv_timeout(LONG).unwrap();
            stream.end_writing().unwrap();
            if is_cut {
                assert_eq!(told.ends(), Some(Cause::Disconnected));
                continue;
            }
            told.goes_on();
            told.gate.send(()).unwrap();
            assert_eq!(told.ends(), None);
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(statuses(&answer), [200]);
        }
    }
    let (served, told) = tcp(|builder| builder.disconnects(Disconnects::Ignored));
    let mut stream = served.connect();
    stream.write_all(get("/wait").as_bytes()).unwrap();
    told.begun.recv_timeout(LONG).unwrap();
    reset(stream);
    told.goes_on();
    told.gate.send(()).unwrap();
    assert_eq!(told.ends(), None);
}

#[test]
fn what_is_shielded_goes_on_to_its_end() {
    let (served, told) = tcp(|builder| builder);
    let mut stream = served.connect();
    stream.write_all(get("/shielded").as_bytes()).unwrap();
    told.begun.recv_timeout(LONG).unwrap();
    reset(stream);
    told.goes_on();
    told.gate.send(()).unwrap();
    assert_eq!(told.ends(), None);
}

#[test]
fn the_end_of_one_client_is_no_others() {
    let (served, told) = tcp(|builder| builder);
    let mut streams: Vec<_> = (0..20).map(|_| served.connect()).collect();
    for stream in &mut streams {
        stream.write_all(get("/wait").as_bytes()).unwrap();
        told.begun.recv_timeout(LONG).unwrap();
    }
    let mut stays = streams.split_off(10);
    for (stream, resets) in streams.into_iter().zip([true, false].into_iter().cycle()) {
        match resets {
            true => reset(stream),
            false => drop(stream),
        }
    }
    for _ in 0..10 {
        assert_eq!(told.ends(), Some(Cause::Disconnected));
    }
    told.goes_on();
    // Who comes to the gate first goes first, and that is not known.
    for _ in &stays {
        told.gate.send(()).unwrap();
    }
    for stream in &mut stays {
        assert_eq!(told.ends(), None);
        assert_eq!(statuses(&head(stream)), [200]);
    }
}
