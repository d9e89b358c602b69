//! What happens to calls and streams when what is between, or at the other end, does wrong: each ends by its deadline, none has
//! another's answer, and the next goes well once all is well again.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use maniple_rpc::{
    Call, Caller, Channel, Code, Replies, Requests, Server, Service, Status, channel,
    tls::{ClientConfig, ServerConfig, self_signed},
};

/// Runs a test in a runtime, and fails it if it takes longer than any should.
fn run(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(test);
        _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(120)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

/// What is done to bytes between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Fault {
    None,
    /// They vanish, both ways.
    BlackHole,
    /// They are not even read, both ways: a process that is stopped.
    Stopped,
    /// They come one by one.
    Slow,
    /// Others come in their place.
    Garbage,
    /// The connection is closed.
    Close,
    /// It is reset.
    Reset,
    /// The server's direction ends, the client's does not.
    HalfOpen,
}

const ALL: [Fault; 8] = [
    Fault::None,
    Fault::BlackHole,
    Fault::Stopped,
    Fault::Slow,
    Fault::Garbage,
    Fault::Close,
    Fault::Reset,
    Fault::HalfOpen,
];

/// Stands between clients and a server.
#[derive(Clone)]
struct Between(Arc<AtomicU8>);

impl Between {
    fn start(server: SocketAddr) -> (Self, SocketAddr) {
        let between = Self(Arc::new(AtomicU8::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, theirs) = (listener.local_addr().unwrap(), between.clone());
        // They end with the process.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                for (from, to, is_servers) in [(&client, &server, false), (&server, &client, true)]
                {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let theirs = theirs.clone();
                    thread::spawn(move || theirs.pump(from, to, is_servers));
                }
            }
        });
        (between, address)
    }

    fn set(&self, fault: Fault) {
        self.0.store(fault as u8, Ordering::SeqCst);
    }

    fn fault(&self) -> Fault {
        ALL[usize::from(self.0.load(Ordering::SeqCst))]
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_servers: bool) {
        let pause = Duration::from_millis(5);
        from.set_read_timeout(Some(pause)).unwrap();
        to.set_nodelay(true).unwrap();
        let mut buffer = [0; 4096];
        let (_never, nothing) = mpsc::channel::<()>();
        loop {
            let fault = self.fault();
            match fault {
                Fault::Close => {
                    _ = from.shutdown(Shutdown::Both);
                    _ = to.shutdown(Shutdown::Both);
                    return;
                }
                Fault::Reset => {
                    for stream in [&from, &to] {
                        let linger = Some(Duration::ZERO);
                        _ = rustix::net::sockopt::set_socket_linger(stream, linger);
                    }
                    return;
                }
                Fault::HalfOpen if is_servers => {
                    _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Fault::Stopped => {
                    _ = nothing.recv_timeout(pause);
                    continue;
                }
                _ => {}
            }
            let count = match from.read(&mut buffer) {
                Ok(0) => {
                    _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            let bytes = &mut buffer[..count];
            let passed = match self.fault() {
                Fault::BlackHole => Ok(()),
                Fault::Slow => bytes.chunks(1).try_for_each(|byte| to.write_all(byte)),
                Fault::Garbage => {
                    let seed = count as u32 | 1;
                    for (at, byte) in bytes.iter_mut().enumerate() {
                        *byte = (seed.wrapping_mul(at as u32 + 0x9e37) >> 7) as u8;
                    }
                    to.write_all(bytes)
                }
                _ => to.write_all(bytes),
            };
            if passed.is_err() {
                return;
            }
        }
    }
}

const BEAT: Duration = Duration::from_millis(100);
const ECHO: &str = "/t.T/Echo";
const TALK: &str = "/t.T/Talk";

fn service() -> Service {
    Service::new("t.T")
        .unary("Echo", |_: &mut Call, text: String| Ok::<_, Status>(text))
        .streaming(
            "Talk",
            |_: &mut Call,
             requests: &mut Requests<'_, String>,
             replies: &mut Replies<'_, String>| {
                for text in requests {
                    replies.send(&text?)?;
                }
                Ok(())
            },
        )
}

fn server() -> maniple_rpc::server::Builder {
    Server::builder()
        .service(service())
        .heartbeat(BEAT)
        .drain_timeout(Duration::from_secs(2))
}

fn channel(address: SocketAddr) -> channel::Builder {
    Channel::builder(address.to_string())
        .heartbeat(BEAT)
        .connect_timeout(Duration::from_secs(1))
        .longest_pause(Duration::from_millis(50))
}

/// An address that nobody is given who asks for any, and at which servers may follow each other.
fn reserved() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&bound, true).unwrap();
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&bound).unwrap().try_into().unwrap();
    (bound, address)
}

/// A unary call, or a stream of one message each way.
fn ask(caller: &Caller, is_stream: bool, text: &str) -> Result<String, Status> {
    if !is_stream {
        let reply = caller.unary::<String, String>(ECHO, &text.to_owned())?;
        return Ok(reply.into_inner());
    }
    let (mut out, mut replies) = caller.streaming::<String, String>(TALK)?;
    // What is wrong the other half tells.
    let sent = out.send(&text.to_owned());
    out.finish();
    match replies.next() {
        Some(reply) => reply,
        None => Err(sent
            .err()
            .unwrap_or_else(|| Status::new(Code::Internal, "no message"))),
    }
}

fn under(fault: Fault, is_stream: bool, checksums: bool, is_over_tls: bool) {
    run(move || {
        let (mut server, mut channels) = (server().checksums(checksums), None);
        if is_over_tls {
            let certificate = self_signed(["127.0.0.1"]).unwrap();
            let believed = ClientConfig::builder().roots_pem(certificate.chain_pem());
            channels = Some(believed.build().unwrap());
            let config = ServerConfig::builder().certificate(certificate);
            server = server.tls(config.build().unwrap());
        }
        let server = server.bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let (between, address) = Between::start(address);
        let channel = channel(address).checksums(checksums);
        let channel = match channels {
            Some(config) => channel.tls(config),
            None => channel,
        };
        let caller = Caller::new(channel.open().unwrap());
        let deadline = Duration::from_millis(1500);
        let call = |text: &str| {
            let began = maniple::time::now();
            let asked = maniple::timeout(deadline, || ask(&caller, is_stream, text));
            let took = maniple::time::now() - began;
            assert!(
                took < deadline + Duration::from_secs(10),
                "{fault:?}: {took:?}"
            );
            let asked = asked.unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "")));
            if let Ok(answer) = &asked {
                assert_eq!(answer, text, "{fault:?}: another's answer");
            }
            asked
        };
        let within = |times: u32| (0..times).any(|turn| call(&format!("well {turn}")).is_ok());
        assert!(within(5), "{fault:?}: not before it");
        between.set(fault);
        maniple::group(|g| {
            for number in 0..8 {
                let call = &call;
                g.spawn(move || {
                    for turn in 0..3 {
                        _ = call(&format!("{number} {turn} {}", "x".repeat(number * 100)));
                    }
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        between.set(Fault::None);
        assert!(within(20), "{fault:?}: not after it");
        drop(caller);
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

macro_rules! matrix {
    ($($unary:ident, $stream:ident, $tls:ident: $fault:ident;)*) => {$(
        #[test]
        fn $unary() {
            under(Fault::$fault, false, false, false);
        }

        #[test]
        fn $stream() {
            under(Fault::$fault, true, true, false);
        }

        #[test]
        fn $tls() {
            under(Fault::$fault, true, false, true);
        }
    )*};
}

matrix! {
    calls_end_whose_bytes_vanish, streams_end_whose_bytes_vanish, streams_over_tls_end_whose_bytes_vanish: BlackHole;
    calls_end_whose_server_is_stopped, streams_end_whose_server_is_stopped, streams_over_tls_end_whose_server_is_stopped: Stopped;
    calls_are_answered_over_a_slow_line, streams_are_answered_over_a_slow_line, streams_over_tls_are_answered_over_a_slow_line: Slow;
    calls_end_that_meet_garbage, streams_end_that_meet_garbage, streams_over_tls_end_that_meet_garbage: Garbage;
    calls_end_whose_connection_is_closed, streams_end_whose_connection_is_closed, streams_over_tls_end_whose_connection_is_closed: Close;
    calls_end_whose_connection_is_reset, streams_end_whose_connection_is_reset, streams_over_tls_end_whose_connection_is_reset: Reset;
    calls_end_whose_answers_are_cut_off, streams_end_whose_answers_are_cut_off, streams_over_tls_end_whose_answers_are_cut_off: HalfOpen;
}

#[test]
fn a_dead_host_is_noticed_by_both_ends_and_its_calls_say_so() {
    run(|| {
        let server = server().heartbeat(5 * BEAT).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let (between, address) = Between::start(address);
        let channel = channel(address).heartbeat(5 * BEAT);
        let caller = Caller::new(channel.open().unwrap());
        while ask(&caller, false, "").is_err() {
            maniple::sleep(Duration::from_millis(5));
        }
        between.set(Fault::BlackHole);
        // No deadline: the heartbeat ends it.
        let error = ask(&caller, false, "").unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.may_have_been_executed());
        while !handle.connections().is_empty() {
            maniple::sleep(Duration::from_millis(5));
        }
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn a_connection_that_is_lost_cancels_the_methods_of_its_calls() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let service = Service::new("t.W").unary("Wait", move |_: &mut Call, _: String| {
        let say = |what| tell.lock().unwrap().send(what).unwrap();
        say(true);
        let (_open, gate) = maniple::sync::channel::bounded::<()>(1);
        let is_cut = gate.recv().is_err() && maniple::cancel::is_cancelled();
        say(is_cut);
        Ok::<_, Status>(String::new())
    });
    run(move || {
        let server = server().service(service).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let (between, address) = Between::start(address);
        let caller = Caller::new(channel(address).open().unwrap());
        let calling = maniple::spawn(move || {
            let asked = caller.unary::<String, String>("/t.W/Wait", &String::new());
            asked.unwrap_err().may_have_been_executed()
        });
        let wait = Duration::from_secs(30);
        let (told, began) = maniple::offload(move || (told.recv_timeout(wait), told))
            .map(|(began, told)| (told, began))
            .unwrap();
        assert_eq!(began, Ok(true));
        between.set(Fault::Close);
        assert!(calling.join().unwrap());
        let is_cut = maniple::offload(move || told.recv_timeout(wait)).unwrap();
        assert_eq!(is_cut, Ok(true));
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn no_call_fails_while_the_server_is_restarted_again_and_again() {
    run(|| {
        // A busy machine is not to be taken for a dead one.
        let long = Duration::from_secs(60);
        let (_reserved, address) = reserved();
        let server = || server().heartbeat(long).drain_timeout(long);
        let channel = channel(address).heartbeat(long).connect_timeout(long);
        let caller = Caller::new(channel.open().unwrap());
        let stop = maniple::cancel::CancelToken::new();
        let total = maniple::group(|g| {
            let mut calling = Vec::new();
            for number in 0..8 {
                let (caller, stop) = (&caller, stop.clone());
                calling.push(g.spawn(move || {
                    let mut turn = 0_u32;
                    while !stop.is_cancelled() {
                        let text = format!("{number} {turn}");
                        assert_eq!(ask(caller, false, &text).unwrap(), text);
                        turn += 1;
                    }
                    turn
                }));
            }
            for _ in 0..10 {
                let server = server().bind(address).unwrap();
                let handle = server.handle();
                let serving = g.spawn(move || server.serve());
                // Until it has been called.
                while handle.connections().is_empty() {
                    maniple::sleep(Duration::from_millis(1));
                }
                maniple::sleep(Duration::from_millis(20));
                handle.drain();
                serving.join().unwrap().unwrap();
            }
            stop.cancel();
            let last = server().bind(address).unwrap();
            let handle = last.handle();
            let serving = g.spawn(move || last.serve());
            let total: u32 = calling.into_iter().map(|each| each.join().unwrap()).sum();
            handle.drain();
            serving.join().unwrap().unwrap();
            Ok::<_, ()>(total)
        })
        .unwrap();
        assert!(total > 10);
    });
}

#[test]
fn many_requests_at_once_are_answered_with_no_room_at_all() {
    run(|| {
        let server = server().max_unsent_bytes(0).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let kinds = maniple::offload(move || {
            let mut raw = Raw::hello(address);
            let mut all = Vec::new();
            for slot in 0..200 {
                all.extend(frame(2, 0, [slot, 1], &request(ECHO)));
                all.extend(frame(7, 0, [0, 0], &[0; 8]));
            }
            raw.0.write_all(&all).unwrap();
            raw.await_answers(400);
            raw.0.shutdown(Shutdown::Write).unwrap();
            raw.kinds()
        })
        .unwrap();
        for kind in [3, 8] {
            let count = kinds.iter().filter(|each| each.0 == kind).count();
            assert_eq!(count, 200, "{kind}");
        }
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn who_waits_for_room_has_it_though_others_before_it_have_given_up() {
    run(|| {
        let long = Duration::from_secs(60);
        let server = server().heartbeat(long).bind("127.0.0.1:0").unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let (between, address) = Between::start(address);
        let channel = channel(address).heartbeat(long).stall_timeout(long);
        let channel = channel.max_unsent_bytes(0).open().unwrap();
        let caller = Caller::new(channel.clone());
        ask(&caller, false, "first").unwrap();
        between.set(Fault::Stopped);
        let unsent = || {
            channel
                .connection()
                .map_or(0, |connection| connection.unsent)
        };
        let mut waiting = Vec::new();
        while unsent() == 0 {
            let caller = caller.clone();
            let large = "x".repeat(1 << 20);
            waiting.push(maniple::spawn(move || ask(&caller, false, &large)));
            maniple::sleep(Duration::from_millis(1));
        }
        for _ in 0..50 {
            let tried = maniple::timeout(Duration::from_millis(2), || ask(&caller, false, "late"));
            assert!(!matches!(tried, Ok(Ok(_))));
        }
        // Nothing but its turn brings it its room.
        let last = maniple::spawn(move || ask(&caller, false, "last"));
        maniple::sleep(Duration::from_millis(20));
        between.set(Fault::None);
        let last = maniple::timeout(Duration::from_secs(30), || last.join().unwrap());
        assert_eq!(last.expect("it waits for nobody").unwrap(), "last");
        for each in waiting {
            each.join().unwrap().unwrap();
        }
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn who_has_answers_made_and_reads_none_is_not_read_on_from() {
    run(|| {
        let server = server()
            .stall_timeout(Duration::from_millis(600))
            .heartbeat(Duration::from_millis(200))
            .bind("127.0.0.1:0")
            .unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        for asks in [
            // What there is not, and what may be asked at any time.
            frame(2, 0, [0, 0], &request("/t.T/Missing")),
            frame(7, 0, [0, 0], &[0; 8]),
        ] {
            let flooding = maniple::spawn(move || {
                maniple::offload(move || {
                    let mut raw = Raw::hello(address);
                    raw.0
                        .set_write_timeout(Some(Duration::from_secs(30)))
                        .unwrap();
                    let all = asks.repeat(1000);
                    // Far more than sockets hold, of which it reads nothing.
                    (0..3000).any(|_| raw.0.write_all(&all).is_err())
                })
                .unwrap()
            });
            let mut most = 0;
            while !flooding.is_finished() {
                let connections = handle.connections();
                let unsent = connections.iter().map(|each| each.unsent);
                most = most.max(unsent.max().unwrap_or(0));
                maniple::sleep(Duration::from_millis(2));
            }
            assert!(flooding.join().unwrap(), "it is ended");
            assert!(most < 3_000_000, "{most}");
        }
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

/// A client of bytes.
struct Raw(TcpStream);

impl Raw {
    fn hello(address: SocketAddr) -> Self {
        let mut raw = Self(TcpStream::connect(address).unwrap());
        raw.0
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let body = b"mrpc\0\x01\0\0\0\x10\0\0\0\0\0\0\0\0\x10\0\0";
        raw.frame(1, 0, [0, 0], body);
        raw
    }

    fn frame(&mut self, kind: u8, flags: u8, call: [u32; 2], body: &[u8]) {
        _ = self.0.write_all(&frame(kind, flags, call, body));
    }

    /// Waits until so many responses and pongs have come, and leaves them.
    fn await_answers(&mut self, wanted: usize) {
        let mut peek = vec![0; 64 * 1024];
        let mut count = 0;
        while count < wanted {
            let come = self.0.peek(&mut peek).unwrap();
            let mut rest = &peek[..come];
            count = 0;
            while let Some((head, body)) = rest.split_first_chunk::<16>() {
                let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
                let Some(next) = body.get(length..) else {
                    break;
                };
                count += usize::from([3, 8].contains(&head[4]));
                rest = next;
            }
            thread::yield_now();
        }
    }

    /// The kinds of all frames until the end; the reason of a farewell behind its kind.
    fn kinds(&mut self) -> Vec<(u8, u16)> {
        let (mut all, mut kinds) = (Vec::new(), Vec::new());
        // A reset is an end too.
        _ = self.0.read_to_end(&mut all);
        let mut rest = &all[..];
        while rest.len() >= 16 {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let Some(body) = rest.get(16..16 + length) else {
                break;
            };
            let reason = match rest[4] {
                9 => u16::from_be_bytes(body[8..10].try_into().unwrap()),
                3 => u16::from(body[0]),
                _ => 0,
            };
            kinds.push((rest[4], reason));
            rest = &rest[16 + length..];
        }
        kinds
    }
}

fn frame(kind: u8, flags: u8, call: [u32; 2], body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend([kind, flags, 0, 0]);
    frame.extend(call.iter().flat_map(|number| number.to_be_bytes()));
    frame.extend(body);
    frame
}

fn request(method: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend((method.len() as u16).to_be_bytes());
    body.extend([0; 6]);
    body.extend(method.as_bytes());
    body
}

#[test]
fn what_a_client_may_not_send_is_answered_with_a_farewell() {
    type Wrong = fn(&mut Raw);
    let cases: [(&str, u16, Wrong); 9] = [
        ("an unknown kind", 1, |raw| raw.frame(99, 0, [0, 0], &[])),
        ("a flag too many", 1, |raw| {
            raw.frame(7, 64, [0, 0], &[0; 8])
        }),
        ("a body too large", 2, |raw| {
            _ = raw
                .0
                .write_all(&[255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }),
        ("a wrong checksum", 3, |raw| {
            raw.frame(7, 1, [0, 0], &[0; 12])
        }),
        ("a request that is cut", 1, |raw| {
            raw.frame(2, 0, [0, 1], &[0; 15])
        }),
        ("a slot beyond all", 1, |raw| {
            raw.frame(2, 0, [1024, 1], &request(ECHO))
        }),
        ("a slot in use", 1, |raw| {
            raw.frame(2, 2, [0, 1], &request(TALK));
            raw.frame(2, 2, [0, 2], &request(TALK));
        }),
        ("a response", 1, |raw| raw.frame(3, 0, [0, 1], &[0; 8])),
        ("a ping of three bytes", 1, |raw| {
            raw.frame(7, 0, [0, 0], &[0; 3])
        }),
    ];
    run(move || {
        let server = server()
            .heartbeat(Duration::from_secs(60))
            .bind("127.0.0.1:0")
            .unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        for (what, reason, wrong) in cases {
            let kinds = maniple::offload(move || {
                let mut raw = Raw::hello(address);
                wrong(&mut raw);
                raw.kinds()
            })
            .unwrap();
            assert!(kinds.contains(&(9, reason)), "{what}: {kinds:?}");
        }
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn frames_for_calls_that_have_ended_are_left_out_and_all_requests_are_answered() {
    run(|| {
        let server = server()
            .heartbeat(Duration::from_secs(60))
            .bind("127.0.0.1:0")
            .unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let kinds = maniple::offload(move || {
            let mut raw = Raw::hello(address);
            for kind in [4, 6] {
                raw.frame(kind, 0, [7, 7], &[0; 4]);
            }
            raw.frame(5, 0, [7, 7], &[255; 4]);
            raw.frame(2, 2, [0, 1], &request(TALK));
            raw.frame(6, 0, [0, 1], &[]);
            raw.frame(2, 0, [1, 1], &request("/t.T/Missing"));
            raw.frame(2, 0, [2, 1], &request(ECHO));
            // Its answers end the connection only once all have come.
            raw.await_answers(3);
            raw.0.shutdown(Shutdown::Write).unwrap();
            raw.kinds()
        })
        .unwrap();
        let mut codes: Vec<_> = kinds.iter().filter(|kind| kind.0 == 3).collect();
        codes.sort();
        assert_eq!(codes, [&(3, 0), &(3, 1), &(3, 12)], "{kinds:?}");
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn a_client_that_does_not_read_is_ended_and_is_named_before() {
    let service = Service::new("t.F").unary("Flood", |call: &mut Call, _: String| {
        call.attach_to_answer(vec![0; 30_000]);
        Ok::<_, Status>(String::new())
    });
    run(|| {
        let server = server()
            .service(service)
            .max_unsent_bytes(10_000)
            .stall_timeout(Duration::from_millis(600))
            .bind("127.0.0.1:0")
            .unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let serving = maniple::spawn(move || server.serve());
        let flooding = maniple::spawn(move || {
            maniple::offload(move || {
                let mut raw = Raw::hello(address);
                raw.0
                    .set_write_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                let body = request("/t.F/Flood");
                let ended = (0_u32..).find(|round| {
                    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
                    frame.extend([2, 0, 0, 0]);
                    frame.extend((round % 1024).to_be_bytes());
                    frame.extend(round.to_be_bytes());
                    frame.extend(&body);
                    // It answers none, so that the slots are used up in the end, or is ended before.
                    *round >= 1024 || raw.0.write_all(&frame).is_err()
                });
                // It lives, as far as one can see, and reads nothing.
                while raw
                    .0
                    .write_all(&[
                        0, 0, 0, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
                    ])
                    .is_ok()
                {
                    let (_never, nothing) = mpsc::channel::<()>();
                    _ = nothing.recv_timeout(Duration::from_millis(10));
                }
                ended
            })
            .unwrap()
        });
        let mut most = 0;
        let mut was_named = false;
        loop {
            let connections = handle.connections();
            most = most.max(
                connections
                    .iter()
                    .map(|each| each.unsent)
                    .max()
                    .unwrap_or(0),
            );
            was_named |= connections.iter().any(|each| each.stalled.is_some());
            if flooding.is_finished() && connections.is_empty() {
                break;
            }
            maniple::sleep(Duration::from_millis(2));
        }
        flooding.join().unwrap();
        assert!(was_named && most < 100_000, "{was_named} {most}");
        handle.drain();
        serving.join().unwrap().unwrap();
    });
}
