//! Connections between two requests: idle ones need no coroutine, and a worker that computes keeps none of them.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::{inspect, net::TcpStream};
use maniple_server::{Request, Router, server::Builder};

use super::{Served, statuses};

const LONG: Duration = Duration::from_secs(60);

/// Asks and reads the answer, whose body is this long.
fn ask(stream: &mut TcpStream, path: &str, body: usize) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let head = answer.len();
    answer.resize(head + body, 0);
    stream.read_exact(&mut answer[head..]).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Waits until so many connections of this process's servers need no coroutine.
fn until_on_standby(count: usize) {
    let patience = maniple::time::now() + LONG;
    while inspect::snapshot().on_standby() < count {
        assert!(
            maniple::time::now() < patience,
            "they keep their coroutines"
        );
        maniple::sleep(Duration::from_millis(20));
    }
}

#[test]
fn idle_connections_give_their_coroutines_up_and_are_served_again() {
    let served = Served::start();
    let mut asked: Vec<_> = (0..20).map(|_| served.connect()).collect();
    let mut fresh = served.connect();
    for stream in &mut asked {
        assert_eq!(statuses(&ask(stream, "/", 5)), [200]);
    }
    until_on_standby(21);
    for _ in 0..2 {
        for stream in &mut asked {
            assert_eq!(statuses(&ask(stream, "/user/7", 1)), [200]);
        }
    }
    assert_eq!(statuses(&ask(&mut fresh, "/", 5)), [200]);
    assert_eq!(served.handle.connections(), 21);
}

#[test]
fn the_idle_timeout_holds_on_standby() {
    let timeout = Duration::from_millis(2200);
    let served = Served::with(|settings: Builder| settings.idle_timeout(timeout));
    let mut stream = served.connect();
    // Not behind the answer: who reads it late has waited before.
    let asked = maniple::time::now();
    ask(&mut stream, "/", 5);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed");
    // The clock of the answer's round began a little earlier.
    assert!(maniple::time::now() - asked >= timeout - Duration::from_millis(200));
}

#[test]
fn timeouts_of_heads_and_bodies_hold_after_standby() {
    let second = Duration::from_secs(1);
    let served =
        Served::with(|settings: Builder| settings.header_timeout(second).body_timeout(second));
    for begun in [
        "GET /user/7 HTTP/1.1\r\nHo",
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nbody",
    ] {
        let mut stream = served.connect();
        ask(&mut stream, "/", 5);
        until_on_standby(1);
        // In pieces, so that there are reads of which each takes all that there is.
        for piece in begun.as_bytes().chunks(8) {
            // On a busy machine the answer is there before.
            let _ = stream.write_all(piece);
            maniple::sleep(Duration::from_millis(10));
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(statuses(&answer), [408], "{begun:?}");
    }
}

#[test]
fn a_drain_ends_what_is_on_standby_and_answers_what_it_had_been_sent() {
    let served = Served::start();
    let mut streams: Vec<_> = (0..10).map(|_| served.connect()).collect();
    for stream in &mut streams {
        ask(stream, "/", 5);
    }
    until_on_standby(10);
    let report = served.drain();
    assert_eq!((report.idle, report.cancelled), (10, 0));
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}

#[test]
fn what_a_coroutine_begun_from_standby_does_can_be_cancelled() {
    let entered = Arc::new(AtomicBool::new(false));
    let enters = entered.clone();
    let routes =
        Router::new()
            .get("/", |_: &mut Request| "hello")
            .get("/stuck", move |_: &mut Request| {
                enters.store(true, SeqCst);
                maniple::sleep(10 * LONG);
                "never"
            });
    let served = Served::of(routes, |settings| {
        settings.drain_grace(Duration::from_millis(50))
    });
    let mut stream = served.connect();
    ask(&mut stream, "/", 5);
    until_on_standby(1);
    stream
        .write_all(b"GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let patience = maniple::time::now() + LONG;
    while !entered.load(SeqCst) {
        assert!(
            maniple::time::now() < patience,
            "the handler is not entered"
        );
        crate::driven::thread::yield_now();
    }
    assert_eq!(served.drain().cancelled, 1);
}

#[test]
fn a_worker_that_is_held_keeps_no_connection_waiting() {
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let spin = |until: &dyn Fn() -> bool| {
        let patience = maniple::time::now() + LONG;
        while !until() && maniple::time::now() < patience {
            std::hint::spin_loop();
        }
    };
    let routes = Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/compute", move |_: &mut Request| {
            let end = maniple::time::now() + Duration::from_millis(3);
            spin(&|| maniple::time::now() > end);
            "a"
        })
        .get("/hold", move |_: &mut Request| {
            spin(&|| released.load(SeqCst));
            "b"
        })
        .get(
            "/uneven",
            |_: &mut Request| match maniple::task::is_imbalanced() {
                true => "y",
                false => "n",
            },
        );
    let served = Served::of(routes, |settings| settings);
    let mut streams: Vec<_> = (0..32).map(|_| served.connect()).collect();
    let mut holder = served.connect();
    // Until it shows, and so until connections wait where any worker finds them.
    let patience = maniple::time::now() + LONG;
    while !ask(&mut holder, "/uneven", 1).ends_with('y') {
        assert!(maniple::time::now() < patience, "nobody noticed");
        ask(&mut holder, "/compute", 1);
        maniple::sleep(Duration::from_millis(2));
    }
    for stream in &mut streams {
        ask(stream, "/", 5);
    }
    write!(holder, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    for _ in 0..3 {
        for stream in &mut streams {
            assert_eq!(statuses(&ask(stream, "/", 5)), [200]);
        }
    }
    release.store(true, SeqCst);
    let mut answer = [0; 15];
    holder.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}
