//! What codecs, messages, settings and a lack of stacks may do to a server around an actor: harm a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::{
    Runtime,
    sync::channel::{Receiver, Sender, unbounded},
};
use maniple_parts::actor::{
    Actor, Closed, Codec, CodecError, ConnId, Laggard, LineCodec, Outbox, Server,
};

use super::actor::{PATIENCE, Peer, Served};
use maniple_parts::pool::{Pool, Ticket, WhenFull};

/// Echoes, and notes what else it is told.
struct Echo(Sender<String>);

impl Actor for Echo {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, conn: ConnId, line: String, out: &mut Outbox<Arc<str>>) {
        out.send(conn, line);
    }

    fn closed(&mut self, _: ConnId, reason: Closed, _: &mut Outbox<Arc<str>>) {
        let _ = self.0.send(format!("{reason:?}"));
    }

    fn draining(&mut self, _: &mut Outbox<Arc<str>>) {
        let _ = self.0.send("draining".to_owned());
    }
}

#[test]
fn a_period_too_short_for_anything_leaves_time_for_events_and_for_the_drain() {
    let (tell, _told) = unbounded();
    let served = Served::start(LineCodec::new(9), Echo(tell), |builder| {
        builder.tick(Duration::from_nanos(1))
    });
    let mut peer = served.connect();
    peer.say("hi\n");
    peer.hears("hi");
    served.end().unwrap();
}

/// Sends more than any peer takes that does not read.
struct Flood(Sender<&'static str>);

impl Actor for Flood {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, conn: ConnId, _: String, out: &mut Outbox<Arc<str>>) {
        let line: Arc<str> = "z".repeat(1 << 16).into();
        (0..400).for_each(|_| _ = out.send(conn, line.clone()));
        let _ = self.0.send("flooded");
    }

    fn draining(&mut self, _: &mut Outbox<Arc<str>>) {
        let _ = self.0.send("draining");
    }
}

#[test]
fn the_logic_is_told_of_the_drain_once_though_its_grace_is_over() {
    let (tell, told) = unbounded();
    let served = Served::start(LineCodec::new(9), Flood(tell), |builder| {
        let builder = builder.laggard(Laggard::DropOldest).outgoing(400);
        builder.drain_grace(Duration::from_millis(20))
    });
    let mut peer = served.connect();
    peer.say("go\n");
    assert_eq!(told.recv(), Ok("flooded"));
    let (actor, report) = served.end().unwrap();
    drop(actor);
    assert_eq!(report.drain.cancelled, 1);
    assert_eq!(told.iter().collect::<Vec<_>>(), ["draining"]);
}

/// A codec that cannot be cloned any more after so many times.
struct Worn(Arc<AtomicUsize>, LineCodec);

impl Clone for Worn {
    fn clone(&self) -> Self {
        assert_ne!(self.0.fetch_sub(1, SeqCst), 0, "intended");
        Self(self.0.clone(), self.1.clone())
    }
}

impl Codec for Worn {
    type In = String;
    type Out = Arc<str>;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, String)>, CodecError> {
        self.1.decode(input)
    }

    fn encode(&mut self, message: &Arc<str>, output: &mut Vec<u8>) -> Result<(), CodecError> {
        self.1.encode(message, output)
    }
}

#[test]
fn a_codec_that_cannot_be_cloned_ends_that_connection_and_others_are_accepted() {
    for before in 0..2 {
        let (tell, _told) = unbounded();
        let codec = Worn(Arc::new(AtomicUsize::new(before)), LineCodec::new(9));
        let served = Served::start(codec, Echo(tell), |builder| builder);
        served.connect().hears_the_end();
        let mut other = served.connect();
        other.say("hi\n");
        other.hears("hi");
        let (_, report) = served.end().unwrap();
        assert_eq!((report.connections, report.drain.cancelled), (2, 0));
    }
}

/// Panics when it is dropped, with another that does.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        std::panic::panic_any(Endless);
    }
}

/// Cannot read `decode`, nor write `encode`, nor be cloned once more if it is worn; its panics have no end.
struct Cursed(Arc<AtomicUsize>, LineCodec);

impl Clone for Cursed {
    fn clone(&self) -> Self {
        if self.0.fetch_sub(1, SeqCst) == 0 {
            std::panic::panic_any(Endless);
        }
        Self(self.0.clone(), self.1.clone())
    }
}

impl Codec for Cursed {
    type In = String;
    type Out = Arc<str>;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, String)>, CodecError> {
        if input.starts_with(b"decode") {
            std::panic::panic_any(Endless);
        }
        self.1.decode(input)
    }

    fn encode(&mut self, message: &Arc<str>, output: &mut Vec<u8>) -> Result<(), CodecError> {
        if &**message == "encode" {
            std::panic::panic_any(Endless);
        }
        self.1.encode(message, output)
    }
}

#[test]
fn panics_without_end_end_their_connection_with_its_reason_and_no_other() {
    let (tell, told) = unbounded();
    let codec = Cursed(Arc::new(AtomicUsize::new(4)), LineCodec::new(9));
    let served = Served::start(codec, Echo(tell), |builder| builder);
    for what in ["decode", "encode"] {
        let mut peer = served.connect();
        peer.say(&format!("{what}\n"));
        peer.hears_the_end();
        let reason = told.recv().unwrap();
        assert!(
            reason.contains(&format!("{}ing panicked", &what[..5])),
            "{reason}"
        );
    }
    served.connect().hears_the_end();
    let mut other = served.connect();
    other.say("hi\n");
    other.hears("hi");
    let (_, report) = served.end().unwrap();
    assert_eq!((report.connections, report.drain.cancelled), (4, 0));
}

/// Panics without end at whatever it is told.
struct Fallen;

impl Actor for Fallen {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, _: ConnId, _: String, _: &mut Outbox<Arc<str>>) {
        std::panic::panic_any(Endless);
    }
}

#[test]
fn a_logic_whose_panics_have_no_end_is_named_by_the_servers_error() {
    let served = Served::start(LineCodec::new(9), Fallen, |builder| builder);
    let mut peer = served.connect();
    peer.say("hi\n");
    peer.hears_the_end();
    let error = served.end().err().unwrap().to_string();
    assert!(
        error.contains("the actor panicked in `received`"),
        "{error}"
    );
}

/// A message that panics when it is dropped unread.
struct Mine(bool);

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.0 || std::thread::panicking(), "intended");
    }
}

/// Each byte is a message.
#[derive(Clone)]
struct Bytes;

impl Codec for Bytes {
    type In = Mine;
    type Out = u8;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Mine)>, CodecError> {
        Ok(input.first().map(|&byte| (1, Mine(byte == b'!'))))
    }

    fn encode(&mut self, message: &u8, output: &mut Vec<u8>) -> Result<(), CodecError> {
        output.push(*message);
        Ok(())
    }
}

/// Closes each connection that says something.
struct Mute;

impl Actor for Mute {
    type In = Mine;
    type Out = u8;

    fn received(&mut self, conn: ConnId, _: Mine, out: &mut Outbox<u8>) {
        out.close(conn);
    }
}

#[test]
fn a_server_that_a_message_fells_accepts_nobody_any_more() {
    let served = Served::start(Bytes, Mute, |builder| builder);
    let mut peer = served.connect();
    peer.say("ab!");
    peer.hears_the_end();
    let Served {
        handle,
        serving,
        _runtime,
    } = served;
    assert!(serving.join().is_err(), "the panic is the caller's");
    assert!(handle.is_draining());
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(handle.local_addr()).is_ok() {
        assert!(Instant::now() < until, "it still listens");
        std::thread::yield_now();
    }
}

/// Does not return from `opened` before it is let, and counts connections.
struct Doorman {
    lets: Receiver<()>,
    opened: usize,
    closed: usize,
}

impl Actor for Doorman {
    type In = String;
    type Out = Arc<str>;

    fn opened(&mut self, _: ConnId, _: std::net::SocketAddr, _: &mut Outbox<Arc<str>>) {
        let _ = self.lets.recv();
        self.opened += 1;
    }

    fn received(&mut self, _: ConnId, _: String, _: &mut Outbox<Arc<str>>) {}

    fn closed(&mut self, _: ConnId, _: Closed, _: &mut Outbox<Arc<str>>) {
        self.closed += 1;
    }
}

#[test]
fn connections_for_which_there_are_no_stacks_are_closed_though_the_logic_is_behind() {
    let (let_go, lets) = unbounded();
    let actor = Doorman {
        lets,
        opened: 0,
        closed: 0,
    };
    let runtime = Runtime::builder()
        .workers(1)
        .max_coroutines(2)
        .build()
        .unwrap();
    // The owner and the acceptor are all that there is room for.
    let builder = Server::builder("tested", LineCodec::new(9), actor).events(2);
    let server = runtime.run(|| builder.bind("127.0.0.1:0").unwrap());
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let mut peers: Vec<_> = (0..4).map(|_| Peer::to(handle.local_addr())).collect();
    let until = Instant::now() + PATIENCE;
    // The first is at the door, its end and the second are in the queue, and the third waits for room.
    while handle.connections() < 3 {
        assert!(Instant::now() < until, "{}", handle.connections());
        std::thread::yield_now();
    }
    drop(let_go);
    peers.iter_mut().for_each(Peer::hears_the_end);
    handle.drain();
    let (actor, report) = serving.join().unwrap().unwrap();
    assert_eq!((actor.opened, actor.closed, report.connections), (4, 4, 4));
}

/// Sends two lines at once, of which the second is none.
struct Injecting(Sender<String>);

impl Actor for Injecting {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, conn: ConnId, _: String, out: &mut Outbox<Arc<str>>) {
        for line in ["first", "second", "a\nb", "unsent"] {
            out.send(conn, line);
        }
    }

    fn closed(&mut self, _: ConnId, reason: Closed, _: &mut Outbox<Arc<str>>) {
        let _ = self.0.send(format!("{reason:?}"));
    }
}

#[test]
fn what_was_queued_before_a_message_that_cannot_be_written_is_sent() {
    let (tell, told) = unbounded();
    let served = Served::start(LineCodec::new(9), Injecting(tell), |builder| builder);
    for _ in 0..20 {
        let mut peer = served.connect();
        peer.say("go\n");
        peer.hears("first");
        peer.hears("second");
        peer.hears_the_end();
        assert!(told.recv().unwrap().starts_with("Codec(Malformed("));
    }
}

#[test]
fn a_plain_thread_may_own_the_state() {
    let (tell, told) = unbounded();
    let builder = Server::builder("tested", LineCodec::new(9), Echo(tell));
    let server = builder.bind("127.0.0.1:0").unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.serve());
    let mut peer = Peer::to(handle.local_addr());
    peer.say("hi\n");
    peer.hears("hi");
    handle.drain();
    peer.hears_the_end();
    assert_eq!(serving.join().unwrap().unwrap().1.messages, 1);
    assert_eq!(told.iter().collect::<Vec<_>>(), ["draining", "Drained"]);
}

/// Has a pool compute, and answers when that is done.
struct Asking {
    pool: Pool,
    tickets: Vec<(ConnId, Ticket<usize>)>,
}

impl Actor for Asking {
    type In = String;
    type Out = Arc<str>;

    fn received(&mut self, conn: ConnId, line: String, out: &mut Outbox<Arc<str>>) {
        match self.pool.submit(move || line.len()) {
            Ok(ticket) => self.tickets.push((conn, ticket)),
            Err(_) => _ = out.send(conn, "busy"),
        }
    }

    fn tick(&mut self, out: &mut Outbox<Arc<str>>) {
        for (conn, ticket) in self
            .tickets
            .extract_if(.., |(_, ticket)| ticket.is_finished())
        {
            out.send(conn, ticket.join().unwrap().to_string());
        }
    }
}

#[test]
fn the_logic_may_have_a_pool_compute_and_answer_with_a_tick() {
    let (pool, tickets) = (Pool::builder("lengths").when_full(WhenFull::Reject), vec![]);
    let pool = pool.build().unwrap();
    let served = Served::start(LineCodec::new(9), Asking { pool, tickets }, |builder| {
        builder.tick(Duration::from_millis(1))
    });
    let mut peer = served.connect();
    peer.say("hi\nthere\n");
    let mut answers = [peer.next().unwrap(), peer.next().unwrap()];
    answers.sort();
    assert_eq!(answers, ["2", "5"]);
}
