//! Servers of HTTP/2 by CPU time per request, in plain text by prior knowledge: the server on one core, h2load of nghttp2 on
//! another.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::{
    http::CRATES,
    pair::Served,
    rows::{self, Figures},
};
use crate::{
    json::JsonFile,
    process::{Core, cpu_time_of, pin},
    servers::Name,
    stats::{Machine, Spread, Table},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Requests at once on each.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
    /// How long each server is measured in each round.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// How often each server is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What h2load saw, and what the server took.
#[derive(Debug, Serialize)]
struct Seen {
    requests: u64,
    seconds: f64,
    server_cpu_seconds: f64,
}

impl Figures for Seen {
    fn cpu_us(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.requests as f64
    }

    fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    // h2load tells no quantiles.
    fn p50_us(&self) -> f64 {
        f64::NAN
    }

    fn p99_us(&self) -> f64 {
        f64::NAN
    }
}

type Run = rows::Run<Name, Seen>;
type Row = rows::Row<Name>;

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    servers: Vec<Row>,
    runs: Vec<Run>,
}

/// What is compared, and with what.
const SERVERS: [Name; 2] = [Name::Maniple, PEER];
const PEER: Name = Name::Hyper;

pub(crate) fn run(options: &Options) -> Result<()> {
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&CRATES);
    println!("{machine}");
    // A load of its own, that there is one.
    let version = Command::new("h2load").arg("--version").output();
    let version = version.context("h2load, of Debian's nghttp2-client")?;
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for contender in SERVERS {
            progress(&format!("round {round} of {}, {contender}", options.rounds));
            let outcome = measure(options, contender).into();
            runs.push(Run {
                round,
                contender,
                outcome,
            });
        }
    }
    progress("");
    let servers = SERVERS.map(|server| Row::of(server, PEER, &runs));
    let Options {
        connections,
        streams,
        rounds,
        seconds,
        ..
    } = options;
    println!(
        "\n{connections} × {streams} requests at once; median (min..max) of {rounds} × {seconds} s\n"
    );
    let against = format!("× {PEER}");
    let mut table = Table::new(&["server", "CPU µs/request", &against, "requests/s"]);
    for (name, row) in SERVERS.iter().zip(&servers) {
        let show = |spread: &Option<Spread>, decimals| {
            spread.map_or("-".to_owned(), |spread| spread.show(decimals))
        };
        table.row(vec![
            name.to_string(),
            show(&row.cpu_us, 2),
            show(&row.ratio, 2),
            show(&row.per_second, 0),
        ]);
        if let Some(cause) = &row.failed {
            table.note(format!("{name} failed: {cause}"));
        }
    }
    print!("{table}");
    file.write(&Report {
        machine,
        options,
        servers: servers.into(),
        runs,
    })
}

fn measure(options: &Options, server: Name) -> Result<Seen> {
    let served = Served::start(server, &["--http2".to_owned()])?;
    // The first requests find nothing in memory, and are not counted.
    load(options, &served, "1")?;
    let before = cpu_time_of(served.process())?;
    // It knows whole seconds alone.
    let seconds = options.seconds.ceil();
    let told = load(options, &served, &seconds.to_string())?;
    let spent = cpu_time_of(served.process())? - before;
    let failed = number_before(&told, " failed,").context("what h2load told")?;
    ensure!(failed == 0.0, "{failed} requests failed");
    let requests = number_before(&told, " succeeded,").context("what h2load told")?;
    Ok(Seen {
        requests: requests as u64,
        seconds,
        server_cpu_seconds: spent.as_secs_f64(),
    })
}

/// Has h2load run on the other core; what it prints.
fn load(options: &Options, served: &Served, seconds: &str) -> Result<String> {
    let url = format!("http://{}/", served.address());
    let (connections, streams) = (options.connections.to_string(), options.streams.to_string());
    let arguments = ["-D", seconds, "-c", &connections, "-m", &streams, &url];
    // A child has the cores of the thread that starts it.
    let arguments = arguments.map(str::to_owned);
    let loading = std::thread::spawn(move || {
        pin(Core::Last)?;
        Command::new("h2load")
            .args(arguments)
            .output()
            .context("starting h2load")
    });
    let done = loading.join().expect("it does not panic")?;
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(done.status.success(), "h2load: {told}");
    Ok(told)
}

/// The number that stands in front of those words.
fn number_before(text: &str, words: &str) -> Option<f64> {
    let (before, _) = text.split_once(words)?;
    before.rsplit([' ', '\n']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_says_is_understood() {
        let told = "requests: 20 total, 20 started, 20 done, 19 succeeded, 1 failed, 0 errored";
        assert_eq!(number_before(told, " succeeded,"), Some(19.0));
        assert_eq!(number_before(told, " failed,"), Some(1.0));
    }
}
