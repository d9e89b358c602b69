//! What connections that stay with a worker cost in tail latency, when the load meets workers unevenly.
//!
//! Servers with several workers and the load share all allowed cores. So little is asked for that both get their CPU
//! time; the rate is given and does not depend on the server. For each case, each round runs every server once, with the
//! same arrivals, in a process that has served nothing before.

use std::{fmt, num::NonZero, path::PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    pair::Served,
    rows::Run,
    tails::{self, Row},
};
use crate::{
    go::enlist,
    json::JsonFile,
    load::{
        Pace,
        open::{Plan, Room, Seen, Stream},
    },
    process::raise_descriptor_limit,
    servers::Name,
    stats::Machine,
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Workers of each server.
    #[arg(long, value_name = "N", default_value = "2")]
    workers: NonZero<usize>,
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
    /// The cases; all if none is named.
    #[arg(long, value_name = "CASE,..", value_delimiter = ',')]
    cases: Vec<Case>,
    /// The servers; all that can have several workers if none is named.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = with_workers)]
    only: Vec<Name>,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn with_workers(text: &str) -> Result<Name, String> {
    let name: Name = text.parse()?;
    match Name::WITH_WORKERS.contains(&name) {
        true => Ok(name),
        false => {
            let known = Name::WITH_WORKERS.map(|name| name.to_string()).join(", ");
            Err(format!(
                "it runs on one core alone; to choose from are {known}"
            ))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Case {
    /// Of 256 connections, 64 of those that came to one worker are busy, and all others silent.
    Placement,
    /// A few requests that compute for 10 ms, among many that cost nothing.
    CpuBound,
    /// 64 requests at once on as many connections, ten times a second.
    Bursts,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.pad(value.get_name()),
            None => Ok(()),
        }
    }
}

impl Case {
    fn describe(self) -> &'static str {
        match self {
            Self::Placement => {
                "256 connections, 64 of those that one worker serves are busy: 5000 requests/s of 100 µs CPU each"
            }
            Self::CpuBound => {
                "20 requests/s of 10 ms CPU each on 4 connections; measured are 4000 cheap requests/s on 64 others"
            }
            Self::Bursts => {
                "every 100 ms 64 requests at once on 64 connections, of 200 µs CPU each"
            }
        }
    }

    fn streams(self) -> Vec<Stream> {
        let stream = |target: &str, pace, connections| Stream {
            target: target.to_owned(),
            pace,
            connections,
            crowd_of: None,
            counted: true,
        };
        let poisson = |per_second| Pace::Poisson { per_second };
        match self {
            Self::Placement => vec![Stream {
                crowd_of: Some(256),
                ..stream("/cpu?us=100", poisson(5000.0), 64)
            }],
            Self::CpuBound => vec![
                stream("/", poisson(4000.0), 64),
                Stream {
                    counted: false,
                    ..stream("/cpu?us=10000", poisson(20.0), 4)
                },
            ],
            Self::Bursts => {
                let pace = Pace::Bursts {
                    size: 64,
                    every_ms: 100,
                };
                vec![stream("/cpu?us=200", pace, 64)]
            }
        }
    }
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    cases: Vec<Comparison>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    case: Case,
    servers: Vec<Row<Name>>,
    runs: Vec<Run<Name, Seen>>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(DESCRIPTORS)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let cases = match options.cases.is_empty() {
        true => Case::value_variants().to_vec(),
        false => options.cases.clone(),
    };
    let Options {
        workers,
        rounds,
        seconds,
        ..
    } = options;
    let mut machine = Machine::here(&["maniple-server", "may_minihttp", "may", "hyper", "tokio"]);
    let servers = enlist(
        &options.only,
        &Name::WITH_WORKERS,
        &[Name::Go],
        &mut machine,
    );
    println!("{machine}");
    let cores = std::thread::available_parallelism().map_or(0, NonZero::get);
    println!("servers with {workers} workers; they and the load share {cores} cores");
    let mut report = Report {
        machine,
        options,
        cases: Vec::new(),
    };
    for case in cases {
        let runs = measure(options, case, &servers);
        let rows: Vec<Row<Name>> = servers
            .iter()
            .map(|&server| Row::of(server, None, &runs))
            .collect();
        println!("\n{case}: {}", case.describe());
        println!("median (min..max) of {rounds} × {seconds} s\n");
        print!("{}", tails::table(&rows, None));
        report.cases.push(Comparison {
            case,
            servers: rows,
            runs,
        });
    }
    let mut rows = report.cases.iter().flat_map(|case| &case.servers);
    let measured = rows.any(Row::is_measured);
    file.write(&report)?;
    match measured {
        true => Ok(()),
        false => bail!("no server could be measured"),
    }
}

/// All rounds of one case: A B C, A B C.
fn measure(options: &Options, case: Case, servers: &[Name]) -> Vec<Run<Name, Seen>> {
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for &server in servers {
            let rounds = options.rounds;
            progress(&format!("{case}: round {round} of {rounds}, {server}"));
            runs.push(Run {
                round,
                contender: server,
                outcome: measure_once(options, case, round, server).into(),
            });
        }
    }
    progress("");
    runs
}

fn measure_once(options: &Options, case: Case, round: u16, server: Name) -> Result<Seen> {
    let plan = Plan {
        seed: round.into(),
        warm_up_seconds: options.warm_up,
        seconds: options.seconds,
        room: Room::Shared,
        streams: case.streams(),
    };
    let workers = format!("--workers={}", options.workers);
    Served::start(server, &[workers])?.under_plan(&plan)
}

/// Connections of the largest case, and what processes open beside.
const DESCRIPTORS: u64 = 256 + 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_leaves_most_of_two_cores_to_the_load() {
        for case in Case::value_variants() {
            let burnt: f64 = case.streams().iter().map(cores_asked_for).sum();
            // What reading, answering and asking take comes on top.
            assert!(burnt > 0.1 && burnt <= 0.5, "{case}: {burnt} cores");
        }
    }

    fn cores_asked_for(stream: &Stream) -> f64 {
        let micros = stream.target.split_once("us=");
        let micros = micros.map_or(0.0, |(_, micros)| micros.parse().unwrap());
        let per_second = match stream.pace {
            Pace::Poisson { per_second } => per_second,
            Pace::Bursts { size, every_ms } => size as f64 * 1e3 / every_ms as f64,
        };
        per_second * micros / 1e6
    }

    #[test]
    fn each_case_measures_requests_of_one_kind() {
        for case in Case::value_variants() {
            let counted = case.streams().iter().filter(|s| s.counted).count();
            assert_eq!(counted, 1, "{case}");
        }
    }
}
