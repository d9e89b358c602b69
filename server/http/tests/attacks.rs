//! Messages that others have misread, by class: each gets its status, nothing behind it is taken for a
//! request, and the answer arrives although the peer goes on sending.

#[macro_use]
extern crate maniple_driven;

#[path = "driven/mod.rs"]
mod driven;

use std::{
    io::{Read, Write},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::driven::Runtime;
use maniple::net::{Shutdown, SocketAddr, TcpStream};
use maniple_server::{BodyError, Request, Response, Router, Server, ServerHandle, StatusCode};

static SMUGGLED: AtomicUsize = AtomicUsize::new(0);

/// Serves until dropped.
struct Served {
    handle: ServerHandle,
    _runtime: Runtime,
}

impl Served {
    fn start() -> Self {
        let routes = Router::new()
            .get("/", |_: &mut Request| "hello")
            .get("/smuggled", |_: &mut Request| {
                SMUGGLED.fetch_add(1, Ordering::Relaxed);
                "smuggled"
            })
            .post("/ignore", |_: &mut Request| StatusCode::ACCEPTED)
            .post("/", |request: &mut Request| -> Result<Vec<u8>, BodyError> {
                Ok(request.read_body()?.to_vec())
            })
            .get("/named/{name}", |request: &mut Request| {
                let mut response = Response::new(StatusCode::OK);
                let name = request.param("name").unwrap_or("").to_owned();
                match name.parse() {
                    Ok(value) => {
                        response.headers_mut().insert("x-name", value);
                        response
                    }
                    Err(_) => Response::new(StatusCode::UNPROCESSABLE_ENTITY),
                }
            });
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let server = Server::builder(routes).bind("127.0.0.1:0").unwrap();
        let handle = server.handle();
        runtime.spawn(move || server.serve());
        Self {
            handle,
            _runtime: runtime,
        }
    }

    fn connect(&self) -> TcpStream {
        connect(self.handle.local_addr())
    }

    /// What comes back for these bytes until the server closes, which must not be by a reset.
    fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        driven::without_questions(bytes.as_ref(), to_end(&mut stream))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream
}

fn to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(ended.is_ok(), "{ended:?} after {answer:?}");
    answer
}

fn statuses(answers: &str) -> Vec<u16> {
    answers
        .match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| answers.get(at + 9..at + 12)?.parse().ok())
        .collect()
}

/// Each of these, with another request behind it, gets that one answer and the connection's end.
fn each_ends_with(status: u16, messages: &[impl AsRef<[u8]>]) {
    let served = Served::start();
    for message in messages {
        let message = message.as_ref();
        let behind = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
        let answer = served.ask([message, behind].concat());
        let shown = message[..message.len().min(200)].escape_ascii();
        assert_eq!(statuses(&answer), [status], "{shown} -> {answer:?}");
        assert!(
            answer.contains("\r\nconnection: close\r\n"),
            "{shown} -> {answer:?}"
        );
    }
    assert_eq!(SMUGGLED.load(Ordering::Relaxed), 0);
    assert_eq!(
        statuses(&served.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")),
        [200],
        "the server lives"
    );
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

#[test]
fn content_length_and_transfer_encoding_together() {
    each_ends_with(
        400,
        &[
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                "0\r\n\r\n",
            ),
            post(
                "Content-Length: 0\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            post("Content-Length: 5\r\nTransfer-Encoding: identity", "hello"),
        ],
    );
}

#[test]
fn content_length_that_is_repeated_listed_or_no_number() {
    let wrong = [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\ncontent-length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5;",
        "Content-Length: \"5\"",
        "Content-Length: 5.0",
        "Content-Length: 5_0",
        "Content-Length:",
        "Content-Length: 18446744073709551621",
        "Content-Length: 99999999999999999999999999",
    ];
    each_ends_with(400, &wrong.map(|fields| post(fields, "hello")));
}

#[test]
fn transfer_encoding_that_does_not_end_in_chunked() {
    let wrong = [
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    ];
    each_ends_with(400, &wrong.map(|fields| post(fields, "0\r\n\r\n")));
}

#[test]
fn transfer_codings_that_are_not_implemented() {
    let unknown = [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: foo, chunked",
    ];
    each_ends_with(501, &unknown.map(|fields| post(fields, "0\r\n\r\n")));
}

#[test]
fn transfer_encoding_in_http_1_0() {
    each_ends_with(
        400,
        &["POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    );
}

#[test]
fn chunk_sizes_that_others_read_differently() {
    let wrong = [
        "\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
    ];
    each_ends_with(400, &wrong.map(chunked));
}

#[test]
fn chunk_extensions_that_hide_a_line_end_or_have_none() {
    let wrong = [
        "5;a\nhello\r\n0\r\n\r\n".to_owned(),
        "5;\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\rb\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\0\r\nhello\r\n0\r\n\r\n".to_owned(),
    ];
    each_ends_with(400, &wrong.map(|body| chunked(&body)));
    let endless = [
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(10_000)),
        format!("{}0\r\n\r\n", "1;aaaaaaaaa\r\nx\r\n".repeat(2_000)),
    ];
    each_ends_with(431, &endless.map(|body| chunked(&body)));
}

#[test]
fn trailers_that_are_malformed_or_endless() {
    let wrong = [
        "0\r\n folded\r\n\r\n".to_owned(),
        "0\r\n: b\r\n\r\n".to_owned(),
        "0\r\nA : b\r\n\r\n".to_owned(),
        "0\r\nA\r\n\r\n".to_owned(),
        "0\r\nA: b\n\r\n".to_owned(),
        "0\r\nA: b\rc\r\n\r\n".to_owned(),
        "0\r\nA: \0\r\n\r\n".to_owned(),
    ];
    each_ends_with(400, &wrong.map(|body| chunked(&body)));
    let endless = format!("0\r\n{}\r\n", "A: b\r\n".repeat(5_000));
    each_ends_with(431, &[chunked(&endless)]);
}

#[test]
fn bodies_that_are_too_large_by_length_or_in_the_end() {
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    each_ends_with(
        413,
        &[
            post("Content-Length: 2097153", ""),
            post("Content-Length: 9223372036854775807", ""),
            chunked("200001\r\n"),
            chunked("ffffffffffffffff\r\n"),
            chunked(&chunk.repeat(3)),
        ],
    );
}

#[test]
fn chunks_whose_sizes_add_up_beyond_what_a_number_can_hold() {
    each_ends_with(
        413,
        &[
            // 1 + (2^64 - 1) = 0, 5 + (2^64 - 5) = 0, and to what is left of the limit.
            chunked("1\r\nx\r\nffffffffffffffff\r\n"),
            chunked("5\r\nhello\r\nfffffffffffffffb\r\n"),
            chunked("5\r\nhello\r\n00000000001ffffc\r\n"),
            chunked("5\r\nhello\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            chunked("5\r\nhello\r\n7fffffffffffffff\r\n"),
            chunked("5\r\nhello\r\n5\r\nworld\r\nfffffffffffffff6;a=b\r\n"),
        ],
    );
}

#[test]
fn line_ends_other_than_cr_lf() {
    each_ends_with(
        400,
        &[
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\rGET: /\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\rA: b\r\n\r\n",
            "GET / HTTP/1.1\rHost: h\r\n\r\n",
            "GET /\rx HTTP/1.1\r\nHost: h\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ],
    );
}

#[test]
fn folded_lines_and_space_around_names() {
    each_ends_with(
        400,
        &[
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA\t: b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn names_and_values_with_what_must_not_be_in_them() {
    each_ends_with(
        400,
        &[
            &b"GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x01c\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x7fc\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nA\0: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\xc3\xa4: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nA\x01: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\"A\": b\r\n\r\n",
        ],
    );
}

#[test]
fn request_lines_that_are_none() {
    each_ends_with(
        400,
        &[
            &b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
            b"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
            b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /named/<?secret=1 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /named/\\..\\x HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /named/%zz HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /named/{x} HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /?\"<script>\" HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http://h/named/> HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http://:80/ HTTP/1.1\r\nHost:\r\n\r\n",
            b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET h HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http:/// HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET / http/1.1\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1x\r\nHost: h\r\n\r\n",
            b"GET / HTTQ/1.1\r\nHost: h\r\n\r\n",
            b"GET /\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ],
    );
}

#[test]
fn versions_that_are_not_spoken() {
    each_ends_with(
        505,
        &[
            "GET / HTTP/0.9\r\nHost: h\r\n\r\n",
            // The first digit decides, so that the answer does not depend on how much has come.
            "GET / HTTP/01.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
            // Not quite what a connection of HTTP/2 begins with.
            "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n",
        ],
    );
}

#[test]
fn a_later_version_of_http_1_is_understood_as_1_1() {
    let served = Served::start();
    let twice = "GET / HTTP/1.2\r\nHost: h\r\n\r\n".repeat(2);
    assert_eq!(statuses(&served.ask(twice)), [200, 200]);
    let in_chunks = chunked("5\r\nhello\r\n0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.9");
    assert!(served.ask(in_chunks).ends_with("\r\n\r\nhello"));
}

#[test]
fn host_that_is_missing_repeated_or_none() {
    let hosts = [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: user@a\r\n",
        "Host: user:pass@a\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a:\x01\r\n",
        "Host: a:b\r\n",
        "Host: a:123456\r\n",
        "Host: a:80:80\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: http://a\r\n",
    ];
    each_ends_with(
        400,
        &hosts.map(|host| format!("GET / HTTP/1.1\r\n{host}\r\n")),
    );
}

#[test]
fn host_that_differs_from_an_absolute_target() {
    each_ends_with(
        400,
        &[
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET http://a:81/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    );
    let served = Served::start();
    for agreed in [
        "GET http://a:81/ HTTP/1.1\r\nHost: a:81\r\n\r\n",
        "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: A:80\r\n\r\n",
        "GET https://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "GET http://a:81/ HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    ] {
        assert_eq!(statuses(&served.ask(agreed)), [200], "{agreed:?}");
    }
}

#[test]
fn heads_beyond_their_limits() {
    let field = format!("A: {}\r\n", "b".repeat(1_000));
    each_ends_with(
        431,
        &[
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", field.repeat(50)),
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n",
                "c".repeat(40_000)
            ),
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "A: b\r\n".repeat(100)
            ),
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}", field.repeat(200)),
        ],
    );
    each_ends_with(
        414,
        &[
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(9_000)),
            format!("GET /{}", "a".repeat(200_000)),
        ],
    );
}

#[test]
fn endless_empty_lines_before_a_request() {
    let served = Served::start();
    let few = "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(statuses(&served.ask(few)), [200]);
    let answer = served.ask("\r\n".repeat(100_000));
    assert_eq!(statuses(&answer), [431]);
}

#[test]
fn expectations_that_are_unknown() {
    each_ends_with(
        417,
        &[
            post("Expect: 200-ok\r\nContent-Length: 5", "hello"),
            post("Expect: 100-continue, x\r\nContent-Length: 5", "hello"),
        ],
    );
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_not_the_next_request() {
    // The client may send its body unasked; whoever does not read it cannot know where it ends.
    let served = Served::start();
    let answer = served.ask(
        "POST /ignore HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 36\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(statuses(&answer), [202]);
    assert!(answer.contains("connection: close"));
    assert_eq!(SMUGGLED.load(Ordering::Relaxed), 0);
}

#[test]
fn an_unread_body_is_not_the_next_request() {
    let served = Served::start();
    let body = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = "POST /ignore HTTP/1.1\r\nHost: h\r\n";
    let next = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let by_length = format!("{head}Content-Length: {}\r\n\r\n{body}{next}", body.len());
    assert_eq!(statuses(&served.ask(by_length)), [202, 200]);
    let in_chunks = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n{next}",
        body.len()
    );
    assert_eq!(statuses(&served.ask(in_chunks)), [202, 200]);
    let long = "x".repeat(600_000);
    let too_long = format!("{head}Content-Length: {}\r\n\r\n{long}", long.len());
    let answer = served.ask(too_long);
    assert_eq!(statuses(&answer), [202]);
    assert!(answer.contains("connection: close"), "{answer:?}");
    assert_eq!(SMUGGLED.load(Ordering::Relaxed), 0);
}

#[test]
fn an_offer_to_upgrade_is_not_taken() {
    let served = Served::start();
    let answer = served.ask(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
         GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(statuses(&answer), [200, 200]);
    let h2c = served.ask(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!(statuses(&h2c), [200]);
}

#[test]
fn a_value_from_outside_cannot_add_a_header() {
    let served = Served::start();
    for (name, status) in [("plain", 200), ("a%0d%0ax-evil:%20b", 422), ("a%00", 422)] {
        let answer = served.ask(format!("GET /named/{name} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(statuses(&answer), [status], "{name}");
        assert!(!answer.contains("x-evil"), "{name}");
    }
}

#[test]
fn an_answer_reaches_a_client_that_goes_on_sending() {
    let served = Served::start();
    let mut stream = served.connect();
    let mut sending = stream.try_clone().unwrap();
    let sender = crate::driven::thread::spawn(move || {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n";
        sending.write_all(head.as_bytes()).unwrap();
        let block = [b'x'; 4096];
        // Less than is read away, so all of it must go through.
        for _ in 0..50 {
            sending.write_all(&block).unwrap();
        }
        sending.shutdown(Shutdown::Write).unwrap();
    });
    let answer = driven::without_questions(b"", to_end(&mut stream));
    assert_eq!(statuses(&answer), [413]);
    sender.join().unwrap();
}
