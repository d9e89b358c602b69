//! A server behind nginx and HAProxy, with the files of the chapter on deployment. `.ci/run proxies` installs them and runs
//! these.

#![cfg(feature = "websocket")]

mod haproxy;
mod nginx;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use maniple::{
    Runtime,
    cancel::{Cause, cause, shield},
    sync::channel::{Receiver, RecvTimeoutError, Sender, unbounded},
};
use maniple_server::{
    HeaderMap, Request, Router, Server, ServerHandle, StatusCode, Version, server::Builder, sse,
    transport::Peer, websocket,
};

/// Longer than any of these tests may take: only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

/// What stands behind the proxy.
struct Service {
    handle: ServerHandle,
    /// Has `/events` send one.
    events: Sender<String>,
    /// A handler of `/wait` has begun; why its wait has ended.
    begun: Receiver<()>,
    ended: Receiver<Option<Cause>>,
    _never_sent: Sender<()>,
    /// From where requests came that are no checks.
    peers: Arc<Mutex<BTreeSet<SocketAddr>>>,
    _runtime: Runtime,
}

impl Service {
    fn start(settings: impl FnOnce(Builder) -> Builder) -> Self {
        let (events, to_send) = unbounded::<String>();
        let (begin, begun) = unbounded();
        let (end, ended) = unbounded();
        let (never_sent, never) = unbounded::<()>();
        let peers = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = peers.clone();
        let router = Router::new()
            .get("/", move |request: &mut Request| {
                match (request.peer(), request.version()) {
                    // A check of HAProxy's.
                    (_, Version::HTTP_10) => {}
                    (Peer::Tcp(address), _) => _ = seen.lock().unwrap().insert(*address),
                    (peer, _) => panic!("{peer}"),
                }
                "hello\n"
            })
            .get("/hinted", |request: &mut Request| {
                let mut hints = HeaderMap::new();
                hints.insert("link", "</style.css>; rel=preload".parse().unwrap());
                let sent = request.inform(StatusCode::EARLY_HINTS, &hints);
                format!("told before: {}\n", sent.unwrap())
            })
            .get("/wait", move |_: &mut Request| {
                begin.send(()).unwrap();
                let waited = never.recv();
                assert!(waited.is_err());
                let why = cause();
                let _ = shield(|| end.send(why));
            })
            .get("/events", move |request: &mut Request| {
                let to_send = to_send.clone();
                sse::stream(request, move |events| {
                    events.forward(|within| match to_send.recv_timeout(within) {
                        Ok(text) => sse::Next::Event(sse::Event::data(text)),
                        Err(RecvTimeoutError::Timeout) => sse::Next::Nothing,
                        Err(_) => sse::Next::End,
                    })
                })
            })
            .get("/socket", |request: &mut Request| {
                websocket::Settings::new()
                    .any_origin()
                    .upgrade(request, |socket| {
                        while let Some(message) = socket.receive()? {
                            socket.send(message)?;
                        }
                        Ok(())
                    })
            });
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let server = settings(Server::builder(router).drain_grace(LONG));
        let server = runtime.run(|| server.bind("127.0.0.1:0")).unwrap();
        let handle = server.handle();
        drop(runtime.spawn(move || server.serve()));
        Self {
            handle,
            events,
            begun,
            ended,
            _never_sent: never_sent,
            peers,
            _runtime: runtime,
        }
    }

    fn address(&self) -> SocketAddr {
        self.handle.local_addr()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

/// A proxy that runs, in a folder of its own.
struct Front {
    process: Child,
    folder: PathBuf,
    address: SocketAddr,
    /// So that nobody else had its address before it did.
    _reserved: OwnedFd,
}

impl Front {
    /// Writes the settings, starts the program with them, and waits until it answers.
    fn start(program: &str, settings: impl FnOnce(&Path, SocketAddr) -> String) -> Self {
        let (reserved, address) = reserved();
        let name = format!(
            "maniple-{program}-{}-{}",
            std::process::id(),
            address.port()
        );
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("settings");
        fs::write(&file, settings(&folder, address)).unwrap();
        let arguments: &[&str] = match program {
            "haproxy" => &["-db", "-f"],
            _ => &["-c"],
        };
        // Debian has them there, which is not on everybody's path.
        let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut command = Command::new("env");
        command.arg(format!("PATH={path}")).arg(program);
        let process = command
            .args(arguments)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut front = Self {
            process,
            folder,
            address,
            _reserved: reserved,
        };
        let until = Instant::now() + LONG;
        while !front.serves() {
            let log = || fs::read_to_string(front.folder.join("log"));
            assert!(front.process.try_wait().unwrap().is_none(), "{:?}", log());
            assert!(Instant::now() < until, "{program} does not serve");
            maniple::sleep(Duration::from_millis(20));
        }
        front
    }

    fn serves(&self) -> bool {
        TcpStream::connect(self.address).is_ok() && self.get("/").starts_with("HTTP/1.1 200 ")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn ask(&self, path: &str) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// So many requests, one after the other, on one connection.
    fn ask_again_and_again(&self, count: usize) {
        let mut stream = BufReader::new(self.connect());
        for _ in 0..count {
            let request = b"GET / HTTP/1.1\r\nHost: front\r\n\r\n";
            stream.get_mut().write_all(request).unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert!(line.starts_with("HTTP/1.1 200 "), "{line:?}");
            while line != "hello\n" {
                line.clear();
                assert!(stream.read_line(&mut line).unwrap() > 0, "the end");
            }
        }
    }

    /// The whole answer.
    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        self.ask(path).read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends so many events, each once the one before has come; how long that took.
    fn events(&self, service: &Service, count: usize) -> Duration {
        let mut answer = self.ask("/events");
        let began = Instant::now();
        for number in 0..count {
            let event = format!("number {number}.");
            service.events.send(event.clone()).unwrap();
            let mut line = String::new();
            while !line.contains(&event) {
                line.clear();
                assert!(answer.read_line(&mut line).unwrap() > 0, "the end");
            }
        }
        began.elapsed()
    }

    /// Messages of several sizes there and back, and a Close that the server ends first.
    fn echoes_by_websocket(&self) {
        let url = format!("ws://{}/socket", self.address);
        maniple::run(|| {
            let settings = websocket::Settings::new().max_message(1 << 20);
            let mut socket = settings.connect(&url).unwrap();
            for size in [0, 1, 125, 126, 70_000, 1_000_000] {
                let message = "w".repeat(size);
                socket.send(message.as_str()).unwrap();
                let echoed = socket.receive().unwrap().unwrap();
                assert!(echoed.as_text() == Some(&message), "{size}");
            }
            socket.close(1000, "enough").unwrap();
            assert_eq!(socket.closed().map(|reason| reason.code), Some(1000));
        });
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn reserved() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, sockopt};
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let bound = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    // Others that are bound so may listen while this one does not.
    sockopt::set_socket_reuseaddr(&bound, true).unwrap();
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&bound).unwrap().try_into().unwrap();
    (bound, address)
}

/// A file of the example.
fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/deploy");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// A text with something else at each of its places, which there must be.
fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "no {old:?} in {text}");
    text.replace(old, new)
}
