//! The same conversations over every transport: what goes over the wire does not depend on the wire.

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, linux::net::SocketAddrExt, unix::net::SocketAddr as UnixAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use maniple::{JoinHandle, inspect, net::Shutdown, net::TcpStream, net::UnixStream, sync::channel};
use maniple_server::{
    Body, Client, ClientError, DrainReport, Request, Response, Router, Server, ServerHandle,
    StatusCode,
    client::{self, Phase},
    server::Builder,
    tls::{self, ClientConfig, ServerConfig, self_signed},
    transport::{Address, Listener, Peer, memory},
};

use super::{routes, statuses};
use crate::driven::{self, Runtime};

const LONG: Duration = Duration::from_secs(60);

/// How to connect.
enum Way {
    Tcp,
    Unix(UnixAddr),
    Memory(memory::Connector),
    /// Over TCP.
    Tls(ClientConfig),
    TlsInMemory(memory::Connector, ClientConfig),
}

pub(super) struct Served {
    pub(super) handle: ServerHandle,
    way: Way,
    serving: Option<JoinHandle<io::Result<DrainReport>>>,
    _runtime: Runtime,
}

/// A client's end.
pub(super) trait Stream: Read + Write + Send {
    fn end_writing(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for memory::Stream {
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<T: tls::Transport> Stream for tls::Stream<T> {
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// What a client in a process of its own would go over.
struct InMemory(memory::Stream);

impl tls::Transport for InMemory {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&mut &self.0).read(buffer)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &self.0).write(bytes)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn wait_readable(&self, until: Option<Instant>) -> io::Result<()> {
        self.0
            .wait_readable_until(until.unwrap_or_else(|| maniple::time::now() + 10 * LONG))
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }
}

pub(super) fn tls_configs() -> (ServerConfig, ClientConfig) {
    let certificate = self_signed(["localhost"]).unwrap();
    let client = ClientConfig::builder().roots_pem(certificate.chain_pem());
    let server = ServerConfig::builder().certificate(certificate);
    (server.build().unwrap(), client.build().unwrap())
}

fn unix_address() -> UnixAddr {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!(
        "maniple {} {}",
        std::process::id(),
        COUNT.fetch_add(1, Relaxed)
    );
    UnixAddr::from_abstract_name(name).unwrap()
}

impl Served {
    /// The same server five times over.
    pub(super) fn each(make: impl Fn() -> Builder) -> [Self; 5] {
        let [tcp, unix, memory] = Self::each_without_tls(&make);
        let (config, client) = tls_configs();
        let secure = make().bind_tls("127.0.0.1:0", config.clone()).unwrap();
        let (below, connects) = memory::listener();
        let below = Listener::try_from(below).unwrap().tls(config);
        let secure_memory = make().listener(below).unwrap();
        [
            tcp,
            unix,
            memory,
            Self::start(secure, Way::Tls(client.clone())),
            Self::start(secure_memory, Way::TlsInMemory(connects, client)),
        ]
    }

    /// Those that our client can connect to, and whose clients end without a byte.
    pub(super) fn each_without_tls(make: impl Fn() -> Builder) -> [Self; 3] {
        let tcp = maniple::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = unix_address();
        let unix = maniple::net::UnixListener::bind_addr(&address).unwrap();
        let (listener, connector) = memory::listener();
        [
            Self::start(make().listener(tcp).unwrap(), Way::Tcp),
            Self::start(make().listener(unix).unwrap(), Way::Unix(address)),
            Self::start(make().listener(listener).unwrap(), Way::Memory(connector)),
        ]
    }

    fn start(server: Server, way: Way) -> Self {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let handle = server.handle();
        let serving = Some(runtime.spawn(move || server.serve()));
        Self {
            handle,
            way,
            serving,
            _runtime: runtime,
        }
    }

    pub(super) fn connect(&self) -> Box<dyn Stream> {
        match &self.way {
            Way::Tcp => {
                let stream = TcpStream::connect(self.handle.local_addr()).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Way::Unix(address) => {
                let stream = UnixStream::connect_addr(address).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                Box::new(stream)
            }
            Way::Memory(connector) => {
                let stream = connector.connect().unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                Box::new(stream)
            }
            Way::Tls(config) => {
                let stream = maniple::net::TcpStream::connect(self.handle.local_addr()).unwrap();
                let stream = config.stream(stream, "localhost").unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                Box::new(stream)
            }
            Way::TlsInMemory(connector, config) => {
                let stream = InMemory(connector.connect().unwrap());
                let stream = config.stream(stream, "localhost").unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                Box::new(stream)
            }
        }
    }

    /// Sends bytes, ends the sending side, and returns all that comes back, without dates.
    pub(super) fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        self.say_in(std::iter::once(bytes.as_ref()))
    }

    /// The same with bytes that are sent piece by piece.
    pub(super) fn say_in<'b>(&self, pieces: impl Iterator<Item = &'b [u8]>) -> String {
        let mut stream = self.connect();
        let mut asked = Vec::new();
        for piece in pieces {
            asked.extend_from_slice(piece);
            // It may have answered, and ended, before it has read everything.
            let _ = stream.write_all(piece);
        }
        let _ = stream.end_writing();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = driven::without_questions(&asked, String::from_utf8(answer).unwrap());
        let lines = answer.split_inclusive("\r\n");
        lines.filter(|line| !line.starts_with("date: ")).collect()
    }

    fn client(&self, builder: client::Builder) -> Client {
        let builder = match &self.way {
            Way::Tcp => Ok(builder),
            Way::Unix(address) => builder.connector(address.clone()),
            Way::Memory(connector) => builder.connector(connector.clone()),
            Way::Tls(_) | Way::TlsInMemory(..) => panic!("the client speaks no TLS"),
        };
        builder.unwrap().build()
    }

    /// Only TCP finds the server by it.
    fn url(&self, path: &str) -> String {
        match &self.way {
            Way::Tcp => format!("http://{}{path}", self.handle.local_addr()),
            Way::Unix(_) | Way::Memory(_) => format!("http://anybody{path}"),
            Way::Tls(_) | Way::TlsInMemory(..) => panic!("the client speaks no TLS"),
        }
    }

    pub(super) fn drain(mut self) -> DrainReport {
        self.handle.drain();
        self.serving.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

#[test]
fn each_transport_gives_the_same_bytes() {
    let served = Served::each(|| Server::builder(routes()));
    let post = |headers: &str, body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n{body}")
    };
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let pipelined: String = (0..100).map(|n| get(&format!("/user/{n}"))).collect();
    for (request, first, count) in [
        (get("/"), 200, 1),
        (get("/none"), 404, 1),
        (pipelined, 200, 100),
        ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 200, 1),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 200, 1),
        ("GET /stream HTTP/1.0\r\n\r\n".to_owned(), 200, 1),
        (get("/stream") + &get("/"), 200, 2),
        ("garbage\r\n\r\n".to_owned(), 400, 1),
        ("GET / HT".to_owned(), 400, 1),
        (String::new(), 0, 0),
        (get(&format!("/{}", "a".repeat(9_000))), 414, 1),
        (get("/panic") + &get("/"), 500, 1),
        (post("Content-Length: 5", "hello") + &get("/"), 200, 2),
        (post("Content-Length: 5", "hel"), 400, 1),
        (
            post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
            200,
            1,
        ),
        (
            post("Transfer-Encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n"),
            400,
            1,
        ),
        (post("Content-Length: 99999999", ""), 413, 1),
        (
            post("Expect: 100-continue\r\nContent-Length: 5", "hello"),
            100,
            2,
        ),
        (
            post("Content-Length: 100000", &"x".repeat(100_000)) + &get("/"),
            200,
            2,
        ),
    ] {
        let [tcp, others @ ..] = served.each_ref().map(|served| served.say(&request));
        let shown: String = request.chars().take(90).collect();
        assert_eq!(
            statuses(&tcp).first().copied().unwrap_or(0),
            first,
            "{shown:?} {tcp:?}"
        );
        assert_eq!(statuses(&tcp).len(), count, "{shown:?} {tcp:?}");
        for (way, other) in ["unix", "memory", "tls", "tls in memory"]
            .iter()
            .zip(others)
        {
            assert!(other == tcp, "{way}: {shown:?}: {other:?}");
        }
    }
}

#[test]
fn each_transport_drains_its_idle_connections() {
    for served in Served::each(|| Server::builder(routes())) {
        let mut idle = served.connect();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"hello") {
            idle.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let address = served.handle.address().to_string();
        let report = served.drain();
        assert_eq!((report.idle, report.cancelled), (1, 0), "{address}");
        assert_eq!(idle.read(&mut byte).unwrap(), 0, "{address}");
    }
}

#[test]
fn each_transport_keeps_to_the_timeouts() {
    let second = Duration::from_secs(1);
    let make = || {
        let builder = Server::builder(routes()).header_timeout(second);
        builder.body_timeout(second).idle_timeout(second)
    };
    for served in Served::each(make) {
        let address = served.handle.address().to_string();
        for (begun, statuses_then) in [
            ("GET / HTTP/1.1\r\nHo", &[408][..]),
            (
                "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
                &[408],
            ),
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", &[200]),
            ("", &[]),
        ] {
            let mut stream = served.connect();
            // In pieces, so that there are reads that find less than they have room for; what is to be in time at once.
            let size = if statuses_then == [408] { 16 } else { 1024 };
            for piece in begun.as_bytes().chunks(size) {
                // On a busy machine the answer is there before.
                let _ = stream.write_all(piece);
                maniple::sleep(Duration::from_millis(10));
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(statuses(&answer), statuses_then, "{address} {begun:?}");
        }
    }
}

#[test]
fn a_client_that_reads_nothing_is_given_up_on_each_transport() {
    let routes = || {
        Router::new().get("/endless", |_: &mut Request| {
            Response::text(Body::from_reader(io::repeat(b'x')))
        })
    };
    let make = || Server::builder(routes()).body_timeout(Duration::from_millis(200));
    for served in Served::each(make) {
        let mut stream = served.connect();
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        let patience = maniple::time::now() + LONG;
        while served.handle.connections() > 0 {
            assert!(
                maniple::time::now() < patience,
                "{}",
                served.handle.address()
            );
            maniple::sleep(Duration::from_millis(5));
        }
        drop(stream);
    }
}

#[test]
fn handlers_learn_over_what_a_request_came() {
    let routes = || {
        Router::new().get("/", |request: &mut Request| {
            let kind = match request.peer() {
                Peer::Tcp(address) => {
                    assert_eq!(request.peer_addr(), Some(*address));
                    return "tcp";
                }
                Peer::Unix => "unix",
                Peer::Memory => "memory",
                _ => "?",
            };
            assert_eq!(request.peer_addr(), None);
            kind
        })
    };
    let served = Served::each(|| Server::builder(routes()));
    let kinds = served.each_ref().map(|served| {
        let answer = served.say("GET / HTTP/1.0\r\n\r\n");
        answer.rsplit("\r\n").next().unwrap().to_owned()
    });
    assert_eq!(kinds, ["tcp", "unix", "memory", "tcp", "memory"]);
    let [tcp, unix, memory, ..] = served
        .each_ref()
        .map(|served| served.handle.address().to_string());
    assert!(tcp.starts_with("127.0.0.1:"), "{tcp}");
    assert!(unix.starts_with("unix:@maniple"), "{unix}");
    assert_eq!(memory, "memory");
}

#[test]
fn a_server_takes_a_descriptor_that_it_inherited() {
    let tcp = maniple::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let path = std::env::temp_dir().join(format!("maniple-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for descriptor in [OwnedFd::from(tcp), OwnedFd::from(unix)] {
        let server = Server::builder(routes()).listener(descriptor).unwrap();
        let way = match server.address() {
            Address::Tcp(_) => Way::Tcp,
            Address::Unix(address) => Way::Unix(address.clone()),
            other => panic!("{other}"),
        };
        let served = Served::start(server, way);
        assert_eq!(statuses(&served.say("GET / HTTP/1.0\r\n\r\n")), [200]);
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn what_is_no_listener_is_an_error() {
    let (pipe, _) = io::pipe().unwrap();
    let error = Server::builder(routes())
        .listener(OwnedFd::from(pipe))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    // That it does not listen is seen at the first accept.
    let (one, _other) = UnixStream::pair().unwrap();
    let server = Server::builder(routes())
        .listener(OwnedFd::from(one))
        .unwrap();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    assert!(runtime.run(|| server.serve()).is_err());
}

#[test]
fn a_drain_refuses_who_connects_in_memory_and_serves_who_has() {
    let (listener, connector) = memory::listener();
    let server = Server::builder(routes()).listener(listener).unwrap();
    // Before it serves.
    let mut early = connector.connect().unwrap();
    early.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    server.handle().drain();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let report = runtime.run(|| server.serve()).unwrap();
    assert_eq!(report.finished, 1);
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    let refused = connector.connect().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_handler_is_cancelled_in_memory_when_the_drain_takes_too_long() {
    let entered = Arc::new(maniple::sync::Barrier::new(2));
    let enters = entered.clone();
    let routes = Router::new().get("/", move |_: &mut Request| {
        enters.wait();
        maniple::sleep(10 * LONG);
        StatusCode::OK
    });
    let (listener, connector) = memory::listener();
    let builder = Server::builder(routes).drain_grace(Duration::from_millis(50));
    let served = Served::start(builder.listener(listener).unwrap(), Way::Memory(connector));
    let mut stream = served.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    entered.wait();
    assert_eq!(served.drain().cancelled, 1);
}

#[test]
fn a_dump_names_what_accepts_and_whose_connections_are_served() {
    let (arrives, arrived) = channel::unbounded();
    let (release, released) = channel::unbounded::<()>();
    let routes = || {
        let (arrives, released) = (arrives.clone(), released.clone());
        Router::new().get("/named", move |request: &mut Request| {
            let own = maniple::current().unwrap().name().map(String::from);
            arrives.send((own, *request.peer())).unwrap();
            let _ = released.recv();
            "seen"
        })
    };
    for served in Served::each(|| Server::builder(routes())) {
        let mut client = served.connect();
        let request = b"GET /named HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        let (own, peer) = arrived.recv().unwrap();
        let connection = format!("connection from {peer}");
        assert_eq!(own.as_deref(), Some(connection.as_str()));
        let dump = inspect::dump();
        let acceptor = format!("acceptor {}", served.handle.address());
        let workers = if driven::is_simulated() { 1 } else { 2 };
        for (name, count) in [(acceptor, workers), (connection, 1)] {
            let shown = format!(" {name:?}, ");
            assert!(dump.matches(&shown).count() >= count, "{shown} in {dump}");
        }
        release.send(()).unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
        served.drain();
    }
}

#[test]
fn a_client_calls_over_each_transport_and_keeps_its_connection() {
    for served in Served::each_without_tls(|| Server::builder(routes())) {
        let client = served.client(Client::builder());
        for size in [0, 10, 300_000] {
            let sent = vec![b'x'; size];
            let answer = client.post(&served.url("/echo")).body(sent.clone()).send();
            assert_eq!(answer.unwrap().bytes().unwrap(), sent);
        }
        let streamed = client.get(&served.url("/stream")).unwrap();
        assert_eq!(streamed.text().unwrap().len(), 100_000);
        let lost = client.get(&served.url("/nowhere")).unwrap();
        assert_eq!(lost.status(), StatusCode::NOT_FOUND);
        lost.bytes().unwrap();
        assert_eq!(served.handle.connections(), 1);
        drop(client);
        served.drain();
    }
}

#[test]
fn a_url_names_the_host_and_a_connector_where_it_is() {
    let named = || {
        let host = |request: &mut Request| request.header_str("host").unwrap().to_owned();
        Server::builder(Router::new().get("/", host))
    };
    let [_, unix, memory] = Served::each_without_tls(named);
    for served in [unix, memory] {
        let client = served.client(Client::builder());
        for host in ["anybody", "no.such.name.invalid:81"] {
            let answer = client.get(&format!("http://{host}/")).unwrap();
            assert_eq!(answer.text().unwrap(), host);
        }
        served.drain();
    }
}

#[test]
fn a_client_replaces_a_connection_that_the_server_has_closed() {
    let impatient = || Server::builder(routes()).idle_timeout(Duration::from_millis(20));
    for served in Served::each_without_tls(impatient) {
        let client = served.client(Client::builder());
        for _ in 0..2 {
            let answer = client.get(&served.url("/")).unwrap();
            assert_eq!(answer.text().unwrap(), "hello");
            while served.handle.connections() > 0 {
                crate::driven::thread::yield_now();
            }
        }
        served.drain();
    }
}

#[test]
fn a_client_says_where_nobody_answers() {
    for served in Served::each_without_tls(|| Server::builder(routes())) {
        let client = served.client(Client::builder());
        let (url, address) = (served.url("/"), served.handle.address().to_string());
        served.drain();
        let error = client.get(&url).unwrap_err();
        assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
        assert!(!error.is_timeout());
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("connect to {address}: ")),
            "{text}"
        );
    }
}

#[test]
fn a_client_keeps_to_its_timeouts_and_deadlines_on_each_transport() {
    const SOON: Duration = Duration::from_millis(20);
    for served in Served::each_without_tls(|| Server::builder(routes()).drain_grace(Duration::ZERO))
    {
        let url = served.url("/stuck");
        let impatient = served.client(Client::builder().timeout(SOON));
        assert!(impatient.get(&url).unwrap_err().is_timeout());
        let client = served.client(Client::builder());
        let in_time = Runtime::builder().workers(1).build().unwrap().run(|| {
            // The call returns its error, or is cut with the scope.
            let called = maniple::timeout(SOON, || client.get(&url).map(drop));
            called.unwrap_or(Err(ClientError::Timeout {
                host: url.clone(),
                phase: Phase::Answer,
            }))
        });
        assert!(in_time.unwrap_err().is_timeout());
        served.drain();
    }
}

#[test]
fn connecting_in_memory_ends_at_the_timeout_while_nobody_accepts() {
    let (listener, connector) = memory::listener();
    let waiting: Vec<_> = (0..128).map(|_| connector.connect().unwrap()).collect();
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let builder = Client::builder().connect_timeout(timeout);
        let client = builder.connector(connector.clone()).unwrap().build();
        let error = client.get("http://test/").unwrap_err();
        assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
        assert!(error.is_timeout());
    }
    drop((listener, waiting));
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_no_connector() {
    let long = std::path::PathBuf::from("/".repeat(200));
    let error = Client::builder().connector(long).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
