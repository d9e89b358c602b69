//! A server around an actor, as a chat room: its protocol, its laggards, the ends of connections, and its own.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use maniple::{JoinHandle, Runtime, sync::channel::unbounded};
use maniple_parts::{
    actor::{
        Actor, Builder, Closed, Codec, CodecError, ConnId, Laggard, LineCodec, Outbox, Report,
        ServeError, Server, ServerHandle,
    },
    pool::{Pool, WhenFull},
};

use super::chat::{Chat, MAX_LINE};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A server with this actor, on a runtime of its own.
pub(super) struct Served<L> {
    pub(super) handle: ServerHandle,
    pub(super) serving: JoinHandle<Result<(L, Report), ServeError>>,
    pub(super) _runtime: Runtime,
}

impl<L> Served<L> {
    pub(super) fn start<C>(
        codec: C,
        actor: L,
        set: impl FnOnce(Builder<C, L>) -> Builder<C, L> + Send,
    ) -> Self
    where
        C: Codec,
        L: Actor<In = C::In, Out = C::Out> + Send + 'static,
    {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        // Inside, where a pool would be made.
        let server = runtime.run(|| {
            let builder = set(Server::builder("tested", codec, actor));
            builder.bind("127.0.0.1:0").unwrap()
        });
        Self {
            handle: server.handle(),
            serving: runtime.spawn(move || server.serve()),
            _runtime: runtime,
        }
    }

    pub(super) fn connect(&self) -> Peer {
        Peer::to(self.handle.local_addr())
    }

    pub(super) fn wait_for_connections(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.handle.connections() != count {
            assert!(Instant::now() < until, "{}", self.handle.connections());
            std::thread::yield_now();
        }
    }

    pub(super) fn end(self) -> Result<(L, Report), ServeError>
    where
        L: Send + 'static,
    {
        self.handle.drain();
        self.serving.join().unwrap()
    }
}

fn chat(
    set: impl FnOnce(Builder<LineCodec, Chat>) -> Builder<LineCodec, Chat> + Send,
) -> Served<Chat> {
    Served::start(LineCodec::new(MAX_LINE), Chat::default(), set)
}

pub(super) struct Peer(pub(super) BufReader<TcpStream>);

impl Peer {
    pub(super) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(super) fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(super) fn hears(&mut self, line: &str) {
        assert_eq!(self.next().as_deref(), Some(line));
    }

    pub(super) fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    #[track_caller]
    pub(super) fn hears_the_end(&mut self) {
        assert_eq!(self.next(), None);
    }

    pub(super) fn joined(mut self, name: &str) -> Self {
        self.say(&format!("join tea {name}\n"));
        self.hears("ok joined tea");
        self
    }
}

#[test]
fn a_room_speaks_its_protocol() {
    let served = chat(|builder| builder);
    let mut ann = served.connect().joined("Ann");
    let mut ben = served.connect();
    for (line, answer) in [
        ("say hi\n", "error not joined"),
        ("leave\n", "error not joined"),
        ("dance\n", "error unknown command"),
        ("join tea\n", "error bad name"),
        ("join tea B!n\n", "error bad name"),
        ("join tea Ann\n", "error name taken"),
        ("join tea Ben\r\n", "ok joined tea"),
        ("join tea Ben\n", "error already joined"),
        ("say\n", "error empty message"),
        ("say  two  spaces\n", "<Ben>  two  spaces"),
        ("leave\n", "ok left"),
        ("join mate Ann\n", "ok joined mate"),
    ] {
        ben.say(line);
        ben.hears(answer);
    }
    for line in ["* Ben joined", "<Ben>  two  spaces", "* Ben left"] {
        ann.hears(line);
    }
    let (chat, report) = served.end().unwrap();
    ann.hears_the_end();
    assert_eq!(
        (chat.rooms(), report.connections, report.drain.cancelled),
        (0, 2, 0)
    );
}

#[test]
fn all_members_hear_one_order() {
    let served = chat(|builder| builder.outgoing(1000));
    let mut ear = served.connect().joined("ear");
    let mouths: Vec<_> = ["a", "b", "c"]
        .map(|name| served.connect().joined(name))
        .into_iter()
        .map(|mut peer| {
            std::thread::spawn(move || {
                (0..30).for_each(|n| peer.say(&format!("say {n}\n")));
                let lines = std::iter::from_fn(|| peer.next()).filter(|line| line.starts_with('<'));
                lines.take(90).collect::<Vec<_>>()
            })
        })
        .collect();
    let lines = std::iter::from_fn(|| ear.next()).filter(|line| line.starts_with('<'));
    let heard: Vec<_> = lines.take(90).collect();
    for mouth in mouths {
        assert_eq!(mouth.join().unwrap(), heard);
    }
}

#[test]
fn a_half_close_is_answered_in_full_and_the_room_told() {
    let served = chat(|builder| builder);
    let mut ann = served.connect().joined("Ann");
    let mut ben = served.connect();
    ben.say("join tea Ben\nsay bye\nsay unfinis");
    ben.0.get_ref().shutdown(Shutdown::Write).unwrap();
    ben.hears("ok joined tea");
    ben.hears("<Ben> bye");
    ben.hears_the_end();
    for line in ["* Ben joined", "<Ben> bye", "* Ben left"] {
        ann.hears(line);
    }
    served.wait_for_connections(1);
}

#[test]
fn a_reset_is_a_leave() {
    let served = chat(|builder| builder);
    let mut ann = served.connect().joined("Ann");
    let mut ben = served.connect().joined("Ben");
    ben.say("say to be left unread\n");
    ann.hears("* Ben joined");
    ann.hears("<Ben> to be left unread");
    // Closing with unread bytes resets.
    ben.0.get_ref().peek(&mut [0]).unwrap();
    drop(ben);
    ann.hears("* Ben left");
    served.wait_for_connections(1);
}

#[test]
fn a_line_too_long_is_told_and_ends_the_connection() {
    let served = chat(|builder| builder);
    let mut ann = served.connect().joined("Ann");
    let mut ben = served.connect().joined("Ben");
    ann.hears("* Ben joined");
    ben.say(&format!("say {}\n", "x".repeat(MAX_LINE - 4)));
    assert_eq!(ben.next().unwrap().len(), MAX_LINE + 2);
    ann.next();
    // Far more than is read before it is refused: the answer must arrive all the same.
    ben.say(&"y".repeat(100_000));
    ben.hears("error line too long");
    ben.hears_the_end();
    ann.hears("* Ben left");
}

/// More than the kernel takes for a peer that does not read, at 500 bytes a line.
const FLOOD: usize = 32_000;

/// Has a member stall while another talks, until the stalled one has left or that is a flood: the two, and whether
/// it has left.
fn stall(served: &Served<Chat>) -> (Peer, Peer, bool) {
    /// Lines that Ann sends before she reads, so that she is no laggard herself.
    const AHEAD: usize = 100;
    let stalled = served.connect().joined("slow");
    let mut ann = served.connect().joined("Ann");
    let text = "z".repeat(500);
    for n in (0..FLOOD).step_by(AHEAD) {
        let lines = (n..n + AHEAD).map(|n| format!("say {n} {text}\n"));
        ann.say(&lines.collect::<String>());
        let mut has_left = false;
        let last = format!("<Ann> {} ", n + AHEAD - 1);
        loop {
            let line = ann.next().unwrap();
            has_left |= line == "* slow left";
            if line.starts_with(&last) {
                break;
            }
        }
        if has_left {
            return (stalled, ann, true);
        }
    }
    (stalled, ann, false)
}

#[test]
fn a_stalled_member_is_disconnected_and_the_room_goes_on() {
    let served = chat(|builder| builder.laggard(Laggard::Disconnect));
    let (_stalled, mut ann, has_left) = stall(&served);
    assert!(has_left);
    ann.say("say still here\n");
    ann.hears("<Ann> still here");
    served.wait_for_connections(1);
}

#[test]
fn a_stalled_member_misses_the_oldest_lines_and_is_told_how_many() {
    let served = chat(|builder| builder.laggard(Laggard::DropOldest));
    let (mut stalled, mut ann, _) = stall(&served);
    stalled.hears("* Ann joined");
    let (mut heard, mut dropped, mut notices) = (0, 0, 0);
    while heard + dropped < FLOOD {
        let line = stalled.next().unwrap();
        match line.strip_prefix("* ") {
            Some(notice) => {
                let count = notice.strip_suffix(" lines dropped").unwrap();
                dropped += count.parse::<usize>().unwrap();
                notices += 1;
            }
            None => {
                let number = line.strip_prefix("<Ann> ").unwrap();
                let number = number.split(' ').next().unwrap();
                assert_eq!(number, (heard + dropped).to_string(), "heard or counted");
                heard += 1;
            }
        }
    }
    assert!(dropped > 0 && notices > 0);
    ann.say("say on\n");
    stalled.hears("<Ann> on");
}

#[test]
fn the_lines_of_the_mixed_model_come_from_a_pool() {
    let (tell, told) = unbounded();
    let served = chat(|builder| {
        let pool = Pool::builder("lines").workers(4).queue(4).build().unwrap();
        tell.send(pool.clone()).unwrap();
        builder.on_pool(&pool)
    });
    let pool = told.recv().unwrap();
    for _ in 0..3 {
        let mut ann = served.connect().joined("Ann");
        let ben = served.connect().joined("Ben");
        assert_eq!(pool.stats().running, 4);
        // A third has to wait for two workers.
        let mut eve = served.connect();
        eve.say("join tea Eve\n");
        ann.hears("* Ben joined");
        drop(ben);
        ann.hears("* Ben left");
        ann.hears("* Eve joined");
        eve.hears("ok joined tea");
        drop((ann, eve));
        let until = Instant::now() + PATIENCE;
        while pool.stats().running > 0 {
            assert!(Instant::now() < until, "{:?}", pool.stats());
            std::thread::yield_now();
        }
    }
    served.end().unwrap();
    assert_eq!(pool.stats().done, 18);
}

#[test]
fn a_pool_that_does_not_fit_is_refused() {
    let server = |pool: &Pool| {
        let builder = Server::builder("tested", LineCodec::new(9), Chat::default());
        builder.on_pool(pool).bind("127.0.0.1:0").map(drop)
    };
    let one = Pool::builder("one").workers(1).build().unwrap();
    let here = Pool::builder("here").when_full(WhenFull::RunHere);
    for pool in [one, here.build().unwrap()] {
        let error = server(&pool).unwrap_err();
        assert!(error.to_string().contains("server `tested`"), "{error}");
    }
}

#[test]
fn a_pool_that_is_closed_ends_the_connection_and_not_the_server() {
    let served = chat(|builder| {
        let pool = Pool::builder("closed").workers(4).build().unwrap();
        pool.drain(PATIENCE);
        builder.on_pool(&pool)
    });
    for _ in 0..5 {
        served.connect().hears_the_end();
    }
    assert_eq!(served.end().unwrap().1.connections, 5);
}

#[test]
fn a_drain_sends_what_is_queued() {
    let served = chat(|builder| builder);
    let mut ann = served.connect().joined("Ann");
    ann.say("say one\nsay two\n");
    ann.hears("<Ann> one");
    ann.hears("<Ann> two");
    let (_, report) = served.end().unwrap();
    ann.hears_the_end();
    assert_eq!((report.messages, report.drain.cancelled), (3, 0));
}

#[test]
fn a_drain_cuts_who_takes_nothing_when_its_grace_is_over() {
    let served = chat(|builder| {
        let builder = builder.laggard(Laggard::DropOldest);
        builder.drain_grace(Duration::from_millis(500))
    });
    let (stalled, ann, _) = stall(&served);
    let (_, report) = served.end().unwrap();
    assert_eq!(report.drain.cancelled, 1);
    drop((stalled, ann));
}

#[test]
fn who_takes_nothing_is_closed_after_the_write_timeout() {
    let served = chat(|builder| {
        let builder = builder.outgoing(100_000);
        builder.write_timeout(Duration::from_millis(50))
    });
    let (_stalled, mut ann, has_left) = stall(&served);
    if !has_left {
        ann.hears("* slow left");
    }
    served.wait_for_connections(1);
}

/// Answers whatever it is told with one message of eight million bytes.
struct Long;

const LONG_MESSAGE: usize = 8_000_000;

impl Actor for Long {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, conn: ConnId, _: String, out: &mut Outbox<Arc<str>>) {
        assert!(out.send(conn, "x".repeat(LONG_MESSAGE)));
    }
}

#[test]
fn who_takes_a_long_message_slowly_gets_all_of_it() {
    const STALL: Duration = Duration::from_secs(1);
    let served = Served::start(LineCodec::new(9), Long, |builder| {
        builder.write_timeout(STALL)
    });
    let mut slow = served.connect();
    slow.say("go\n");
    let (_never, tick) = std::sync::mpsc::channel::<()>();
    let (began, mut total, mut bytes) = (Instant::now(), 0, vec![0; 65_536]);
    while total <= LONG_MESSAGE {
        total += slow.0.read(&mut bytes).unwrap();
        if began.elapsed() < 3 * STALL {
            let _ = tick.recv_timeout(Duration::from_millis(10));
        }
    }
    assert!(began.elapsed() > STALL, "too fast to tell");
}

#[test]
fn who_takes_nothing_more_of_a_message_is_reset() {
    let served = Served::start(LineCodec::new(9), Long, |builder| {
        builder.write_timeout(Duration::from_millis(50))
    });
    let mut stalled = served.connect();
    stalled.say("go\n");
    stalled.0.read_exact(&mut [0; 100]).unwrap();
    served.wait_for_connections(0);
    let end = stalled.0.read_to_end(&mut Vec::new()).map_err(|e| e.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

/// Notes what it is told, and does as it is told.
struct Notes(maniple::sync::channel::Sender<String>);

impl Actor for Notes {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, conn: ConnId, line: String, out: &mut Outbox<Arc<str>>) {
        match &*line {
            "close" => {
                assert!(out.send(conn, "last"));
                assert!(out.close(conn));
                assert!(!out.send(conn, "too late") && !out.close(conn));
            }
            "drain" => out.drain(),
            "panic" => panic!("intended"),
            "inject" => assert!(out.send(conn, "a\nb")),
            _ => assert!(out.send(conn, line)),
        }
    }

    fn closed(&mut self, _: ConnId, reason: Closed, _: &mut Outbox<Arc<str>>) {
        let _ = self.0.send(format!("{reason:?}"));
    }

    fn tick(&mut self, _: &mut Outbox<Arc<str>>) {
        let _ = self.0.send("tick".to_owned());
    }
}

#[test]
fn each_end_has_its_reason() {
    let (tell, told) = unbounded();
    let served = Served::start(LineCodec::new(9), Notes(tell), |builder| builder);
    for (text, answer, reason) in [
        ("close\nunheard\n", Some("last"), "ByActor"),
        ("0123456789", None, "Codec(TooLong { limit: 9 })"),
        (
            "inject\n",
            None,
            r#"Codec(Malformed("line with a line end in it"))"#,
        ),
    ] {
        let mut peer = served.connect();
        peer.say(text);
        if let Some(answer) = answer {
            peer.hears(answer);
        }
        peer.hears_the_end();
        assert_eq!(told.recv().unwrap(), reason);
    }
    let peer = served.connect();
    drop(peer);
    assert_eq!(told.recv().unwrap(), "End");
    let mut peer = served.connect();
    peer.say("hi\n");
    peer.0.get_ref().peek(&mut [0]).unwrap();
    // With the answer unread this is a reset.
    drop(peer);
    let reason = told.recv().unwrap();
    assert!(reason.starts_with("Failed("), "{reason}");
    let mut peer = served.connect();
    peer.say("drain\n");
    peer.hears_the_end();
    assert_eq!(told.recv().unwrap(), "Drained");
    served.serving.join().unwrap().unwrap();
}

#[test]
fn who_sends_nothing_is_closed_after_the_idle_timeout() {
    let (tell, told) = unbounded();
    let served = Served::start(LineCodec::new(9), Notes(tell), |builder| {
        builder.idle_timeout(Duration::from_millis(20))
    });
    served.connect().hears_the_end();
    assert_eq!(told.recv().unwrap(), "Idle");
}

#[test]
fn a_panic_of_the_logic_ends_the_server_and_says_where() {
    let (tell, _told) = unbounded();
    let served = Served::start(LineCodec::new(9), Notes(tell), |builder| builder);
    let mut bystander = served.connect();
    bystander.say("hi\n");
    bystander.hears("hi");
    served.connect().say("panic\n");
    let error = served.serving.join().unwrap().map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "server `tested`: the actor panicked in `received`: intended"
    );
    bystander.hears_the_end();
}

#[test]
fn ticks_come_while_nothing_else_does() {
    let (tell, told) = unbounded();
    let served = Served::start(LineCodec::new(9), Notes(tell), |builder| {
        builder.tick(Duration::from_millis(1))
    });
    (0..3).for_each(|_| assert_eq!(told.recv().unwrap(), "tick"));
    served.end().unwrap();
}

/// Panics at what it does not like.
#[derive(Clone)]
struct Picky;

impl Codec for Picky {
    type In = String;
    type Out = Arc<str>;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, String)>, CodecError> {
        match input {
            [] => Ok(None),
            b"none" => Ok(Some((0, String::new()))),
            b"long" => Ok(None),
            input => panic!("{} bytes", input.len()),
        }
    }

    fn encode(&mut self, _: &Arc<str>, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }
}

#[test]
fn a_codec_can_harm_its_connection_alone() {
    let (tell, told) = unbounded();
    let served = Served::start(Picky, Notes(tell), |builder| builder.max_message_bytes(3));
    for (text, reason) in [
        ("panic", r#"Codec(Malformed("decoding panicked: 5 bytes"))"#),
        (
            "none",
            r#"Codec(Malformed("the codec made a message of nothing"))"#,
        ),
        ("long", "Codec(TooLong { limit: 3 })"),
    ] {
        let mut peer = served.connect();
        peer.say(text);
        peer.hears_the_end();
        assert_eq!(told.recv().unwrap(), reason);
    }
    assert_eq!(served.end().unwrap().1.connections, 3);
}

#[test]
fn cancelling_its_owner_drains_it() {
    let served = chat(|builder| builder);
    let mut ann = served.connect().joined("Ann");
    served.serving.cancel();
    ann.hears_the_end();
    assert!(served.serving.join().is_ok_and(|ended| ended.is_ok()));
}

#[test]
fn more_connections_than_its_limit_wait() {
    let served = chat(|builder| builder.max_connections(1));
    let ann = served.connect().joined("Ann");
    let mut ben = served.connect();
    ben.say("join tea Ben\n");
    drop(ann);
    ben.hears("ok joined tea");
    let mut rest = String::new();
    served.end().unwrap();
    ben.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

/// Takes each line only when it is let, and counts.
struct Slow {
    lets: maniple::sync::channel::Receiver<()>,
    taken: usize,
    closed: usize,
}

impl Actor for Slow {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, _: ConnId, line: String, _: &mut Outbox<Arc<str>>) {
        let _ = self.lets.recv();
        assert_ne!(line, "panic", "intended");
        self.taken += 1;
    }

    fn closed(&mut self, _: ConnId, _: Closed, _: &mut Outbox<Arc<str>>) {
        self.closed += 1;
    }
}

/// A server whose actor is behind, so that readers of two connections wait for room; and who lets it go on.
fn behind(lines: &str) -> (Served<Slow>, maniple::sync::channel::Sender<()>, [Peer; 2]) {
    let (let_go, lets) = unbounded();
    let slow = Slow {
        lets,
        taken: 0,
        closed: 0,
    };
    let served = Served::start(LineCodec::new(9), slow, |builder| builder.events(1));
    let peers = [0, 1].map(|_| {
        let mut peer = served.connect();
        peer.say(lines);
        peer
    });
    served.wait_for_connections(2);
    (served, let_go, peers)
}

#[test]
fn a_drain_while_readers_wait_for_room_handles_what_they_have_read() {
    let (served, let_go, mut peers) = behind(&"line\n".repeat(50));
    served.handle.drain();
    // The actor goes on without being let.
    drop(let_go);
    let (slow, report) = served.end().unwrap();
    assert_eq!((slow.closed, report.messages), (2, slow.taken as u64));
    assert_eq!(report.drain.cancelled, 0);
    peers.iter_mut().for_each(Peer::hears_the_end);
}

#[test]
fn a_panic_of_the_logic_frees_readers_that_wait_for_room() {
    let (served, let_go, peers) = behind(&("line\npanic\n".to_owned() + &"line\n".repeat(50)));
    drop(let_go);
    assert!(matches!(
        served.serving.join().unwrap(),
        Err(ServeError::Panicked {
            event: "received",
            ..
        })
    ));
    assert_eq!(served.handle.connections(), 0);
    drop(peers);
}

#[test]
fn a_pool_drained_while_in_use_ends_its_connections_and_not_the_server() {
    let (tell, told) = unbounded();
    let served = chat(|builder| {
        let pool = Pool::builder("lines").workers(4).build().unwrap();
        tell.send(pool.clone()).unwrap();
        builder.on_pool(&pool)
    });
    let mut ann = served.connect().joined("Ann");
    let report = told.recv().unwrap().drain(Duration::ZERO);
    assert_eq!((report.withdrawn, report.left), (0, 0));
    ann.hears_the_end();
    served.connect().hears_the_end();
    assert_eq!(served.end().unwrap().0.rooms(), 0);
}

#[test]
fn the_end_of_its_runtime_ends_it() {
    let Served {
        serving,
        handle,
        _runtime: runtime,
    } = chat(|builder| builder);
    let stream = TcpStream::connect(handle.local_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut ann = Peer(BufReader::new(stream)).joined("Ann");
    let report = runtime.shutdown();
    assert!(report.is_clean(), "{report:?}");
    ann.hears_the_end();
    assert_eq!(handle.connections(), 0);
    drop(serving);
}

#[test]
fn a_flood_reaches_all_who_read_and_costs_nobody_the_connection() {
    const MEMBERS: usize = 30;
    const LINES: usize = 3_000;
    for _ in 0..3 {
        let served = chat(|builder| builder);
        let members: Vec<_> = (0..MEMBERS)
            .map(|n| served.connect().joined(&format!("m{n}")))
            .collect();
        let mut flooder = served.connect().joined("flooder");
        let reading: Vec<_> = members
            .into_iter()
            .map(|mut member| {
                std::thread::spawn(move || {
                    let lines = std::iter::from_fn(|| member.next());
                    let said = lines.filter(|line| line.starts_with("<flooder>"));
                    (said.take(LINES).count(), member)
                })
            })
            .collect();
        let lines: String = (0..LINES).map(|n| format!("say {n}\n")).collect();
        let listening = std::thread::spawn({
            let stream = flooder.0.get_ref().try_clone().unwrap();
            move || BufReader::new(stream).lines().take(LINES).count()
        });
        flooder.say(&lines);
        let heard: Vec<_> = reading.into_iter().map(|m| m.join().unwrap()).collect();
        assert!(heard.iter().all(|(count, _)| *count == LINES));
        assert_eq!(listening.join().unwrap(), LINES);
        assert_eq!(served.handle.connections(), MEMBERS + 1);
    }
}

/// Sends as many lines as it is told to in one event, and some as soon as somebody comes.
struct Generous;

impl Actor for Generous {
    type In = String;
    type Out = Arc<str>;

    fn opened(&mut self, conn: ConnId, _: SocketAddr, out: &mut Outbox<Arc<str>>) {
        self.received(conn, "300".to_owned(), out);
    }

    fn received(&mut self, conn: ConnId, line: String, out: &mut Outbox<Arc<str>>) {
        for n in 0..line.parse::<u32>().unwrap() {
            assert!(out.send(conn, n.to_string()));
            // Its sender may have taken all meanwhile.
            assert!(out.queued(conn) <= 256);
            assert!(out.queued_bytes(conn) <= 256 * 5);
        }
    }
}

#[test]
fn more_than_a_queue_holds_may_be_sent_in_one_event() {
    for lag in [Laggard::Disconnect, Laggard::DropOldest] {
        let served = Served::start(LineCodec::new(9), Generous, |builder| builder.laggard(lag));
        let mut peer = served.connect();
        (0..300).for_each(|n| peer.hears(&n.to_string()));
        for count in [257, 1, 3_000] {
            peer.say(&format!("{count}\n"));
            (0..count).for_each(|n| peer.hears(&n.to_string()));
        }
    }
}

#[test]
fn a_connection_may_send_so_many_messages_and_the_others_when_it_is_their_time() {
    let (tell, _told) = unbounded();
    let served = Served::start(LineCodec::new(9), Notes(tell), |builder| {
        builder.rate(5, Duration::from_secs(3600))
    });
    let mut peer = served.connect();
    peer.say(&(0..12).map(|n| format!("{n}\n")).collect::<String>());
    (0..5).for_each(|n| peer.hears(&n.to_string()));
    let stream = peer.0.get_ref();
    let short = Some(Duration::from_millis(50));
    stream.set_read_timeout(short).unwrap();
    assert!(stream.peek(&mut [0]).is_err(), "the next is not taken yet");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut other = served.connect();
    other.say("hi\n");
    other.hears("hi");
    // What has been read is handled all the same.
    served.end().unwrap();
    (5..12).for_each(|n| peer.hears(&n.to_string()));
    peer.hears_the_end();
}

#[test]
fn how_far_the_logic_is_behind_is_told() {
    let (served, let_go, peers) = behind(&"line\n".repeat(20));
    let until = Instant::now() + PATIENCE;
    // One more connection may be in the queue, or wait for it.
    while served.handle.backlog() < 2 {
        assert!(Instant::now() < until, "{}", served.handle.backlog());
        std::thread::yield_now();
    }
    drop(let_go);
    while served.handle.backlog() > 0 {
        assert!(Instant::now() < until, "{}", served.handle.backlog());
        std::thread::yield_now();
    }
    drop(peers);
}
