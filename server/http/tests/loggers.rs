//! A logger that panics at every line: its lines are lost, and nothing else is.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use maniple::Runtime;
use maniple_server::{Body, Request, Response, Router, Server, StatusCode};

static LINES: AtomicUsize = AtomicUsize::new(0);

struct Broken;

impl log::Log for Broken {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("maniple_server") {
            LINES.fetch_add(1, SeqCst);
            panic!("intended");
        }
    }

    fn flush(&self) {}
}

const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for_line(count: usize) {
    let until = Instant::now() + PATIENCE;
    while LINES.load(SeqCst) < count {
        assert!(Instant::now() < until, "line {count} does not come");
        std::thread::yield_now();
    }
}

/// One test, since a process has one log, and one of each signal.
#[test]
fn a_logger_that_panics_ends_nothing_else() {
    log::set_logger(&Broken).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    // The server, its acceptor, what watches for signals and refusals, the courier; one connection.
    let runtime = Runtime::builder().workers(1).max_coroutines(6);
    let runtime = runtime.build().unwrap();
    let routes = Router::new()
        .get("/panic", |_: &mut Request| -> &'static str {
            panic!("intended")
        })
        .get("/early", |_: &mut Request| StatusCode::CONTINUE)
        .get("/broken", |_: &mut Request| {
            let fails = std::io::Error::other("intended");
            Response::text(Body::from_reader(Failing(Some(fails))))
        })
        .get("/", |_: &mut Request| "hello");
    let server = Server::builder(routes).handle_signals(true);
    let server = server.bind("127.0.0.1:0").unwrap();
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let connect = || {
        let stream = TcpStream::connect(handle.local_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let mut stream = connect();
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        // Its coroutine is there until then.
        while handle.connections() > 0 {
            std::thread::yield_now();
        }
        std::io::Result::Ok(answer)
    };
    for (count, path, status) in [
        (1, "/panic", "500"),
        (2, "/early", "500"),
        (3, "/broken", "200"),
    ] {
        assert!(
            ask(path)
                .unwrap()
                .starts_with(&format!("HTTP/1.1 {status}")),
            "{path}"
        );
        wait_for_line(count);
    }

    // So many that some are refused, twice.
    for round in 1..3 {
        let crowd: Vec<_> = (0..8).map(|_| connect()).collect();
        let until = Instant::now() + PATIENCE;
        while handle.refused() < round {
            assert!(Instant::now() < until, "no refusal is counted");
            std::thread::yield_now();
        }
        drop(crowd);
        while handle.connections() > 0 {
            std::thread::yield_now();
        }
    }
    // Some of the crowd may still wait to be accepted, and take the place of this one.
    let until = Instant::now() + PATIENCE;
    while !ask("/").is_ok_and(|answer| answer.ends_with("hello")) {
        assert!(Instant::now() < until, "the server does not go on");
    }
    let process = rustix::process::getpid();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert!(serving.join().unwrap().is_ok());
    assert!(handle.is_drained());
}

struct Failing(Option<std::io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
