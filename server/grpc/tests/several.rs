//! Calls over a channel to several servers: balanced, made again where that is safe, and led past what has gone.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use maniple::{
    JoinHandle,
    net::{TcpListener, TcpStream},
};
use maniple_grpc::{Call, Caller, Channel, Code, Service, Status, channel::Servers};
use maniple_parts::{endpoints::Endpoints, resilience::Retry};
use maniple_server::{
    Server, ServerHandle,
    server::Http2,
    tls::{ClientConfig, ServerConfig, self_signed},
    transport::Listener,
};

/// Runs a test in a runtime, and fails it if it takes longer than any should.
fn run(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(test);
        _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

/// A server within the runtime that counts its calls; drained when dropped.
struct Served {
    handle: ServerHandle,
    calls: Arc<AtomicUsize>,
}

impl Served {
    fn start(
        number: usize,
        settings: impl FnOnce(maniple_server::server::Builder) -> maniple_server::server::Builder,
    ) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let service =
            Service::new("test.Numbers").unary("Number", move |_: &mut Call, asked: String| {
                counted.fetch_add(1, Ordering::SeqCst);
                match asked.as_str() {
                    "fail" => return Err(Status::new(Code::Unavailable, "not now")),
                    "short" => maniple::sleep(Duration::from_millis(20)),
                    "slow" => maniple::sleep(Duration::from_secs(3600)),
                    _ => {}
                }
                Ok::<_, Status>(number.to_string())
            });
        let builder = settings(Server::builder(service.into_router()));
        let server = builder.bind("127.0.0.1:0").unwrap();
        let handle = server.handle();
        maniple::spawn(move || server.serve());
        Self { handle, calls }
    }

    fn address(&self) -> String {
        self.handle.local_addr().to_string()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

/// Leads to a server until it is cancelled; then all its connections break, and nobody listens there.
fn lead_to(server: &Served) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, server) = (listener.local_addr().unwrap(), server.address());
    let leading = maniple::spawn(move || {
        let ended = maniple::group(|g| -> std::io::Result<()> {
            loop {
                let (near, _) = listener.accept()?;
                let server = server.clone();
                g.spawn(move || {
                    let far = TcpStream::connect(server)?;
                    maniple::io::copy_bidirectional(&near, &far)
                });
            }
        });
        drop(ended);
    });
    (address.to_string(), leading)
}

fn set(servers: &[&Served]) -> Endpoints {
    let addresses: Vec<_> = servers.iter().map(|served| served.address()).collect();
    Endpoints::builder("numbers").build(addresses).unwrap()
}

fn number(caller: &Caller, asked: &str) -> Result<String, Status> {
    let reply = caller.unary::<String, String>("/test.Numbers/Number", &asked.to_owned());
    reply.map(|reply| reply.into_inner())
}

fn as_is(builder: maniple_server::server::Builder) -> maniple_server::server::Builder {
    builder
}

#[test]
fn calls_are_shared_out_over_one_connection_to_each_server() {
    run(|| {
        let served = [0, 1, 2].map(|number| Served::start(number, as_is));
        let set = set(&served.each_ref());
        let caller = Caller::new(Channel::over("numbers", Servers::new(set)));
        maniple::group::map(20, 0..300, |_| number(&caller, "").unwrap());
        for one in &served {
            assert!(one.calls() > 30, "{} of 300", one.calls());
            assert_eq!(one.handle.connections(), 1);
        }
    });
}

#[test]
fn a_server_that_is_killed_fails_no_call_that_may_be_made_again() {
    run(|| {
        let served = [0, 1, 2].map(|number| Served::start(number, as_is));
        let (first, leading) = lead_to(&served[0]);
        let addresses = [first, served[1].address(), served[2].address()];
        let set = Endpoints::builder("numbers").build(addresses).unwrap();
        let servers = Servers::new(set.clone()).retry(Retry::new().attempts(5));
        let caller = Caller::new(Channel::over("numbers", servers)).with_repeats(true);
        let answered = AtomicUsize::new(0);
        maniple::group(|g| {
            for _ in 0..10 {
                g.spawn(|| {
                    for _ in 0..30 {
                        number(&caller, "short").unwrap();
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while answered.load(Ordering::SeqCst) < 100 || set.stats()[0].in_flight == 0 {
                maniple::yield_now();
            }
            leading.cancel();
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(answered.load(Ordering::SeqCst), 300);
    });
}

#[test]
fn what_may_have_been_carried_out_is_made_again_only_where_that_is_allowed() {
    run(|| {
        let served = [0, 1].map(|number| Served::start(number, as_is));
        let retry = || Retry::new().attempts(2);
        let servers = Servers::new(set(&served.each_ref())).retry(retry());
        let caller = Caller::new(Channel::over("numbers", servers));
        let calls = || served[0].calls() + served[1].calls();
        let error = number(&caller, "fail").unwrap_err();
        assert_eq!((error.code(), calls()), (Code::Unavailable, 1));
        let error = number(&caller.with_repeats(true), "fail").unwrap_err();
        assert_eq!((error.code(), calls()), (Code::Unavailable, 3));
        assert!(served.iter().all(|one| one.calls() > 0), "each was asked");
    });
}

#[test]
fn a_server_that_is_not_there_is_passed_over_by_any_call() {
    run(|| {
        let served = Served::start(1, as_is);
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap().to_string();
        drop(nobody);
        let set = Endpoints::builder("numbers").build([address, served.address()]);
        let caller = Caller::new(Channel::over("numbers", Servers::new(set.unwrap())));
        for _ in 0..20 {
            assert_eq!(number(&caller, "").unwrap(), "1");
        }
    });
}

#[test]
fn connections_that_end_lose_no_call_and_speak_against_nobody() {
    run(|| {
        let few = |builder: maniple_server::server::Builder| {
            builder
                .max_requests_per_connection(5)
                .http2(Http2::new().max_streams(4))
        };
        let served = [0, 1].map(|number| Served::start(number, few));
        let set = set(&served.each_ref());
        let servers = Servers::new(set.clone()).retry(Retry::new().attempts(10));
        let caller = Caller::new(Channel::over("numbers", servers));
        maniple::group::map(8, 0..200, |_| number(&caller, "").unwrap());
        assert_eq!(
            served[0].calls() + served[1].calls(),
            200,
            "none is done twice"
        );
        assert!(
            set.stats().iter().all(|one| one.failed == 0),
            "{:?}",
            set.stats()
        );
    });
}

#[test]
fn the_connection_to_a_server_that_leaves_ends_with_its_last_call() {
    run(|| {
        let served = [0, 1].map(|number| Served::start(number, as_is));
        let set = set(&served.each_ref());
        let caller = Caller::new(Channel::over("numbers", Servers::new(set.clone())));
        while served.iter().any(|one| one.handle.connections() == 0) {
            number(&caller, "").unwrap();
        }
        set.set([served[1].address()]).unwrap();
        while served[0].handle.connections() > 0 {
            maniple::sleep(Duration::from_millis(1));
        }
        assert_eq!(number(&caller, "").unwrap(), "1");
    });
}

#[test]
fn without_a_server_a_call_is_unavailable_and_a_deadline_is_kept() {
    run(|| {
        let none = Endpoints::builder("none")
            .build(Vec::<String>::new())
            .unwrap();
        let caller = Caller::new(Channel::over("none", Servers::new(none)));
        assert_eq!(number(&caller, "").unwrap_err().code(), Code::Unavailable);

        let served = Served::start(0, as_is);
        let servers = Servers::new(set(&[&served]));
        let caller = Caller::new(Channel::over("numbers", servers)).with_repeats(true);
        let late = maniple::timeout(Duration::from_millis(50), || number(&caller, "slow"));
        let late = late.unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "")));
        assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(served.calls(), 1);
    });
}

/// A server that takes connections and refuses each call.
fn refusing() -> (String, Arc<AtomicUsize>) {
    const HEADERS: u8 = 1;
    const REFUSED: [u8; 4] = 7_u32.to_be_bytes();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = refused.clone();
    maniple::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        stream.write_all(&settings).unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).unwrap();
            if head[3] == HEADERS {
                counted.fetch_add(1, Ordering::SeqCst);
                let reset = [&[0, 0, 4, 3, 0], &head[5..], &REFUSED].concat();
                stream.write_all(&reset).unwrap();
            }
        }
    });
    (address, refused)
}

#[test]
fn what_a_server_refuses_another_is_asked() {
    run(|| {
        let served = Served::start(1, as_is);
        let (address, refused) = refusing();
        let set = Endpoints::builder("numbers").build([address, served.address()]);
        let set = set.unwrap();
        let caller = Caller::new(Channel::over("numbers", Servers::new(set.clone())));
        while refused.load(Ordering::SeqCst) == 0 {
            assert_eq!(number(&caller, "").unwrap(), "1");
        }
        let failed: Vec<_> = set.stats().iter().map(|one| one.failed > 0).collect();
        assert_eq!(failed, [true, false]);
    });
}

#[test]
fn each_server_is_to_have_a_certificate_for_the_name() {
    run(|| {
        let certificate = self_signed(["prices.internal"]).unwrap();
        let believed = certificate.chain_pem();
        let config = ServerConfig::builder().certificate(certificate);
        let config = config.alpn(["h2"]).build().unwrap();
        let served = [0, 1].map(|number| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let listener = Listener::try_from(listener).unwrap().tls(config.clone());
            let service = Service::new("test.Numbers")
                .unary("Number", move |_: &mut Call, _: String| {
                    Ok::<_, Status>(number.to_string())
                });
            let server = Server::builder(service.into_router()).listener(listener);
            let server = server.unwrap();
            let handle = server.handle();
            maniple::spawn(move || server.serve());
            (address, handle)
        });
        let set = || Endpoints::builder("prices").build(served.each_ref().map(|one| one.0.clone()));
        let asks = |name: &str| {
            let config = ClientConfig::builder().roots_pem(believed.clone());
            let config = config.alpn(["h2"]).build().unwrap();
            let channel = Channel::over(name, Servers::new(set().unwrap())).tls(config);
            Caller::new(channel)
        };
        let caller = asks("prices.internal");
        let answers: std::collections::BTreeSet<_> =
            (0..50).map(|_| number(&caller, "").unwrap()).collect();
        assert_eq!(answers.len(), 2);
        let error = number(&asks("other.internal"), "").unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        for (_, handle) in &served {
            handle.drain();
        }
    });
}
