//! Single operations of each engine, in nanoseconds: one worker, then two.

mod may;
mod own;
mod threads;
mod tokio;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    process::{self, Child, Core},
    stats::{Machine, Spread, Table},
};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rows, of all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Row>,
    /// Engines, of all.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Times that each row is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where to write all figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ChildOptions {
    engine: Engine,
    row: Row,
    #[arg(long)]
    workers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    Maniple,
    May,
    Tokio,
    Threads,
}

/// An operation that every engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Row {
    /// Two tasks that yield to each other; per yield.
    #[value(name = "yield-2")]
    Yield2,
    /// 10,000 tasks that yield; per yield.
    #[value(name = "yield-10000")]
    Yield10000,
    /// Spawn an empty task and join it; per task.
    SpawnJoin,
    /// Spawn 1,000 empty tasks, then join them; per task.
    #[value(name = "spawn-join-1000")]
    SpawnJoin1000,
    /// A message to another task over a channel of capacity 1 and one back; per message.
    PingPong,
    /// Lock and unlock a mutex that nobody else wants; per pair.
    Mutex,
    /// As ping-pong, each receive under a timeout of 10 s; per message with its timer armed and disarmed.
    Timer,
    /// 100,000 tasks that sleep 100 ms each; CPU time per task.
    Sleepers,
}

/// How often each row's operation is done.
#[derive(Clone, Copy, Debug)]
struct Counts {
    yields: u64,
    spawns: u64,
    messages: u64,
    locks: u64,
    sleepers: u64,
}

const COUNTS: Counts = Counts {
    // Enough for the cost of starting 10,000 tasks not to show.
    yields: 10_000_000,
    spawns: 300_000,
    messages: 500_000,
    locks: 10_000_000,
    sleepers: 100_000,
};

/// Threads are slow enough that less will do, and 100,000 of them are not to be had.
const THREAD_COUNTS: Counts = Counts {
    yields: 200_000,
    spawns: 5_000,
    messages: 50_000,
    locks: 10_000_000,
    sleepers: 1_000,
};

const MANY_YIELDERS: u64 = 10_000;
const BATCH: u64 = 1_000;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Measured {
    nanos: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let rows = or_all(&options.only);
    let engines = or_all(&options.engines);
    let mut tables = Vec::new();
    for &workers in &options.workers {
        println!(
            "\n{workers} worker(s), ns per operation, {} rounds",
            options.rounds
        );
        let mut lines = Vec::new();
        for &row in &rows {
            let mut runs: Vec<Vec<f64>> = vec![Vec::new(); engines.len()];
            let mut failed = vec![None; engines.len()];
            for _ in 0..options.rounds {
                for (index, &engine) in engines.iter().enumerate() {
                    match run_one(engine, row, workers) {
                        Ok(measured) => runs[index].push(measured.nanos),
                        Err(error) => failed[index] = Some(format!("{error:#}")),
                    }
                }
            }
            lines.push(Line::new(workers, row, &engines, runs, failed));
        }
        print(&engines, &lines);
        tables.extend(lines);
    }
    if let Some(path) = &options.json {
        #[derive(Serialize)]
        struct Report {
            machine: Machine,
            rows: Vec<Line>,
        }
        let report = Report {
            machine: Machine::here(&["maniple", "may", "tokio"]),
            rows: tables,
        };
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn or_all<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() {
        T::value_variants().to_vec()
    } else {
        chosen.to_vec()
    }
}

fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

fn run_one(engine: Engine, row: Row, workers: usize) -> Result<Measured> {
    let mut child = Child::start([
        "micro-row".to_owned(),
        name(engine),
        name(row),
        format!("--workers={workers}"),
    ])?;
    serde_json::from_str(&child.line(PATIENCE)?).context("reading a contender's figure")
}

#[derive(Debug, Serialize)]
struct Line {
    workers: usize,
    row: Row,
    engines: Vec<(Engine, Option<Spread>, Option<String>)>,
    /// The best peer's median over ours.
    lead: Option<f64>,
}

impl Line {
    fn new(
        workers: usize,
        row: Row,
        engines: &[Engine],
        runs: Vec<Vec<f64>>,
        failed: Vec<Option<String>>,
    ) -> Self {
        let engines: Vec<_> = engines
            .iter()
            .zip(runs)
            .zip(failed)
            .map(|((engine, runs), failed)| (*engine, Spread::of(runs), failed))
            .collect();
        let median = |own: bool| {
            engines
                .iter()
                .filter(move |(engine, ..)| (*engine == Engine::Maniple) == own)
                .filter_map(|(_, spread, _)| spread.map(|spread| spread.median))
                .min_by(f64::total_cmp)
        };
        let lead = median(false)
            .zip(median(true))
            .map(|(peer, own)| peer / own);
        Self {
            workers,
            row,
            engines,
            lead,
        }
    }
}

fn print(engines: &[Engine], lines: &[Line]) {
    let names: Vec<String> = engines.iter().map(|engine| name(*engine)).collect();
    let mut header = vec!["operation"];
    header.extend(names.iter().map(String::as_str));
    header.push("best peer / maniple");
    let mut table = Table::new(&header);
    for line in lines {
        let mut cells = vec![name(line.row)];
        for (engine, figure, failed) in &line.engines {
            cells.push(figure.map_or("-".to_owned(), |figure| figure.show(1)));
            if let Some(failed) = failed {
                table.note(format!("{} on {}: {failed}", name(line.row), name(*engine)));
            }
        }
        cells.push(
            line.lead
                .map_or("-".to_owned(), |lead| format!("{lead:.2}")),
        );
        table.row(cells);
    }
    println!("{table}");
}

/// How long a row may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The child: measures one row and prints the figure.
pub(crate) fn run_child(options: &ChildOptions) -> Result<()> {
    if options.workers == 1 {
        process::settle(Core::First)?;
    }
    let (row, workers) = (options.row, options.workers);
    let nanos = match options.engine {
        Engine::Maniple => own::run(row, workers)?,
        Engine::May => may::run(row, workers),
        Engine::Tokio => tokio::run(row, workers)?,
        Engine::Threads => threads::run(row),
    };
    println!("{}", serde_json::to_string(&Measured { nanos })?);
    Ok(())
}

/// CPU time of this process; zero if there is no such clock.
fn own_cpu_time() -> Duration {
    process::cpu_time_of(std::process::id()).unwrap_or_default()
}

/// Wall time of `f` per operation.
fn time(operations: u64, f: impl FnOnce()) -> f64 {
    let started = Instant::now();
    f();
    started.elapsed().as_nanos() as f64 / operations as f64
}

/// CPU time of the process during `f` per operation.
fn cpu(operations: u64, f: impl FnOnce()) -> f64 {
    let before = own_cpu_time();
    f();
    let used = own_cpu_time() - before;
    used.as_nanos() as f64 / operations as f64
}
