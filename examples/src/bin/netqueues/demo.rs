//! The demo: a client for each way to stall, and a port where nobody accepts; it ends when all are found.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use maniple::net::{TcpListener, TcpStream};
use maniple_examples::sockdiag::{Ends, SockDiag, Socket};

use crate::clients::Client;
use crate::watch::{Row, Stall, Watch};
use crate::{Queues, show, table};

/// Far longer than it ever takes.
const PATIENCE: Duration = Duration::from_secs(60);
const BACKLOG: u32 = 1;

pub fn play(queues: &mut Queues<'_>) -> anyhow::Result<()> {
    let server = queues.addresses[0];
    let clients = Client::ALL
        .map(|client| client.connect(server))
        .into_iter()
        .collect::<io::Result<Vec<_>>>()
        .context("connect a client")?;
    for (client, stream) in &clients {
        println!("client {} {}", stream.local_addr()?, client.name());
    }
    let crowded = Crowded::open(&queues.diag)?;
    queues.addresses.push(crowded.address);

    maniple::group(|g| {
        for (client, stream) in &clients {
            drop(g.spawn(|| client.run(stream)));
        }
        let mut watch = Watch::new(queues.stalled_after);
        let started = Instant::now();
        loop {
            let rows = queues.sample(&mut watch)?;
            if as_expected(&rows, &clients, &crowded)? {
                show(&rows);
                println!("\nThe same connections from the clients' side:");
                let theirs = queues.diag.sockets(Ends::Towards(server))?;
                print!("{}", table::clients(&theirs));
                g.cancel();
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                show(&rows);
                bail!("not all stalled connections were found within {PATIENCE:?}");
            }
            queues.pause();
        }
    })
}

/// A port where nobody accepts, and as many connections as the kernel makes all the same.
struct Crowded {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Crowded {
    fn open(diag: &SockDiag) -> anyhow::Result<Crowded> {
        let listener = TcpListener::builder()
            .backlog(BACKLOG)
            .bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        // Linux lets one more in than was asked for: `sk_acceptq_is_full` compares with "greater than".
        let waiting = (0..=BACKLOG)
            .map(|_| TcpStream::connect(address))
            .collect::<io::Result<Vec<_>>>()?;
        // A connect may return a moment before the other end has what completes it.
        let started = Instant::now();
        let all_wait = |socket: &Socket| socket.recv_queue as usize == waiting.len();
        while !diag.sockets(Ends::At(address))?.iter().any(all_wait) {
            ensure!(started.elapsed() < PATIENCE, "connections do not arrive");
            maniple::sleep(Duration::from_millis(1));
        }
        let one_more = TcpStream::connect_timeout(&address, Duration::from_millis(200));
        let error = one_more.err().map(|error| error.kind());
        ensure!(
            error == Some(io::ErrorKind::TimedOut),
            "a connection beyond the backlog: {error:?}"
        );
        println!(
            "at {address} nobody accepts: with a backlog of {BACKLOG}, {} connections are made, the next waits in vain",
            waiting.len()
        );
        Ok(Crowded {
            address,
            _listener: listener,
            _waiting: waiting,
        })
    }
}

/// Whether each connection is found as it is: stalled in its way, or not at all.
fn as_expected(
    rows: &[Row],
    clients: &[(Client, TcpStream)],
    crowded: &Crowded,
) -> io::Result<bool> {
    for (client, stream) in clients {
        let peer = stream.local_addr()?;
        let row = rows.iter().find(|row| row.socket.peer == peer);
        if row.is_none_or(|row| row.stall != client.stall()) {
            return Ok(false);
        }
    }
    Ok(rows
        .iter()
        .any(|row| row.socket.local == crowded.address && row.stall == Some(Stall::WeDoNotAccept)))
}
