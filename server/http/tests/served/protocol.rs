//! What goes over the wire, a row per promise.

use std::{
    io::{Read, Write},
    time::Duration,
};

use maniple_server::{Body, BodyError, Method, Request, Response, Router, StatusCode};

use super::{Served, statuses};

#[test]
fn each_request_gets_its_status() {
    let served = Served::start();
    let post = |headers: &str, body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n{body}")
    };
    let long = "a".repeat(9_000);
    let wide = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
        "b".repeat(40_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "A: b\r\n".repeat(101)
    );
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 200),
        (
            "GET /user/a%20b HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            200,
        ),
        ("GET /none HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 404),
        ("PUT / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        ("BREW / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 501),
        ("OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 204),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 204),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n".to_owned(), 505),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("garbage\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        (wide, 431),
        (many, 431),
        (post("Content-Length: 5", "hello"), 200),
        (post("Content-Length: 99999999", ""), 413),
        (post("Content-Length: 5\r\nContent-Length: 5", "hello"), 400),
        (
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            400,
        ),
        (post("Transfer-Encoding: gzip, chunked", ""), 501),
        (
            post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
            200,
        ),
        (
            post("Transfer-Encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n"),
            400,
        ),
        (
            post("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n"),
            400,
        ),
        (
            post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"),
            400,
        ),
        (
            post("Expect: something-else\r\nContent-Length: 5", "hello"),
            417,
        ),
    ] {
        let answer = served.say(&request);
        let shown: String = request.chars().take(90).collect();
        assert_eq!(
            statuses(&answer).first(),
            Some(&expected),
            "{shown:?} -> {answer:?}"
        );
    }
}

#[test]
fn what_follows_a_rejected_message_is_never_taken_for_a_request() {
    let served = Served::start();
    let answer = served.say(
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(statuses(&answer), [400]);
    assert!(answer.contains("connection: close"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let served = Served::start();
    let requests: String = (0..100)
        .map(|n| format!("GET /user/{n} HTTP/1.1\r\nHost: h\r\n\r\n"))
        .collect();
    let answer = served.say(&requests);
    let ids: Vec<_> = answer
        .split("\r\n\r\n")
        .skip(1)
        .map(|part| part.split("HTTP").next().unwrap())
        .collect();
    assert_eq!(ids, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// More than a buffer holds: most say of the message what the one before said, some do not, some have a body.
#[test]
fn requests_that_come_together_have_each_its_own_fields() {
    let echo = |request: &mut Request| -> Result<String, BodyError> {
        let body = String::from_utf8(request.read_body()?.to_vec()).unwrap();
        let field = |name: &str| String::from_utf8_lossy(request.header(name).unwrap_or(b"?"));
        let (path, host, of) = (request.path(), field("host"), field("x-of"));
        Ok(format!("<{path} {host} {of} {body}>"))
    };
    let router = Router::new().any("/{*rest}", echo);
    let served = Served::of(router, |builder| builder);
    let (mut requests, mut expected) = (String::new(), Vec::new());
    for number in 0..600_usize {
        let (path, of) = ("p".repeat(1 + number % 5), number / 7 % 3);
        let body = "b".repeat(number / 11 % 4);
        let host = "h".repeat(1 + number / 50 % 2);
        let mut head = format!("PUT /{path} HTTP/1.1\r\nHost: {host}\r\nX-Of: {of}\r\n");
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        requests += &format!("{head}\r\n{body}");
        expected.push(format!("/{path} {host} {of} {body}"));
    }
    let answer = served.say(&requests);
    let told: Vec<_> = answer
        .split('<')
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap())
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn a_request_that_comes_byte_by_byte_is_understood() {
    let served = Served::start();
    let mut stream = served.connect();
    stream.set_nodelay(true).unwrap();
    for byte in b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer:?}");
}

/// Each row is read otherwise by a server that many use: `findings/` has them.
#[test]
fn lists_cases_and_empty_lines_are_read_as_the_rfcs_have_them() {
    let served = Served::start();
    for lines in [
        "Connection: keep-alive, Close",
        "TE: trailers\r\nConnection: TE, close",
        "TE: trailers\r\nConnection: TE\r\nConnection: close",
    ] {
        let mut stream = served.connect();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(statuses(&answer), [200], "{lines}");
    }
    let post = |fields: &str, body: &str| {
        let request = format!("POST /echo HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}");
        statuses(&served.say(request))
    };
    assert_eq!(
        post("Content-Length: 2\r\nExpect: 100-Continue", "hi"),
        [100, 200]
    );
    assert_eq!(
        post(
            "Transfer-Encoding: Chunked",
            "2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
        ),
        [200]
    );
    let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\n".repeat(2);
    assert_eq!(statuses(&served.say(requests)), [200, 200]);
    let small = served.say("get / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        statuses(&small),
        [501],
        "a method in small letters is another"
    );
}

#[test]
fn an_empty_line_behind_a_body_leaves_the_connection_idle() {
    let served = Served::start();
    let request = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi\r\n";
    assert_eq!(statuses(&served.say(request)), [200]);
    let mut stream = served.connect();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hi") {
        let mut piece = [0; 512];
        let count = stream.read(&mut piece).unwrap();
        assert_ne!(count, 0);
        answer.extend_from_slice(&piece[..count]);
    }
    // A drain waits for requests that have begun, and not for this.
    assert!(served.drain().is_clean());
    assert_eq!(stream.read(&mut [0; 512]).unwrap(), 0);
}

#[test]
fn head_has_the_length_and_no_body() {
    let served = Served::start();
    let answer = served.say("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"));
}

/// The head of the one answer to `request`, which must have no body.
fn bare(served: &Served, request: &str) -> String {
    let answer = served.say(request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "", "{request:?} -> {answer:?}");
    format!("{head}\r\n")
}

#[test]
fn head_has_the_length_that_get_would_have_or_none() {
    let routes = Router::new()
        .route(Method::HEAD, "/sized", |_: &mut Request| {
            Response::new(StatusCode::OK).with_header("content-length", "20")
        })
        .get("/lazy", |request: &mut Request| match *request.method() {
            Method::HEAD => Response::text(""),
            _ => Response::text("made for GET"),
        })
        .get("/stream", |_: &mut Request| {
            Response::text(Body::from_reader(std::io::repeat(b'x').take(100)))
        });
    let served = Served::of(routes, |builder| builder);
    let head = |path: &str| bare(&served, &format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert!(head("/sized").contains("\r\ncontent-length: 20\r\n"));
    let lazy = head("/lazy");
    assert!(!lazy.contains("content-length"), "{lazy:?}");
    assert!(head("/stream").contains("\r\ntransfer-encoding: chunked\r\n"));
    assert!(head("/none").contains("\r\ncontent-length: 10\r\n"));
    let twice = "HEAD /lazy HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2);
    assert_eq!(statuses(&served.say(twice)), [200, 200]);
}

#[test]
fn a_head_that_is_refused_gets_no_content() {
    let served = Served::start();
    let long = "a".repeat(9_000);
    for (request, status) in [
        (
            "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n",
            413,
        ),
        ("HEAD / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n", 417),
        ("HEAD / HTTP/1.1\r\n\r\n", 400),
        ("\r\nHEAD / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        ("HEAD / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (&format!("HEAD /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        ("HEAD / HTTP/1.1\r\nHo", 400),
        ("HEAD /none HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("HEAD /panic HTTP/1.1\r\nHost: h\r\n\r\n", 500),
    ] {
        let head = bare(&served, request);
        assert_eq!(statuses(&head), [status], "{request:?}");
    }
    // As GET it would have some.
    let get = served.say("GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n");
    assert!(get.ends_with("\r\n\r\nunknown expectation\n"), "{get:?}");
}

#[test]
fn statuses_that_have_no_content_are_sent_without_it() {
    let of_status = |status: u16| {
        move |_: &mut Request| {
            let status = StatusCode::from_u16(status).unwrap();
            Response::text("content").with_status(status)
        }
    };
    let routes = Router::new()
        .get("/204", of_status(204))
        .get("/205", of_status(205))
        .get("/304", of_status(304))
        .get("/streamed", |_: &mut Request| {
            let body = Body::from_reader(std::io::repeat(b'x').take(100));
            Response::text(body).with_status(StatusCode::RESET_CONTENT)
        })
        .get("/103", of_status(103));
    let served = Served::of(routes, |builder| builder);
    let get = |path: &str| bare(&served, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    for path in ["/204", "/304"] {
        let head = get(path);
        assert!(!head.contains("content-length"), "{head:?}");
        assert!(!head.contains("transfer-encoding"), "{head:?}");
    }
    for path in ["/205", "/streamed"] {
        let head = get(path);
        assert!(head.contains("\r\ncontent-length: 0\r\n"), "{head:?}");
        assert!(!head.contains("transfer-encoding"), "{head:?}");
    }
    let not_final = served.say("GET /103 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(statuses(&not_final), [500]);
    // The connection goes on behind each.
    let all = ["/204", "/205", "/304", "/streamed"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
        .concat();
    assert_eq!(statuses(&served.say(all)), [204, 205, 304, 205]);
}

#[test]
fn an_expected_body_is_asked_for_only_when_it_is_read() {
    let served = Served::start();
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };
    let mut stream = served.connect();
    stream.write_all(head("/echo").as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    let mut rest = vec![0; 15];
    stream.read_exact(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200 OK"));
    let answer = served.say(head("/ignore"));
    assert_eq!(statuses(&answer), [202]);
    assert!(answer.contains("connection: close"));
}

#[test]
fn a_body_that_nobody_reads_is_read_away() {
    let served = Served::start();
    let answer = served.say(
        "POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(statuses(&answer), [202, 200]);
}

#[test]
fn a_panic_is_500_and_the_server_lives() {
    let served = Served::start();
    for _ in 0..3 {
        let answer = served.say("GET /panic HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(statuses(&answer), [500]);
    }
    assert_eq!(
        statuses(&served.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")),
        [200]
    );
}

#[test]
fn bodies_of_unknown_length_are_chunked_or_end_with_the_connection() {
    let served = Served::start();
    let chunked = served.say("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(chunked.contains("transfer-encoding: chunked") && chunked.ends_with("0\r\n\r\n"));
    let plain = served.say("GET /stream HTTP/1.0\r\n\r\n");
    assert_eq!(plain.split("\r\n\r\n").nth(1).map(str::len), Some(100_000));
}

#[test]
fn slow_heads_get_408_and_silent_connections_are_closed() {
    let brief = Duration::from_millis(50);
    let served = Served::with(|builder| {
        builder
            .header_timeout(brief)
            .idle_timeout(brief)
            .body_timeout(brief)
    });
    let mut answer = String::new();
    let mut slow = served.connect();
    slow.write_all(b"GET / HTT").unwrap();
    slow.read_to_string(&mut answer).unwrap();
    assert_eq!(statuses(&answer), [408]);
    answer.clear();
    let mut body = served.connect();
    body.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe")
        .unwrap();
    body.read_to_string(&mut answer).unwrap();
    assert_eq!(statuses(&answer), [408]);
    answer.clear();
    let mut silent = served.connect();
    silent.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
}

#[test]
fn resets_and_aborted_requests_leave_the_server_alone() {
    let served = Served::start();
    for n in 0..50 {
        let mut stream = served.connect();
        stream
            .write_all(&b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"[..n % 30])
            .unwrap();
    }
    assert_eq!(
        statuses(&served.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")),
        [200]
    );
}
