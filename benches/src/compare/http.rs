//! HTTP servers, by CPU time per request: the server on one core, the load on another.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    load::Load,
    process::{self, Contender},
    servers::Name,
    stats::{self, Machine, Spread, show, spread},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Keep-alive connections, each with one request at a time.
    #[arg(long, value_delimiter = ',', default_value = "64,512,4096")]
    connections: Vec<usize>,
    /// Requests at once on each of 64 further connections; 0 leaves that load out.
    #[arg(long, default_value_t = 16)]
    pipeline: usize,
    /// Seconds that each contender is measured for in each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Times that each contender is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Contenders, of all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Where to write all figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

const PIPELINED_CONNECTIONS: usize = 64;

/// One contender under one load in one round.
#[derive(Clone, Debug, Serialize)]
struct Run {
    cpu_us: f64,
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    load: String,
    name: Name,
    cpu_us: Option<Spread>,
    /// CPU time per request over that of the raw loop, round by round.
    ratio: Option<Spread>,
    per_second: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let most = options.connections.iter().copied().max().unwrap_or(0);
    process::raise_descriptor_limit(most + 100)?;
    process::pin(1);
    let names = if options.only.is_empty() {
        Name::value_variants().to_vec()
    } else {
        options.only.clone()
    };
    let mut loads: Vec<(usize, usize)> = options.connections.iter().map(|&n| (n, 1)).collect();
    if options.pipeline > 1 {
        loads.push((PIPELINED_CONNECTIONS, options.pipeline));
    }
    let mut rows = Vec::new();
    for (connections, pipeline) in loads {
        let title = match pipeline {
            1 => format!("{connections} connections"),
            _ => format!("{connections} connections, pipelined x{pipeline}"),
        };
        println!(
            "\n{title}: {} rounds of {} s",
            options.rounds, options.seconds
        );
        let runs = measure(options, &names, connections, pipeline);
        let table = summarise(&title, &names, &runs);
        print(&table);
        rows.extend(table);
    }
    if let Some(path) = &options.json {
        let report = Report {
            machine: Machine::here(),
            rows,
        };
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

type Runs = BTreeMap<&'static str, Vec<Result<Run, String>>>;

fn measure(options: &Options, names: &[Name], connections: usize, pipeline: usize) -> Runs {
    let mut runs = Runs::new();
    for _ in 0..options.rounds {
        for &name in names {
            let run = run_one(options, name, connections, pipeline);
            runs.entry(name.as_str())
                .or_default()
                .push(run.map_err(|error| format!("{error:#}")));
        }
    }
    runs
}

fn run_one(options: &Options, name: Name, connections: usize, pipeline: usize) -> Result<Run> {
    let port = process::free_port()?;
    let contender = Contender::start(&[
        "serve".to_owned(),
        name.as_str().to_owned(),
        format!("--port={port}"),
    ])?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    process::await_listener(address)?;
    let mut load = Load::connect(address, connections, pipeline)?;
    load.run(Duration::from_secs_f64(options.seconds / 5.0))?;
    let before = contender.cpu_time()?;
    let seen = load.run(Duration::from_secs_f64(options.seconds))?;
    let used = contender.cpu_time()? - before;
    Ok(Run {
        cpu_us: used.as_secs_f64() * 1e6 / seen.requests.max(1) as f64,
        per_second: seen.requests as f64 / seen.elapsed.as_secs_f64(),
        p50_us: seen.latency.value_at_quantile(0.5),
        p99_us: seen.latency.value_at_quantile(0.99),
    })
}

fn summarise(load: &str, names: &[Name], runs: &Runs) -> Vec<Row> {
    let limit = runs.get(Name::Epoll.as_str());
    names
        .iter()
        .map(|name| {
            let own = &runs[name.as_str()];
            let good = || own.iter().filter_map(|run| run.as_ref().ok());
            let ratios = limit.map(|limit| {
                own.iter()
                    .zip(limit)
                    .filter_map(|(own, limit)| {
                        Some(own.as_ref().ok()?.cpu_us / limit.as_ref().ok()?.cpu_us)
                    })
                    .collect::<Vec<_>>()
            });
            Row {
                load: load.to_owned(),
                name: *name,
                cpu_us: spread(good().map(|run| run.cpu_us)),
                ratio: spread(ratios.unwrap_or_default()),
                per_second: spread(good().map(|run| run.per_second)),
                p50_us: spread(good().map(|run| run.p50_us as f64)),
                p99_us: spread(good().map(|run| run.p99_us as f64)),
                error: own.iter().find_map(|run| run.as_ref().err().cloned()),
            }
        })
        .collect()
}

fn print(rows: &[Row]) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.as_str().to_owned(),
                show(row.cpu_us, 2),
                show(row.ratio, 2),
                show(row.per_second, 0),
                show(row.p50_us, 0),
                show(row.p99_us, 0),
            ]
        })
        .collect();
    let header = [
        "server",
        "CPU us/request",
        "of the limit",
        "requests/s",
        "p50 us",
        "p99 us",
    ];
    stats::print_table(&header, &cells);
    for row in rows {
        if let Some(error) = &row.error {
            println!("{}: {error}", row.name.as_str());
        }
    }
}
