//! Connections that get no stack: closed, counted, and told to the log with the limit and the cure.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Mutex,
    time::{Duration, Instant},
};

use maniple::{Runtime, sync::channel::unbounded};
use maniple_server::{Request, Router, Server};

/// What this process has logged as errors.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Kept;

impl log::Log for Kept {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOGGED.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

const PATIENCE: Duration = Duration::from_secs(60);

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

/// One test, since a process has one log.
#[test]
fn a_connection_without_a_stack_is_closed_counted_and_logged_with_the_cure() {
    log::set_logger(&Kept).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    // The server, what accepts for it, what watches for refusals and for clients that go, and two connections.
    let runtime = Runtime::builder()
        .workers(1)
        .max_coroutines(6)
        .build()
        .unwrap();
    let (enter, entered) = unbounded();
    let (gate, opened) = unbounded::<()>();
    let router = Router::new().get("/gate", move |_: &mut Request| {
        let _ = enter.send(());
        let _ = opened.recv();
        "passed"
    });
    let server = Server::builder(router).bind("127.0.0.1:0").unwrap();
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let connect = || {
        let stream = TcpStream::connect(handle.local_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };

    let served = [(); 2].map(|()| {
        let mut stream = connect();
        let request = b"GET /gate HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        entered.recv().unwrap();
        stream
    });
    assert_eq!(handle.refused(), 0);
    for count in 1..4 {
        let end = connect().read(&mut [0]);
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        wait_until("it is counted", || handle.refused() == count);
    }
    wait_until("it is logged", || !LOGGED.lock().unwrap().is_empty());
    drop(gate);
    for mut stream in served {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("passed"), "{answer}");
    }
    handle.drain();
    serving.join().unwrap().unwrap();

    let logged = LOGGED.lock().unwrap();
    let (first, last) = (&logged[0], &logged[logged.len() - 1]);
    let address = handle.local_addr();
    let opening = format!("1 connection to {address} closed unserved, 1 so far; ");
    assert!(first.starts_with(&opening), "{first}");
    assert!(
        first.contains("limit of 6 stacks reached: raise runtime::Builder::max_coroutines"),
        "{first}"
    );
    // How many lines there are is up to the clock, but none is left out.
    assert!(last.contains(", 3 so far; "), "{logged:?}");
}
