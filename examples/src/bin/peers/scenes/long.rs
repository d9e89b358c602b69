//! What each connection costs anew, and what becomes of long ones when a server is added.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::ensure;
use maniple_examples::sockdiag::{Ends, State};

use crate::session::Session;
use crate::stage::{self, PATIENCE, Peer, Reserved};

const REQUESTS: u64 = 200;
const CLIENTS: usize = 8;

pub fn play() -> anyhow::Result<()> {
    for (connections, requests_each) in [(1, REQUESTS), (REQUESTS, 1)] {
        let (_server, address) = Peer::serve("127.0.0.1:0", &[])?;
        // Who had the port before may have left some, too.
        let mut ours = BTreeSet::new();
        for _ in 0..connections {
            let mut session = Session::open(address, PATIENCE)?;
            ours.insert(session.stream().local_addr()?);
            for number in 0..requests_each {
                session.ping(number)?;
            }
        }
        // Nearly all: after a second the kernel may use the port of one again.
        let left = stage::see(Ends::Towards(address), |sockets| {
            let waiting = sockets
                .iter()
                .filter(|socket| socket.state == State::TIME_WAIT && ours.contains(&socket.local));
            Some(waiting.count() as u64).filter(|&count| count * 10 >= connections * 9)
        })?;
        println!(
            "{REQUESTS} requests, {requests_each} on each connection: handshakes {connections}, sockets left in TIME-WAIT {left}"
        );
    }
    slow_start()?;
    let kept = spread(&[])?;
    println!(
        "a second server joins {CLIENTS} connections that stay: it answers {kept} of {REQUESTS} requests"
    );
    ensure!(kept == 0);
    let moved = spread(&["--requests-per-connection", "5"])?;
    println!("with connections that end after 5 answers: it answers {moved} of {REQUESTS}");
    ensure!(moved > 0);
    Ok(())
}

/// How many segments a connection sends without an acknowledgement: few when it is new, more once it has
/// carried something.
fn slow_start() -> anyhow::Result<()> {
    let (_server, address) = Peer::serve("127.0.0.1:0", &[])?;
    let mut session = Session::open(address, PATIENCE)?;
    let here = session.stream().local_addr()?;
    let window = || {
        stage::see(Ends::Towards(address), |sockets| {
            let socket = sockets.iter().find(|socket| socket.local == here)?;
            Some(socket.info?.congestion_window)
        })
    };
    let new = window()?;
    let (mut used, mut megabytes) = (new, 0);
    while used <= new && megabytes < 100 {
        session.give(1_000_000)?;
        megabytes += 1;
        used = window()?;
    }
    ensure!(used > new, "the congestion window stays at {new}");
    println!(
        "congestion window of a new connection: {new} segments, of one that has carried {megabytes} MB: {used}"
    );
    Ok(())
}

/// Clients that know of two servers, the second of which starts when all are connected: how many
/// requests it answers.
fn spread(options: &[&str]) -> anyhow::Result<u64> {
    let (first, a) = Peer::serve("127.0.0.1:0", options)?;
    let port = Reserved::any()?;
    let servers = [a, port.address];
    let mut clients = (0..CLIENTS)
        .map(|n| Balanced::connect(servers, n))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (second, _) = Peer::serve(&port.address.to_string(), options)?;
    let mut answers = BTreeMap::new();
    for number in 0..REQUESTS {
        let client = &mut clients[number as usize % CLIENTS];
        *answers.entry(client.ask(number)?).or_insert(0) += 1;
    }
    ensure!(answers.values().sum::<u64>() == REQUESTS);
    ensure!(
        answers.contains_key(&first.id()),
        "the first answered nothing"
    );
    Ok(answers.get(&second.id()).copied().unwrap_or_default())
}

/// A client that stays on a connection until the server ends it, and then takes the next server in turn.
#[derive(Debug)]
struct Balanced {
    servers: [SocketAddr; 2],
    turn: usize,
    session: Session,
}

impl Balanced {
    fn connect(servers: [SocketAddr; 2], turn: usize) -> anyhow::Result<Balanced> {
        let session = Balanced::next(&servers, turn)?;
        Ok(Balanced {
            servers,
            turn,
            session,
        })
    }

    /// Whose turn it is, or the other if that one is not there.
    fn next(servers: &[SocketAddr; 2], turn: usize) -> anyhow::Result<Session> {
        let [first, second] = [turn, turn + 1].map(|turn| servers[turn % 2]);
        Ok(Session::open(first, PATIENCE).or_else(|_| Session::open(second, PATIENCE))?)
    }

    /// The process that has answered.
    fn ask(&mut self, number: u64) -> anyhow::Result<u32> {
        let last = self.session.ping(number)?;
        let process = self.session.process;
        if last {
            self.turn += 1;
            self.session = Balanced::next(&self.servers, self.turn)?;
        }
        Ok(process)
    }
}
