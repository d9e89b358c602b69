//! What a call comes to when its server or the way there fails: in time, and never another call's answer.
//!
//! The server is a process of its own, behind a relay that fails in the ways that links do.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use maniple::net::{Shutdown, TcpListener, TcpStream};
use maniple_grpc::{Channel, Code, Status};
use maniple_grpc_interop::testing::{
    ResponseParameters, SimpleRequest, StreamingOutputCallRequest, TestServiceClient,
};

/// What the way does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    Open,
    /// A byte at a time, and slowly.
    Slow,
    /// Nothing passes, and nobody is told.
    BlackHole,
    /// What the server says is lost, while it hears the client; as when one direction of a route is gone.
    HalfOpen,
    /// What the server says is followed by what no protocol has.
    Garbage,
    Reset,
}

impl Way {
    fn of(number: u8) -> Self {
        [
            Self::Open,
            Self::Slow,
            Self::BlackHole,
            Self::HalfOpen,
            Self::Garbage,
            Self::Reset,
        ][usize::from(number)]
    }
}

struct Relay {
    way: AtomicU8,
    to: Mutex<SocketAddr>,
}

impl Relay {
    fn start(to: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let relay = Arc::new(Self {
            way: AtomicU8::new(0),
            to: Mutex::new(to),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let own = relay.clone();
        maniple::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let to = *own.to.lock().unwrap();
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                let (client, server) = (Arc::new(client), Arc::new(server));
                let ends = [
                    (client.clone(), server.clone(), true),
                    (server, client, false),
                ];
                for (from, to, is_up) in ends {
                    let own = own.clone();
                    maniple::spawn(move || own.pass(&from, &to, is_up));
                }
            }
        });
        (relay, address)
    }

    fn set(&self, way: Way) {
        self.way.store(way as u8, Ordering::SeqCst);
    }

    fn pass(&self, from: &TcpStream, to: &TcpStream, is_up: bool) {
        let mut buffer = [0; 4096];
        loop {
            let count = match (&mut &*from).read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let passed = match Way::of(self.way.load(Ordering::SeqCst)) {
                Way::Open => (&mut &*to).write_all(&buffer[..count]),
                Way::Slow => buffer[..count].iter().try_for_each(|byte| {
                    maniple::sleep(Duration::from_millis(1));
                    (&mut &*to).write_all(&[*byte])
                }),
                Way::BlackHole => Ok(()),
                Way::HalfOpen if !is_up => Ok(()),
                Way::Garbage if !is_up => (&mut &*to)
                    .write_all(&buffer[..count])
                    .and_then(|()| (&mut &*to).write_all(&[0xa5; 64])),
                Way::HalfOpen | Way::Garbage => (&mut &*to).write_all(&buffer[..count]),
                Way::Reset => {
                    let _ = from.reset_on_close();
                    let _ = to.reset_on_close();
                    break;
                }
            };
            if passed.is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

/// The server's process; killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_interop_server"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap();
        Self { child, address }
    }

    fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let done = Command::new("kill").args([name, &process]).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a caller came to: how many answers it had, all of them its own, and how it ended.
#[derive(Debug)]
struct Came {
    answers: u32,
    ended: Status,
    took: Duration,
}

/// How long a call may take, and how much later it may end at the most, on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_millis(800);
const SLACK: Duration = Duration::from_secs(10);

/// Calls over and over until one fails. Each wants another number of bytes, so that an answer to another shows.
fn unary(client: &TestServiceClient, caller: i32) -> Came {
    until_it_fails(|number| {
        let size = 1 + caller * 1000 + number % 1000;
        let request = SimpleRequest {
            response_size: size,
            ..SimpleRequest::default()
        };
        let reply = client.unary_call(&request)?;
        let body = &reply.payload.as_ref().expect("a payload").body;
        assert_eq!(body.len() as i32, size, "another call's answer");
        Ok(())
    })
}

fn stream(client: &TestServiceClient, caller: i32) -> Came {
    let mut halves = None;
    until_it_fails(|number| {
        if halves.is_none() {
            halves = Some(client.full_duplex_call()?);
        }
        let (out, replies) = halves.as_mut().expect("they are there");
        let size = 1 + caller * 1000 + number % 1000;
        out.send(&StreamingOutputCallRequest {
            response_parameters: vec![ResponseParameters {
                size,
                ..ResponseParameters::default()
            }],
            ..StreamingOutputCallRequest::default()
        })?;
        let reply = replies.next().expect("an answer, or why there is none")?;
        let body = reply.payload.expect("a payload").body;
        assert_eq!(body.len() as i32, size, "another call's answer");
        Ok(())
    })
}

fn until_it_fails(mut call: impl FnMut(i32) -> Result<(), Status>) -> Came {
    let mut answers = 0;
    loop {
        let began = Instant::now();
        let mut done = Err(Status::new(Code::DeadlineExceeded, "the scope ended"));
        let _ = maniple::timeout(DEADLINE, || done = call(answers as i32));
        match done {
            Ok(()) => answers += 1,
            Err(ended) => {
                let took = began.elapsed();
                return Came {
                    answers,
                    ended,
                    took,
                };
            }
        }
    }
}

type Calls = fn(&TestServiceClient, i32) -> Came;

/// Has ten callers call while `fail` happens, and looks at what they came to; then `mend` must have calls succeed again.
fn suffers(name: &str, fail: impl Fn(&Relay, &mut Process), mend: impl Fn(&Relay, &mut Process)) {
    let kinds: [(&str, Calls); 2] = [("unary", unary), ("stream", stream)];
    for (kind, calls) in kinds {
        println!("{name}, {kind}");
        let mut process = Process::start();
        let (relay, address) = Relay::start(process.address);
        let channel = Channel::to(address.to_string()).connect_timeout(Duration::from_secs(2));
        let client = TestServiceClient::new(channel);
        // The way is known to be good.
        client.unary_call(&SimpleRequest::default()).unwrap();
        let calling: Vec<_> = (0..10)
            .map(|caller| {
                let client = client.clone();
                maniple::spawn(move || calls(&client, caller))
            })
            .collect();
        maniple::sleep(Duration::from_millis(100));
        fail(&relay, &mut process);
        for calling in calling {
            let came = calling.join().unwrap();
            assert!(came.took < DEADLINE + SLACK, "{came:?}");
            let code = came.ended.code();
            let is_told = matches!(
                code,
                Code::DeadlineExceeded | Code::Unavailable | Code::Internal | Code::Cancelled
            );
            assert!(is_told && came.answers < u32::MAX, "{came:?}");
        }
        mend(&relay, &mut process);
        let until = Instant::now() + Duration::from_secs(30);
        while let Err(status) = alive(&client) {
            assert!(Instant::now() < until, "{name}, {kind}: {status}");
            maniple::sleep(Duration::from_millis(20));
        }
    }
}

/// A call in good time.
fn alive(client: &TestServiceClient) -> Result<(), Status> {
    let call = || client.unary_call(&SimpleRequest::default()).map(drop);
    maniple::timeout(Duration::from_secs(5), call)
        .unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "late")))
}

fn open(relay: &Relay, _: &mut Process) {
    relay.set(Way::Open);
}

/// Another process, on another port, to which the way leads from then on.
fn replace(relay: &Relay, process: &mut Process) {
    *process = Process::start();
    *relay.to.lock().unwrap() = process.address;
    relay.set(Way::Open);
}

/// Runs a test in a runtime, and fails it if it takes longer than any should.
fn run(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(test);
        _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(180)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn a_server_that_is_killed() {
    run(|| suffers("kill", |_, process| process.signal("-KILL"), replace));
}

#[test]
fn a_server_that_is_restarted() {
    run(|| {
        suffers(
            "restart",
            |relay, process| {
                process.signal("-KILL");
                replace(relay, process);
                // Calls that were under way fail; the others find the new one, so that they must be made to end.
                maniple::sleep(Duration::from_millis(100));
                relay.set(Way::BlackHole);
            },
            replace,
        );
    });
}

#[test]
fn a_server_that_stands_still() {
    run(|| {
        suffers(
            "stop",
            |_, process| process.signal("-STOP"),
            |_, process| process.signal("-CONT"),
        );
    });
}

#[test]
fn a_way_that_is_reset() {
    run(|| suffers("reset", |relay, _| relay.set(Way::Reset), open));
}

#[test]
fn a_way_into_nothing() {
    run(|| suffers("black hole", |relay, _| relay.set(Way::BlackHole), replace));
}

#[test]
fn a_way_that_leads_in_one_direction() {
    run(|| suffers("half open", |relay, _| relay.set(Way::HalfOpen), replace));
}

#[test]
fn a_way_that_is_slow() {
    run(|| suffers("slow", |relay, _| relay.set(Way::Slow), open));
}

#[test]
fn a_way_that_adds_what_it_likes() {
    run(|| suffers("garbage", |relay, _| relay.set(Way::Garbage), open));
}
