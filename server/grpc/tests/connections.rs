//! What carries calls: where a channel leads, how it is kept, and what becomes of calls when the server is silent.

use std::{
    io::{Read, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use maniple::{
    net::TcpListener,
    sim::{self, Order},
};
use maniple_grpc::{Call, Caller, Channel, Code, Health, Service, Status};
use maniple_server::{
    Server, ServerHandle,
    transport::{Listener, memory},
};

/// Which driver [`run`] has: `epoll`, if it is not set, or `sim`.
const DRIVER: &str = "MANIPLE_DRIVER";

/// Tests that need the real kernel, below why they do.
const NEED_THE_KERNEL: &[(&str, &[&str])] = &[(
    "a socket in a folder of the kernel's",
    &["a_channel_leads_wherever_its_connector_does"],
)];

/// Whether the test that runs here does so in a simulated world.
fn is_simulated() -> bool {
    let driver = std::env::var(DRIVER).unwrap_or_else(|_| "epoll".to_owned());
    let thread = thread::current();
    let test = thread.name().unwrap_or_default();
    let mut kept = NEED_THE_KERNEL.iter().flat_map(|(_, names)| *names);
    match driver.as_str() {
        "epoll" => false,
        "sim" => !kept.any(|name| *name == test),
        other => panic!("{DRIVER} is {other:?}, and must be epoll or sim"),
    }
}

/// Runs a test in a runtime, and fails it if it takes longer than any should; or in a world, which ends what hangs.
fn run(test: impl FnOnce() + Send + 'static) {
    if is_simulated() {
        return sim::run_here(Order::InTurn, 0, test);
    }
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

fn greeter() -> Service {
    Service::new("hello.Greeter").unary("Greet", |_: &mut Call, name: String| {
        if name == "slow" {
            maniple::sleep(Duration::from_millis(700));
        }
        Ok::<_, Status>(format!("hello, {name}"))
    })
}

fn greet(caller: &Caller, name: &str) -> Result<String, Status> {
    let reply = caller.unary::<String, String>("/hello.Greeter/Greet", &name.to_owned());
    reply.map(|reply| reply.into_inner())
}

/// A server within the runtime; drained when dropped.
struct Served(ServerHandle);

impl Served {
    fn start(server: Server) -> Self {
        let handle = server.handle();
        maniple::spawn(move || server.serve());
        Self(handle)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.drain();
    }
}

#[test]
fn a_channel_leads_wherever_its_connector_does() {
    run(|| {
        let (listener, connector) = memory::listener();
        let server = Server::builder(greeter().into_router()).listener(listener);
        let _served = Served::start(server.unwrap());
        let caller = Caller::new(Channel::to("test").connector(connector.try_into().unwrap()));
        assert_eq!(greet(&caller, "memory").unwrap(), "hello, memory");

        let path = std::env::temp_dir().join(format!("maniple-grpc-{}", std::process::id()));
        let listener = maniple::net::UnixListener::bind(&path).unwrap();
        let listener = Listener::try_from(listener).unwrap();
        let server = Server::builder(greeter().into_router()).listener(listener);
        let _served = Served::start(server.unwrap());
        let caller = Caller::new(Channel::to("test").connector(path.as_path().try_into().unwrap()));
        assert_eq!(greet(&caller, "socket").unwrap(), "hello, socket");
        std::fs::remove_file(path).unwrap();
    });
}

/// A server that shakes hands and then says nothing but what `says` makes of what came.
fn silent(says: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    maniple::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    if stream.write_all(&says(&buffer[..count])).is_err() {
                        return;
                    }
                }
            }
        }
    });
    address
}

#[test]
fn a_call_without_a_deadline_ends_when_the_server_answers_no_ping() {
    run(|| {
        let channel = Channel::to(silent(|_| Vec::new()));
        let every = Duration::from_millis(100);
        let caller = Caller::new(channel.keep_alive(every, every));
        let status = greet(&caller, "nobody").unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    });
}

#[test]
fn a_server_that_answers_pings_has_all_the_time_that_it_needs() {
    run(|| {
        let server = Server::builder(greeter().into_router());
        let server = server.bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().to_string();
        let _served = Served::start(server);
        let every = Duration::from_millis(100);
        let channel = Channel::to(address).keep_alive(every, Duration::from_secs(20));
        let caller = Caller::new(channel.keep_alive_when_idle(true));
        assert_eq!(greet(&caller, "slow").unwrap(), "hello, slow");
    });
}

#[test]
fn who_watches_is_told_of_each_change_and_of_the_drain() {
    run(|| {
        let ready = maniple_server::server::Health::new();
        let health = Health::of(&ready);
        let router = health.clone().into_service().into_router();
        let server = Server::builder(router).health(&ready).bind("127.0.0.1:0");
        let server = server.unwrap();
        let caller = Caller::new(Channel::to(server.local_addr().to_string()));
        let served = Served::start(server);
        // Of the same form as the messages of the service, with a name and a number.
        let path = "/grpc.health.v1.Health/Watch";
        let mut watched = caller
            .server_streaming::<String, u32>(path, &"greeter".to_owned())
            .unwrap();
        let mut next = || watched.next().map(Result::unwrap);
        assert_eq!(next(), Some(3));
        health.set("greeter", true);
        assert_eq!(next(), Some(1));
        health.set("greeter", false);
        assert_eq!(next(), Some(2));
        health.set("greeter", true);
        assert_eq!(next(), Some(1));
        ready.set("database", false);
        assert_eq!(next(), Some(2));
        ready.set("database", true);
        assert_eq!(next(), Some(1));
        served.0.drain();
        assert_eq!(next(), Some(2));
        assert_eq!(next(), None);
    });
}

mod secure {
    use maniple_server::tls::{ClientConfig, ServerConfig, self_signed};

    use super::*;

    #[test]
    fn a_call_by_tls_needs_a_server_that_agrees_to_http_2() {
        run(|| {
            let certificate = self_signed(["localhost"]).unwrap();
            for protocols in [&["h2", "http/1.1"][..], &["http/1.1"]] {
                let config = ServerConfig::builder().certificate(certificate.clone());
                let config = config.alpn(protocols.iter().copied()).build().unwrap();
                let server = Server::builder(greeter().into_router());
                let server = server.bind_tls("127.0.0.1:0", config).unwrap();
                let port = server.local_addr().port();
                let _served = Served::start(server);
                let config = ClientConfig::builder()
                    .roots_pem(certificate.chain_pem())
                    .alpn(["h2"]);
                let config = config.build().unwrap();
                let channel = Channel::to(format!("localhost:{port}")).tls(config);
                let answer = greet(&Caller::new(channel), "safe");
                match protocols {
                    ["h2", ..] => assert_eq!(answer.unwrap(), "hello, safe"),
                    _ => assert_eq!(answer.unwrap_err().code(), Code::Unavailable),
                }
            }
        });
    }
}
