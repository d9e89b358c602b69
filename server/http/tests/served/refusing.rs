//! What the server cannot take for a request is heard of by what is around its routes.

use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::net::TcpStream;
use maniple_server::{
    Request, Response, Router,
    middleware::{Metrics, Middleware, Next, Refused},
    server::Builder,
};

use super::{Served, statuses};

/// Status, reason and line of each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(u16, String, String)>>>);

impl Middleware for Heard {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let response = next.run(request);
        let line = format!("{} {}", request.method(), request.path());
        let status = response.status().as_u16();
        self.0
            .lock()
            .unwrap()
            .push((status, "handled".into(), line));
        response
    }

    fn refused(&self, refused: &Refused<'_>) {
        let line = refused.line().escape_ascii().to_string();
        let (status, reason) = (refused.status().as_u16(), refused.reason().to_owned());
        self.0.lock().unwrap().push((status, reason, line));
    }
}

/// Panics about whatever it hears.
struct Panics;

impl Middleware for Panics {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        next.run(request)
    }

    fn refused(&self, _: &Refused<'_>) {
        panic!("intended");
    }
}

fn served(settings: impl FnOnce(Builder) -> Builder) -> (Served, Heard, Metrics) {
    let (heard, metrics) = (Heard::default(), Metrics::new());
    let router = Router::new()
        .with(Panics)
        .with(heard.clone())
        .with(metrics.clone())
        .get("/", |_: &mut Request| "hello")
        .get("/metrics", metrics.handler());
    (Served::of(router, settings), heard, metrics)
}

#[test]
fn each_kind_is_heard_of_with_what_came_of_it_and_counted() {
    let (served, heard, _) = served(|builder| builder.max_target_bytes(50).max_header_fields(3));
    let fields = "A: b\r\n".repeat(4);
    let target = "x".repeat(100);
    for (asked, status, line) in [
        ("what is this\r\n\r\n".to_owned(), 400, "what is this"),
        (
            "G\x01T / HTTP/1.1\r\n\r\n".to_owned(),
            400,
            "G\\x01T / HTTP/1.1",
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "GET / HTTP/1.1"),
        (
            "GET /cut HTTP/1.1\r\nHo".to_owned(),
            400,
            "GET /cut HTTP/1.1",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"),
            431,
            "GET / HTTP/1.1",
        ),
        (
            format!("GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n"),
            414,
            "",
        ),
        (
            "GET / HTTP/3.1\r\nHost: h\r\n\r\n".to_owned(),
            505,
            "GET / HTTP/3.1",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(),
            501,
            "POST / HTTP/1.1",
        ),
    ] {
        assert_eq!(statuses(&served.say(&asked)), [status], "{asked:?}");
        let (told, reason, told_line) = heard.0.lock().unwrap().pop().expect("it was heard of");
        assert_eq!(told, status, "{asked:?}");
        assert!(reason != "handled" && !reason.is_empty());
        match status {
            414 => assert!(told_line.starts_with("GET /xxx"), "{told_line}"),
            _ => assert_eq!(told_line, line, "{asked:?}"),
        }
        assert!(heard.0.lock().unwrap().is_empty(), "once: {asked:?}");
    }
    let told = served.say("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    for (code, count) in [
        ("400", 4),
        ("431", 1),
        ("414", 1),
        ("505", 1),
        ("501", 1),
        ("408", 0),
    ] {
        let line = format!("http_server_requests_refused_total{{code=\"{code}\"}} {count}\n");
        assert!(told.contains(&line), "no {line} in {told}");
    }
}

#[test]
fn a_head_that_has_no_end_in_time_is_heard_of() {
    let (served, heard, _) = served(|builder| builder.header_timeout(Duration::from_millis(50)));
    let mut client = served.connect();
    client.write_all(b"GET /slow HTTP/1.1\r\nHos").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(statuses(&answer), [408]);
    let heard = heard.0.lock().unwrap().clone();
    let (status, _, line) = &heard[0];
    assert_eq!((*status, &**line), (408, "GET /slow HTTP/1.1"));
    assert_eq!(heard.len(), 1);
}

#[test]
fn a_connection_that_is_one_too_many_of_its_peers_is_heard_of() {
    let (served, heard, metrics) = served(|builder| builder.max_connections_per_peer(1));
    let _one = served.connect();
    let mut other = served.connect();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert_eq!(statuses(&answer), [429]);
    let reason = "too many connections of a peer".to_owned();
    assert_eq!(*heard.0.lock().unwrap(), [(429, reason, String::new())]);
    let router = Router::new().get("/metrics", metrics.handler());
    let told = router.answer(&mut Request::for_test("GET", "/metrics"));
    let told = told.into_text().unwrap();
    let line = "http_server_requests_refused_total{code=\"429\"} 1\n";
    assert!(told.contains(line), "{told}");
}

#[test]
fn plain_http_where_tls_is_spoken_is_heard_of() {
    let heard = Heard::default();
    let router = Router::new()
        .with(heard.clone())
        .get("/", |_: &mut Request| "hello");
    let served = super::secure::Served::start(router);
    let mut client = TcpStream::connect(served.handle.local_addr()).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(statuses(&answer), [400]);
    drop(client);
    // Behind its answer.
    let until = maniple::time::now() + Duration::from_secs(60);
    while served.handle.connections() > 0 {
        assert!(maniple::time::now() < until, "it stays");
        maniple::sleep(Duration::from_millis(2));
    }
    let reason = "plain HTTP where TLS is spoken".to_owned();
    assert_eq!(*heard.0.lock().unwrap(), [(400, reason, String::new())]);
}

#[test]
fn requests_before_it_on_the_connection_are_answered_and_heard_of_in_order() {
    let (served, heard, _) = served(|builder| builder);
    let answers = served.say("GET / HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n");
    assert_eq!(statuses(&answers), [200, 400]);
    let heard = heard.0.lock().unwrap().clone();
    let heard: Vec<_> = heard.iter().map(|of| (of.0, &*of.2)).collect();
    assert_eq!(heard, [(200, "GET /"), (400, "nonsense")]);
}

#[test]
fn connect_goes_through_what_is_around_all_routes() {
    let (served, heard, _) = served(|builder| builder);
    let answer = served.say("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
    assert_eq!(statuses(&answer), [501]);
    let heard = heard.0.lock().unwrap().clone();
    assert_eq!(
        heard,
        [(501, "handled".to_owned(), "CONNECT h:443".to_owned())]
    );
}
