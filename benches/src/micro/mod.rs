//! Single operations of each engine, in nanoseconds: one worker, then two.
//!
//! Each figure comes from a process of its own, from within a task of the engine.

mod crossbeam;
mod go;
mod limit;
mod may;
mod own;
mod refusal;
mod report;
mod row;
mod threads;
mod tokio;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use maniple::inspect::{self, MeasureDepths};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use self::{
    refusal::not_run,
    report::{Report, Table},
    row::Row,
};
use crate::{
    go::enlist,
    json::JsonFile,
    process::{self, Child, Core},
    stats::Machine,
    terminal::progress,
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// The rows; all if none is named.
    #[arg(long, value_name = "ROW,..", value_delimiter = ',')]
    only: Vec<Row>,
    /// The engines; if none is named, all but those of maniple with something switched on.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Numbers of workers: a table for each.
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "1,2"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Vec<u16>,
    /// How often each row is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ChildOptions {
    engine: Engine,
    row: Row,
    #[arg(long)]
    workers: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Engine {
    Maniple,
    /// maniple under `inspect::watch_stalls`.
    ManipleWatched,
    /// maniple with `inspect::track(true)`.
    ManipleTracked,
    /// maniple with `inspect::measure_depths`.
    ManipleGauged,
    /// The same, with painted stacks.
    ManiplePainted,
    May,
    /// The current-thread runtime for one worker, the multi-thread one for more.
    Tokio,
    /// Goroutines on so many processors; the answers under a timeout are awaited with one timer that is set again.
    Go,
    /// The standard library's threads, fewer times; the workers are the cores they may use.
    Threads,
    /// crossbeam-channel on such threads.
    Crossbeam,
    /// A bare switch, call or copy, where one bounds the row: no engine, and nobody's peer.
    Limit,
}

impl Engine {
    /// maniple, be it with something switched on.
    fn is_own(self) -> bool {
        matches!(
            self,
            Engine::Maniple
                | Engine::ManipleWatched
                | Engine::ManipleTracked
                | Engine::ManipleGauged
                | Engine::ManiplePainted
        )
    }

    /// Whom maniple is compared with.
    fn is_peer(self) -> bool {
        !self.is_own() && self != Engine::Limit
    }

    /// Those of a comparison: each with nothing switched on.
    fn plain() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|&engine| engine == Engine::Maniple || !engine.is_own())
            .collect()
    }
}

/// What the book's example watches for; no row's turn takes so long.
const STALL: Duration = Duration::from_millis(100);
/// Long enough never to be reached.
const TIMEOUT: Duration = Duration::from_secs(10);
const SLEEP: Duration = Duration::from_millis(100);

/// Time per operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    wall_nanos: f64,
    /// Of the whole process.
    cpu_nanos: f64,
}

/// One row on one engine in one round.
#[derive(Debug, Serialize)]
struct Run {
    workers: u16,
    row: Row,
    round: u16,
    engine: Engine,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Measured(Measured),
    /// It would make no sense, for this reason.
    NotRun(String),
    Failed(String),
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let file = JsonFile::create(options.json.as_deref())?;
    let rows = chosen_or(&options.only, || Row::value_variants().to_vec());
    let mut machine =
        Machine::here(&["maniple", "may", "tokio", "crossbeam-channel", "corosensei"]);
    let plain = Engine::plain();
    let engines = enlist(&options.engines, &plain, &[Engine::Go], &mut machine);
    println!("{machine}");
    let mut report = Report {
        machine,
        options,
        tables: Vec::new(),
        runs: Vec::new(),
    };
    for &workers in &options.workers {
        let runs = measure(workers, &rows, &engines, options.rounds);
        let table = Table::of(workers, &rows, &engines, &runs);
        let plural = if workers == 1 { "" } else { "s" };
        let rounds = options.rounds;
        println!("\n{workers} worker{plural}, ns per operation; median (min..max) of {rounds}\n");
        print!("{table}");
        report.tables.push(table);
        report.runs.extend(runs);
    }
    file.write(&report)?;
    let measured = |run: &Run| matches!(run.outcome, Outcome::Measured(_));
    match report.runs.iter().any(measured) {
        true => Ok(()),
        false => bail!("nothing could be measured"),
    }
}

fn chosen_or<T: Clone>(chosen: &[T], default: impl FnOnce() -> Vec<T>) -> Vec<T> {
    match chosen.is_empty() {
        true => default(),
        false => chosen.to_vec(),
    }
}

fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// All rounds of each row: A B C, A B C.
fn measure(workers: u16, rows: &[Row], engines: &[Engine], rounds: u16) -> Vec<Run> {
    let mut runs = Vec::new();
    for &row in rows {
        for round in 1..=rounds {
            for &engine in engines {
                let (row_name, engine_name) = (name(row), name(engine));
                progress(&format!(
                    "{row_name}, {workers} worker(s): round {round} of {rounds}, {engine_name}"
                ));
                let outcome = match not_run(engine, row) {
                    Some(reason) => Outcome::NotRun(reason),
                    None => match measure_once(engine, row, workers) {
                        Ok(measured) => Outcome::Measured(measured),
                        Err(error) => Outcome::Failed(format!("{error:#}")),
                    },
                };
                runs.push(Run {
                    workers,
                    row,
                    round,
                    engine,
                    outcome,
                });
            }
        }
    }
    progress("");
    runs
}

fn measure_once(engine: Engine, row: Row, workers: u16) -> Result<Measured> {
    if engine == Engine::Go {
        crate::go::ready()?;
    }
    let mut child = Child::start([
        "micro-row".to_owned(),
        name(engine),
        name(row),
        format!("--workers={workers}"),
    ])?;
    serde_json::from_str(&child.line(PATIENCE)?).context("what the engine printed")
}

/// How long a row may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The child: measures one row and prints the figures.
pub(crate) fn run_child(options: &ChildOptions) -> Result<()> {
    if let Some(reason) = not_run(options.engine, options.row) {
        bail!("{reason}");
    }
    match options.workers {
        1 => process::settle(Core::First)?,
        // Free to use all cores, but not to outlive its parent.
        _ => set_parent_process_death_signal(Some(Signal::KILL))?,
    }
    let (row, workers) = (options.row, usize::from(options.workers));
    let runtime = maniple::Runtime::builder().workers(workers);
    let measured = match options.engine {
        Engine::Maniple => own::run(row, runtime)?,
        Engine::ManipleWatched => {
            let _watch = inspect::watch_stalls(STALL)?;
            own::run(row, runtime)?
        }
        Engine::ManipleTracked => {
            inspect::track(true);
            own::run(row, runtime)?
        }
        Engine::ManipleGauged => {
            inspect::measure_depths(MeasureDepths::On);
            own::run(row, runtime)?
        }
        Engine::ManiplePainted => {
            inspect::measure_depths(MeasureDepths::On);
            own::run(row, runtime.paint_stacks(true))?
        }
        Engine::May => may::run(row, workers),
        Engine::Tokio => tokio::run(row, workers)?,
        Engine::Go => return go::run(row, workers),
        Engine::Threads => threads::run(row),
        Engine::Crossbeam => crossbeam::run(row),
        Engine::Limit => limit::run(row),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Started before the operations, asked after them.
#[derive(Debug)]
struct Clock {
    started: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Self {
        let cpu = own_cpu_time();
        let started = Instant::now();
        Self { started, cpu }
    }

    fn per(&self, operations: u64) -> Measured {
        let (wall, cpu) = (self.started.elapsed(), own_cpu_time() - self.cpu);
        let per = |time: Duration| time.as_nanos() as f64 / operations as f64;
        Measured {
            wall_nanos: per(wall),
            cpu_nanos: per(cpu),
        }
    }
}

/// Zero where the system has no such clock.
fn own_cpu_time() -> Duration {
    process::cpu_time_of(std::process::id()).unwrap_or_default()
}

/// Times `f`, which does so many operations.
fn time(operations: u64, f: impl FnOnce()) -> Measured {
    let clock = Clock::start();
    f();
    clock.per(operations)
}
