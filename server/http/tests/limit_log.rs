//! What goes beyond a limit is told to the log: once in a while for each kind, and not for each event.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Mutex,
};

use maniple::Runtime;
use maniple_server::{Request, Router, Server, middleware::AccessLog};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Those of the access log.
static ACCESSES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Kept;

impl log::Log for Kept {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let is_of_the_server = metadata.target().starts_with("maniple_server");
        metadata.level() <= log::Level::Warn && is_of_the_server || metadata.target() == "access"
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "access" {
            ACCESSES.lock().unwrap().push(record.args().to_string());
        } else if self.enabled(record.metadata()) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// One test, since a process has one log.
#[test]
fn a_hundred_requests_beyond_a_limit_are_a_line_for_each_kind() {
    log::set_logger(&Kept).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let routes = Router::new()
        .with(AccessLog::common())
        .post("/", |request: &mut Request| {
            request.read_body().map(|body| body.to_vec())
        });
    let server = Server::builder(routes)
        .max_body_bytes(10)
        .max_target_bytes(100)
        .max_connections_per_peer(1)
        .bind("127.0.0.1:0")
        .unwrap();
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let say = |text: &str| {
        let mut stream = TcpStream::connect(handle.local_addr()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        // By which the server asks whether a client is still there that has ended its sending, where its handler takes long.
        let answer = answer.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
        // The next one is the only one of its address.
        while handle.connections() > 0 {
            std::thread::yield_now();
        }
        answer
    };
    let target = "x".repeat(200);
    let values = "a,".repeat(1_001);
    for _ in 0..25 {
        for (text, status) in [
            (format!("GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n"), "414"),
            (
                format!("GET / HTTP/1.1\r\nHost: h\r\nA: {values}\r\n\r\n"),
                "431",
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n".to_owned(),
                "413",
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n".to_owned(),
                "413",
            ),
            ("what is this\r\n\r\n".to_owned(), "400"),
        ] {
            let answer = say(&text);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
    }
    let first = TcpStream::connect(handle.local_addr()).unwrap();
    while handle.connections() == 0 {
        std::thread::yield_now();
    }
    for _ in 0..25 {
        let mut second = TcpStream::connect(handle.local_addr()).unwrap();
        let mut told = String::new();
        let _ = second.read_to_string(&mut told);
        assert!(told.starts_with("HTTP/1.1 429 "), "{told}");
    }
    drop(first);
    handle.drain();
    serving.join().unwrap().unwrap();
    let lines = LINES.lock().unwrap();
    for what in [
        "request line too long",
        "too many values in a header field",
        "body",
        "max_connections_per_peer",
    ] {
        let told = lines.iter().filter(|line| line.contains(what)).count();
        // More than one only if a busy machine takes longer than ten seconds.
        assert!((1..10).contains(&told), "{what}: {told} in {lines:?}");
    }
    assert!(
        lines.iter().all(|line| line.contains("127.0.0.1:")),
        "{lines:?}"
    );
    // What is only malformed is no news.
    assert!(
        !lines.iter().any(|line| line.contains("invalid method")),
        "{lines:?}"
    );
    // But each is in the access log, with what came of it.
    let accesses = ACCESSES.lock().unwrap();
    for (line, status) in [
        ("what is this", 400),
        ("GET / HTTP/1.1", 431),
        ("POST / HTTP/1.1", 413),
    ] {
        let has = |access: &&String| access.ends_with(&format!("\"{line}\" {status} -"));
        let with_bytes = |access: &&String| access.contains(&format!("\"{line}\" {status} "));
        let told = accesses
            .iter()
            .filter(|of| has(of) || with_bytes(of))
            .count();
        assert!(
            [25, 50].contains(&told),
            "{line} {status}: {told} in {accesses:?}"
        );
    }
}
