//! Calls survive what backends do: each fault, with each kind of call, over each kind of connection.
//!
//! The backend is a process of its own, so that it can be killed and stopped. Faults of the network are made by a wire in between,
//! that passes bytes on until it is told to do something else. Whatever happens, a call ends by its deadline; an answer is that
//! of its own call; a request that may be done once is not done twice; and no connection is left.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use maniple::Runtime;
use maniple_server::{
    Body, BodyError, Client, ClientError, Method, Request, Response, Router, Server, StatusCode,
    tls::{Certificate, ClientConfig, ServerConfig},
};
use rustix::{
    net::{self, AddressFamily, SocketType},
    process::{Pid, Signal, kill_process},
};

/// Of calls that nothing will answer. Where one ends before it has come to what it is to meet, it is made again with twice
/// the time.
const BRIEF: Duration = Duration::from_millis(750);
/// Of calls that end for another reason than this.
const LONG: Duration = Duration::from_secs(60);
/// By when anything has ended, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process is killed while it has the request.
    Kill,
    /// It is stopped, and later goes on.
    Stop,
    /// It is killed, and another has its port.
    Restart,
    /// The connection is reset.
    Reset,
    /// Nothing comes through any more, and nobody says so.
    BlackHole,
    /// A little comes through now and then.
    Slow,
    /// The backend's side has ended its sending.
    HalfOpen,
    /// Bytes that mean nothing come back.
    Garbage,
    /// The answer comes before the request has been read.
    Early,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Get,
    Post,
    StreamedUp,
    StreamedDown,
}

#[derive(Clone, Copy, Debug)]
struct Over {
    tls: bool,
    pooled: bool,
}

const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Restart,
    Fault::Reset,
    Fault::BlackHole,
    Fault::Slow,
    Fault::HalfOpen,
    Fault::Garbage,
    Fault::Early,
];

const CALLS: [Call; 4] = [Call::Get, Call::Post, Call::StreamedUp, Call::StreamedDown];

#[test]
fn calls_over_pooled_connections_survive_each_fault() {
    each_cell(Over {
        tls: false,
        pooled: true,
    });
}

#[test]
fn calls_over_fresh_connections_survive_each_fault() {
    each_cell(Over {
        tls: false,
        pooled: false,
    });
}

#[test]
fn calls_over_pooled_tls_survive_each_fault() {
    each_cell(Over {
        tls: true,
        pooled: true,
    });
}

#[test]
fn calls_over_fresh_tls_survive_each_fault() {
    each_cell(Over {
        tls: true,
        pooled: false,
    });
}

fn each_cell(over: Over) {
    let identity = Identity::new();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    for fault in FAULTS {
        let mut backend = Backend::start(over.tls.then_some(&identity));
        for call in CALLS {
            let wire = Wire::to(backend.address);
            let address = match fault {
                Fault::Kill | Fault::Stop | Fault::Restart => backend.address,
                _ => wire.address,
            };
            let cell = Cell {
                fault,
                call,
                over,
                client: identity.client(over.tls),
                address,
            };
            let hangs = matches!(fault, Fault::Stop | Fault::BlackHole | Fault::Slow);
            let mut deadline = if hangs { BRIEF } else { LONG };
            while !runtime.run(|| cell.play(&mut backend, &wire, &identity, deadline)) {
                deadline *= 2;
                assert!(deadline < PATIENCE, "{fault:?} {call:?}: it is never met");
            }
            drop(cell.client);
            let over = Instant::now() + PATIENCE;
            while client_ends(address) > 0 {
                assert!(
                    Instant::now() < over,
                    "{fault:?} {call:?}: a connection is left"
                );
                maniple::sleep(Duration::from_millis(1));
            }
        }
    }
}

struct Cell {
    fault: Fault,
    call: Call,
    over: Over,
    client: Client,
    address: SocketAddr,
}

/// A call's answer: its status, and what was read of the body.
type Answered = Result<(StatusCode, String), ClientError>;

impl Cell {
    /// Whether the call met the fault.
    fn play(
        &self,
        backend: &mut Backend,
        wire: &Wire,
        identity: &Identity,
        deadline: Duration,
    ) -> bool {
        if self.over.pooled {
            self.is_well("before");
        }
        let id = unique();
        let at = format!(
            "{:?} {:?} {:?}, call {id}",
            self.fault, self.call, self.over
        );
        let hangs = deadline < LONG;
        let began = Instant::now();
        let outcome = match self.fault {
            Fault::Kill | Fault::Stop | Fault::Restart => {
                let client = self.client.clone();
                let (call, base) = (self.call, self.base());
                let calling =
                    maniple::spawn(move || ask(&client, call, &base, true, &id, deadline));
                // Others may be said, of calls that had ended before.
                let has_entered = || {
                    let entered = backend.entered.lock().unwrap();
                    entered.try_iter().any(|said| said == id.to_string())
                };
                while !has_entered() {
                    if calling.is_finished() {
                        assert!(hangs, "{at}: {:?}", calling.join());
                        return false;
                    }
                    assert!(began.elapsed() < PATIENCE, "{at}: it does not come");
                    maniple::sleep(Duration::from_millis(1));
                }
                match self.fault {
                    Fault::Stop => backend.signal(Signal::STOP),
                    _ => backend.kill(),
                }
                let outcome = calling.join().unwrap();
                match self.fault {
                    Fault::Stop => backend.signal(Signal::CONT),
                    // The next calls find it gone, and then find another.
                    _ if self.fault == Fault::Kill => {
                        let gone = ask(
                            &self.client,
                            self.call,
                            &self.base(),
                            false,
                            &unique(),
                            LONG,
                        );
                        assert!(gone.is_err(), "{at}: {gone:?}");
                        backend.restart(identity);
                    }
                    _ => backend.restart(identity),
                }
                outcome
            }
            Fault::Early => ask_early(&self.client, self.call, &self.base(), &id),
            fault => {
                wire.arm(fault, self.call == Call::StreamedDown);
                let outcome = ask(&self.client, self.call, &self.base(), false, &id, deadline);
                if wire.disarm() {
                    assert!(hangs, "{at}: the fault was not met: {outcome:?}");
                    return false;
                }
                outcome
            }
        };
        assert!(
            began.elapsed() < PATIENCE,
            "{at}: took {:?}",
            began.elapsed()
        );
        self.judge(&at, &id, outcome, hangs);
        for _ in 0..3 {
            self.is_well(&at);
        }
        let seen = self.ask_plainly(&format!("seen/{id}")).unwrap().1;
        let most = match self.call {
            Call::Post | Call::StreamedUp => 1,
            _ => 2,
        };
        assert!(
            seen.parse::<u32>().unwrap() <= most,
            "{at}: seen {seen} times"
        );
        true
    }

    fn judge(&self, at: &str, id: &u64, outcome: Answered, hangs: bool) {
        match outcome {
            Ok((status, text)) => {
                let is_early = self.fault == Fault::Early
                    && matches!(self.call, Call::Post | Call::StreamedUp);
                match is_early {
                    true => assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{at}"),
                    false => assert_eq!(status, StatusCode::OK, "{at}"),
                }
                assert!(!hangs, "{at}: answered {text}");
                assert_eq!(text, self.expected(id), "{at}");
                // Over a new connection, since nothing had come over the kept one.
                let is_repeated = match self.fault {
                    Fault::Reset | Fault::HalfOpen => true,
                    // It is no TLS, so that it does not come through.
                    Fault::Garbage => self.over.tls,
                    _ => false,
                };
                // Of TLS, some bytes of a record are nothing yet.
                let is_unheard = match self.call {
                    Call::Get => true,
                    Call::StreamedDown => self.over.tls,
                    Call::Post | Call::StreamedUp => false,
                };
                let may_repeat = self.over.pooled && is_unheard;
                let is_meant = is_repeated && may_repeat || self.fault == Fault::Early;
                assert!(is_meant, "{at}: answered {text}");
            }
            Err(error) => {
                assert_ne!(self.fault, Fault::Early, "{at}: {error}");
                assert_eq!(error.is_timeout(), hangs, "{at}: {error}");
                assert!(error.to_string().contains("127.0.0.1:"), "{at}: {error}");
                if hangs {
                    assert!(error.phase().is_some(), "{at}: {error}");
                }
            }
        }
    }

    fn expected(&self, id: &u64) -> String {
        match self.call {
            Call::StreamedDown => format!("{id}\n").repeat(DOWN),
            _ => id.to_string(),
        }
    }

    fn base(&self) -> String {
        let scheme = if self.over.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A call with nothing wrong about it has its own answer.
    fn is_well(&self, at: &str) {
        let id = unique();
        let answer = ask(&self.client, self.call, &self.base(), false, &id, LONG);
        let (status, text) = answer.unwrap_or_else(|error| panic!("{at}, afterwards: {error}"));
        assert_eq!((status, text), (StatusCode::OK, self.expected(&id)), "{at}");
    }

    fn ask_plainly(&self, path: &str) -> Answered {
        let answer = self.client.get(&format!("{}/{path}", self.base()))?;
        Ok((answer.status(), answer.text()?))
    }
}

/// Parts of an answer that is streamed, and bytes of a body that is.
const DOWN: usize = 2_000;
const PART: usize = 64 * 1024;

fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn ask(
    client: &Client,
    call: Call,
    base: &str,
    holds: bool,
    id: &u64,
    deadline: Duration,
) -> Answered {
    let hold = if holds { "hold-" } else { "" };
    let (method, path) = match call {
        Call::Get => (Method::GET, "get"),
        Call::StreamedDown => (Method::GET, "down"),
        Call::Post | Call::StreamedUp => (Method::POST, "post"),
    };
    let request = client.request(method, &format!("{base}/{hold}{path}/{id}"));
    let request = match call {
        Call::Get | Call::StreamedDown => request,
        Call::Post => request.body(vec![b'x'; 2 * PART]),
        Call::StreamedUp => request.body(streamed()),
    };
    let answer = request.timeout(deadline).send()?;
    Ok((answer.status(), answer.text()?))
}

fn streamed() -> Body {
    Body::from_fn(|out| (0..32).try_for_each(|_| out.write_all(&[b'y'; PART])))
}

fn ask_early(client: &Client, call: Call, base: &str, id: &u64) -> Answered {
    match call {
        Call::Get | Call::StreamedDown => ask(client, call, base, false, id, LONG),
        Call::Post | Call::StreamedUp => {
            let request = client.post(&format!("{base}/early/{id}"));
            let request = match call {
                Call::Post => request.body(vec![b'x'; 64 * PART]),
                _ => request.body(streamed()),
            };
            let answer = request.timeout(LONG).send()?;
            Ok((answer.status(), answer.text()?))
        }
    }
}

/// A certificate, on the disk for the processes that show it.
struct Identity {
    folder: PathBuf,
    roots: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("backends-{}-{}", std::process::id(), unique()));
        std::fs::create_dir_all(&folder).unwrap();
        let names = ["127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self {
            folder,
            roots: made.cert.pem().into_bytes(),
        }
    }

    fn client(&self, tls: bool) -> Client {
        let builder = Client::builder();
        if !tls {
            return builder.build();
        }
        let config = ClientConfig::builder().roots_pem(self.roots.clone());
        builder.tls(config.build().unwrap()).build()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A process that serves, and may be followed by another at its address, which is nobody else's meanwhile.
struct Backend {
    child: Child,
    address: SocketAddr,
    port: Arc<OwnedFd>,
    /// Ids of calls that have come to where they are held.
    entered: Arc<Mutex<mpsc::Receiver<String>>>,
    tls: bool,
}

/// By which a process of this program knows that it is to serve: a port, and a folder where its certificate is.
const ROLE: &str = "MANIPLE_TESTS_BACKEND";

impl Backend {
    fn start(identity: Option<&Identity>) -> Self {
        let socket = net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        // Others that are bound so may listen while this one does not.
        net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self::at(Arc::new(socket), identity)
    }

    fn at(port: Arc<OwnedFd>, identity: Option<&Identity>) -> Self {
        let address: SocketAddr = net::getsockname(&port).unwrap().try_into().unwrap();
        let folder = identity.map_or("-".into(), |identity| identity.folder.clone());
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["serves_if_it_is_told_to", "--exact", "--nocapture"])
            .env(ROLE, format!("{} {}", address.port(), folder.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The harness has something to say, too.
        let mut said = std::iter::from_fn(move || {
            lines.find_map(|line| Some(line.ok()?.split_once('@')?.1.to_owned()))
        });
        let serves = said.next().expect("it says where it serves");
        assert_eq!(serves, address.to_string());
        let (tell, entered) = mpsc::channel();
        std::thread::spawn(move || said.all(|line| tell.send(line).is_ok()));
        Self {
            child,
            address,
            port,
            entered: Arc::new(Mutex::new(entered)),
            tls: identity.is_some(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self, identity: &Identity) {
        let next = Self::at(self.port.clone(), self.tls.then_some(identity));
        drop(std::mem::replace(self, next));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serves_if_it_is_told_to() {
    let Ok(role) = env::var(ROLE) else {
        return;
    };
    let (port, folder) = role.split_once(' ').unwrap();
    let address = format!("127.0.0.1:{port}");
    let builder = Server::builder(backend_routes());
    let server = match folder {
        "-" => builder.bind(address),
        folder => {
            let folder = PathBuf::from(folder);
            let shown = Certificate::files(folder.join("chain.pem"), folder.join("key.pem"));
            let config = ServerConfig::builder().certificate(shown).build().unwrap();
            builder.bind_tls(address, config)
        }
    };
    maniple::run(|| {
        let server = server.unwrap();
        println!("@{}", server.local_addr());
        let _ = server.serve();
    });
}

fn backend_routes() -> Router {
    type Seen = Arc<Mutex<std::collections::HashMap<String, u32>>>;
    let seen: Seen = Arc::default();
    let id = |request: &Request| request.param("id").unwrap_or("?").to_owned();
    let note = {
        let seen = seen.clone();
        move |request: &Request| {
            let id = request.param("id").unwrap_or("?").to_owned();
            *seen.lock().unwrap().entry(id.clone()).or_default() += 1;
            id
        }
    };
    let hold = |id: &str| {
        println!("@{id}");
        maniple::sleep(Duration::from_secs(600));
        "let go"
    };
    let (get, post, down) = (note.clone(), note.clone(), note.clone());
    let (held_get, held_post, held_down) = (note.clone(), note.clone(), note);
    let posted = move |request: &mut Request| -> Result<String, BodyError> {
        let id = post(request);
        let mut body = request.body();
        std::io::copy(&mut body, &mut std::io::sink()).map_err(BodyError::Io)?;
        Ok(id)
    };
    Router::new()
        .get("/get/{id}", move |request: &mut Request| get(request))
        .post("/post/{id}", posted)
        .get("/down/{id}", move |request: &mut Request| {
            let id = down(request);
            Response::text(Body::from_fn(move |out| {
                (0..DOWN).try_for_each(|_| writeln!(out, "{id}"))
            }))
        })
        .post("/early/{id}", move |request: &mut Request| {
            let refusal = Response::new(StatusCode::PAYLOAD_TOO_LARGE).with_body(id(request));
            // Without that, it might be closed under the next request.
            refusal.with_header("connection", "close")
        })
        .get("/hold-get/{id}", move |request: &mut Request| {
            hold(&held_get(request))
        })
        .post("/hold-post/{id}", move |request: &mut Request| {
            hold(&held_post(request))
        })
        .get("/hold-down/{id}", move |request: &mut Request| {
            let id = held_down(request);
            Response::text(Body::from_fn(move |out| {
                writeln!(out, "{id}")?;
                out.flush()?;
                hold(&id);
                Ok(())
            }))
        })
        .get("/seen/{id}", move |request: &mut Request| {
            let id = id(request);
            let seen = seen.lock().unwrap();
            seen.get(&id).copied().unwrap_or(0).to_string()
        })
        .max_body_bytes(8 << 20)
}

/// What passes bytes on, until a fault is to be made.
struct Wire {
    address: SocketAddr,
    armed: Arc<Mutex<Option<Armed>>>,
}

#[derive(Clone, Copy)]
struct Armed {
    fault: Fault,
    /// Once some of the answer has come, rather than of the request.
    in_answer: bool,
}

/// What has become of one connection.
#[derive(Default)]
struct Line {
    /// Nothing is passed on to the client any more.
    mute: AtomicBool,
    slow: AtomicBool,
    dead: AtomicBool,
}

impl Wire {
    fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let armed: Arc<Mutex<Option<Armed>>> = Arc::default();
        let theirs = armed.clone();
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let Ok(far) = TcpStream::connect(backend) else {
                    continue;
                };
                let line = Arc::new(Line::default());
                let both = |near: &TcpStream| (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (up, down) = (both(&near), both(&near));
                let (up_line, up_armed) = (line.clone(), theirs.clone());
                std::thread::spawn(move || up_line.up(up, &up_armed));
                let armed = theirs.clone();
                std::thread::spawn(move || line.down(down, &armed));
            }
        });
        Self { address, armed }
    }

    fn arm(&self, fault: Fault, in_answer: bool) {
        *self.armed.lock().unwrap() = Some(Armed { fault, in_answer });
    }

    /// Whether it still was armed.
    fn disarm(&self) -> bool {
        self.armed.lock().unwrap().take().is_some()
    }
}

impl Line {
    fn up(&self, (mut near, mut far): (TcpStream, TcpStream), armed: &Mutex<Option<Armed>>) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = near.read(&mut buffer) {
            self.strike(&near, &far, armed, false);
            if self.slow.load(Ordering::SeqCst) {
                maniple::sleep(Duration::from_millis(20));
            }
            if self.mute.load(Ordering::SeqCst) || far.write_all(&buffer[..count]).is_err() {
                continue;
            }
        }
        let _ = far.shutdown(Shutdown::Both);
    }

    fn down(&self, (mut near, mut far): (TcpStream, TcpStream), armed: &Mutex<Option<Armed>>) {
        let mut buffer = [0; 512];
        while let Ok(count @ 1..) = far.read(&mut buffer) {
            if self.mute.load(Ordering::SeqCst) {
                continue;
            }
            // Looked at before the client can have it: what is armed behind this answer is for the next.
            let is_due = armed.lock().unwrap().is_some_and(|armed| armed.in_answer);
            let step = match self.slow.load(Ordering::SeqCst) {
                true => 1,
                false => count,
            };
            for part in buffer[..count].chunks(step) {
                if step < count {
                    maniple::sleep(Duration::from_millis(20));
                }
                if near.write_all(part).is_err() {
                    break;
                }
            }
            if is_due {
                self.strike(&near, &far, armed, true);
            }
        }
        if !self.mute.load(Ordering::SeqCst) && !self.dead.load(Ordering::SeqCst) {
            let _ = near.shutdown(Shutdown::Write);
        }
    }

    /// Makes the fault, if its time has come.
    fn strike(
        &self,
        near: &TcpStream,
        far: &TcpStream,
        armed: &Mutex<Option<Armed>>,
        in_answer: bool,
    ) {
        let mut armed = armed.lock().unwrap();
        let Some(Armed { fault, .. }) = armed.filter(|armed| armed.in_answer == in_answer) else {
            return;
        };
        *armed = None;
        match fault {
            Fault::Reset => {
                self.mute.store(true, Ordering::SeqCst);
                self.dead.store(true, Ordering::SeqCst);
                let soon = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(near, soon).unwrap();
                let _ = far.shutdown(Shutdown::Both);
                // Ends the other direction's wait; the reset is sent once both have let go.
                let _ = near.shutdown(Shutdown::Read);
            }
            Fault::Slow => self.slow.store(true, Ordering::SeqCst),
            Fault::BlackHole => self.mute.store(true, Ordering::SeqCst),
            Fault::HalfOpen => {
                self.mute.store(true, Ordering::SeqCst);
                let _ = near.shutdown(Shutdown::Write);
            }
            Fault::Garbage => {
                self.mute.store(true, Ordering::SeqCst);
                let _ = (&*near).write_all(b"\x00\x01 this is not what you think \xff\xfe\r\n\r\n");
                let _ = near.shutdown(Shutdown::Write);
            }
            other => unreachable!("{other:?} is not made by a wire"),
        }
    }
}

/// Connections to that address of 127.0.0.1 that are open at their clients' ends, as the kernel's registry has them.
fn client_ends(address: SocketAddr) -> usize {
    let registry = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!("0100007F:{:04X}", address.port());
    let is_open = |line: &&str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        // SYN_SENT, ESTABLISHED and CLOSE_WAIT.
        columns.get(2) == Some(&&*remote) && ["02", "01", "08"].contains(&columns[3])
    };
    registry.lines().filter(is_open).count()
}
