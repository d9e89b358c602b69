//! A drain: what is in flight is answered, and clients are told in two steps.

use maniple::block_on;
use maniple_server::{Request, Router};

use super::{
    Served,
    client::{Client, get, read, told},
    raw::{self, ACK, DATA, GOAWAY, HEADERS, PING, Raw, frame},
    run,
};

#[test]
fn a_drain_tells_first_that_it_ends_and_then_what_was_the_last() {
    run(|| {
        let (tell, hear) = told();
        let (open, gate) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new().get("/", move |_: &mut Request| {
            tell.send(()).unwrap();
            gate.recv().unwrap();
            "hello"
        });
        let served = Served::of(router);
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&raw::get(1, "/"));
        hear();
        served.handle.drain();
        let first = raw.hear_of(GOAWAY).unwrap();
        assert_eq!((first.code(), first.last()), (0, (1 << 31) - 1));
        let probe = raw.hear_of(PING).unwrap();
        // This one was on its way.
        raw.say(&raw::get(3, "/"));
        hear();
        raw.say(&frame(PING, ACK, 0, &probe.payload));
        let second = raw.hear_of(GOAWAY).unwrap();
        assert_eq!((second.code(), second.last()), (0, 3));
        for _ in 0..2 {
            open.send(()).unwrap();
            assert_eq!(raw.hear_of(DATA).unwrap().payload, b"hello");
        }
        assert_eq!(raw.hear_of(HEADERS), None);
        let report = served.drain();
        assert_eq!((report.finished, report.cancelled, report.left), (2, 0, 0));
    });
}

#[test]
fn what_waits_for_long_may_end_when_the_drain_begins() {
    run(|| {
        let (tell, hear) = told();
        let router = Router::new().get("/", move |request: &mut Request| {
            let token = request.drain_token();
            assert!(!token.is_cancelled());
            tell.send(()).unwrap();
            let cut = token.run(|| maniple::sleep(std::time::Duration::from_secs(3600)));
            assert!(cut.is_err());
            // The request itself goes on.
            maniple::yield_now();
            "ask again"
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let (answer, _) = client.begin(get("/"), true).unwrap();
        hear();
        served.handle.drain();
        assert_eq!(read(block_on(answer).unwrap()).unwrap().body, "ask again");
        assert_eq!(served.drain().cancelled, 0);
    });
}

#[test]
fn an_idle_connection_is_ended_by_a_drain() {
    run(|| {
        let served = Served::of(Router::new().get("/", |_: &mut Request| "hello"));
        let client = Client::connect(served.address());
        assert_eq!(client.get("/").body, "hello");
        let report = served.drain();
        assert_eq!((report.cancelled, report.left), (0, 0));
        assert!(client.ask(get("/")).is_err());
    });
}

#[test]
fn what_does_not_end_in_time_is_cancelled() {
    run(|| {
        let (tell, hear) = told();
        let router = Router::new().get("/", move |_: &mut Request| {
            tell.send(()).unwrap();
            maniple::sleep(std::time::Duration::from_secs(600));
            "never"
        });
        let grace = std::time::Duration::from_millis(100);
        let served = Served::with(router, |builder| builder.drain_grace(grace));
        let client = Client::connect(served.address());
        let (answer, _) = client.begin(get("/"), true).unwrap();
        hear();
        let report = served.drain();
        assert_eq!((report.cancelled, report.left), (1, 0));
        assert!(block_on(answer).and_then(read).is_err());
    });
}
