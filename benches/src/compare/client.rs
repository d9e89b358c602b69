//! HTTP/1.1 clients that ask the same server over kept connections: what does a call cost, and what an idle connection?
//!
//! So many callers on one thread ask for a short page, read it to its end, and ask again. The server, the raw epoll loop of
//! `compare http`, has the first core to itself, the client the last.

mod callers;
mod ureq;

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{
    meter::{Meter, Seen},
    rows,
};
use crate::{
    json::JsonFile,
    process::{self, Child, Core},
    stats::Machine,
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Callers that ask at a time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    callers: u16,
    /// How long each client is measured in each round, after a fifth of that to warm up.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// How often each client is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Idle connections whose memory is measured.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    idle: u16,
    /// The clients; all if none is named. Ratios need hyper.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Name>,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ChildOptions {
    client: Name,
    #[arg(long)]
    callers: u16,
    #[arg(long, value_parser = seconds)]
    seconds: f64,
    #[arg(long)]
    idle: u16,
    #[arg(long)]
    url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    /// maniple_server::Client, with its pool; one worker.
    Maniple,
    /// hyper's client: the pool of hyper-util over connections of hyper; current-thread runtime.
    Hyper,
    /// hyper's connections, one for each caller and no pool; current-thread runtime.
    HyperConnections,
    /// reqwest, with its defaults; current-thread runtime.
    Reqwest,
    /// ureq, with its defaults, on a thread for each caller.
    Ureq,
    /// ureq over sockets of coroutines; one worker.
    UreqOnManiple,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

/// What a client's process saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    #[serde(flatten)]
    seen: Seen,
    /// Memory of an idle connection in the pool, in bytes, where there is a pool to ask.
    idle_bytes: Option<f64>,
}

impl rows::Figures for Told {
    fn cpu_us(&self) -> f64 {
        self.seen.cpu_us()
    }

    fn per_second(&self) -> f64 {
        self.seen.aggregates as f64 / self.seen.seconds
    }

    fn p50_us(&self) -> f64 {
        self.seen.p50_us
    }

    fn p99_us(&self) -> f64 {
        self.seen.p99_us
    }
}

type Run = rows::Run<Name, Told>;
type Row = rows::Row<Name>;

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    clients: Vec<Row>,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    process::raise_descriptor_limit(descriptors(options.callers.max(options.idle)))?;
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&["hyper", "hyper-util", "reqwest", "ureq", "tokio"]);
    println!("{machine}");
    let names = match options.only.is_empty() {
        true => Name::value_variants(),
        false => &options.only,
    };
    let mut server = Child::start(["serve", "epoll"])?;
    let url = format!("http://{}/", server.line(START_PATIENCE)?.trim());
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for &name in names {
            progress(&format!("round {round} of {}, {name}", options.rounds));
            let outcome = measure_once(options, name, &url).into();
            if let Some(cause) = server.ended() {
                return Err(cause.context("the server ended"));
            }
            runs.push(Run {
                round,
                contender: name,
                outcome,
            });
        }
    }
    progress("");
    let rows: Vec<Row> = names
        .iter()
        .map(|&name| Row::of(name, Name::Hyper, &runs))
        .collect();
    let Options {
        callers,
        rounds,
        seconds,
        ..
    } = options;
    println!("\n{callers} callers; median (min..max) of {rounds} × {seconds} s\n");
    print!("{}", rows::table_against("hyper", "client", "call", &rows));
    println!();
    for &name in names {
        let told = runs.iter().filter(|run| run.contender == name);
        let idle = told.filter_map(|run| match &run.outcome {
            crate::outcome::Outcome::Seen(told) => told.idle_bytes,
            crate::outcome::Outcome::Failed(_) => None,
        });
        if let Some(spread) = crate::stats::Spread::of(idle) {
            println!("{name}: an idle connection takes {} B", spread.show(0));
        }
    }
    let measured = rows.iter().any(|row| row.cpu_us.is_some());
    file.write(&Report {
        machine,
        options,
        clients: rows,
        runs,
    })?;
    match measured {
        true => Ok(()),
        false => bail!("no client could be measured"),
    }
}

fn measure_once(options: &Options, name: Name, url: &str) -> Result<Told> {
    let mut child = Child::start([
        "call".to_owned(),
        name.to_string(),
        format!("--callers={}", options.callers),
        format!("--seconds={}", options.seconds),
        format!("--idle={}", options.idle),
        format!("--url={url}"),
    ])?;
    let patience = START_PATIENCE + Duration::from_secs_f64(options.seconds * 2.0);
    serde_json::from_str(&child.line(patience)?).context("what the client printed")
}

/// The child: runs one client and prints what it saw.
pub(crate) fn call(options: &ChildOptions) -> Result<()> {
    process::settle(Core::Last)?;
    process::raise_descriptor_limit(descriptors(options.callers.max(options.idle)))?;
    // Callers need it for as long as the process lives.
    let meter: &'static Meter = Box::leak(Box::new(Meter::new()?));
    let measured = Duration::from_secs_f64(options.seconds);
    let (url, callers) = (options.url.as_str(), options.callers);
    let idle_bytes = callers::idle_bytes(options.client, url, options.idle)?;
    let seen = meter.watch(measured / 5, measured, || match options.client {
        Name::Maniple => callers::maniple(url, callers, meter),
        Name::Hyper => callers::hyper(url, callers, meter),
        Name::HyperConnections => callers::hyper_connections(url, callers, meter),
        Name::Reqwest => callers::reqwest(url, callers, meter),
        Name::Ureq => callers::ureq_on_threads(url, callers, meter),
        Name::UreqOnManiple => callers::ureq_on_coroutines(url, callers, meter),
    })?;
    println!("{}", serde_json::to_string(&Told { seen, idle_bytes })?);
    Ok(())
}

/// What a client opens: its connections, and what epoll, standard streams and libraries take.
fn descriptors(connections: u16) -> u64 {
    u64::from(connections) + 64
}

/// How long a child may take to start, and to measure its memory.
const START_PATIENCE: Duration = Duration::from_secs(30);
