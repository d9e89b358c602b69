//! HTTP servers by CPU time per request: the server on one core, the load on another.
//!
//! For each load, each round runs every server once, in a process that has served nothing before.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    pair::Served,
    rows::{self, Figures},
    tasks,
};
use crate::{
    go::enlist,
    json::JsonFile,
    load::Seen,
    process::raise_descriptor_limit,
    servers::{Name, nginx},
    stats::Machine,
    task::Task,
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Loads of so many keep-alive connections, each with one request at a time.
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "64,512,4096"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: Vec<u16>,
    /// Connections of a further load whose requests are pipelined; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pipeline_connections: u16,
    /// Requests at once on each of these.
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pipeline: u16,
    /// How long each server is measured in each round.
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub(super) seconds: f64,
    /// How long each server runs under load before.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    pub(super) warm_up: f64,
    /// How often each server is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) rounds: u16,
    /// Other tasks than to say hello, in place of that, each beside a server that is known for it.
    #[arg(long, value_name = "TASK,..", value_delimiter = ',', num_args = 0.., default_missing_value = "all")]
    #[arg(value_parser = parse_task)]
    pub(super) tasks: Vec<Chosen>,
    /// Connections that ask for these tasks.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) task_connections: u16,
    /// The servers; all if none is named. Ratios need epoll.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Name>,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn effort(&self) -> tasks::Effort {
        tasks::Effort {
            seconds: self.seconds,
            warm_up: self.warm_up,
            rounds: self.rounds,
            connections: self.task_connections,
        }
    }
}

/// What the connections do at once.
#[derive(Clone, Copy, Debug, Serialize)]
struct Load {
    connections: u16,
    pipeline: u16,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(f, "{} connection{plural}", self.connections)?;
        match self.pipeline {
            1 => Ok(()),
            pipeline => write!(f, ", {pipeline} requests at once on each"),
        }
    }
}

type Run = rows::Run<Name, Seen>;
type Row = rows::Row<Name>;

impl Figures for Seen {
    fn cpu_us(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.requests as f64
    }

    fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
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
    loads: Vec<Comparison>,
    tasks: Vec<tasks::Done>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    load: Load,
    servers: Vec<Row>,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let tasks: Vec<Task> = options
        .tasks
        .iter()
        .flat_map(|chosen| chosen.0.clone())
        .collect();
    let loads = match tasks.is_empty() {
        true => loads(options),
        false => Vec::new(),
    };
    let most = loads.iter().map(|load| load.connections).max().unwrap_or(0);
    raise_descriptor_limit(u64::from(most) + SPARE_DESCRIPTORS)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let mut machine = Machine::here(&CRATES);
    let servers = match tasks.is_empty() {
        true => enlist(&options.only, &Name::ALL, &[Name::Go], &mut machine),
        false => Vec::new(),
    };
    println!("{machine}");
    if let (false, Some((_, version))) = (tasks.is_empty(), nginx::here()) {
        println!("nginx {version}");
    }
    let mut report = Report {
        machine,
        options,
        loads: Vec::new(),
        tasks: tasks::run(options.effort(), &tasks)?,
    };
    for load in loads {
        let runs = measure(options, load, &servers);
        let servers: Vec<Row> = servers
            .iter()
            .map(|&server| Row::of(server, Name::Epoll, &runs))
            .collect();
        let Options {
            rounds, seconds, ..
        } = options;
        println!("\n{load}; median (min..max) of {rounds} × {seconds} s\n");
        print!("{}", rows::table("server", "request", &servers));
        report.loads.push(Comparison {
            load,
            servers,
            runs,
        });
    }
    file.write(&report)
}

/// Tasks that an option names: one, or all.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Chosen(Vec<Task>);

fn parse_task(text: &str) -> Result<Chosen, String> {
    match text {
        "all" => Ok(Chosen(Task::ALL.to_vec())),
        name => Task::from_str(name, true)
            .map(|task| Chosen(vec![task]))
            .map_err(|_| {
                let names = Task::ALL
                    .iter()
                    .filter_map(clap::ValueEnum::to_possible_value);
                let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
                format!("no such task; known are all, {}", names.join(", "))
            }),
    }
}

fn loads(options: &Options) -> Vec<Load> {
    let plain = options.connections.iter().map(|&connections| Load {
        connections,
        pipeline: 1,
    });
    let pipelined = Load {
        connections: options.pipeline_connections,
        pipeline: options.pipeline,
    };
    plain
        .chain([pipelined])
        .filter(|load| load.connections > 0)
        .collect()
}

/// All rounds of one load: A B C, A B C.
fn measure(options: &Options, load: Load, servers: &[Name]) -> Vec<Run> {
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for &server in servers {
            progress(&format!(
                "{load}: round {round} of {}, {server}",
                options.rounds
            ));
            runs.push(Run {
                round,
                contender: server,
                outcome: measure_once(options, load, server).into(),
            });
        }
    }
    progress("");
    runs
}

fn measure_once(options: &Options, load: Load, server: Name) -> Result<Seen> {
    let arguments = [
        format!("--connections={}", load.connections),
        format!("--pipeline={}", load.pipeline),
        format!("--warm-up-seconds={}", options.warm_up),
        format!("--seconds={}", options.seconds),
    ];
    let seconds = options.warm_up + options.seconds;
    Served::start(server, &[])?.under("load", &arguments, seconds)
}

/// The crates whose versions a reader must know.
pub(super) const CRATES: [&str; 6] = [
    "maniple-server",
    "may_minihttp",
    "may",
    "hyper",
    "axum",
    "tokio",
];

/// Listeners, epoll, standard streams, what libraries open.
const SPARE_DESCRIPTORS: u64 = 64;
