//! What is over a limit is refused with its status, and what is under it is not.

use std::{
    io::{ErrorKind, Read, Write},
    time::Duration,
};

use maniple::net::{Ipv4Addr, SocketAddr, TcpStream};
use maniple_server::{
    BodyError, Problem, Request, Route, Router, StatusCode,
    middleware::{BodyLimit, Next, RateLimit},
    server::Builder,
};
use rustix::net::{AddressFamily, SocketType};

use super::{Served, routes, statuses};

const LONG: Duration = Duration::from_secs(60);
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn answer(stream: &mut TcpStream) -> String {
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"hello") {
        match stream.read(&mut byte).unwrap() {
            0 => break,
            _ => answer.push(byte[0]),
        }
    }
    String::from_utf8(answer).unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = maniple::time::now() + LONG;
    while !is_so() {
        assert!(maniple::time::now() < until, "{what}");
        crate::driven::thread::yield_now();
    }
}

#[test]
fn a_field_may_have_so_many_values() {
    let served = Served::with(|builder| builder.max_header_values(10));
    for name in ["Accept", "Connection", "X-List"] {
        for (count, status) in [(1, 200), (10, 200), (11, 431), (1_000, 431)] {
            let values = vec!["a"; count].join(",");
            let asked = format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: {values}\r\n\r\n");
            assert_eq!(statuses(&served.say(asked)), [status], "{name} {count}");
        }
    }
    // Each field has its own.
    let lines = "X: a,b,c,d,e,f\r\n".repeat(4);
    let asked = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    assert_eq!(statuses(&served.say(asked)), [200]);
}

#[test]
fn extensions_and_trailers_of_a_body_may_be_so_long() {
    let served = Served::with(|builder| builder.max_trailer_bytes(20));
    for (body, status) in [
        ("5;x=1\r\nhello\r\n0\r\na: b\r\n\r\n".to_owned(), 200),
        (format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(21)), 431),
        (format!("0\r\na: {}\r\n\r\n", "x".repeat(21)), 431),
        ("1;xxxxxx\r\nx\r\n".repeat(4) + "0\r\n\r\n", 431),
    ] {
        let post = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            statuses(&served.say(format!("{post}{body}"))),
            [status],
            "{body}"
        );
    }
}

/// A connection from an address of this machine.
fn connect_from(from: Ipv4Addr, served: &Served) -> TcpStream {
    crate::driven::needs_the_kernel("a socket of the kernel's");
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    rustix::net::connect(&socket, &served.address()).unwrap();
    let stream = TcpStream::try_from(socket).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

#[test]
fn one_address_may_have_so_many_connections_and_others_have_their_own() {
    let served = Served::with(|builder| builder.max_connections_per_peer(2));
    let [one, other] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let mut first = connect_from(one, &served);
    let mut second = connect_from(one, &served);
    for stream in [&mut first, &mut second] {
        stream.write_all(GET.as_bytes()).unwrap();
        assert_eq!(statuses(&answer(stream)), [200]);
    }
    for _ in 0..3 {
        let mut third = connect_from(one, &served);
        // Whether or not it has asked, it is told and closed.
        third.write_all(GET.as_bytes()).unwrap();
        let mut told = String::new();
        third.read_to_string(&mut told).unwrap();
        assert_eq!(statuses(&told), [429]);
        assert!(told.contains("connection: close"));
    }
    let mut elsewhere = connect_from(other, &served);
    elsewhere.write_all(GET.as_bytes()).unwrap();
    assert_eq!(statuses(&answer(&mut elsewhere)), [200]);
    assert_eq!(served.handle.connections(), 3);
    // One that leaves makes room.
    drop(first);
    wait_until("it has left", || served.handle.connections() == 2);
    let mut third = connect_from(one, &served);
    third.write_all(GET.as_bytes()).unwrap();
    assert_eq!(statuses(&answer(&mut third)), [200]);
    let mut fourth = connect_from(one, &served);
    assert!(answer(&mut fourth).contains(" 429 "));
}

#[test]
fn one_address_may_ask_so_often_over_any_of_its_connections() {
    let limit = RateLimit::new(2, Duration::from_secs(1_000_000));
    let routes = Router::new()
        .with(limit)
        .get("/", |_: &mut Request| "hello");
    let served = Served::of(routes, |builder| builder);
    let ask = |from| {
        let mut stream = connect_from(from, &served);
        let asked = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(asked.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let (one, other) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    assert_eq!(statuses(&ask(one)), [200]);
    assert_eq!(statuses(&ask(one)), [200]);
    let refused = ask(one);
    assert_eq!(statuses(&refused), [429]);
    assert!(refused.contains("retry-after: "), "{refused}");
    assert_eq!(statuses(&ask(other)), [200]);
}

#[test]
fn a_connection_has_so_many_requests() {
    let served = Served::with(|builder| builder.max_requests_per_connection(3));
    let mut stream = served.connect();
    for last in [false, false, true] {
        stream.write_all(GET.as_bytes()).unwrap();
        let answer = answer(&mut stream);
        assert_eq!(answer.contains("connection: close"), last, "{answer}");
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // Those that came together are all answered, and the last one says that it is.
    let answers = served.say(GET.repeat(5));
    assert_eq!(statuses(&answers), [200; 5]);
    let mut stream = served.connect();
    stream.write_all(GET.repeat(5).as_bytes()).unwrap();
    for _ in 0..5 {
        answer(&mut stream);
    }
    stream.write_all(GET.as_bytes()).unwrap();
    assert!(answer(&mut stream).contains("connection: close"));
    let served = Served::with(|builder| builder.max_requests_per_connection(1));
    let mut stream = served.connect();
    stream.write_all(GET.repeat(2).as_bytes()).unwrap();
    assert!(!answer(&mut stream).contains("connection: close"));
    assert!(answer(&mut stream).contains("connection: close"));
}

#[test]
fn a_connection_becomes_so_old() {
    let age = Duration::from_millis(300);
    let served = Served::with(|builder| builder.max_connection_age(age));
    // Before it connects: the server's count begins later.
    let began = maniple::time::now();
    let mut stream = served.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    let first = answer(&mut stream);
    if maniple::time::now() - began < age {
        assert!(!first.contains("connection: close"), "{first}");
        maniple::sleep(2 * age);
        // What counts is its age when it became idle.
        stream.write_all(GET.as_bytes()).unwrap();
        answer(&mut stream);
        stream.write_all(GET.as_bytes()).unwrap();
        let last = answer(&mut stream);
        assert!(last.contains("connection: close"), "{last}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_body_must_come_and_an_answer_be_taken_at_a_rate() {
    let large = || {
        Router::new()
            .get("/large", |_: &mut Request| vec![b'x'; 12 * 1024 * 1024])
            .post(
                "/",
                |request: &mut Request| -> Result<StatusCode, BodyError> {
                    request.read_body().map(|_| StatusCode::OK)
                },
            )
    };
    // The one is to be cut; a busy machine is not to cut the other.
    let (short, long) = (Duration::from_millis(400), LONG);
    let slowly = |served: &Served| {
        let mut stream = served.connect();
        let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 40\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..40 {
            let _ = stream.write_all(b"x");
            maniple::sleep(short / 25);
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        statuses(&answer)
    };
    let with = |rate: u64, stall: Duration| {
        Served::of(large(), |builder: Builder| {
            let builder = builder.body_timeout(stall);
            builder.min_body_rate(rate).min_answer_rate(rate * 100)
        })
    };
    let (fast, any) = (with(1_000_000, short), with(0, long));
    assert_eq!(slowly(&fast), [408]);
    assert_eq!(slowly(&any), [200]);
    let read = |served: &Served| {
        let mut stream = served.connect();
        let asked = "GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(asked.as_bytes()).unwrap();
        let (began, mut bytes) = (maniple::time::now(), [0; 8 * 1024]);
        while maniple::time::now() - began < 4 * short {
            stream.read_exact(&mut bytes)?;
            maniple::sleep(Duration::from_millis(10));
        }
        stream.read_to_end(&mut Vec::new())
    };
    assert!(read(&any).is_ok());
    assert_eq!(read(&fast).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn limits_that_let_nothing_through_are_errors() {
    let zeros: [fn(Builder) -> Builder; 3] = [
        |builder| builder.max_connections_per_peer(0),
        |builder| builder.max_header_values(0),
        |builder| builder.max_requests_per_connection(0),
    ];
    for zero in zeros {
        let builder = zero(maniple_server::Server::builder(routes()));
        let error = builder.bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_route_may_have_shorter_bodies_than_others() {
    let read = |request: &mut Request| request.read_body().map(|body| body.len().to_string());
    let short = Router::new().with(BodyLimit::new(10)).post("/short", read);
    let routes = Router::new().post("/long", read).merge(short);
    let served = Served::of(routes, |builder| builder);
    let ask = |path: &str, fields: &str, body: &str| {
        served.say(format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}"
        ))
    };
    let ten = "0123456789";
    assert!(ask("/short", "Content-Length: 10", ten).ends_with("\r\n\r\n10"));
    assert!(ask("/long", "Content-Length: 11", "0123456789a").ends_with("\r\n\r\n11"));
    let chunked = "Transfer-Encoding: chunked";
    let told = ask("/short", chunked, "4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n");
    assert!(told.ends_with("\r\n\r\n10"), "{told}");
    for (fields, body) in [
        ("Content-Length: 11", "0123456789a"),
        (chunked, "4\r\n0123\r\n7\r\n456789a\r\n0\r\n\r\n"),
        (chunked, "b\r\n0123456789a\r\n0\r\n\r\n"),
        // It is not asked for what would be too much.
        ("Content-Length: 11\r\nExpect: 100-continue", ""),
    ] {
        let told = ask("/short", fields, body);
        assert_eq!(statuses(&told), [413], "{fields}: {told}");
    }
    let expected = ask(
        "/short",
        &format!("{chunked}\r\nExpect: 100-continue"),
        "b\r\n0123456789a\r\n0\r\n\r\n",
    );
    assert_eq!(statuses(&expected), [100, 413], "{expected}");
    // The next request of the connection has the limit of its own route.
    let both = "POST /short HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789\
                POST /long HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    assert_eq!(statuses(&served.say(both)), [200, 200]);
}

#[test]
fn a_route_may_have_longer_bodies_than_the_server_allows_and_shorter_ones() {
    let read = |request: &mut Request| request.read_body().map(|body| body.len().to_string());
    let subtree = Router::new()
        .max_body_bytes(10)
        .post("/few", read)
        .at("/many", Route::new().max_body_bytes(1_000).post(read))
        .fallback(read);
    let routes = Router::new()
        .post("/usual", read)
        .post("/ignored", |_: &mut Request| "not read")
        .nest("/of", subtree);
    let served = Served::of(routes, |builder| builder.max_body_bytes(100));
    let say = |path: &str, fields: &str, body: &str| {
        served.say(format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}"
        ))
    };
    for (path, limit) in [
        ("/usual", 100),
        ("/of/few", 10),
        ("/of/many", 1_000),
        ("/of/nowhere", 10),
    ] {
        let chunked = "Transfer-Encoding: chunked";
        let cut = |length: usize| {
            let (first, rest) = (length / 2, length - length / 2);
            let (x, y) = ("x".repeat(first), "y".repeat(rest));
            format!("{first:x}\r\n{x}\r\n{rest:x}\r\n{y}\r\n0\r\n\r\n")
        };
        let whole = "x".repeat(limit);
        let told = format!("Content-Length: {limit}");
        assert!(
            say(path, &told, &whole).ends_with(&format!("\r\n\r\n{limit}")),
            "{path}"
        );
        let fits = say(path, chunked, &cut(limit));
        assert!(
            fits.ends_with(&format!("\r\n\r\n{limit}")),
            "{path}: {fits}"
        );
        let expected = say(path, &format!("{told}\r\nExpect: 100-continue"), &whole);
        assert_eq!(statuses(&expected), [100, 200], "{path}: {expected}");
        let expected = say(
            path,
            &format!("{chunked}\r\nExpect: 100-continue"),
            &cut(limit),
        );
        assert_eq!(statuses(&expected), [100, 200], "{path}: {expected}");

        let more = limit + 1;
        let told = format!("Content-Length: {more}");
        for body in ["", "xx", &"x".repeat(more)] {
            assert_eq!(statuses(&say(path, &told, body)), [413], "{path}");
        }
        // What would be too much is not asked for.
        let expected = say(path, &format!("{told}\r\nExpect: 100-continue"), "");
        assert_eq!(statuses(&expected), [413], "{path}: {expected}");
        assert_eq!(statuses(&say(path, chunked, &cut(more))), [413], "{path}");
    }
    let most = "Content-Length: 4000000000000000000";
    for path in ["/usual", "/of/many", "/of/nowhere", "/nowhere", "/ignored"] {
        assert_eq!(statuses(&say(path, most, "")), [413], "{path}");
    }
    // The next request of the connection has the limit of its own route.
    let many = "x".repeat(1_000);
    let both = format!(
        "POST /of/many HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{many}\
         POST /usual HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n"
    );
    assert_eq!(statuses(&served.say(both)), [200, 413]);
}

#[test]
fn what_is_around_a_route_sees_that_a_body_is_too_long() {
    let around = |request: &mut Request, next: Next<'_>| {
        let route = request.route().unwrap_or("none").to_owned();
        // There is nothing to be had of it.
        let read = request.read_body().is_err();
        next.run(request)
            .with_header("x-route", &format!("{route} {read}"))
    };
    let routes = Router::new()
        .with(around)
        .on_error(|problem: &Problem, _: Option<&Request>| problem.to_json())
        .post("/of/{id}", |_: &mut Request| "never")
        .at(
            "/less",
            Route::new()
                .max_body_bytes(5)
                .post(|_: &mut Request| "never"),
        );
    let served = Served::of(routes, |builder| builder.max_body_bytes(10));
    for (path, route, limit) in [("/of/7", "/of/{id}", 10), ("/nowhere", "none", 10)] {
        let asked = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n");
        let answer = served.say(asked);
        assert_eq!(statuses(&answer), [413], "{answer}");
        assert!(
            answer.contains(&format!("x-route: {route} true\r\n")),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        let detail = format!("request body is larger than {limit} bytes");
        assert!(answer.contains(&detail), "{answer}");
    }
}

#[test]
fn a_client_that_sends_too_much_reads_its_answer_all_the_same() {
    let read = |request: &mut Request| request.read_body().map(|body| body.len().to_string());
    let served = Served::of(Router::new().post("/", read), |builder| {
        builder.max_body_bytes(10)
    });
    let mut client = served.connect();
    let body = vec![b'x'; 200_000];
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    let _ = client.write_all(&body);
    let mut told = String::new();
    client.read_to_string(&mut told).unwrap();
    assert_eq!(statuses(&told), [413]);
}

#[test]
fn a_route_may_take_longer_than_its_router_says() {
    let slow = |_: &mut Request| {
        maniple::sleep(Duration::from_millis(50));
        "done"
    };
    let (short, long) = (Duration::from_millis(5), LONG);
    let seen = |request: &mut Request, next: Next<'_>| {
        // What is around it is not in its time.
        maniple::sleep(Duration::from_millis(20));
        let answer = next.run(request);
        let status = answer.status().as_u16().to_string();
        answer.with_header("x-seen", &status)
    };
    let inner = Router::new()
        .get("/short", slow)
        .at("/long", Route::new().timeout(long).get(slow));
    let routes = Router::new()
        .timeout(short)
        .with(seen)
        .get("/fast", |_: &mut Request| "done")
        .nest("/in", inner)
        .nest(
            "/slow",
            Router::new().timeout(long).get("/", slow).fallback(slow),
        )
        .fallback(slow);
    let served = Served::of(routes, |builder| builder);
    for (path, status) in [
        ("/fast", 200),
        ("/in/short", 503),
        ("/in/long", 200),
        ("/slow", 200),
        ("/slow/nowhere", 200),
        ("/nowhere", 503),
    ] {
        // One that ends its sending might be asked whether it is still there.
        let mut client = served.connect();
        let asked = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        client.write_all(asked.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(statuses(&answer), [status], "{path}: {answer}");
        assert!(
            answer.contains(&format!("x-seen: {status}\r\n")),
            "{answer}"
        );
    }
}
