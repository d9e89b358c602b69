//! Answers that are made while they are sent, also of what the request still brings, and what comes before and behind them.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header::LINK};
use maniple::sync::channel::{Receiver, Sender, unbounded};
use maniple_server::{
    Body, BodyError, Flush, Request, Response, Router, Server, StatusCode, server::Builder,
    transport::memory,
};

use super::{statuses, transports::Served};
use crate::driven::Runtime;

const LONG: Duration = Duration::from_secs(60);

/// Long enough for what should not leave to have left.
const A_WHILE: Duration = Duration::from_millis(100);

fn each(routes: impl Fn() -> Router, settings: impl Fn(Builder) -> Builder) -> [Served; 5] {
    Served::each(|| settings(Server::builder(routes())))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn head(stream: &mut impl Read) -> String {
    read_to(stream, b"\r\n\r\n")
}

fn read_to(stream: &mut impl Read, end: &[u8]) -> String {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(end) {
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} behind {:?}", String::from_utf8_lossy(&read)));
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// The data of a chunked body.
fn joined(body: &str) -> String {
    let (mut rest, mut data) = (body, String::new());
    loop {
        let (size, behind) = rest.split_once("\r\n").expect("a size");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return data;
        }
        data.push_str(&behind[..size]);
        rest = behind[size..].strip_prefix("\r\n").expect("an end");
    }
}

fn stepwise(policy: Option<Flush>) -> (impl Fn() -> Router, Sender<()>) {
    let (go, step) = unbounded::<()>();
    let routes = move || {
        let step = step.clone();
        Router::new().get("/", move |_: &mut Request| {
            let step: Receiver<()> = step.clone();
            Response::text(Body::from_fn(move |out| {
                if let Some(policy) = policy {
                    out.set_flush(policy);
                }
                while step.recv().is_ok() {
                    out.write_all(b"one ")?;
                    out.write_all(b"step.")?;
                }
                Ok(())
            }))
        })
    };
    (routes, go)
}

#[test]
fn a_body_that_a_function_writes_leaves_while_the_function_waits() {
    for policy in [
        None,
        Some(Flush::Each),
        Some(Flush::After(Duration::from_millis(30))),
    ] {
        let (routes, go) = stepwise(policy);
        let served = each(routes, |builder| builder);
        let mut streams = served.each_ref().map(|served| {
            let mut stream = served.connect();
            stream.write_all(get("/").as_bytes()).unwrap();
            let head = head(&mut stream);
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            stream
        });
        for _ in 0..3 {
            for _ in &streams {
                go.send(()).unwrap();
            }
        }
        drop(go);
        let bodies = streams
            .each_mut()
            .map(|stream| read_to(stream, b"0\r\n\r\n"));
        let all: String = bodies.iter().map(|body| joined(body)).collect();
        assert_eq!(all, "one step.".repeat(3 * bodies.len()), "{policy:?}");
    }
}

#[test]
fn each_step_leaves_before_the_next_one_is_asked_for() {
    for policy in [None, Some(Flush::Each)] {
        let (routes, go) = stepwise(policy);
        let [served, ..] = each(routes, |builder| builder);
        let mut stream = served.connect();
        stream.write_all(get("/").as_bytes()).unwrap();
        head(&mut stream);
        for _ in 0..5 {
            go.send(()).unwrap();
            read_to(&mut stream, b"step.\r\n");
        }
        drop(go);
        assert_eq!(read_to(&mut stream, b"0\r\n\r\n"), "0\r\n\r\n");
        // The connection goes on.
        stream.write_all(get("/none").as_bytes()).unwrap();
        assert_eq!(statuses(&head(&mut stream)), [404]);
    }
}

#[test]
fn by_bytes_nothing_leaves_before_they_are_there() {
    let (routes, go) = stepwise(Some(Flush::Bytes(24)));
    let [served, ..] = each(routes, |builder| builder);
    let mut stream = served.connect();
    stream.write_all(get("/").as_bytes()).unwrap();
    head(&mut stream);
    go.send(()).unwrap();
    let (end, ended) = maniple::sync::mpsc::channel();
    let reader = crate::driven::thread::spawn(move || {
        let first = read_to(&mut stream, b"\r\n");
        end.send(()).unwrap();
        first + &read_to(&mut stream, b"0\r\n\r\n")
    });
    assert!(ended.recv_timeout(A_WHILE).is_err(), "too few bytes left");
    go.send(()).unwrap();
    ended.recv_timeout(LONG).unwrap();
    drop(go);
    let body = reader.join().unwrap();
    assert_eq!(joined(&body), "one step.one step.");
    // Small writes share a chunk.
    assert!(body.matches("\r\n").count() < 8, "{body:?}");
}

fn bodies() -> Router {
    Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/sized", |_: &mut Request| {
            Response::text(Body::from_sized_fn(9, |out| out.write_all(b"all of it")))
        })
        .get("/short", |_: &mut Request| {
            Response::text(Body::from_sized_fn(9, |out| out.write_all(b"part")))
        })
        .get("/long", |_: &mut Request| {
            Response::text(Body::from_sized_fn(4, |out| {
                let error = out.write_all(b"all of it").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                out.write_all(b"four")
            }))
        })
        .get("/fails", |_: &mut Request| {
            Response::text(Body::from_fn(|out| {
                out.write_all(b"half")?;
                Err(io::Error::other("intended"))
            }))
        })
        .get("/panics", |_: &mut Request| {
            Response::text(Body::from_fn(|out| {
                out.write_all(b"half")?;
                panic!("intended")
            }))
        })
        .get("/large", |_: &mut Request| {
            Response::text(Body::from_fn(|out| {
                for _ in 0..1_000 {
                    out.write_all(&[b'x'; 1_000])?;
                }
                out.write_all(&vec![b'y'; 1_000_000])
            }))
        })
        .get("/trailers", |_: &mut Request| {
            let body = Body::from_fn(|out| {
                out.write_all(b"body")?;
                let name = HeaderName::from_static("x-sum");
                out.trailer(name, HeaderValue::from(7))?;
                for (name, value) in [("x-other", "1"), ("content-length", "1")] {
                    let name = HeaderName::from_static(name);
                    let refused = out.trailer(name, HeaderValue::from_static(value));
                    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
                }
                Ok(())
            });
            Response::text(body).with_header("trailer", "x-a, X-Sum, content-length")
        })
}

#[test]
fn what_a_function_writes_ends_as_its_framing_says() {
    for served in each(bodies, |builder| builder) {
        let sized = served.say(get("/sized") + &get("/"));
        assert_eq!(statuses(&sized), [200, 200]);
        assert!(sized.contains("content-length: 9\r\n") && sized.contains("all of itHTTP/1.1"));
        assert!(served.say(get("/long")).ends_with("\r\n\r\nfour"));
        let large = served.say(get("/large"));
        let body = large.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(joined(body), "x".repeat(1_000_000) + &"y".repeat(1_000_000));
        // None that broke off looks whole, and none is followed by another answer.
        for path in ["/short", "/fails", "/panics"] {
            let answer = served.say(get(path) + &get("/"));
            assert_eq!(statuses(&answer), [200], "{answer}");
            assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
        }
        let old = served.say("GET /large HTTP/1.0\r\n\r\n");
        assert!(old.ends_with(&"y".repeat(1_000_000)) && !old.contains("chunked"));
        let head = served.say("HEAD /fails HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(
            head.ends_with("\r\n\r\n") && statuses(&head) == [200],
            "{head}"
        );
    }
}

#[test]
fn trailers_that_were_declared_follow_a_chunked_body() {
    for served in each(bodies, |builder| builder) {
        let answer = served.say(get("/trailers") + &get("/"));
        assert!(
            answer.contains("4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\nHTTP/1.1 200"),
            "{answer}"
        );
        let old = served.say("GET /trailers HTTP/1.0\r\n\r\n");
        assert!(old.ends_with("\r\n\r\nbody"), "{old}");
    }
}

#[test]
fn trailers_of_a_request_are_there_once_its_body_is_read() {
    let routes = || {
        Router::new().post("/", |request: &mut Request| -> Result<String, BodyError> {
            let before = request.trailers().is_none();
            let body = request.read_body()?;
            let names: Vec<_> = match request.trailers() {
                Some(fields) => fields
                    .iter()
                    .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
                    .collect(),
                None => vec!["none".to_owned()],
            };
            Ok(format!("{before} {} {}", body.len(), names.join(",")))
        })
    };
    let post = "POST / HTTP/1.1\r\nHost: h\r\n";
    for served in each(routes, |builder| builder) {
        for (body, expected) in [
            (
                "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7 \r\nx-sum:8\r\nContent-Length: 9\r\n\r\n",
                "true 2 x-sum=7,x-sum=8",
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                "true 2 ",
            ),
            ("Content-Length: 2\r\n\r\nab", "true 2 none"),
        ] {
            // In one piece, and behind one that had trailers.
            let first = format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\nX-Old: 1\r\n\r\n");
            let answers = served.say(format!("{first}{post}{body}"));
            assert!(
                answers.ends_with(&format!("\r\n\r\n{expected}")),
                "{answers}"
            );
            // And byte by byte.
            let mut stream = served.connect();
            for byte in format!("{post}{body}").bytes() {
                stream.write_all(&[byte]).unwrap();
            }
            stream.end_writing().unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        }
        let too_long = "x".repeat(9_000);
        let body = format!("Transfer-Encoding: chunked\r\n\r\n0\r\nX: {too_long}\r\n\r\n");
        assert_eq!(statuses(&served.say(format!("{post}{body}"))), [431]);
    }
}

fn echo() -> Router {
    Router::new()
        .get("/", |_: &mut Request| "hello")
        .post("/echo", |_: &mut Request| {
            Response::text(Body::duplex(|request, out| {
                maniple::io::copy(request, out).map(drop)
            }))
        })
        .post("/some", |_: &mut Request| {
            Response::text(Body::duplex(|request, out| {
                let mut some = [0; 4];
                request.read_exact(&mut some)?;
                out.write_all(&some)
            }))
        })
}

#[test]
fn a_function_reads_the_requests_body_while_it_writes_the_answers() {
    for served in each(echo, |builder| builder) {
        let mut stream = served.connect();
        let post = "POST /echo HTTP/1.1\r\nHost: h\r\n";
        for field in ["", "Expect: 100-continue\r\n"] {
            let asked = format!("{post}{field}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(asked.as_bytes()).unwrap();
            if !field.is_empty() {
                assert_eq!(statuses(&head(&mut stream)), [100]);
            }
            assert_eq!(statuses(&head(&mut stream)), [200]);
            for word in ["one", "other", "third"] {
                let chunk = format!("{:x}\r\n{word}\r\n", word.len());
                stream.write_all(chunk.as_bytes()).unwrap();
                read_to(&mut stream, format!("{word}\r\n").as_bytes());
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
            read_to(&mut stream, b"0\r\n\r\n");
        }
        // A length beyond what would be read away for nobody, and the connection goes on.
        let asked = format!("{post}Content-Length: 300000\r\n\r\n");
        stream.write_all(asked.as_bytes()).unwrap();
        let answer = head(&mut stream);
        assert!(!answer.contains("connection: close"), "{answer}");
        let mut body = Vec::new();
        for _ in 0..300 {
            stream.write_all(&[b'z'; 1_000]).unwrap();
            let mut bytes = [0; 2_000];
            let count = stream.read(&mut bytes).unwrap();
            body.extend_from_slice(&bytes[..count]);
        }
        let mut body = String::from_utf8(body).unwrap();
        if !body.ends_with("0\r\n\r\n") {
            body.push_str(&read_to(&mut stream, b"0\r\n\r\n"));
        }
        assert_eq!(joined(&body), "z".repeat(300_000));
        stream.write_all(get("/").as_bytes()).unwrap();
        assert_eq!(statuses(&head(&mut stream)), [200]);
    }
}

#[test]
fn a_client_that_takes_nothing_has_the_function_read_no_more() {
    let (count, counted) = unbounded::<usize>();
    let count = Arc::new(count);
    let routes = || {
        let count = count.clone();
        Router::new().post("/", move |_: &mut Request| {
            let count = count.clone();
            Response::text(Body::duplex(move |request, out| {
                let mut bytes = vec![0; 10_000];
                loop {
                    let read = request.read(&mut bytes)?;
                    if read == 0 {
                        return Ok(());
                    }
                    count.send(read).map_err(io::Error::other)?;
                    out.write_all(&bytes[..read])?;
                }
            }))
        })
    };
    let (listener, connector) = memory::listener();
    let builder = Server::builder(routes())
        .max_body_bytes(u64::MAX)
        .body_timeout(LONG);
    let server = builder.listener(listener).unwrap();
    let handle = server.handle();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let serving = runtime.spawn(move || server.serve());
    let mut client = connector.connect().unwrap();
    // What does not fit between the two ends is not taken.
    client.set_write_timeout(Some(A_WHILE)).unwrap();
    let length = 10_000_000;
    let asked = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(asked.as_bytes()).unwrap();
    let (mut written, mut sent) = (0, 0);
    while let Ok(count) = client.write(&[b'x'; 10_000]) {
        written += count;
        assert!(written < length, "all was taken");
    }
    while let Ok(count) = counted.recv_timeout(A_WHILE) {
        sent += count;
    }
    // Each direction holds 64 KiB, and the server two reads.
    assert!(sent < 300_000 && written < 400_000, "{sent} {written}");
    drop(client);
    handle.drain();
    serving.join().unwrap().unwrap();
}

#[test]
fn what_a_function_leaves_unread_is_read_away_or_ends_the_connection() {
    for served in each(echo, |builder| builder) {
        let post = |length: usize| {
            let body = "b".repeat(length);
            format!("POST /some HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let answers = served.say(post(100) + &get("/"));
        assert_eq!(statuses(&answers), [200, 200]);
        let answers = served.say(post(1_000_000) + &get("/"));
        assert_eq!(statuses(&answers), [200]);
        // The client is told that the body it reads is cut where its own is.
        let answers = served.say("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
        assert!(!answers.ends_with("0\r\n\r\n"), "{answers}");
    }
}

#[test]
fn interim_answers_leave_before_the_final_one() {
    let (go, gate) = unbounded::<()>();
    let routes = move || {
        let gate = gate.clone();
        Router::new().get("/", |_: &mut Request| "hello").get(
            "/hints",
            move |request: &mut Request| {
                let mut hints = HeaderMap::new();
                hints.append(LINK, HeaderValue::from_static("</a.css>; rel=preload"));
                hints.append("content-length", HeaderValue::from_static("9"));
                let sent = request.inform(StatusCode::EARLY_HINTS, &hints).unwrap();
                for status in [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS] {
                    let refused = request.inform(status, &hints).unwrap_err();
                    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
                }
                let _ = gate.recv_timeout(LONG);
                sent.to_string()
            },
        )
    };
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
    for served in each(&routes, |builder| builder) {
        let mut stream = served.connect();
        // Behind others that are kept back, too, and in order.
        for before in [0, 3] {
            let asked = get("/").repeat(before) + &get("/hints");
            stream.write_all(asked.as_bytes()).unwrap();
            for _ in 0..before {
                read_to(&mut stream, b"hello");
            }
            assert_eq!(head(&mut stream), HINTS);
            go.send(()).unwrap();
            assert_eq!(statuses(&head(&mut stream)), [200]);
            assert_eq!(read_to(&mut stream, b"true"), "true");
        }
        go.send(()).unwrap();
        let old = served.say("GET /hints HTTP/1.0\r\n\r\n");
        assert!(statuses(&old) == [200] && old.ends_with("false"), "{old}");
    }
    for served in each(&routes, |builder| builder.interim_responses(false)) {
        go.send(()).unwrap();
        let answer = served.say(get("/hints"));
        assert!(
            statuses(&answer) == [200] && answer.ends_with("false"),
            "{answer}"
        );
    }
}

#[test]
fn without_interim_answers_a_body_that_is_expected_is_awaited_unasked() {
    let routes = super::routes;
    for served in each(routes, |builder| builder.interim_responses(false)) {
        let post = "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody";
        let answer = served.say(post);
        assert!(
            statuses(&answer) == [200] && answer.ends_with("body"),
            "{answer}"
        );
    }
}
