//! Services that several servers provide: which one is asked, when another, and what is kept of those that leave.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::driven::Runtime;
use maniple::{
    group::Hedger,
    net::{SocketAddr, TcpListener, TcpStream},
};
use maniple_parts::{
    adaptive::Bounds,
    connections::{Connections, Manage},
    endpoints::{Balance, EndpointState, Endpoints, PickError},
    resilience::{CircuitBreaker, Retry, RetryBudget},
};
use maniple_server::{
    Body, Client, ClientError, Method, Request, Router, StatusCode,
    client::{Phase, Servers},
    middleware::Metrics,
};

const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

/// What a server does with a request, whose head and first bytes it has.
type Does = dyn Fn(&mut TcpStream, &str) -> std::io::Result<()> + Send + Sync;

/// A server on plain threads.
struct Peer {
    address: SocketAddr,
    /// Heads of the requests that have come.
    asked: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Peer {
    fn start(
        does: impl Fn(&mut TcpStream, &str) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            open: Arc::default(),
            accepted: Arc::default(),
        };
        let (open, accepted, asked) =
            (peer.open.clone(), peer.accepted.clone(), peer.asked.clone());
        let does: Arc<Does> = Arc::new(does);
        crate::driven::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                open.fetch_add(1, Ordering::SeqCst);
                accepted.fetch_add(1, Ordering::SeqCst);
                let (open, asked, does) = (open.clone(), asked.clone(), does.clone());
                crate::driven::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                        asked.lock().unwrap().push(text.clone());
                        if does(&mut stream, &text).is_err() {
                            break;
                        }
                    }
                    drop(stream);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        peer
    }

    fn saying(answer: &'static str) -> Self {
        Self::start(move |stream, _| stream.write_all(answer.as_bytes()))
    }

    fn at(&self) -> String {
        self.address.to_string()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    #[track_caller]
    fn wait_for_open(&self, count: usize) {
        let over = maniple::time::now() + PATIENCE;
        while self.open.load(Ordering::SeqCst) != count {
            assert!(maniple::time::now() < over, "not {count} are open");
            maniple::sleep(Duration::from_millis(1));
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn closes(_: &mut TcpStream, _: &str) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Other.into())
}

/// Each in turn, from the first on.
fn in_turn(list: impl IntoIterator<Item = String>) -> Endpoints {
    let builder = Endpoints::builder("users").balance(Balance::RoundRobin);
    builder.without_ejection().build(list).unwrap()
}

fn client_of(servers: Servers) -> Client {
    let builder = Client::builder().idle_timeout(LONG);
    builder.servers("users", servers).build()
}

fn client(set: &Endpoints) -> Client {
    client_of(Servers::new(set.clone()))
}

fn in_time<T>(calls: impl FnOnce() -> T) -> T {
    maniple::timeout(PATIENCE, calls).unwrap()
}

#[test]
fn requests_go_to_the_servers_of_the_set_by_the_name_of_the_service() {
    let (one, other) = (Peer::saying(OK), Peer::saying(OK));
    let set = in_turn([one.at(), other.at()]);
    let client = client(&set);
    for url in ["http://users/7", "http://USERS/7"].repeat(2) {
        assert_eq!(client.get(url).unwrap().text().unwrap(), "ok");
    }
    assert_eq!((one.asked(), other.asked()), (2, 2));
    let head = one.asked.lock().unwrap()[0].to_lowercase();
    assert!(
        head.starts_with("get /7 http/1.1\r\nhost: users\r\n"),
        "{head}"
    );
    let stats = set.stats();
    assert!(
        stats
            .iter()
            .all(|of| (of.succeeded, of.in_flight) == (2, 0))
    );
    // A port names a host, as ever.
    let url = format!("http://localhost:{}/", other.address.port());
    assert_eq!(client.get(&url).unwrap().text().unwrap(), "ok");
    assert_eq!(other.asked(), 3);
}

#[test]
fn who_refuses_connections_is_passed_over_by_any_request() {
    let alive = Peer::saying(OK);
    let set = in_turn([nobody(), alive.at()]);
    let client = client(&set);
    crate::driven::run(|| {
        in_time(|| {
            for _ in 0..2 {
                let posted = client.post("http://users/").body("once").send().unwrap();
                assert_eq!(posted.text().unwrap(), "ok");
            }
            let body = Body::from_fn(|out| out.write_all(b"made as it goes"));
            let streamed = client.post("http://users/").body(body).send().unwrap();
            assert_eq!(streamed.text().unwrap(), "ok");
        });
    });
    assert!(alive.asked() >= 3);
    assert!(set.stats()[0].failed > 0);
}

#[test]
fn what_has_left_is_asked_again_only_if_it_may_be_done_twice() {
    for method in [Method::GET, Method::PUT, Method::POST] {
        let (bad, good) = (Peer::start(closes), Peer::saying(OK));
        let set = in_turn([bad.at(), good.at()]);
        let client = client(&set);
        let answer = crate::driven::run(|| {
            in_time(|| {
                client
                    .request(method.clone(), "http://users/")
                    .body("x")
                    .send()
            })
        });
        assert_eq!(bad.asked(), 1);
        if method == Method::POST {
            assert!(matches!(answer, Err(ClientError::Io { .. })), "{answer:?}");
            assert_eq!(good.asked(), 0);
        } else {
            assert_eq!(answer.unwrap().status(), StatusCode::OK, "{method}");
            assert_eq!(good.asked(), 1);
        }
        assert_eq!(set.stats()[0].failed, 1);
    }
}

#[test]
fn a_body_that_was_made_while_it_was_sent_is_made_once() {
    let (bad, good) = (Peer::start(closes), Peer::saying(OK));
    let set = in_turn([bad.at(), good.at()]);
    let client = client(&set);
    let made = Arc::new(AtomicUsize::new(0));
    let body = Body::from_fn({
        let made = made.clone();
        move |out| {
            made.fetch_add(1, Ordering::SeqCst);
            (0..100).try_for_each(|_| out.write_all(&[b'x'; 10_000]))
        }
    });
    let put = client.request(Method::PUT, "http://users/").body(body);
    let answer = crate::driven::run(|| in_time(|| put.send()));
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!((made.load(Ordering::SeqCst), good.asked()), (1, 0));
}

#[test]
fn where_one_has_too_much_to_do_another_answers_and_where_all_have_that_is_said() {
    let (busy, idle) = (Peer::saying(BUSY), Peer::saying(OK));
    let set = in_turn([busy.at(), idle.at()]);
    let client = client(&set);
    crate::driven::run(|| {
        assert_eq!(client.get("http://users/").unwrap().text().unwrap(), "ok");
        // A request that may not be done twice has the answer that there is.
        set.set([busy.at()]).unwrap();
        let posted = client.post("http://users/").send().unwrap();
        assert_eq!(posted.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(posted);
        let asked = busy.asked();
        let refused = in_time(|| client.get("http://users/").unwrap());
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.text().unwrap(), "busy");
        assert_eq!(busy.asked(), asked + 3, "three attempts");
    });
    // What was refused had come whole, and its connection was used again.
    assert!(busy.accepted.load(Ordering::SeqCst) <= 2);
}

#[test]
fn retries_end_with_their_budget() {
    let busy = Peer::saying(BUSY);
    let budget = RetryBudget::with(0, 0, 0);
    let retry = Retry::new().attempts(5).budget(&budget);
    let client = client_of(Servers::new(in_turn([busy.at()])).retry(retry));
    crate::driven::run(|| drop(client.get("http://users/").unwrap()));
    assert_eq!((busy.asked(), budget.stats().refused), (1, 1));
}

#[test]
fn idle_connections_to_a_server_that_leaves_are_closed_at_once() {
    let (leaves, stays) = (Peer::saying(OK), Peer::saying(OK));
    let set = in_turn([leaves.at(), stays.at()]);
    let client = client(&set);
    // A runtime that does nothing meanwhile: whoever changes the list closes them.
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let answers: Vec<_> = (0..8)
            .map(|_| client.get("http://users/").unwrap())
            .collect();
        answers
            .into_iter()
            .for_each(|answer| drop(answer.bytes().unwrap()));
    });
    leaves.wait_for_open(4);
    set.set([stays.at()]).unwrap();
    leaves.wait_for_open(0);
    stays.wait_for_open(4);
    runtime.run(|| assert_eq!(client.get("http://users/").unwrap().text().unwrap(), "ok"));
    assert_eq!(
        stays.accepted.load(Ordering::SeqCst),
        4,
        "one of those is used"
    );
}

#[test]
fn a_call_to_a_server_that_leaves_goes_on_and_its_connection_is_closed_behind_it() {
    let (goes, wait) = maniple::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let leaves = Peer::start(move |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")?;
        let _ = wait.lock().unwrap().recv();
        stream.write_all(b"k")
    });
    let set = in_turn([leaves.at()]);
    let client = client(&set);
    crate::driven::run(|| {
        let answer = client.get("http://users/").unwrap();
        set.set([nobody()]).unwrap();
        assert_eq!(leaves.open.load(Ordering::SeqCst), 1);
        goes.send(()).unwrap();
        assert_eq!(in_time(|| answer.text().unwrap()), "ok");
    });
    leaves.wait_for_open(0);
}

#[test]
fn a_body_that_breaks_off_is_a_failure_of_the_server_and_is_not_asked_for_again() {
    let cut = Peer::start(|stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")?;
        Err(std::io::ErrorKind::Other.into())
    });
    let set = in_turn([cut.at()]);
    let client = client(&set);
    let answer = crate::driven::run(|| client.get("http://users/").unwrap().text());
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(cut.asked(), 1);
    let stats = &set.stats()[0];
    assert_eq!((stats.failed, stats.succeeded, stats.in_flight), (1, 0, 0));
}

#[test]
fn a_call_is_under_way_until_its_body_has_come() {
    let peer = Peer::saying(OK);
    let set = in_turn([peer.at()]);
    let client = client(&set);
    let answer = client.get("http://users/").unwrap();
    // Short as it is, nobody has read it.
    assert_eq!(set.stats()[0].in_flight, 1);
    drop(answer);
    let stats = &set.stats()[0];
    assert_eq!((stats.in_flight, stats.succeeded), (0, 1));
}

#[test]
fn a_slow_server_is_hedged_by_another_and_loses() {
    let slow = Peer::start(|stream, _| {
        // Until the client closes.
        while let Ok(1..) = stream.read(&mut [0; 64]) {}
        Err(std::io::ErrorKind::Other.into())
    });
    let quick = Peer::saying(OK);
    let set = in_turn([slow.at(), quick.at()]);
    let hedger = Arc::new(Hedger::new(Duration::from_millis(20)));
    let client = client_of(Servers::new(set.clone()).hedger(hedger.clone()));
    crate::driven::run(|| {
        let answer = in_time(|| client.get("http://users/").unwrap().text().unwrap());
        assert_eq!(answer, "ok");
    });
    slow.wait_for_open(0);
    assert_eq!(hedger.stats().won, 1);
    let stats = set.stats();
    assert_eq!(
        (stats[0].failed, stats[0].in_flight),
        (0, 0),
        "it was cancelled"
    );
}

#[test]
fn who_fails_again_and_again_is_asked_no_more() {
    let (bad, good) = (Peer::start(closes), Peer::saying(OK));
    let builder = Endpoints::builder("users").balance(Balance::RoundRobin);
    let set = builder.build([bad.at(), good.at()]).unwrap();
    let client = client_of(Servers::new(set.clone()).retry(Retry::new().attempts(2)));
    crate::driven::run(|| {
        in_time(|| {
            for _ in 0..40 {
                assert_eq!(client.get("http://users/").unwrap().text().unwrap(), "ok");
            }
        });
    });
    assert!(bad.asked() <= 10, "{} times", bad.asked());
    assert!(matches!(
        set.stats()[0].state,
        EndpointState::Ejected { .. }
    ));
}

#[test]
fn where_all_are_at_their_limit_a_call_waits_for_a_place_or_ends() {
    let peer = Peer::saying(OK);
    let build = || Endpoints::builder("users").limit(1);
    let none_waits = client(&build().build([peer.at()]).unwrap());
    crate::driven::run(|| {
        let held = none_waits.get("http://users/").unwrap();
        let error = none_waits.get("http://users/").unwrap_err();
        let full = matches!(
            error,
            ClientError::NoServer {
                error: PickError::Full,
                ..
            }
        );
        assert!(full && error.is_unsent(), "{error:?}");
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(held);

        let set = build().queue(10, LONG).build([peer.at()]).unwrap();
        let waits = client(&set);
        let held = waits.get("http://users/").unwrap();
        // Until its own deadline.
        let late = waits.request(Method::GET, "http://users/");
        let late = late.timeout(Duration::from_millis(30)).send().unwrap_err();
        assert!(late.is_timeout(), "{late:?}");
        assert_eq!(late.phase(), Some(Phase::Queue));
        let waiting = maniple::spawn({
            let waits = waits.clone();
            move || waits.get("http://users/").unwrap().text().unwrap()
        });
        in_time(|| {
            while set.waiting() == 0 {
                maniple::sleep(Duration::from_millis(1));
            }
        });
        drop(held);
        assert_eq!(in_time(|| waiting.join().unwrap()), "ok");
    });
}

#[test]
fn an_answer_that_is_asked_for_again_holds_no_place() {
    let busy = Peer::saying(BUSY);
    let builder = Endpoints::builder("users").without_ejection();
    let set = builder.limit(1).queue(9, LONG).build([busy.at()]).unwrap();
    let client = client(&set);
    crate::driven::run(|| {
        let refused = in_time(|| client.get("http://users/").unwrap());
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    });
    assert_eq!((busy.asked(), set.stats()[0].failed), (3, 3));
}

#[test]
fn strangers_send_nobody_to_a_service() {
    let inside = Peer::saying(OK);
    let outside = Peer::saying(
        "HTTP/1.1 302 Found\r\nLocation: http://users/secret\r\nContent-Length: 0\r\n\r\n",
    );
    let servers = Servers::new(in_turn([inside.at()]));
    let builder = Client::builder().max_redirects(5);
    let client = builder.servers("users", servers).build();
    let error = client
        .get(&format!("http://{}/", outside.at()))
        .unwrap_err();
    assert!(matches!(error, ClientError::Redirect { .. }), "{error:?}");
    assert_eq!(inside.asked(), 0);
}

/// Connections to nowhere.
struct Numbers;

impl Manage for Numbers {
    type Connection = u32;
    type Error = io::Error;

    fn connect(&self) -> io::Result<u32> {
        Ok(0)
    }

    fn check(&self, _: &mut u32) -> io::Result<()> {
        Ok(())
    }

    fn is_broken(&self, _: &mut u32) -> bool {
        false
    }
}

#[test]
fn metrics_tell_of_sets_and_of_calls_by_themselves() {
    let (peer, busy) = (Peer::saying(OK), Peer::saying(BUSY));
    let bounds = Bounds {
        least: 2,
        most: 9,
        initial: 3,
    };
    let builder = Endpoints::builder("told-of").balance(Balance::RoundRobin);
    let builder = builder.adaptive_limit(bounds).without_ejection();
    let set = builder.build([busy.at(), peer.at()]).unwrap();
    let budget = RetryBudget::with(0, 0, 7).name("told-of");
    let breaker = CircuitBreaker::new().name("told-of");
    let pool = Connections::builder(Numbers).name("told-of").build();
    let pool = pool.unwrap();
    let client = Client::builder()
        .servers("told-of", Servers::new(set.clone()))
        .build();
    let router = Router::new().get("/metrics", Metrics::new().handler());
    let told = || {
        let answer = router.answer(&mut Request::for_test("GET", "/metrics"));
        answer.into_text().unwrap()
    };
    crate::driven::run(|| {
        assert_eq!(client.get("http://told-of/").unwrap().text().unwrap(), "ok");
        let held = client.get("http://told-of/").unwrap();
        let borrowed = (pool.get().unwrap(), pool.get().unwrap());
        drop(borrowed.0);
        let text = told();
        let of = |address: &str| format!("set=\"told-of\",server=\"{address}\"");
        for line in [
            "http_client_calls_total{service=\"told-of\"} 2".to_owned(),
            "http_client_retries_total{service=\"told-of\"} 1".to_owned(),
            "endpoints_waiting{set=\"told-of\"} 0".to_owned(),
            format!(
                "endpoints_calls_total{{{},result=\"failed\"}} 1",
                of(&busy.at())
            ),
            format!(
                "endpoints_calls_total{{{},result=\"succeeded\"}} 1",
                of(&peer.at())
            ),
            format!("endpoints_in_flight{{{}}} 1", of(&peer.at())),
            format!("endpoints_limit{{{}}} 3", of(&peer.at())),
            format!("endpoints_weight{{{}}} 1", of(&peer.at())),
            "circuit_breaker_state{breaker=\"told-of\",state=\"closed\"} 1".to_owned(),
            "circuit_breaker_opened_total{breaker=\"told-of\"} 0".to_owned(),
            "circuit_breaker_refused_total{breaker=\"told-of\"} 0".to_owned(),
            "retry_budget_left{budget=\"told-of\"} 0".to_owned(),
            "retry_budget_calls_total{budget=\"told-of\"} 0".to_owned(),
            "retry_budget_retries_total{budget=\"told-of\"} 0".to_owned(),
            "retry_budget_refused_total{budget=\"told-of\"} 0".to_owned(),
            "connection_pool_open{pool=\"told-of\"} 2".to_owned(),
            "connection_pool_idle{pool=\"told-of\"} 1".to_owned(),
            "connection_pool_waiting{pool=\"told-of\"} 0".to_owned(),
            "connection_pool_lent_total{pool=\"told-of\"} 2".to_owned(),
            "connection_pool_connects_total{pool=\"told-of\"} 2".to_owned(),
            "connection_pool_late_total{pool=\"told-of\"} 0".to_owned(),
            format!("endpoints_state{{{},state=\"serving\"}} 1", of(&peer.at())),
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
        }
        drop(held);
    });
    drop((client, set, budget, breaker, pool));
    let text = told();
    assert!(
        !text.contains("told-of"),
        "what is gone is not told of: {text}"
    );
}

#[test]
fn a_client_that_is_gone_is_told_of_no_change() {
    let peer = Peer::saying(OK);
    let set = in_turn([peer.at()]);
    let client = client(&set);
    crate::driven::run(|| drop(client.get("http://users/").unwrap().bytes()));
    drop(client);
    peer.wait_for_open(0);
    set.set([nobody()]).unwrap();
}

#[test]
#[should_panic(expected = "is no host of a URL")]
fn a_service_has_no_port_in_its_name() {
    let set = in_turn([nobody()]);
    let _ = Client::builder().servers("users:80", Servers::new(set));
}
