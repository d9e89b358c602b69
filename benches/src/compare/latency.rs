//! Latency of HTTP servers that are not saturated: the server on one core, the load, an open loop, on another.
//!
//! How fast each server can go is measured first, by a closed loop. Then all serve one rate, a share of the slowest
//! one's peak, which is the same work for all; and each serves that share of its own peak, where none has more to spare
//! than another. For each, each round runs every server once, with the same seed, in a process that has served nothing
//! before.

use std::{fmt, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;
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
        self, Pace,
        open::{Plan, Room, Seen, Stream},
    },
    outcome::Outcome,
    process::raise_descriptor_limit,
    servers::Name,
    stats::{Machine, Spread},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Loads over so many keep-alive connections.
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "64,512"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: Vec<u16>,
    /// Share of the peak that is asked for.
    #[arg(long, value_name = "SHARE", default_value = "0.7", value_parser = share)]
    load: f64,
    /// How long each server is measured in each round.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// How long each server runs under load before.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warm_up: f64,
    /// How long its peak is measured, each of three times.
    #[arg(long, default_value = "1", value_parser = seconds)]
    peak_seconds: f64,
    /// How often each server is measured at each rate.
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

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number")?;
    match share > 0.0 && share < 1.0 {
        true => Ok(share),
        false => Err("must lie between 0 and 1".to_owned()),
    }
}

/// Whose peak decides on a server's rate.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Rate {
    OfSlowest,
    OfOwn,
}

impl Rate {
    const ALL: [Self; 2] = [Self::OfSlowest, Self::OfOwn];

    /// Requests a second for this server, or why there is no rate for it.
    fn of(self, server: Name, peaks: &[Peak], share: f64) -> Result<f64, String> {
        let own = peaks.iter().find(|peak| peak.server == server);
        // A server without a peak of its own could not be measured at the rate of others either.
        let own = own.map_or(Err("not measured".to_owned()), Peak::per_second)?;
        let measured = peaks.iter().filter_map(|peak| peak.per_second().ok());
        Ok(share
            * match self {
                Self::OfSlowest => measured.fold(own, f64::min),
                Self::OfOwn => own,
            })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfSlowest => "the slowest server's peak",
            Self::OfOwn => "each server's own peak",
        })
    }
}

/// What a server does at most.
#[derive(Debug, Serialize)]
struct Peak {
    server: Name,
    per_second: Option<Spread>,
    /// The cause of the first run that failed.
    failed: Option<String>,
}

impl Peak {
    fn of(server: Name, runs: &[Run<Name, load::Seen>]) -> Self {
        let outcomes = || {
            let own = runs.iter().filter(|run| run.contender == server);
            own.map(|run| &run.outcome)
        };
        Self {
            server,
            per_second: Spread::of(outcomes().filter_map(|outcome| match outcome {
                Outcome::Seen(seen) => Some(seen.requests as f64 / seen.seconds),
                Outcome::Failed(_) => None,
            })),
            failed: outcomes().find_map(|outcome| match outcome {
                Outcome::Failed(cause) => Some(cause.clone()),
                Outcome::Seen(_) => None,
            }),
        }
    }

    fn per_second(&self) -> Result<f64, String> {
        match &self.per_second {
            Some(spread) => Ok(spread.median),
            None => Err(self.failed.clone().unwrap_or_default()),
        }
    }
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    loads: Vec<Load>,
}

#[derive(Debug, Serialize)]
struct Load {
    connections: u16,
    peaks: Vec<Peak>,
    rates: Vec<Comparison>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    rate: Rate,
    servers: Vec<Row<Name>>,
    runs: Vec<Run<Name, Seen>>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let most = options.connections.iter().max().copied().unwrap_or(0);
    raise_descriptor_limit(u64::from(most) + SPARE_DESCRIPTORS)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let mut machine = Machine::here(&super::http::CRATES);
    let servers = enlist(&options.only, &Name::ALL, &[Name::Go], &mut machine);
    println!("{machine}");
    let mut report = Report {
        machine,
        options,
        loads: Vec::new(),
    };
    for &connections in &options.connections {
        report
            .loads
            .push(measure_load(options, connections, &servers));
    }
    let rates = report.loads.iter().flat_map(|load| &load.rates);
    let measured = rates
        .flat_map(|rate| &rate.servers)
        .any(|row| row.is_measured());
    file.write(&report)?;
    match measured {
        true => Ok(()),
        false => bail!("no server could be measured"),
    }
}

/// Measures and prints all of one number of connections.
fn measure_load(options: &Options, connections: u16, servers: &[Name]) -> Load {
    let peaks = peaks(options, connections, servers);
    let told: Vec<String> = peaks
        .iter()
        .filter_map(|peak| Some(format!("{} {:.0}", peak.server, peak.per_second().ok()?)))
        .collect();
    let plural = if connections == 1 { "" } else { "s" };
    println!("\n{connections} connection{plural}");
    println!("peaks in requests/s, of a closed loop: {}", told.join(", "));
    let all = rounds(options, connections, servers, &peaks);
    let Options {
        load,
        rounds,
        seconds,
        ..
    } = options;
    let mut rates = Vec::new();
    for (rate, runs) in all {
        let rows: Vec<Row<Name>> = servers
            .iter()
            .map(|&server| Row::of(server, Some(Name::Epoll), &runs))
            .collect();
        println!(
            "\n{:.0} % of {rate}; median (min..max) of {rounds} × {seconds} s\n",
            load * 100.0
        );
        print!("{}", tails::table(&rows, Some(Name::Epoll)));
        rates.push(Comparison {
            rate,
            servers: rows,
            runs,
        });
    }
    Load {
        connections,
        peaks,
        rates,
    }
}

/// The peaks of all servers, in interleaved runs.
fn peaks(options: &Options, connections: u16, servers: &[Name]) -> Vec<Peak> {
    let mut runs = Vec::new();
    for round in 1..=PEAK_ROUNDS {
        for &server in servers {
            progress(&format!(
                "peak with {connections} connections: round {round} of {PEAK_ROUNDS}, {server}"
            ));
            let peak = || {
                let arguments = [
                    format!("--connections={connections}"),
                    "--pipeline=1".to_owned(),
                    format!("--warm-up-seconds={}", options.warm_up),
                    format!("--seconds={}", options.peak_seconds),
                ];
                let seconds = options.warm_up + options.peak_seconds;
                Served::start(server, &[])?.under("load", &arguments, seconds)
            };
            runs.push(Run {
                round,
                contender: server,
                outcome: peak().into(),
            });
        }
    }
    progress("");
    servers
        .iter()
        .map(|&server| Peak::of(server, &runs))
        .collect()
}

/// All rounds at all rates: A B C at the first, A B C at the second, and again.
fn rounds(
    options: &Options,
    connections: u16,
    servers: &[Name],
    peaks: &[Peak],
) -> Vec<(Rate, Vec<Run<Name, Seen>>)> {
    let mut all: Vec<_> = Rate::ALL.map(|rate| (rate, Vec::new())).into();
    for round in 1..=options.rounds {
        for (rate, runs) in &mut all {
            for &server in servers {
                let rounds = options.rounds;
                progress(&format!(
                    "{connections} connections, {rate}: round {round} of {rounds}, {server}"
                ));
                let outcome = match rate.of(server, peaks, options.load) {
                    Ok(per_second) => {
                        measure_once(options, connections, round, server, per_second).into()
                    }
                    Err(cause) => Outcome::Failed(cause),
                };
                runs.push(Run {
                    round,
                    contender: server,
                    outcome,
                });
            }
        }
    }
    progress("");
    all
}

fn measure_once(
    options: &Options,
    connections: u16,
    round: u16,
    server: Name,
    per_second: f64,
) -> Result<Seen> {
    let plan = Plan {
        seed: round.into(),
        warm_up_seconds: options.warm_up,
        seconds: options.seconds,
        room: Room::OwnCore,
        streams: vec![Stream {
            target: "/".to_owned(),
            pace: Pace::Poisson { per_second },
            connections: connections.into(),
            crowd_of: None,
            counted: true,
        }],
    };
    Served::start(server, &[])?.under_plan(&plan)
}

/// How often a peak is measured: the median of three is not the one that was disturbed.
const PEAK_ROUNDS: u16 = 3;

/// Listeners, epoll, standard streams, what libraries open.
const SPARE_DESCRIPTORS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(server: Name, per_second: Option<f64>) -> Peak {
        Peak {
            server,
            per_second: Spread::of(per_second),
            failed: per_second.is_none().then(|| "no more threads".to_owned()),
        }
    }

    #[test]
    fn one_rate_is_what_the_slowest_can_do_and_the_other_what_each_can() {
        let peaks = [
            peak(Name::Maniple, Some(100_000.0)),
            peak(Name::Axum, Some(40_000.0)),
            peak(Name::Threads, None),
        ];
        let rate = |rate: Rate, server| rate.of(server, &peaks, 0.5);
        assert_eq!(rate(Rate::OfSlowest, Name::Maniple), Ok(20_000.0));
        assert_eq!(rate(Rate::OfSlowest, Name::Axum), Ok(20_000.0));
        assert_eq!(rate(Rate::OfOwn, Name::Maniple), Ok(50_000.0));
        assert_eq!(rate(Rate::OfOwn, Name::Axum), Ok(20_000.0));
        for of in Rate::ALL {
            assert_eq!(rate(of, Name::Threads), Err("no more threads".to_owned()));
        }
    }

    #[test]
    fn a_peak_is_the_median_of_what_was_seen() {
        let run = |requests| Run {
            round: 1,
            contender: Name::Epoll,
            outcome: Outcome::Seen(load::Seen {
                requests,
                seconds: 2.0,
                server_cpu_seconds: 1.0,
                server_kernel_share: 0.5,
                load_cpu_seconds: 1.0,
                p50_us: 1.0,
                p99_us: 1.0,
                max_us: 1.0,
            }),
        };
        let failed = Run {
            round: 2,
            contender: Name::Epoll,
            outcome: Outcome::Failed("reset".to_owned()),
        };
        let runs = [run(1000), failed, run(10), run(3000)];
        assert_eq!(Peak::of(Name::Epoll, &runs).per_second(), Ok(500.0));
        let only = Peak::of(Name::Epoll, &runs[1..2]).per_second();
        assert_eq!(only, Err("reset".to_owned()));
    }
}
