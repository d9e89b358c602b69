//! gRPC servers and clients by CPU time per call and per message, and by memory of idle connections: maniple's and tonic's, each
//! with each, one worker on a core of its own.

mod ours;
mod tonics;

use std::{
    fmt,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    json::JsonFile,
    memory::Memory,
    process::{self, Child, Core, cpu_time_of},
    stats::{Machine, Spread, Table},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// What to compare; all if none is named.
    #[arg(long, value_name = "KIND,..", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Calls at a time, on one connection.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    calls: u16,
    /// Idle connections whose memory is measured.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    idle: u16,
    /// How long each pair is measured in each round, after a fifth of that to warm up.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: f64,
    /// How often each pair is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// One message of 100 bytes each way.
    Unary,
    /// Calls that are answered 1,000 messages of 1 KiB, ten at a time.
    Stream,
    /// Connections over which one call was made.
    Idle,
}

/// Who serves and who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Engine {
    /// maniple-grpc, one worker.
    Maniple,
    /// tonic with its transport, on tokio's current-thread runtime.
    Tonic,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Maniple => "maniple",
            Self::Tonic => "tonic",
        })
    }
}

/// Bytes that travel.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) body: Vec<u8>,
}

/// How many messages are wanted.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Wanted {
    #[prost(uint32, tag = "1")]
    messages: u32,
}

pub(super) const ECHO: &str = "/bench.Bench/Echo";
const MANY: &str = "/bench.Bench/Many";
pub(super) const BODY: usize = 100;
const STREAMED: usize = 1024;
/// Messages of a call, and calls at a time.
const MESSAGES: u32 = 1000;
const STREAMS: u16 = 10;

/// One server, to be run in this process until it is killed.
#[derive(Args, Debug)]
pub(crate) struct ServeOptions {
    engine: Engine,
}

pub(crate) fn serve(options: &ServeOptions) -> Result<()> {
    process::settle(Core::First)?;
    process::raise_descriptor_limit(DESCRIPTORS)?;
    match options.engine {
        Engine::Maniple => ours::serve(),
        Engine::Tonic => tonics::serve(),
    }
}

/// One client, to be run in this process.
#[derive(Args, Debug)]
pub(crate) struct CallOptions {
    engine: Engine,
    #[arg(long)]
    kind: Kind,
    #[arg(long)]
    address: String,
    /// The process of the server.
    #[arg(long)]
    server: u32,
    /// Calls at a time, or connections.
    #[arg(long)]
    calls: u16,
    #[arg(long, value_parser = seconds)]
    seconds: f64,
}

/// What a client's process saw, of both sides.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) operations: u64,
    pub(super) seconds: f64,
    pub(super) server_cpu_seconds: f64,
    pub(super) client_cpu_seconds: f64,
}

impl Seen {
    pub(super) fn us(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.operations as f64
    }
}

/// Operations that have been done.
static DONE: AtomicU64 = AtomicU64::new(0);

pub(super) fn count(operations: u64) {
    DONE.fetch_add(operations, Ordering::Relaxed);
}

pub(crate) fn call(options: &CallOptions) -> Result<()> {
    process::settle(Core::Last)?;
    process::raise_descriptor_limit(DESCRIPTORS)?;
    if options.kind != Kind::Idle {
        let (server, measured) = (options.server, Duration::from_secs_f64(options.seconds));
        std::thread::spawn(move || match watch(server, measured) {
            Ok(seen) => {
                println!("{}", serde_json::to_string(&seen).unwrap_or_default());
                std::process::exit(0);
            }
            Err(error) => {
                eprintln!("{error:#}");
                std::process::exit(1);
            }
        });
    }
    let CallOptions {
        kind,
        address,
        calls,
        ..
    } = options;
    match options.engine {
        Engine::Maniple => ours::call(*kind, address, *calls),
        Engine::Tonic => tonics::call(*kind, address, *calls),
    }
}

/// Watches both processes for so long, after a warm-up.
pub(super) fn watch(server: u32, measured: Duration) -> Result<Seen> {
    let look = || -> Result<_> {
        let own = cpu_time_of(std::process::id())?;
        Ok((DONE.load(Ordering::Relaxed), cpu_time_of(server)?, own))
    };
    #[allow(clippy::disallowed_methods, reason = "a thread of its own")]
    let wait = std::thread::sleep;
    wait(measured / 5);
    let began = Instant::now();
    let before = look()?;
    wait(measured);
    let (seconds, after) = (began.elapsed().as_secs_f64(), look()?);
    Ok(Seen {
        operations: after.0 - before.0,
        seconds,
        server_cpu_seconds: (after.1 - before.1).as_secs_f64(),
        client_cpu_seconds: (after.2 - before.2).as_secs_f64(),
    })
}

/// A server's process.
pub(super) struct Served {
    child: Child,
    address: String,
}

impl Served {
    pub(super) fn start(engine: Engine) -> Result<Self> {
        let mut child = Child::start(["serve-grpc".to_owned(), engine.to_string()])?;
        let address = child.line(START_PATIENCE)?.trim().to_owned();
        Ok(Self { child, address })
    }

    pub(super) fn client(
        &self,
        engine: Engine,
        kind: Kind,
        calls: u16,
        seconds: f64,
    ) -> Result<Child> {
        let kind = kind.to_possible_value().context("a kind")?;
        Child::start([
            "call-grpc".to_owned(),
            engine.to_string(),
            format!("--kind={}", kind.get_name()),
            format!("--address={}", self.address),
            format!("--server={}", self.child.id()),
            format!("--calls={calls}"),
            format!("--seconds={}", seconds.max(0.1)),
        ])
    }
}

/// One pair in one round.
#[derive(Debug, Serialize)]
struct Run {
    round: u16,
    kind: Kind,
    server: Engine,
    client: Engine,
    seen: Seen,
}

/// Memory of idle connections at both ends, in bytes of each.
#[derive(Debug, Serialize)]
struct Idle {
    server: Engine,
    client: Engine,
    server_bytes: f64,
    client_bytes: f64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    runs: Vec<Run>,
    idle: Vec<Idle>,
}

const ENGINES: [Engine; 2] = [Engine::Maniple, Engine::Tonic];

pub(crate) fn run(options: &Options) -> Result<()> {
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&["tonic", "hyper", "h2", "prost", "tokio"]);
    println!("{machine}");
    let kinds = match options.kinds.is_empty() {
        true => Kind::value_variants(),
        false => &options.kinds,
    };
    let (mut runs, mut idle) = (Vec::new(), Vec::new());
    for &kind in kinds {
        match kind {
            Kind::Idle => {
                for engine in ENGINES {
                    idle.push(measure_idle(options, engine)?);
                }
            }
            _ => {
                runs.extend(measure_pairs(options, kind)?);
                print_pairs(options, kind, &runs);
            }
        }
    }
    for Idle {
        server,
        server_bytes,
        client_bytes,
        ..
    } in &idle
    {
        println!(
            "{server}: {} idle connections take {server_bytes:.0} B each in the server, {client_bytes:.0} B in its client",
            options.idle
        );
    }
    file.write(&Report {
        machine,
        options,
        runs,
        idle,
    })
}

fn measure_pairs(options: &Options, kind: Kind) -> Result<Vec<Run>> {
    let calls = match kind {
        Kind::Stream => STREAMS,
        _ => options.calls,
    };
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for server in ENGINES {
            for client in ENGINES {
                progress(&format!("{kind:?}, round {round}: {client} calls {server}"));
                let served = Served::start(server)?;
                let mut calling = served.client(client, kind, calls, options.seconds)?;
                let patience = START_PATIENCE + Duration::from_secs_f64(options.seconds * 2.0);
                let line = calling.line(patience)?;
                let seen = serde_json::from_str(&line).context("what the client printed")?;
                runs.push(Run {
                    round,
                    kind,
                    server,
                    client,
                    seen,
                });
            }
        }
    }
    progress("");
    Ok(runs)
}

/// A table of the pairs. A server is held against tonic's under the same client, a client against tonic's at the same server.
fn print_pairs(options: &Options, kind: Kind, runs: &[Run]) {
    let operation = match kind {
        Kind::Stream => "message",
        _ => "call",
    };
    println!(
        "\n{kind:?}; median (min..max) of {} × {} s\n",
        options.rounds, options.seconds
    );
    let mut table = Table::new(&[
        "server",
        "client",
        &format!("server CPU µs/{operation}"),
        "× tonic",
        &format!("client CPU µs/{operation}"),
        "× tonic",
        &format!("{operation}s/s"),
    ]);
    let of = |server: Engine, client: Engine| {
        let pair = move |run: &&Run| (run.kind, run.server, run.client) == (kind, server, client);
        runs.iter().filter(pair)
    };
    let show = |spread: Option<Spread>, decimals| {
        spread.map_or("-".to_owned(), |spread| spread.show(decimals))
    };
    for server in ENGINES {
        for client in ENGINES {
            let served = |run: &Run| run.seen.us(run.seen.server_cpu_seconds);
            let called = |run: &Run| run.seen.us(run.seen.client_cpu_seconds);
            let ratio = |peer: (Engine, Engine), figure: &dyn Fn(&Run) -> f64| {
                let ratios = of(server, client).filter_map(|own| {
                    let mut peers = of(peer.0, peer.1);
                    let peer = peers.find(|peer| peer.round == own.round)?;
                    Some(figure(own) / figure(peer))
                });
                Spread::of(ratios.collect::<Vec<_>>())
            };
            let per_second = |run: &Run| run.seen.operations as f64 / run.seen.seconds;
            table.row(vec![
                server.to_string(),
                client.to_string(),
                show(Spread::of(of(server, client).map(served)), 2),
                show(ratio((Engine::Tonic, client), &served), 2),
                show(Spread::of(of(server, client).map(called)), 2),
                show(ratio((server, Engine::Tonic), &called), 2),
                show(Spread::of(of(server, client).map(per_second)), 0),
            ]);
        }
    }
    println!("{table}");
}

/// Connections over which one call was made, of a client and a server of the same kind.
fn measure_idle(options: &Options, engine: Engine) -> Result<Idle> {
    progress(&format!("idle: {engine}"));
    let served = Served::start(engine)?;
    let server = served.child.id();
    let memory = |process| Memory::of(&[process]).map(|memory| memory.sum() as f64);
    // The first connections find nothing in memory.
    let mut warm = served.client(engine, Kind::Idle, 50, 0.0)?;
    warm.line(START_PATIENCE)?;
    let before = memory(server)?;
    let mut calling = served.client(engine, Kind::Idle, options.idle, 0.0)?;
    let own: f64 = calling.line(Duration::from_secs(120))?.trim().parse()?;
    calling.line(Duration::from_secs(120))?;
    let (after, theirs) = (memory(server)?, memory(calling.id())?);
    progress("");
    let each = |bytes: f64| bytes / f64::from(options.idle);
    Ok(Idle {
        server: engine,
        client: engine,
        server_bytes: each(after - before),
        client_bytes: each(theirs - own),
    })
}

/// In a client: tells what the process holds before it connects.
fn tell_memory() -> Result<()> {
    println!("{}", Memory::of(&[std::process::id()])?.sum());
    Ok(())
}

/// The most idle connections, and what epoll, standard streams and libraries take.
const DESCRIPTORS: u64 = 10_064;

/// How long a child may take to start.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(30);
