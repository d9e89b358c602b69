//! A drain answers what had arrived and ends what is idle.

use std::{
    io::{Read, Write},
    time::Duration,
};

use maniple::{cancel::shield, sync::channel};
use maniple_server::Request;

use super::{Served, routes, statuses};

#[test]
fn what_was_received_before_the_drain_is_answered() {
    let served = Served::start();
    let mut idle = served.connect();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).unwrap();
    let mut busy: Vec<_> = (0..20).map(|_| served.connect()).collect();
    for stream in &mut busy {
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
    }
    let report = served.drain();
    assert_eq!(report.cancelled, 0);
    for stream in &mut busy {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(statuses(&answer), [200], "{answer:?}");
        assert!(answer.ends_with("slow"));
    }
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert!(
        rest.ends_with("hello"),
        "the idle one is closed after its answer"
    );
}

#[test]
fn what_outlasts_the_grace_time_is_cancelled() {
    let served = Served::with(|builder| builder.drain_grace(Duration::from_millis(50)));
    let mut stuck = served.connect();
    stuck
        .write_all(b"GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    while served.handle.connections() == 0 {
        crate::driven::thread::yield_now();
    }
    let report = served.drain();
    assert!(report.cancelled <= 1);
    let mut answer = String::new();
    let _ = stuck.read_to_string(&mut answer);
    assert!(!answer.contains("never"));
}

#[test]
fn what_does_not_heed_its_cancellation_is_reported_as_left() {
    let (arrives, arrived) = channel::unbounded();
    let (release, released) = channel::unbounded::<()>();
    let routes = routes().get("/deaf", move |_: &mut Request| {
        shield(|| {
            arrives.send(()).unwrap();
            let _ = released.recv();
        });
        "at last"
    });
    let mut served = Served::of(routes, |builder| {
        builder.drain_grace(Duration::from_millis(10))
    });
    let mut deaf = served.connect();
    deaf.write_all(b"GET /deaf HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    arrived.recv().unwrap();
    let handle = served.handle.clone();
    handle.drain();
    let serving = served.serving.take().unwrap();
    let report = serving.join().unwrap().unwrap();
    assert_eq!((report.cancelled, report.left), (1, 1), "{report:?}");
    assert!(!report.is_clean());
    assert!(handle.is_drained());
    assert_eq!(handle.connections(), 1);
    // It ends once its handler does.
    drop(release);
    let _ = deaf.read_to_end(&mut Vec::new());
    while handle.connections() > 0 {
        crate::driven::thread::yield_now();
    }
}

#[test]
fn a_busy_port_is_named() {
    let served = Served::start();
    let again = maniple_server::Server::builder(super::routes()).bind(served.address());
    let error = again.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("bind {}", served.address())),
        "{error}"
    );
}

#[test]
fn bad_settings_are_named() {
    let error = maniple_server::Server::builder(super::routes())
        .max_header_fields(0)
        .bind("127.0.0.1:0")
        .unwrap_err();
    assert!(error.to_string().contains("max_header_fields"), "{error}");
}
