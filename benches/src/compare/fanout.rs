//! A leader that asks three backends, over and over: what does the fan-out itself cost?
//!
//! 64 leaders on one thread, each with three persistent connections of its own. One aggregate is three
//! requests of 64 bytes written and three answers of 128 bytes read. The aggregator is pinned to one core,
//! the backends, a raw epoll loop that answers at once, to another.

mod backends;
mod calls;
mod coroutines;
mod raw;
mod tasks;
mod threads;

use std::{
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    meter::{self, Meter, Seen},
    rows::{self, Figures},
};
use crate::{
    go::{self, enlist},
    json::JsonFile,
    process::{self, Child, Core},
    stats::Machine,
    terminal::{progress, seconds},
};

const REQUEST: usize = 64;
const ANSWER: usize = 128;
const BACKENDS: usize = 3;

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Leaders that run at a time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    leaders: u16,
    /// How long each variant is measured in each round, after a fifth of that to warm up.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// How often each variant is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The variants; all if none is named. Ratios need epoll.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Variant>,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ChildOptions {
    variant: Variant,
    #[arg(long)]
    leaders: u16,
    #[arg(long, value_parser = seconds)]
    seconds: f64,
    #[arg(long, value_delimiter = ',')]
    backends: Vec<SocketAddr>,
}

/// How the three calls of an aggregate are made at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Variant {
    /// The limit: a raw epoll state machine.
    Epoll,
    /// maniple::group with three spawned children.
    Maniple,
    /// maniple::join!, the first call in the leader.
    ManipleJoin,
    /// Calls of maniple-rpc in such a group; all leaders share one connection to each backend.
    ManipleRpc,
    /// Calls of maniple-grpc likewise.
    ManipleGrpc,
    /// tokio::join! of three futures, no task spawned; current-thread runtime.
    TokioJoin,
    /// Three tokio tasks; current-thread runtime.
    TokioSpawn,
    /// Three may coroutines, one worker.
    May,
    /// Three goroutines, GOMAXPROCS=1.
    Go,
    /// Two goroutines, the last call in the leader.
    GoJoin,
    /// Three long-lived helper threads per leader, fed by channels.
    Threads,
}

impl Variant {
    /// What its backends speak, if it is more than bytes.
    fn stack(self) -> Option<Stack> {
        match self {
            Self::ManipleRpc => Some(Stack::Rpc),
            Self::ManipleGrpc => Some(Stack::Grpc),
            _ => None,
        }
    }
}

/// What backends may speak; they are maniple's own then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
enum Stack {
    Rpc,
    Grpc,
}

#[derive(Args, Debug)]
pub(crate) struct BackendOptions {
    /// Bytes if it is not said.
    stack: Option<Stack>,
}

/// The child that serves all of a variant's calls.
pub(crate) fn serve_backends(options: &BackendOptions) -> Result<()> {
    match options.stack {
        None => backends::run(),
        Some(stack) => {
            process::settle(Core::Last)?;
            calls::serve(stack)
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

type Run = rows::Run<Variant, Seen>;
type Row = rows::Row<Variant>;

impl Figures for Seen {
    fn cpu_us(&self) -> f64 {
        self.cpu_us()
    }

    fn per_second(&self) -> f64 {
        self.aggregates as f64 / self.seconds
    }

    fn p50_us(&self) -> f64 {
        self.p50_us
    }

    fn p99_us(&self) -> f64 {
        self.p99_us
    }
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    variants: Vec<Row>,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    process::raise_descriptor_limit(descriptors(options.leaders))?;
    let file = JsonFile::create(options.json.as_deref())?;
    let mut machine = Machine::here(&["maniple", "may", "tokio"]);
    let variants = enlist(
        &options.only,
        Variant::value_variants(),
        &[Variant::Go, Variant::GoJoin],
        &mut machine,
    );
    println!("{machine}");
    let runs = measure(options, &variants)?;
    let rows: Vec<Row> = variants
        .iter()
        .map(|&variant| Row::of(variant, Variant::Epoll, &runs))
        .collect();
    let Options {
        leaders,
        rounds,
        seconds,
        ..
    } = options;
    println!(
        "\n{leaders} leaders, {BACKENDS} calls each; median (min..max) of {rounds} × {seconds} s\n"
    );
    print!("{}", rows::table("variant", "aggregate", &rows));
    let measured = rows.iter().any(|row| row.cpu_us.is_some());
    file.write(&Report {
        machine,
        options,
        variants: rows,
        runs,
    })?;
    match measured {
        true => Ok(()),
        false => bail!("no variant could be measured"),
    }
}

/// All rounds: A B C, A B C.
fn measure(options: &Options, variants: &[Variant]) -> Result<Vec<Run>> {
    let mut backends = Vec::new();
    for stack in [None, Some("rpc"), Some("grpc")] {
        let mut child = Child::start(["backends"].into_iter().chain(stack))?;
        let addresses = child
            .line(START_PATIENCE)
            .context("starting the backends")?;
        backends.push((child, addresses));
    }
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for &variant in variants {
            progress(&format!("round {round} of {}, {variant}", options.rounds));
            let place = variant.stack().map_or(0, |stack| stack as usize + 1);
            let (backends, addresses) = &mut backends[place];
            let outcome = measure_once(options, variant, addresses).into();
            if let Some(cause) = backends.ended() {
                return Err(cause.context("the backends ended"));
            }
            runs.push(Run {
                round,
                contender: variant,
                outcome,
            });
        }
    }
    progress("");
    Ok(runs)
}

fn measure_once(options: &Options, variant: Variant, backends: &str) -> Result<Seen> {
    if matches!(variant, Variant::Go | Variant::GoJoin) {
        go::ready()?;
    }
    let mut child = Child::start([
        "aggregate".to_owned(),
        variant.to_string(),
        format!("--leaders={}", options.leaders),
        format!("--seconds={}", options.seconds),
        format!("--backends={backends}"),
    ])?;
    let patience = START_PATIENCE + Duration::from_secs_f64(options.seconds * 2.0);
    serde_json::from_str(&child.line(patience)?).context("what the variant printed")
}

/// The child: runs one variant and prints what it saw.
pub(crate) fn aggregate(options: &ChildOptions) -> Result<()> {
    process::settle(Core::First)?;
    process::raise_descriptor_limit(descriptors(options.leaders))?;
    if matches!(options.variant, Variant::Go | Variant::GoJoin) {
        return become_go(options);
    }
    let leaders = match options.variant.stack() {
        None => options.leaders,
        // Their channels connect.
        Some(_) => 0,
    };
    let connections = (0..leaders)
        .map(|_| connect_all(&options.backends))
        .collect::<Result<Vec<_>>>()?;
    // Coroutines and tasks need it for as long as the process lives.
    let meter: &'static Meter = Box::leak(Box::new(Meter::new()?));
    let measured = Duration::from_secs_f64(options.seconds);
    let seen = meter.watch(measured / 5, measured, || match options.variant {
        Variant::Epoll => raw::run(connections, meter),
        Variant::Maniple => coroutines::run_maniple(connections, meter, false),
        Variant::ManipleJoin => coroutines::run_maniple(connections, meter, true),
        Variant::ManipleRpc => calls::run(Stack::Rpc, options.leaders, &options.backends, meter),
        Variant::ManipleGrpc => calls::run(Stack::Grpc, options.leaders, &options.backends, meter),
        Variant::TokioJoin => tasks::run(connections, meter, false),
        Variant::TokioSpawn => tasks::run(connections, meter, true),
        Variant::May => coroutines::run_may(connections, meter),
        Variant::Threads => threads::run(connections, meter),
        Variant::Go | Variant::GoJoin => unreachable!("a program of its own"),
    })?;
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

/// Go connects for itself, and its meter prints what this one would.
fn become_go(options: &ChildOptions) -> Result<()> {
    let backends = options.backends.iter().map(ToString::to_string);
    go::become_peer(
        1,
        [
            "aggregate".to_owned(),
            format!("--leaders={}", options.leaders),
            format!("--seconds={}", options.seconds),
            format!("--backends={}", backends.collect::<Vec<_>>().join(",")),
            format!("--join={}", options.variant == Variant::GoJoin),
        ],
    )
}

fn connect_all(backends: &[SocketAddr]) -> Result<[TcpStream; BACKENDS]> {
    let streams = backends
        .iter()
        .map(|address| {
            let stream =
                TcpStream::connect(address).with_context(|| format!("backend {address}"))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
        .collect::<Result<Vec<_>>>()?;
    match streams.try_into() {
        Ok(streams) => Ok(streams),
        Err(streams) => bail!("{} backends, {BACKENDS} are needed", streams.len()),
    }
}

/// One call over a blocking stream of any kind.
fn call<S: Read + Write>(mut stream: S) -> std::io::Result<()> {
    stream.write_all(&[b'q'; REQUEST])?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer)
}

/// What an aggregator opens: its connections, and what epoll, standard streams and libraries take.
fn descriptors(leaders: u16) -> u64 {
    u64::from(leaders) * BACKENDS as u64 + 64
}

/// How long a child may take to start.
const START_PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_needs_all_backends() {
        let error = connect_all(&[]).unwrap_err().to_string();
        assert_eq!(error, "0 backends, 3 are needed");
    }
}
