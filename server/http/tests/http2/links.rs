//! Links of a client's: shared by all calls, replaced when they end, closed when they are idle.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::sync::Mutex;
use maniple_server::{Client, Request, Router, Version, client::Phase, server::Http2};

use super::{
    Served,
    asking::{client, text, url},
    client::told,
    run,
};

/// By a server that takes connections and never says a word.
#[cfg(feature = "tls")]
#[test]
fn who_waits_for_the_connection_of_another_keeps_to_his_own_time() {
    run(|| {
        let silent = maniple::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = format!("https://localhost:{port}/");
        let client = Client::builder().build();
        maniple::group(|g| {
            let first = g.spawn(|| client.get(&url).map(drop));
            let _taken = silent.accept().unwrap();
            let short = Duration::from_millis(20);
            let late = maniple::timeout(short, || client.get(&url).map(drop)).unwrap();
            let late = late.unwrap_err();
            assert!(late.is_timeout(), "{late:?}");
            assert!(!first.is_finished());
            g.cancel();
            Ok::<_, ()>(())
        })
        .unwrap();
    });
}

#[test]
fn a_hundred_calls_at_once_share_a_link() {
    run(|| {
        let (busy, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        let router = Router::new().get("/{number}", move |request: &mut Request| {
            let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            maniple::sleep(Duration::from_millis(20));
            busy.fetch_sub(1, Ordering::SeqCst);
            request.param("number").unwrap_or_default().to_owned()
        });
        let served = Served::of(router);
        let client = client();
        maniple::group::map(100, 0..100, |number| {
            let answer = client.get(&url(&served, &format!("/{number}"))).unwrap();
            assert_eq!(answer.version(), Version::HTTP_2);
            assert_eq!(answer.text().unwrap(), number.to_string());
        });
        assert_eq!(served.handle.connections(), 1);
        assert!(most.load(Ordering::SeqCst) > 50, "{most:?} at a time");
    });
}

#[test]
fn calls_wait_for_their_turn_where_the_server_takes_few() {
    run(|| {
        let router = Router::new().post("/", |request: &mut Request| {
            let body = text(request);
            maniple::sleep(Duration::from_millis(1));
            body
        });
        let few = Http2::new().max_streams(3);
        let served = Served::with(router, |builder| builder.http2(few));
        let client = client();
        maniple::group::map(50, 0..50, |number| {
            let asked = client.post(&url(&served, "/")).body(number.to_string());
            assert_eq!(asked.send().unwrap().text().unwrap(), number.to_string());
        });
    });
}

#[test]
fn who_waits_too_long_for_his_turn_has_sent_nothing() {
    run(|| {
        let (tell, hear) = told();
        let (open, gate) = maniple::sync::channel::bounded::<()>(1);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let router = Router::new().get("/", move |_: &mut Request| {
            counted.fetch_add(1, Ordering::SeqCst);
            tell.send(()).unwrap();
            gate.recv().unwrap();
            "done"
        });
        let one = Http2::new().max_streams(1);
        let served = Served::with(router, |builder| builder.http2(one));
        let client = Client::builder()
            .http2_prior_knowledge(true)
            .queue_timeout(Duration::from_millis(50))
            .build();
        let (own, first) = (client.clone(), url(&served, "/"));
        let first = maniple::spawn(move || own.get(&first).unwrap().text().unwrap());
        hear();
        let late = client.get(&url(&served, "/")).unwrap_err();
        assert_eq!(late.phase(), Some(Phase::Queue), "{late}");
        assert!(late.is_timeout() && late.is_unsent());
        open.send(()).unwrap();
        assert_eq!(first.join().unwrap(), "done");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn servers_that_go_lose_no_call_and_do_none_twice() {
    run(|| {
        let done = Arc::new(Mutex::new(Vec::new()));
        let theirs = done.clone();
        let router = Router::new().post("/", move |request: &mut Request| {
            let number = text(request);
            theirs.lock().push(number.clone());
            maniple::yield_now();
            number
        });
        // It says that it goes (`GOAWAY`, in two steps) after each seven requests.
        let served = Served::with(router, |builder| builder.max_requests_per_connection(7));
        let client = client();
        maniple::group::map(20, 0..500, |number| {
            let asked = client.post(&url(&served, "/")).body(number.to_string());
            assert_eq!(asked.send().unwrap().text().unwrap(), number.to_string());
        });
        let done = done.lock();
        assert_eq!(done.len(), 500, "none is done twice");
        assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), 500);
    });
}

#[test]
fn a_link_that_is_idle_ends_and_the_next_call_has_another() {
    run(|| {
        let router =
            Router::new().get("/", |request: &mut Request| format!("{:?}", request.peer()));
        let served = Served::of(router);
        let client = Client::builder()
            .http2_prior_knowledge(true)
            .idle_timeout(Duration::from_millis(50))
            .build();
        let first = client.get(&url(&served, "/")).unwrap().text().unwrap();
        while served.handle.connections() > 0 {
            maniple::sleep(Duration::from_millis(5));
        }
        let second = client.get(&url(&served, "/")).unwrap().text().unwrap();
        assert_ne!(first, second);
        drop(client);
        while served.handle.connections() > 0 {
            maniple::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_link_counts_as_one_connection_and_gives_its_place_back() {
    run(|| {
        let router = || Router::new().get("/", |_: &mut Request| "hello");
        let (one, other) = (Served::of(router()), Served::of(router()));
        let client = Client::builder()
            .http2_prior_knowledge(true)
            .max_connections(1)
            .queue_timeout(Duration::from_secs(20))
            .build();
        for served in [&one, &other, &one] {
            maniple::group::map(5, 0..5, |_| {
                let answer = client.get(&url(served, "/")).unwrap();
                assert_eq!(answer.text().unwrap(), "hello");
            });
        }
    });
}

#[test]
fn a_server_that_is_not_there_costs_all_callers_one_time_to_connect() {
    run(|| {
        let closed = maniple::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let client = client();
        maniple::group::map(10, 0..10, |_| {
            let error = client.get(&format!("http://{address}/")).unwrap_err();
            assert_eq!(error.phase(), Some(Phase::Connect), "{error}");
        });
    });
}

#[cfg(feature = "tls")]
mod over_tls {
    use maniple_server::{
        Server,
        tls::{ClientConfig, ServerConfig, self_signed},
    };

    use super::*;

    /// Serves over TLS with these protocols, and asks with these settings; what the handler and the client say of the version.
    fn asked(
        offered: &[&str],
        settings: impl FnOnce(maniple_server::client::Builder) -> maniple_server::client::Builder,
        alpn: &[&str],
    ) -> (String, Version) {
        let certificate = self_signed(["localhost"]).unwrap();
        let believed = certificate.chain_pem();
        let config = ServerConfig::builder().certificate(certificate);
        let config = config.alpn(offered.iter().copied()).build().unwrap();
        let router = Router::new().get("/", |request: &mut Request| {
            format!("{:?}", request.version())
        });
        let server = Server::builder(router)
            .bind_tls("127.0.0.1:0", config)
            .unwrap();
        let (port, handle) = (server.local_addr().port(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let config = ClientConfig::builder().roots_pem(believed);
        let config = config.alpn(alpn.iter().copied()).build().unwrap();
        let client = settings(Client::builder().tls(config)).build();
        let url = format!("https://localhost:{port}/");
        let answers = maniple::group::map(10, 0..10, |_| {
            let answer = client.get(&url).unwrap();
            let version = answer.version();
            (answer.text().unwrap(), version)
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        if answers[0].1 == Version::HTTP_2 {
            assert_eq!(handle.connections(), 1);
        }
        drop(client);
        handle.drain();
        serving.join().unwrap().unwrap();
        answers[0].clone()
    }

    #[test]
    fn http2_is_agreed_on_where_both_speak_it() {
        run(|| {
            const BOTH: [&str; 2] = ["h2", "http/1.1"];
            let over_2 = ("HTTP/2.0".to_owned(), Version::HTTP_2);
            let over_1 = ("HTTP/1.1".to_owned(), Version::HTTP_11);
            assert_eq!(asked(&BOTH, |builder| builder, &[]), over_2);
            assert_eq!(asked(&["http/1.1"], |builder| builder, &[]), over_1);
            assert_eq!(asked(&[], |builder| builder, &[]), over_1);
            assert_eq!(asked(&BOTH, |builder| builder.http2(false), &[]), over_1);
            // What is named is what is offered.
            assert_eq!(asked(&BOTH, |builder| builder, &["http/1.1"]), over_1);
            assert_eq!(asked(&BOTH, |builder| builder, &BOTH), over_2);
            assert_eq!(asked(&BOTH, |builder| builder.http2(false), &BOTH), over_1);
        });
    }
}
