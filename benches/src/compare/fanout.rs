//! A leader that asks three backends, over and over: what does the fan-out itself cost?
//!
//! 64 leaders on one thread, each with three persistent connections of its own. One aggregate is three
//! requests of 64 bytes written and three answers of 128 bytes read. The aggregator is pinned to one core,
//! the backends, a raw epoll loop that answers at once, to another.

mod coroutines;
mod raw;
mod tasks;
mod threads;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use serde::{Deserialize, Serialize};

use crate::{
    process::{self, Child, Core},
    stats::{Machine, Spread, Table},
};

pub(super) const REQUEST: usize = 64;
pub(super) const ANSWER: usize = 128;
pub(super) const BACKENDS: usize = 3;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Leaders that run at a time.
    #[arg(long, default_value_t = 64)]
    leaders: usize,
    /// Seconds that each variant is measured for in each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Times that each variant is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Variants, of all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Variant>,
    /// Where to write all figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ChildOptions {
    variant: Variant,
    #[arg(long)]
    leaders: usize,
    #[arg(long)]
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
    /// tokio::join! of three futures, no task spawned; current-thread runtime.
    TokioJoin,
    /// Three tokio tasks; current-thread runtime.
    TokioSpawn,
    /// Three may coroutines, one worker.
    May,
    /// Three long-lived helper threads per leader, fed by channels.
    Threads,
}

impl Variant {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// What a child saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    aggregates: u64,
    seconds: f64,
    cpu_us: f64,
}

/// What the leaders and the clock share in a child.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) aggregates: AtomicU64,
    pub(super) stop: AtomicBool,
}

impl Meter {
    /// Counts an aggregate; false once it is time to stop.
    #[inline]
    pub(super) fn count(&self) -> bool {
        // One thread counts in all variants but the threads', so this is cheap for all.
        self.aggregates.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let variants = if options.only.is_empty() {
        Variant::value_variants().to_vec()
    } else {
        options.only.clone()
    };
    let mut backends = Child::start(["backends"])?;
    let addresses = backends.line(PATIENCE)?;
    let mut runs: Vec<Vec<Result<Run, String>>> = vec![Vec::new(); variants.len()];
    println!(
        "{} leaders, 3 calls each: {} rounds of {} s",
        options.leaders, options.rounds, options.seconds
    );
    for _ in 0..options.rounds {
        for (variant, runs) in variants.iter().zip(&mut runs) {
            let run = run_one(options, *variant, &addresses);
            runs.push(run.map_err(|error| format!("{error:#}")));
        }
    }
    let limit = variants
        .iter()
        .position(|&variant| variant == Variant::Epoll);
    let rows: Vec<Row> = variants
        .iter()
        .zip(&runs)
        .map(|(variant, own)| Row::new(*variant, own, limit.map(|index| runs[index].as_slice())))
        .collect();
    let header = [
        "variant",
        "CPU us/aggregate",
        "of the limit",
        "aggregates/s",
    ];
    let mut table = Table::new(&header);
    for row in &rows {
        table.row(row.cells());
        if let Some(error) = &row.error {
            table.note(format!("{}: {error}", row.variant.name()));
        }
    }
    println!("{table}");
    if let Some(path) = &options.json {
        #[derive(Serialize)]
        struct Report {
            machine: Machine,
            leaders: usize,
            rows: Vec<Row>,
        }
        let report = Report {
            machine: Machine::here(&["maniple", "may", "tokio"]),
            leaders: options.leaders,
            rows,
        };
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn run_one(options: &Options, variant: Variant, backends: &str) -> Result<Run> {
    let mut child = Child::start([
        "aggregate".to_owned(),
        variant.name(),
        format!("--leaders={}", options.leaders),
        format!("--seconds={}", options.seconds),
        format!("--backends={backends}"),
    ])?;
    let patience = PATIENCE + Duration::from_secs_f64(options.seconds * 2.0);
    serde_json::from_str(&child.line(patience)?).context("reading a contender's figures")
}

#[derive(Debug, Serialize)]
struct Row {
    variant: Variant,
    cpu_us: Option<Spread>,
    ratio: Option<Spread>,
    per_second: Option<Spread>,
    error: Option<String>,
}

impl Row {
    fn new(
        variant: Variant,
        own: &[Result<Run, String>],
        limit: Option<&[Result<Run, String>]>,
    ) -> Self {
        let good = || own.iter().filter_map(|run| run.as_ref().ok());
        let ratios = own
            .iter()
            .zip(limit.unwrap_or(&[]))
            .filter_map(|(own, limit)| {
                Some(own.as_ref().ok()?.cpu_us / limit.as_ref().ok()?.cpu_us)
            });
        Self {
            variant,
            cpu_us: Spread::of(good().map(|run| run.cpu_us)),
            ratio: Spread::of(ratios),
            per_second: Spread::of(good().map(|run| run.aggregates as f64 / run.seconds)),
            error: own.iter().find_map(|run| run.as_ref().err().cloned()),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.variant.name(),
            show(self.cpu_us, 2),
            show(self.ratio, 3),
            show(self.per_second, 0),
        ]
    }
}

fn show(figure: Option<Spread>, decimals: usize) -> String {
    figure.map_or("-".to_owned(), |figure| figure.show(decimals))
}

/// How long a child may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// The child: runs one variant and prints what it saw.
pub(crate) fn aggregate(options: &ChildOptions) -> Result<()> {
    process::settle(Core::First)?;
    process::raise_descriptor_limit((options.leaders * BACKENDS) as u64 + 100)?;
    let connections = (0..options.leaders)
        .map(|_| connect_all(&options.backends))
        .collect::<Result<Vec<_>>>()?;
    let meter: &'static Meter = Box::leak(Box::default());
    let clock = watch(meter, options.seconds);
    match options.variant {
        Variant::Epoll => raw::run(connections, meter)?,
        Variant::Maniple => coroutines::run_maniple(connections, meter, false)?,
        Variant::ManipleJoin => coroutines::run_maniple(connections, meter, true)?,
        Variant::TokioJoin => tasks::run(connections, meter, false)?,
        Variant::TokioSpawn => tasks::run(connections, meter, true)?,
        Variant::May => coroutines::run_may(connections, meter)?,
        Variant::Threads => threads::run(connections, meter)?,
    }
    let run = match clock.join() {
        Ok(run) => run?,
        Err(_) => bail!("the clock's thread panicked"),
    };
    println!("{}", serde_json::to_string(&run)?);
    Ok(())
}

/// Measures from after a warm-up for so many seconds, then stops the leaders.
fn watch(meter: &'static Meter, seconds: f64) -> std::thread::JoinHandle<Result<Run>> {
    std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_secs_f64(seconds / 5.0));
        let (started, cpu) = (Instant::now(), process::cpu_time_of(std::process::id())?);
        let before = meter.aggregates.load(Ordering::Relaxed);
        std::thread::park_timeout(Duration::from_secs_f64(seconds));
        let aggregates = meter.aggregates.load(Ordering::Relaxed) - before;
        let used = process::cpu_time_of(std::process::id())? - cpu;
        let run = Run {
            aggregates,
            seconds: started.elapsed().as_secs_f64(),
            cpu_us: used.as_secs_f64() * 1e6 / aggregates.max(1) as f64,
        };
        meter.stop.store(true, Ordering::Relaxed);
        Ok(run)
    })
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
pub(super) fn call<S: Read + Write>(mut stream: S) -> std::io::Result<()> {
    stream.write_all(&[b'q'; REQUEST])?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer)
}

/// Three listeners on one thread; prints their addresses.
pub(crate) fn serve_backends() -> Result<()> {
    process::settle(Core::Last)?;
    process::raise_descriptor_limit(0)?;
    let listeners = (0..BACKENDS)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<Vec<_>>>()?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut addresses = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        let data = EventData::new_u64(index as u64);
        epoll::add(&epoll, listener, data, EventFlags::IN)?;
        addresses.push(listener.local_addr()?.to_string());
    }
    println!("{}", addresses.join(","));
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(512);
    let mut buffer = [0; 4096];
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let token = event.data.u64() as usize;
            if let Some(listener) = listeners.get(token) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let data = EventData::new_u64((streams.len() + BACKENDS) as u64);
                    epoll::add(&epoll, &stream, data, EventFlags::IN)?;
                    streams.push(Some(stream));
                }
                continue;
            }
            let place = &mut streams[token - BACKENDS];
            let open = place
                .as_mut()
                .is_some_and(|stream| match stream.read(&mut buffer) {
                    Ok(count) if count > 0 => stream.write_all(&[b'a'; ANSWER]).is_ok(),
                    _ => false,
                });
            if !open {
                *place = None;
            }
        }
    }
}
