//! A limit of requests at a time that is found out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::sync::{Notify, Semaphore};
use maniple_server::{Client, Request, Router, StatusCode, middleware::AdaptiveLimit};

use super::Served;

const LONG: Duration = Duration::from_secs(60);

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = maniple::time::now() + LONG;
    while !is_so() {
        assert!(maniple::time::now() < until, "not in time: {what}");
        maniple::sleep(Duration::from_millis(5));
    }
}

/// What two at a time are served by, each for a while.
fn two_at_a_time(limit: &AdaptiveLimit) -> Router {
    let places = Semaphore::new(2);
    Router::new()
        .with(limit.clone())
        .get("/", move |_: &mut Request| {
            let _place = places.acquire().unwrap();
            maniple::sleep(Duration::from_millis(2));
            "hello"
        })
}

#[test]
fn clients_that_always_ask_bring_the_limit_down_to_what_is_served_at_a_time() {
    let limit = AdaptiveLimit::new().initial(64).max(64).min(1).queue(64);
    let served = Served::of(two_at_a_time(&limit), |builder| builder);
    let (url, stop) = (served.url("/"), Arc::new(AtomicBool::new(false)));
    crate::driven::run(|| {
        let client = Client::new();
        let asking: Vec<_> = (0..64)
            .map(|_| {
                let (client, url, stop) = (client.clone(), url.clone(), stop.clone());
                maniple::spawn(move || {
                    while !stop.load(SeqCst) {
                        let answer = client.get(&url).unwrap();
                        let status = answer.status();
                        assert!(!answer.text().unwrap().is_empty());
                        assert_eq!(status, StatusCode::OK);
                    }
                })
            })
            .collect();
        wait_until("a limit of a few", || limit.current() <= 16);
        assert!(limit.in_flight() <= 64);
        stop.store(true, SeqCst);
        asking.into_iter().for_each(|one| one.join().unwrap());
        wait_until("nobody in flight", || {
            limit.in_flight() == 0 && limit.waiting() == 0
        });
    });
}

#[test]
fn what_finds_no_place_waits_and_what_finds_no_place_to_wait_is_refused() {
    let limit = AdaptiveLimit::new().max(1).queue(1).patience(LONG);
    let limit = limit.retry_after(Duration::from_millis(1500));
    let leave = Arc::new(Notify::new());
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let (leave, calls) = (leave.clone(), calls.clone());
        move |_: &mut Request| {
            calls.fetch_add(1, SeqCst);
            leave.notified();
            "hello"
        }
    };
    let router = Router::new().with(limit.clone()).get("/", handler);
    let served = Served::of(router, |builder| builder);
    let url = served.url("/");
    crate::driven::run(|| {
        let ask = || {
            let url = url.clone();
            maniple::spawn(move || Client::new().get(&url).unwrap().status())
        };
        let first = ask();
        wait_until("the first", || limit.in_flight() == 1);
        let second = ask();
        wait_until("the second", || limit.waiting() == 1);
        let refused = Client::new().get(&url).unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.header("retry-after"), Some("2"));
        assert_eq!(calls.load(SeqCst), 1);
        leave.notify_one();
        assert_eq!(first.join().unwrap(), StatusCode::OK);
        wait_until("the second's turn", || calls.load(SeqCst) == 2);
        leave.notify_one();
        assert_eq!(second.join().unwrap(), StatusCode::OK);
    });
}

#[test]
fn a_handler_that_panics_and_a_client_that_goes_away_give_their_places_back() {
    let limit = AdaptiveLimit::new().max(1).queue(0);
    let router = Router::new()
        .with(limit.clone())
        .get("/panic", |_: &mut Request| -> &'static str {
            panic!("intended")
        })
        .get("/stuck", |_: &mut Request| maniple::sleep(10 * LONG))
        .get("/", |_: &mut Request| "hello");
    let served = Served::of(router, |builder| builder);
    assert!(
        served
            .say("GET /panic HTTP/1.1\r\nHost: h\r\n\r\n")
            .starts_with("HTTP/1.1 500")
    );
    let mut gone = served.connect();
    std::io::Write::write_all(&mut gone, b"GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    crate::driven::run(|| wait_until("it is in hand", || limit.in_flight() == 1));
    drop(gone);
    crate::driven::run(|| wait_until("it is cut", || limit.in_flight() == 0));
    assert!(
        served
            .say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .ends_with("hello")
    );
}
