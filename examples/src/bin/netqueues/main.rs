//! A server that watches the queues of its own sockets and says who is stalled: the peer that does not
//! read, the peer that does not send, or the server itself, which does not read, not answer or not accept.
//!
//! Try it: `cargo run --bin netqueues -- --demo` brings its own clients, shows all and ends. Without
//! `--demo` it serves: `printf 'get 100000000\n' | nc 127.0.0.1 7100 | sleep 60` makes a peer that does not read.

mod clients;
mod demo;
mod server;
mod table;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use maniple::net::TcpListener;
use maniple_examples::sockdiag::{Ends, SockDiag, Socket};

use crate::server::Begun;
use crate::watch::{Row, Watch};

/// Serves, watches the queues of its connections, and names who is stalled
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Where to listen [default: 127.0.0.1:7100, with --demo a free port]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Bring clients of each kind, wait until those that stall are found, and end
    #[arg(long)]
    demo: bool,

    /// How long nothing may move before a connection counts as stalled
    #[arg(long, value_name = "MS", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    stalled_after: u64,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netqueues: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    maniple::Runtime::builder().build()?.run(|| {
        let free = if cli.demo {
            "127.0.0.1:0"
        } else {
            "127.0.0.1:7100"
        };
        let listener = TcpListener::bind(cli.listen.as_deref().unwrap_or(free))?;
        let address = listener.local_addr()?;
        println!("netqueues listening on {address}");
        let begun = Begun::default();
        let mut queues = Queues {
            diag: SockDiag::open()?,
            addresses: vec![address],
            stalled_after: Duration::from_millis(cli.stalled_after),
            begun: &begun,
        };
        maniple::group(|g| {
            let serving = g.spawn(|| server::serve(&listener, &begun));
            if cli.demo {
                demo::play(&mut queues)?;
                g.cancel();
            } else {
                queues.report_changes()?;
            }
            // It ends by cancellation alone.
            drop(serving);
            Ok(())
        })
    })
}

/// The server's view of its own sockets.
struct Queues<'a> {
    diag: SockDiag,
    /// Where it listens.
    addresses: Vec<SocketAddr>,
    stalled_after: Duration,
    begun: &'a Begun,
}

impl Queues<'_> {
    fn sample(&self, watch: &mut Watch) -> io::Result<Vec<Row>> {
        let mut sockets = Vec::new();
        for &address in &self.addresses {
            sockets.extend(self.diag.sockets(Ends::At(address))?);
        }
        let owed = |socket: &Socket| self.begun.owed(socket.peer);
        Ok(watch.judge(Instant::now(), sockets, owed))
    }

    fn pause(&self) {
        maniple::sleep((self.stalled_after / 10).max(Duration::from_millis(5)));
    }

    /// Prints the table whenever another connection stalls or one goes on. Never returns but with an error.
    fn report_changes(&self) -> anyhow::Result<()> {
        let mut watch = Watch::new(self.stalled_after);
        let mut before = Vec::new();
        loop {
            let rows = self.sample(&mut watch)?;
            let mut stalled: Vec<_> = stalled(&rows)
                .map(|row| (row.socket.cookie, row.stall))
                .collect();
            stalled.sort_by_key(|&(cookie, _)| cookie);
            if stalled != before {
                before = stalled;
                show(&rows);
            }
            self.pause();
        }
    }
}

fn stalled(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| row.stall.is_some())
}

fn show(rows: &[Row]) {
    print!("\n{}\n", table::server(rows));
    if stalled(rows).next().is_none() {
        println!("nobody is stalled");
    }
    for row in stalled(rows) {
        println!("{row}");
    }
}
