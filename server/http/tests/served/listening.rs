//! Several listeners, listeners that are shared with others, and how a server leaves them.

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::{
    JoinHandle,
    net::{SocketAddr, TcpListener, TcpStream},
};
use maniple_server::{
    DrainReport, Router, Server, ServerHandle,
    server::{Builder, Health},
    transport::Listener,
};

use super::{Served, routes, statuses};
use crate::driven::{Runtime, thread};

const LONG: Duration = Duration::from_secs(60);

fn shared() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The listener as an inherited descriptor.
fn inherited(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().unwrap().into()
}

/// A server that runs in the runtime.
struct Running {
    handle: ServerHandle,
    serving: JoinHandle<std::io::Result<DrainReport>>,
}

impl Running {
    fn of(runtime: &Runtime, server: Server) -> Self {
        let handle = server.handle();
        let serving = runtime.spawn(move || server.serve());
        Self { handle, serving }
    }

    fn end(self) -> DrainReport {
        self.serving.join().unwrap().unwrap()
    }
}

fn server(settings: impl FnOnce(Builder) -> Builder) -> Builder {
    settings(Server::builder(routes()))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Asks and reads one answer, whose body is `hello`.
fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut some = [0; 1024];
    while !answer.ends_with(b"hello") {
        match stream.read(&mut some)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&some[..count]),
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

fn to_end(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn each_of_several_listeners_is_served() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let ((one, first), (two, second)) = (shared(), shared());
    let server = Server::builder(routes()).listen(one).unwrap();
    let server = server.listen(two).unwrap().build().unwrap();
    assert_eq!(server.local_addr(), first);
    let names: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(names, [first.to_string(), second.to_string()]);
    let running = Running::of(&runtime, server);
    for address in [first, second] {
        ask(&mut connect(address), "/").unwrap();
    }
    running.handle.drain();
    assert!(running.end().is_clean());
    for address in [first, second] {
        assert!(TcpStream::connect(address).is_err(), "{address} is closed");
    }
}

#[test]
fn a_server_without_a_listener_is_an_error_that_says_so() {
    let error = Server::builder(Router::new()).build().unwrap_err();
    assert_eq!(error.to_string(), "a server needs a listener");
}

#[test]
fn a_shared_listener_goes_on_listening_once_its_server_has_drained() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (listener, address) = shared();
    let first = server(|settings| settings).listener(inherited(&listener));
    let first = Running::of(&runtime, first.unwrap());
    ask(&mut connect(address), "/").unwrap();
    first.handle.drain();
    first.end();
    // It waits for whoever accepts next.
    let mut waiting = connect(address);
    let second = server(|settings| settings).listener(inherited(&listener));
    let second = Running::of(&runtime, second.unwrap());
    ask(&mut waiting, "/").unwrap();
    second.handle.drain();
    second.end();
}

#[test]
fn a_listener_of_ones_own_may_be_said_to_be_shared() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (listener, address) = shared();
    let own = Listener::try_from(listener.try_clone().unwrap()).unwrap();
    let running = server(|settings| settings).listener(own.shared(true));
    let running = Running::of(&runtime, running.unwrap());
    running.handle.drain();
    running.end();
    drop(connect(address));
}

#[test]
fn a_hand_over_leaves_what_waits_to_the_others() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (listener, address) = shared();
    let first = server(|settings| settings.max_connections(1));
    let first = Running::of(&runtime, first.listener(inherited(&listener)).unwrap());
    let mut held = connect(address);
    ask(&mut held, "/").unwrap();
    let waiting: Vec<_> = (0..20).map(|_| connect(address)).collect();
    first.handle.hand_over();
    drop(held);
    let report = first.end();
    assert!(report.is_clean(), "{report:?}");
    let second = server(|settings| settings).listener(inherited(&listener));
    let second = Running::of(&runtime, second.unwrap());
    for mut stream in waiting {
        ask(&mut stream, "/").unwrap();
    }
    second.handle.drain();
    second.end();
}

#[test]
fn an_idle_connection_has_one_request_more_in_a_hand_over() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (listener, address) = shared();
    let running = server(|settings| settings.drain_idle(LONG)).listener(inherited(&listener));
    let running = Running::of(&runtime, running.unwrap());
    let mut idle = connect(address);
    let before = ask(&mut idle, "/").unwrap();
    assert!(!before.contains("connection: close"), "{before}");
    running.handle.hand_over();
    let last = ask(&mut idle, "/").unwrap();
    assert!(last.contains("connection: close"), "{last}");
    assert_eq!(to_end(idle), "");
    // The idle time ends with the last of them.
    assert_eq!(running.end().finished, 1);
}

#[test]
fn an_idle_connection_that_asks_nothing_more_is_closed_after_its_time() {
    let served = Served::with(|settings| {
        let settings = settings.drain_idle(Duration::from_millis(100));
        settings.drain_grace(LONG)
    });
    let mut idle = served.connect();
    ask(&mut idle, "/").unwrap();
    let report = served.drain();
    assert_eq!((report.idle, report.cancelled), (1, 0), "{report:?}");
    assert_eq!(to_end(idle), "");
}

const MOST_PAUSE: Duration = Duration::from_millis(500);

/// Clients that ask without a pause, over kept and over new connections, while servers follow one another.
#[test]
fn no_request_is_refused_or_lost_while_servers_hand_over() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (listener, address) = shared();
    let (over, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let client = |keeps: bool| {
        let (over, answered) = (over.clone(), answered.clone());
        thread::spawn(move || {
            let (mut kept, mut asked) = (None, maniple::time::now());
            while !over.load(SeqCst) {
                // Who was kept from asking for longer cannot count on a connection that was kept.
                let kept_on = kept
                    .take()
                    .filter(|_| maniple::time::now() - asked < MOST_PAUSE);
                let mut stream = kept_on.unwrap_or_else(|| connect(address));
                asked = maniple::time::now();
                let answer = ask(&mut stream, "/").expect("an answer to each request");
                answered.fetch_add(1, SeqCst);
                if keeps && !answer.contains("connection: close") {
                    kept = Some(stream);
                }
            }
        })
    };
    let clients: Vec<_> = (0..8).map(|number| client(number % 2 == 0)).collect();
    let start = || {
        let server = server(|settings| settings).listener(inherited(&listener));
        Running::of(&runtime, server.unwrap())
    };
    let mut running = start();
    for _ in 0..8 {
        let until = answered.load(SeqCst) + 100;
        while answered.load(SeqCst) < until {
            assert!(!clients.iter().any(thread::JoinHandle::is_finished));
            thread::yield_now();
        }
        let next = start();
        running.handle.hand_over();
        let report = running.end();
        assert!(report.is_clean(), "{report:?}");
        running = next;
    }
    over.store(true, SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    running.handle.drain();
    running.end();
}

fn healthy(health: &Health) -> Router {
    let routes = routes().get("/livez", health.live());
    routes.get("/readyz", health.ready())
}

/// The answer of a server that is asked over a connection of its own.
fn state(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    to_end(stream)
}

#[test]
fn a_drain_begins_once_its_delay_is_over() {
    let served = Served::with(|settings| settings.drain_delay(Duration::from_millis(100)));
    let mut idle = served.connect();
    ask(&mut idle, "/").unwrap();
    served.handle.drain();
    assert_eq!(to_end(idle), "");
    assert!(served.drain().is_clean());
}

#[test]
fn a_server_serves_on_for_its_drain_delay_and_is_not_ready_any_more() {
    let health = Health::new();
    let served = Served::of(healthy(&health), |settings| {
        settings.health(&health).drain_delay(LONG)
    });
    let address = served.address();
    served.handle.drain();
    for _ in 0..3 {
        let answer = state(address, "/readyz");
        assert_eq!(statuses(&answer), [503]);
        assert!(answer.ends_with("not ready: draining\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        assert_eq!(statuses(&state(address, "/livez")), [200]);
        assert_eq!(statuses(&state(address, "/")), [200]);
    }
    assert!(!served.handle.is_draining());
    // Whoever does not want to wait for the rest of it has others take over, or cancels.
    served.handle.hand_over();
    assert!(served.drain().is_clean());
}

#[test]
fn a_service_that_others_take_over_stays_ready() {
    let health = Health::new();
    let served = Served::of(healthy(&health), |settings| settings.health(&health));
    served.handle.hand_over();
    assert!(health.is_ready());
    assert!(served.drain().is_clean());
}

#[test]
fn what_a_service_lacks_is_named() {
    let health = Health::new();
    let served = Served::of(healthy(&health), |settings| settings.health(&health));
    health.set("cache", false);
    health.set("database", false);
    health.set("queue", true);
    let answer = state(served.address(), "/readyz");
    assert_eq!(statuses(&answer), [503]);
    assert!(answer.ends_with("not ready: cache, database\n"), "{answer}");
    assert_eq!(statuses(&state(served.address(), "/livez")), [200]);
    health.set("cache", true);
    health.set("database", true);
    assert_eq!(statuses(&state(served.address(), "/readyz")), [200]);
}
