//! HTTP servers by CPU time per request: the server on one core, the load on another.
//!
//! For each load, each round runs every server once, in a process that has served nothing before.

use std::{fs::File, io::BufWriter, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::{progress, seconds};
use crate::{
    load::Seen,
    process::{Child, raise_descriptor_limit},
    servers::Name,
    stats::{Machine, Spread, Table},
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
    seconds: f64,
    /// How long each server runs under load before.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warm_up: f64,
    /// How often each server is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The servers; all if none is named. Ratios need epoll.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Name>,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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

/// One server under one load in one round.
#[derive(Debug, Serialize)]
struct Run {
    round: u16,
    server: Name,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Seen(Seen),
    Failed(String),
}

impl Seen {
    fn cpu_us(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.requests as f64
    }
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    loads: Vec<Comparison>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    load: Load,
    servers: Vec<Row>,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let loads = loads(options);
    let most = loads.iter().map(|load| load.connections).max().unwrap_or(0);
    raise_descriptor_limit(u64::from(most) + SPARE_DESCRIPTORS)?;
    // Before the minutes of measuring, so that a bad path is told at once.
    let file = match &options.json {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("create {}", path.display()));
            Some(BufWriter::new(file?))
        }
        None => None,
    };
    let servers = match options.only.is_empty() {
        true => Name::ALL.to_vec(),
        false => options.only.clone(),
    };
    let machine = Machine::here(&CRATES);
    println!("{machine}");
    let mut report = Report {
        machine,
        options,
        loads: Vec::new(),
    };
    for load in loads {
        let runs = measure(options, load, &servers);
        let servers: Vec<Row> = servers
            .iter()
            .map(|&server| Row::of(server, &runs))
            .collect();
        let Options {
            rounds, seconds, ..
        } = options;
        println!("\n{load}; median (min..max) of {rounds} × {seconds} s\n");
        print!("{}", table(&servers));
        report.loads.push(Comparison {
            load,
            servers,
            runs,
        });
    }
    if let Some(file) = file {
        serde_json::to_writer_pretty(file, &report).context("writing the JSON file")?;
    }
    Ok(())
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
            let outcome = match measure_once(options, load, server) {
                Ok(seen) => Outcome::Seen(seen),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            runs.push(Run {
                round,
                server,
                outcome,
            });
        }
    }
    progress("");
    runs
}

fn measure_once(options: &Options, load: Load, server: Name) -> Result<Seen> {
    let mut served = Child::start(["serve".to_owned(), server.to_string()])?;
    let address = served.line(START_PATIENCE)?;
    let mut loading = Child::start([
        "load".to_owned(),
        format!("--address={address}"),
        format!("--server={}", served.id()),
        format!("--connections={}", load.connections),
        format!("--pipeline={}", load.pipeline),
        format!("--warm-up-seconds={}", options.warm_up),
        format!("--seconds={}", options.seconds),
    ])?;
    let patience = START_PATIENCE + Duration::from_secs_f64(options.warm_up + options.seconds);
    let line = loading.line(patience).map_err(|error| {
        // A server that has ended knows better than its client what happened.
        served
            .ended()
            .map_or(error, |cause| cause.context(format!("{server} ended")))
    })?;
    serde_json::from_str(&line).context("what the load printed")
}

/// One server under one load, over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    server: Name,
    cpu_us: Option<Spread>,
    /// CPU time per request over that of the limit in the same round.
    ratio: Option<Spread>,
    per_second: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    /// The cause of the first round that failed.
    failed: Option<String>,
}

impl Row {
    fn of(server: Name, runs: &[Run]) -> Self {
        let seen = |wanted: Name| {
            runs.iter().filter_map(move |run| match &run.outcome {
                Outcome::Seen(seen) if run.server == wanted => Some((run.round, seen)),
                _ => None,
            })
        };
        let spread =
            |figure: fn(&Seen) -> f64| Spread::of(seen(server).map(|(_, seen)| figure(seen)));
        let ratios = seen(server).filter_map(|(round, own)| {
            let (_, limit) = seen(Name::Epoll).find(|(other, _)| *other == round)?;
            Some(own.cpu_us() / limit.cpu_us())
        });
        Self {
            server,
            cpu_us: spread(Seen::cpu_us),
            ratio: Spread::of(ratios),
            per_second: spread(|seen| seen.requests as f64 / seen.seconds),
            p50_us: spread(|seen| seen.p50_us),
            p99_us: spread(|seen| seen.p99_us),
            failed: runs.iter().find_map(|run| match &run.outcome {
                Outcome::Failed(cause) if run.server == server => Some(cause.clone()),
                _ => None,
            }),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "server",
        "CPU µs/request",
        "× epoll",
        "requests/s",
        "p50 µs",
        "p99 µs",
    ]);
    let show = |spread: &Option<Spread>, decimals| {
        spread.map_or("-".to_owned(), |spread| spread.show(decimals))
    };
    for row in rows {
        table.row(vec![
            row.server.to_string(),
            show(&row.cpu_us, 2),
            show(&row.ratio, 2),
            show(&row.per_second, 0),
            show(&row.p50_us, 0),
            show(&row.p99_us, 0),
        ]);
    }
    for row in rows {
        if let Some(cause) = &row.failed {
            table.note(format!("{} failed: {cause}", row.server));
        }
    }
    table
}

/// The crates whose versions a reader must know.
const CRATES: [&str; 6] = [
    "maniple-server",
    "may_minihttp",
    "may",
    "hyper",
    "axum",
    "tokio",
];

/// Listeners, epoll, standard streams, what libraries open.
const SPARE_DESCRIPTORS: u64 = 64;

/// How long a server may take to listen, and a load to connect.
const START_PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: u16, server: Name, cpu_us: f64) -> Run {
        let seen = Seen {
            requests: 1_000_000,
            seconds: 2.0,
            server_cpu_seconds: cpu_us,
            load_cpu_seconds: 0.0,
            p50_us: 1.0,
            p99_us: 2.0,
            max_us: 3.0,
        };
        let outcome = Outcome::Seen(seen);
        Run {
            round,
            server,
            outcome,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let runs = [
            run(1, Name::Hyper, 6.0),
            run(1, Name::Epoll, 3.0),
            run(2, Name::Hyper, 20.0),
            run(2, Name::Epoll, 5.0),
        ];
        let row = Row::of(Name::Hyper, &runs);
        assert_eq!(row.ratio, Spread::of([2.0, 4.0]));
        assert_eq!(row.per_second.unwrap().median, 500_000.0);
        assert_eq!(Row::of(Name::Epoll, &runs).ratio, Spread::of([1.0]));
    }

    #[test]
    fn a_server_that_failed_has_a_row_with_the_cause() {
        let failed = Run {
            round: 1,
            server: Name::Threads,
            outcome: Outcome::Failed("no more threads".to_owned()),
        };
        let rows = [Row::of(Name::Threads, &[failed]), Row::of(Name::Hyper, &[])];
        let text = table(&rows).to_string();
        assert!(text.contains("| threads | "), "{text}");
        assert!(text.contains("threads failed: no more threads"), "{text}");
    }
}
