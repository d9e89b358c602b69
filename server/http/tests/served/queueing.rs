//! Calls that wait for a connection, where there are as many as there may be.

use std::{
    collections::HashSet,
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    JoinHandle,
    net::{SocketAddr, TcpListener},
    sync::Semaphore,
};
use maniple_server::{
    Client, ClientError, Request, Router, StatusCode,
    client::{self, Phase},
};

use super::{Served, client_ends};
use crate::driven::{Reserved, Runtime};

const PATIENCE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(50);

/// A server whose answers wait for leave, and that notes in which order it was asked.
struct Gate {
    served: Served,
    leave: Arc<Semaphore>,
    asked: Arc<Mutex<Vec<String>>>,
    most: Arc<AtomicUsize>,
    peers: Arc<Mutex<HashSet<SocketAddr>>>,
}

impl Gate {
    fn closed() -> Self {
        let leave = Arc::new(Semaphore::new(0));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (busy, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let peers: Arc<Mutex<HashSet<SocketAddr>>> = Arc::default();
        let handler = {
            let (leave, asked, most) = (leave.clone(), asked.clone(), most.clone());
            let peers = peers.clone();
            move |request: &mut Request| {
                peers.lock().unwrap().insert(request.peer_addr().unwrap());
                let id = request.param("id").unwrap_or("?").to_owned();
                asked.lock().unwrap().push(id.clone());
                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                leave.acquire().unwrap().forget();
                busy.fetch_sub(1, Ordering::SeqCst);
                id
            }
        };
        let served = Served::of(Router::new().get("/{id}", handler), |builder| {
            builder.drain_grace(Duration::ZERO)
        });
        Self {
            served,
            leave,
            asked,
            most,
            peers,
        }
    }

    fn url(&self, id: impl std::fmt::Display) -> String {
        self.served.url(&format!("/{id}"))
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    #[track_caller]
    fn wait_for_asked(&self, count: usize) {
        let over = maniple::time::now() + PATIENCE;
        while self.asked() < count {
            assert!(maniple::time::now() < over, "{} of {count}", self.asked());
            maniple::sleep(Duration::from_millis(1));
        }
    }
}

fn get(client: &Client, url: String) -> JoinHandle<Result<String, ClientError>> {
    let client = client.clone();
    maniple::spawn(move || client.get(&url)?.text())
}

fn with(set: impl FnOnce(client::Builder) -> client::Builder) -> Client {
    set(Client::builder()).build()
}

/// Yields often enough for those who were spawned to have come to their wait.
fn settle() {
    for _ in 0..50 {
        maniple::yield_now();
    }
}

#[test]
fn no_more_are_open_than_may_be_and_all_are_answered_in_their_order() {
    let gate = Gate::closed();
    let client = with(|builder| builder.max_connections_per_host(3));
    Runtime::builder().workers(1).build().unwrap().run(|| {
        let mut calls = Vec::new();
        for id in 0..12 {
            calls.push(get(&client, gate.url(id)));
            settle();
        }
        gate.wait_for_asked(3);
        assert_eq!(gate.asked(), 3);
        for done in 1..=12 {
            gate.leave.add_permits(1);
            gate.wait_for_asked((done + 3).min(12));
        }
        for (id, call) in calls.into_iter().enumerate() {
            assert_eq!(call.join().unwrap().unwrap(), id.to_string());
        }
    });
    assert_eq!(gate.most.load(Ordering::SeqCst), 3);
    let asked = gate.asked.lock().unwrap().clone();
    let order: Vec<String> = (3..12).map(|id| id.to_string()).collect();
    assert_eq!(asked[3..], order, "who came first was first");
    let peers = gate.peers.lock().unwrap().len();
    assert_eq!(peers, 3, "connections were handed over");
}

#[test]
fn who_cannot_wait_any_longer_leaves_the_queue_and_takes_nothing_along() {
    let gate = Gate::closed();
    let client = with(|builder| {
        builder
            .max_connections(1)
            .max_waiting(2)
            .queue_timeout(PATIENCE)
    });
    let hasty = with(|builder| builder.max_connections(1).queue_timeout(SOON));
    Runtime::builder().workers(1).build().unwrap().run(|| {
        let busy = get(&client, gate.url("busy"));
        gate.wait_for_asked(1);
        let (late, cut) = (
            get(&client, gate.url("late")),
            get(&client, gate.url("cut")),
        );
        settle();
        let full = client.get(&gate.url("full")).unwrap_err();
        assert!(matches!(full, ClientError::Full { .. }), "{full}");
        assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(full.is_unsent());
        cut.cancel();
        let end = cut.join().map(Result::unwrap_err);
        let is_queue =
            |error: ClientError| error.is_cancelled() && error.phase() == Some(Phase::Queue);
        assert!(end.map_or_else(|join| join.is_cancelled(), is_queue));
        // His place in the queue is free.
        let next = get(&client, gate.url("next"));
        settle();
        gate.leave.add_permits(3);
        assert_eq!(busy.join().unwrap().unwrap(), "busy");
        assert_eq!(late.join().unwrap().unwrap(), "late");
        assert_eq!(next.join().unwrap().unwrap(), "next");

        let holds = get(&hasty, gate.url("holds"));
        gate.wait_for_asked(4);
        let error = hasty.get(&gate.url("hasty")).unwrap_err();
        assert_eq!(error.phase(), Some(Phase::Queue), "{error}");
        assert!(error.is_timeout());
        let scoped = maniple::timeout(SOON, || client.get(&gate.url("x")).map(drop));
        drop(scoped);
        gate.leave.add_permits(10);
        assert_eq!(holds.join().unwrap().unwrap(), "holds");
        assert_eq!(
            hasty.get(&gate.url("after")).unwrap().text().unwrap(),
            "after"
        );
    });
}

#[test]
fn an_idle_connection_to_another_host_makes_room() {
    let served = [(); 3].map(|()| Served::start());
    let client = with(|builder| builder.max_connections(2));
    for round in 0..3 {
        for each in &served {
            let answer = client.get(&each.url("/")).unwrap();
            assert_eq!(answer.text().unwrap(), "hello", "round {round}");
            let open: usize = served.iter().map(|each| client_ends(each.address())).sum();
            assert!(open <= 2, "{open} are open");
        }
    }
}

#[test]
fn an_answer_holds_its_connection_until_it_is_read_or_dropped() {
    let served = Served::start();
    let client = with(|builder| builder.max_connections(1).queue_timeout(SOON));
    let stream = || client.get(&served.url("/stream"));
    let unread = stream().unwrap();
    assert_eq!(stream().unwrap_err().phase(), Some(Phase::Queue));
    drop(unread);
    assert_eq!(stream().unwrap().text().unwrap().len(), 100_000);
    assert_eq!(stream().unwrap().text().unwrap().len(), 100_000);
}

#[test]
fn a_place_is_free_again_whatever_becomes_of_the_call() {
    let nobody = Reserved::new();
    let gone = nobody.address();
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let rude_address = rude.local_addr().unwrap();
    crate::driven::thread::spawn(move || {
        while let Ok((mut stream, _)) = rude.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"what?");
        }
    });
    let served = Served::start();
    let client = with(|builder| {
        builder
            .max_connections(1)
            .queue_timeout(PATIENCE)
            .max_body_bytes(10)
    });
    Runtime::builder().workers(1).build().unwrap().run(|| {
        for _ in 0..5 {
            let url = |address: SocketAddr| format!("http://{address}/");
            assert!(client.get(&url(gone)).is_err());
            assert!(client.get(&url(rude_address)).is_err());
            assert!(client.get(&served.url("/stream")).unwrap().text().is_err());
            let cut = maniple::timeout(SOON, || client.get(&served.url("/stuck")).map(drop));
            assert!(!matches!(cut, Ok(Ok(()))));
            let panics = maniple::spawn({
                let (client, url) = (client.clone(), served.url("/"));
                move || {
                    let _answer = client.get(&url).unwrap();
                    panic!("intended");
                }
            });
            assert!(panics.join().is_err());
            assert_eq!(
                client.get(&served.url("/")).unwrap().text().unwrap(),
                "hello"
            );
        }
    });
}

#[test]
fn hosts_that_are_asked_by_many_share_a_few_connections() {
    let served: Arc<[Served]> = Arc::new([(); 3].map(|()| Served::start()));
    let client = with(|builder| builder.max_connections(4).max_connections_per_host(2));
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let calls: Vec<_> = (0..24)
            .map(|n: usize| {
                let (served, client) = (served.clone(), client.clone());
                maniple::spawn(move || {
                    for round in 0..20 {
                        let id = n * 100 + round;
                        let url = served[(n + round) % 3].url(&format!("/user/{id}"));
                        if round % 7 == 3 {
                            let brief = Duration::from_micros(200 * (n as u64 % 5));
                            // Cut anywhere, waits for a connection among it.
                            let _ = maniple::timeout(brief, || client.get(&url)?.text());
                            continue;
                        }
                        let answer = client.get(&url).unwrap().text().unwrap();
                        assert_eq!(answer, id.to_string());
                    }
                })
            })
            .collect();
        calls.into_iter().for_each(|call| call.join().unwrap());
    });
    drop(runtime);
    let open: usize = served.iter().map(|each| client_ends(each.address())).sum();
    assert_eq!(open, 0, "none has leaked");
    // Nobody has taken a place along.
    let calls = served
        .iter()
        .map(|each| client.get(&each.url("/")).unwrap());
    assert_eq!(calls.count(), 3);
}

#[test]
fn a_connection_is_not_used_beyond_its_age() {
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    let notes = seen.clone();
    let routes = Router::new().get("/", move |request: &mut Request| {
        let peer = request.peer_addr().unwrap().to_string();
        notes.lock().unwrap().insert(peer);
        "noted"
    });
    let served = Served::of(routes, |builder| builder);
    let client = with(|builder| builder.max_connection_age(Duration::ZERO));
    for _ in 0..3 {
        client.get(&served.url("/")).unwrap().text().unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 3);
    let client = with(|builder| builder.max_connection_age(PATIENCE * 10));
    for _ in 0..3 {
        client.get(&served.url("/")).unwrap().text().unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 4);
}
