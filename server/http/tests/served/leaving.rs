//! Answers leave when they are done, to clients that take them slowly too, and never half in the guise of whole.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use maniple::net::{Shutdown, TcpStream};
use maniple::sync::channel::{Receiver, Sender, unbounded};
use maniple::sync::mpsc;
use maniple_server::{Body, Request, Response, Router, StatusCode};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::{Served, statuses};

/// A server with routes that wait until the test sends to the gate.
fn gated() -> (Served, Sender<()>) {
    let (gate, opened) = unbounded::<()>();
    let late = opened.clone();
    let routes = Router::new()
        .get("/", |_: &mut Request| "hello")
        .post("/", |request: &mut Request| {
            request.read_body().map(|body| body.to_vec())
        })
        .get("/gate", move |_: &mut Request| {
            let _ = opened.recv();
            "passed"
        })
        .get("/late", move |_: &mut Request| {
            Response::text(Body::from_reader(Late(Some(late.clone()))))
        });
    (Served::of(routes, |settings| settings), gate)
}

/// Gives nothing until the gate opens, and then all.
struct Late(Option<Receiver<()>>);

impl Read for Late {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.take().map(|gate| gate.recv()) {
            Some(Ok(())) => io::Cursor::new("late").read(buffer),
            _ => Ok(0),
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Reads until that has come, so many times; a hang is the reader's timeout.
fn read_until(stream: &mut TcpStream, end: &str, times: usize) -> String {
    let mut answer = String::new();
    while answer.matches(end).count() < times {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    answer
}

#[test]
fn the_head_of_a_body_leaves_before_the_body_begins() {
    let (served, gate) = gated();
    let mut stream = served.connect();
    stream.write_all(get("/late").as_bytes()).unwrap();
    let head = read_until(&mut stream, "\r\n\r\n", 1);
    assert_eq!(statuses(&head), [200]);
    gate.send(()).unwrap();
    read_until(&mut stream, "0\r\n\r\n", 1);
}

#[test]
fn answers_leave_when_they_are_done_though_what_was_asked_behind_them_waits() {
    let (served, gate) = gated();
    for before in [1, 3, 30] {
        for behind in ["/gate", "/late"] {
            let mut stream = served.connect();
            let asked = [get("/").repeat(before), get(behind)].concat();
            stream.write_all(asked.as_bytes()).unwrap();
            let answers = read_until(&mut stream, "hello", before);
            assert_eq!(statuses(&answers)[..before], vec![200; before]);
            gate.send(()).unwrap();
            let end = if behind == "/gate" { "passed" } else { "late" };
            read_until(&mut stream, end, 1);
        }
    }
    // A second time on the same connection, and with a request that is still to come.
    let mut stream = served.connect();
    for _ in 0..2 {
        let asked = [get("/"), get("/gate"), get("/"), get("/gate")].concat();
        stream.write_all(asked.as_bytes()).unwrap();
        read_until(&mut stream, "hello", 1);
        gate.send(()).unwrap();
        let answers = read_until(&mut stream, "hello", 1);
        assert!(answers.contains("passed"), "{answers:?}");
        gate.send(()).unwrap();
        read_until(&mut stream, "passed", 1);
    }
}

/// Bytes, or the payload of a panic, that are dropped only once the gate opens, and then in a panic.
struct Guarded(Receiver<()>);

impl AsRef<[u8]> for Guarded {
    fn as_ref(&self) -> &[u8] {
        b"guarded"
    }
}

impl Read for Guarded {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.recv();
        panic!("intended");
    }
}

#[test]
fn an_answer_leaves_before_what_it_was_made_of_is_dropped() {
    let (gate, opened) = unbounded::<()>();
    let guarded = move || Guarded(opened.clone());
    let (body, value, reader, panic) = (guarded.clone(), guarded.clone(), guarded.clone(), guarded);
    let routes = Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/body", move |_: &mut Request| Bytes::from_owner(body()))
        .get("/value", move |_: &mut Request| {
            let bytes = Bytes::from_owner(value());
            let mut response = Response::text("valued");
            let value = HeaderValue::from_maybe_shared(bytes).unwrap();
            response.headers_mut().insert("x-value", value);
            response
        })
        .get("/reader", move |_: &mut Request| {
            Response::text(Body::from_sized_reader(reader(), 0))
        })
        .get("/panic", move |_: &mut Request| -> &'static str {
            std::panic::panic_any(panic())
        });
    let served = Served::of(routes, |settings| settings);
    for (path, end) in [
        ("/body", "guarded"),
        ("/value", "valued"),
        ("/reader", "\r\n\r\n"),
    ] {
        for behind in [String::new(), get("/")] {
            let mut stream = served.connect();
            let asked = [get(path), behind.clone()].concat();
            stream.write_all(asked.as_bytes()).unwrap();
            let answer = read_until(&mut stream, end, 1);
            assert_eq!(statuses(&answer), [200], "{path}");
            gate.send(()).unwrap();
            if behind.is_empty() {
                stream.write_all(get("/").as_bytes()).unwrap();
            }
            read_until(&mut stream, "hello", 1);
        }
    }
    let mut stream = served.connect();
    let asked = [get("/"), get("/panic")].concat();
    stream.write_all(asked.as_bytes()).unwrap();
    let answers = read_until(&mut stream, "server error", 1);
    assert_eq!(statuses(&answers), [200, 500]);
    gate.send(()).unwrap();
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn answers_leave_before_a_client_has_to_send_its_next_body() {
    let (served, _gate) = gated();
    for field in ["", "Expect: 100-continue\r\n"] {
        let mut stream = served.connect();
        let post = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}Content-Length: 4\r\n\r\n");
        let asked = [get("/"), get("/"), post].concat();
        stream.write_all(asked.as_bytes()).unwrap();
        let mut answers = read_until(&mut stream, "hello", 2);
        if !field.is_empty() && !answers.contains("100 Continue\r\n\r\n") {
            answers = read_until(&mut stream, "100 Continue\r\n\r\n", 1);
        }
        stream.write_all(b"body").unwrap();
        assert!(!answers.ends_with("body"));
        read_until(&mut stream, "body", 1);
    }
}

#[test]
fn a_gate_that_never_opens_leaves_what_was_answered_before_when_the_server_ends() {
    let (served, gate) = gated();
    let mut stream = served.connect();
    stream
        .write_all([get("/"), get("/gate")].concat().as_bytes())
        .unwrap();
    read_until(&mut stream, "hello", 1);
    served.handle.drain();
    drop(gate);
    let answers = read_until(&mut stream, "passed", 1);
    assert!(answers.contains("connection: close\r\n"), "{answers:?}");
    assert_eq!(served.drain().cancelled, 0);
}

/// Long enough for a busy machine, short against what a slow client takes for a third of the kernel's buffer.
const STALL: Duration = Duration::from_secs(1);

const LARGE: usize = 12 * 1024 * 1024;

fn large() -> Served {
    let routes = Router::new()
        .get("/large", |_: &mut Request| vec![b'x'; LARGE])
        .post("/large", |_: &mut Request| vec![b'x'; LARGE])
        .get("/endless", |_: &mut Request| {
            Response::text(Body::from_reader(io::repeat(b'x')))
        })
        .get("/broken", |_: &mut Request| {
            Response::text(Body::from_reader(
                io::repeat(b'x').take(100_000).chain(Broken),
            ))
        })
        .get("/whole", |_: &mut Request| {
            Response::text(Body::from_reader(io::repeat(b'x').take(100_000)))
        })
        .post("/refused", |_: &mut Request| StatusCode::OK);
    Served::of(routes, |settings| settings.body_timeout(STALL))
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("intended"))
    }
}

/// A connection with that receive buffer, or the system's.
fn connect(served: &Served, buffer: Option<usize>) -> TcpStream {
    crate::driven::needs_the_kernel("a socket of the kernel's");
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    if let Some(bytes) = buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes).unwrap();
    }
    rustix::net::connect(&socket, &served.address()).unwrap();
    let stream = TcpStream::try_from(socket).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream
}

/// Reads little by little for so long, then the rest; how much it was.
fn read_slowly(stream: &mut TcpStream, slow: Duration) -> io::Result<usize> {
    let (_never, tick) = mpsc::channel::<()>();
    let (began, mut total) = (maniple::time::now(), 0);
    let mut bytes = vec![0; 256 * 1024];
    loop {
        let is_slow = maniple::time::now() - began < slow;
        let room = if is_slow { 8 * 1024 } else { bytes.len() };
        match stream.read(&mut bytes[..room])? {
            0 => return Ok(total),
            count => total += count,
        }
        if is_slow {
            let _ = tick.recv_timeout(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_client_that_reads_slowly_but_steadily_gets_all() {
    let served = large();
    let clients = [None, Some(8 * 1024), Some(200_000)].map(|buffer| {
        let mut stream = connect(&served, buffer);
        crate::driven::thread::spawn(move || {
            let last = "GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            stream.write_all(last.as_bytes()).unwrap();
            read_slowly(&mut stream, 4 * STALL).unwrap()
        })
    });
    for client in clients {
        assert!(client.join().unwrap() > LARGE);
    }
}

#[test]
fn a_slow_client_that_goes_on_sending_gets_all_too() {
    let served = large();
    let mut stream = connect(&served, None);
    let post = "POST /large HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n";
    stream.write_all(post.as_bytes()).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let sender = crate::driven::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(10)).is_err() {
            if sending.write_all(b"x").is_err() {
                break;
            }
        }
    });
    let total = read_slowly(&mut stream, 4 * STALL);
    let _ = stop.send(());
    sender.join().unwrap();
    assert!(total.unwrap() > LARGE);
}

#[test]
fn a_client_that_takes_nothing_more_is_reset() {
    let served = large();
    for (path, version) in [("/large", "1.1"), ("/endless", "1.1"), ("/endless", "1.0")] {
        let mut stream = connect(&served, None);
        let request = format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        let until = maniple::time::now() + Duration::from_secs(60);
        while served.handle.connections() > 0 {
            assert!(maniple::time::now() < until, "{path} goes on");
            crate::driven::thread::yield_now();
        }
        let end = stream.read_to_end(&mut Vec::new()).map_err(|e| e.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{path} {version}");
    }
}

#[test]
fn a_body_whose_end_is_the_connections_is_cut_by_a_reset() {
    let served = large();
    let ask = |path| {
        let mut stream = connect(&served, None);
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).map_err(|e| e.kind());
        let head = answer
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap();
        (end.map(drop), answer.len() - head - 4)
    };
    assert_eq!(ask("/whole"), (Ok(()), 100_000));
    // What came before the reset has arrived.
    assert_eq!(ask("/broken"), (Err(ErrorKind::ConnectionReset), 100_000));
}

#[test]
fn refusals_to_clients_that_do_not_read_end_too() {
    let served = large();
    let too_large = "POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n";
    let too_long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(50_000));
    let streams = [too_large, &too_long, "\r\n\r\nX"].map(|bytes| {
        let mut stream = connect(&served, Some(1024));
        // Until the server has had enough of it.
        while stream.write_all(bytes.as_bytes()).is_ok() {}
        stream
    });
    let until = maniple::time::now() + Duration::from_secs(60);
    while served.handle.connections() > 0 {
        assert!(maniple::time::now() < until, "they end");
        crate::driven::thread::yield_now();
    }
    drop(streams);
}
