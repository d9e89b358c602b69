//! Connections that a client keeps: how many, for how long, and that they go.

use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::driven::Runtime;
use maniple::{
    inspect,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    task::spawn,
};
use maniple_server::{Client, client};

const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

/// A server on plain threads that answers each request and keeps its connections.
struct Peer {
    address: SocketAddr,
    /// Connections that its client has not closed.
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Peer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Self {
            address: listener.local_addr().unwrap(),
            open: Arc::default(),
            accepted: Arc::default(),
            streams: Arc::default(),
        };
        let (open, accepted) = (peer.open.clone(), peer.accepted.clone());
        let streams = peer.streams.clone();
        crate::driven::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                open.fetch_add(1, Ordering::SeqCst);
                accepted.fetch_add(1, Ordering::SeqCst);
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let open = open.clone();
                crate::driven::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while let Ok(1..) = stream.read(&mut buffer) {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        let _ = stream.write_all(answer);
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        peer
    }

    fn ask(&self, client: &Client) {
        let answer = client.get(&format!("http://{}/", self.address));
        assert_eq!(answer.unwrap().text().unwrap(), "ok");
    }

    /// So many connections at once.
    fn ask_in_parallel(&self, client: &Client, count: usize) {
        let url = format!("http://{}/", self.address);
        let answers: Vec<_> = (0..count).map(|_| client.get(&url).unwrap()).collect();
        for answer in answers {
            assert_eq!(answer.text().unwrap(), "ok");
        }
    }

    /// Ends its sending sides: its client's ends are in CLOSE-WAIT until they are closed.
    fn hang_up(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn wait_for(&self, open: usize) {
        let over = maniple::time::now() + PATIENCE;
        while self.open() != open {
            assert!(
                maniple::time::now() < over,
                "{} are open, not {open}",
                self.open()
            );
            maniple::sleep(Duration::from_millis(1));
        }
    }
}

fn keeping(set: impl FnOnce(client::Builder) -> client::Builder) -> Client {
    set(Client::builder().idle_timeout(LONG)).build()
}

#[test]
fn connections_that_their_peers_close_are_closed_while_the_client_rests() {
    let peers = [(); 8].map(|()| Peer::start());
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let client = keeping(|builder| builder);
    runtime.run(|| {
        for peer in &peers {
            peer.ask_in_parallel(&client, 10);
        }
    });
    for peer in &peers {
        peer.wait_for(10);
        peer.hang_up();
    }
    for peer in &peers {
        peer.wait_for(0);
    }
}

#[test]
fn connections_are_closed_at_their_age_whether_the_client_is_used_or_not() {
    let (rests, works) = (Peer::start(), Peer::start());
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let client = Client::builder()
        .idle_timeout(Duration::from_millis(400))
        .build();
    runtime.run(|| {
        rests.ask_in_parallel(&client, 5);
        works.ask_in_parallel(&client, 5);
        // The lower part of the burst goes though the host is asked all the time.
        let over = maniple::time::now() + PATIENCE;
        while works.open() > 1 {
            assert!(maniple::time::now() < over);
            works.ask(&client);
            maniple::sleep(Duration::from_millis(1));
        }
        works.ask(&client);
    });
    rests.wait_for(0);
    works.wait_for(0);
}

#[test]
fn the_one_idle_for_longest_goes_when_they_are_too_many() {
    let peers = [(); 5].map(|()| Peer::start());
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let client = keeping(|builder| builder.max_idle(3));
        peers.iter().for_each(|peer| peer.ask(&client));
        for (peer, left) in peers.iter().zip([0, 0, 1, 1, 1]) {
            peer.wait_for(left);
        }
        peers[2].ask(&client);
        assert_eq!(peers[2].accepted.load(Ordering::SeqCst), 1);
        peers[0].ask(&client);
        peers[3].wait_for(0);
        assert_eq!((peers[2].open(), peers[4].open()), (1, 1));

        let client = keeping(|builder| builder.max_idle_per_host(2));
        peers[1].ask_in_parallel(&client, 6);
        peers[1].wait_for(2);
    });
}

#[test]
fn none_is_kept_where_none_may_be() {
    let none: [fn(client::Builder) -> client::Builder; 3] = [
        |builder| builder.max_idle(0),
        |builder| builder.max_idle_per_host(0),
        |builder| builder.idle_timeout(Duration::ZERO),
    ];
    for set in none {
        let peer = Peer::start();
        let client = keeping(set);
        peer.ask(&client);
        peer.wait_for(0);
    }
}

#[test]
fn a_dropped_client_closes_all_wherever_it_was_used() {
    let peer = Peer::start();
    let client = keeping(|builder| builder);
    // From a plain thread.
    peer.ask(&client);
    let runtimes = [(); 2].map(|()| Runtime::builder().workers(1).build().unwrap());
    for runtime in &runtimes {
        runtime.run(|| peer.ask_in_parallel(&client, 3));
    }
    assert_eq!(peer.open(), 3);
    let last = client.get(&format!("http://{}/", peer.address)).unwrap();
    drop(client);
    assert_eq!(last.text().unwrap(), "ok");
    peer.wait_for(0);
}

#[test]
fn the_end_of_a_runtime_closes_what_its_keeper_kept_and_the_client_goes_on() {
    let peer = Peer::start();
    let client = keeping(|builder| builder);
    for round in 1..=3 {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            peer.ask(&client);
            peer.ask(&client);
        });
        assert_eq!(peer.accepted.load(Ordering::SeqCst), round);
        runtime.shut_down();
        peer.wait_for(0);
    }
}

#[test]
fn a_keeper_keeps_no_locals_of_who_came_first() {
    maniple::coroutine_local! {
        static REQUEST: Arc<()> = Arc::new(()), inherited;
    }
    let peer = Peer::start();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let client = keeping(|builder| builder);
        let request = REQUEST.with(Arc::clone);
        peer.ask(&client);
        assert_eq!(Arc::strong_count(&request), 2, "its own and this one");
    });
}

#[test]
fn a_keeper_is_there_only_while_there_is_something_to_keep() {
    let keepers = || {
        let snapshot = inspect::snapshot();
        let names = snapshot
            .coroutines()
            .filter_map(|coroutine| coroutine.name());
        names.filter(|name| *name == "http client keeper").count()
    };
    let wait_for = |count| {
        let over = maniple::time::now() + PATIENCE;
        while keepers() != count {
            assert!(maniple::time::now() < over, "{} keepers", keepers());
            maniple::sleep(Duration::from_millis(1));
        }
    };
    let peer = Peer::start();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let client = keeping(|builder| builder.idle_timeout(Duration::from_millis(300)));
        for _ in 0..2 {
            peer.ask_in_parallel(&client, 4);
            wait_for(1);
            wait_for(0);
            peer.wait_for(0);
        }
        let clients = [(); 3].map(|()| keeping(|builder| builder));
        clients.iter().for_each(|client| peer.ask(client));
        wait_for(3);
        drop(clients);
        wait_for(0);
    });
}

#[test]
fn many_may_take_and_keep_while_the_keeper_looks() {
    let peers = [(); 3].map(|()| Peer::start());
    let peers = Arc::new(peers);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let client = Client::builder()
        .idle_timeout(Duration::from_millis(10))
        .max_idle(5)
        .build();
    runtime.run(|| {
        let asking: Vec<_> = (0..12)
            .map(|n: usize| {
                let (peers, client) = (peers.clone(), client.clone());
                spawn(move || {
                    for round in 0..30 {
                        peers[(n + round) % 3].ask(&client);
                        if round % 10 == n % 10 {
                            maniple::sleep(Duration::from_millis(15));
                        }
                    }
                })
            })
            .collect();
        asking.into_iter().for_each(|asking| asking.join().unwrap());
    });
    peers.iter().for_each(|peer| peer.wait_for(0));
}
