//! Whether ten times as many cost ten times as much: coroutines, timers, connections, from ten to a million.
//!
//! Each point is a process of its own with one worker. An engine's line ends where the next point would take too
//! long, more memory or more descriptors than there are, or where the engine fails.

mod may;
pub(crate) mod misses;
mod own;
mod point;
mod report;
mod tokio;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

pub(crate) use self::point::Point;
use self::point::{Engine, Measured, Operation, decades, most_connections, name};
use crate::{
    capacity::{limits::Limits, quantity::count},
    json::JsonFile,
    process::{self, Child, Core, Stopwatch, settle},
    stats::Machine,
    terminal::progress,
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// The operations; all if none is named.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Operation>,
    /// The engines; all if none is named.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// The fewest at a time.
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    from: u64,
    /// The most at a time.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    to: u64,
    /// How long a point may take.
    #[arg(long, value_name = "S", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How often each point is measured.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A folder for the figure, `scale.svg`.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// One point in one round.
#[derive(Debug, Serialize)]
struct Run {
    round: u16,
    #[serde(flatten)]
    point: Point,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Measured(Measured),
    /// It would be more than is allowed or possible, for this reason.
    NotRun(String),
    Failed(String),
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.from > options.to {
        bail!("--from {} is more than --to {}", options.from, options.to);
    }
    let file = JsonFile::create(options.json.as_deref())?;
    let (operations, engines) = (or_all(&options.only), or_all(&options.engines));
    // For the connections, whose two ends are in one process.
    process::raise_descriptor_limit(0)?;
    let machine = Machine::here(&["maniple", "may", "tokio"]);
    println!("{machine}");
    let mut runs = Vec::new();
    for &operation in &operations {
        let measured = measure(options, operation, &engines);
        progress("");
        print!("\n{}", report::table(operation, &engines, &measured));
        runs.extend(measured);
    }
    if let Some(folder) = &options.plot {
        report::figure(&operations, &engines, &runs).write(folder, "scale.svg")?;
    }
    let measured = runs
        .iter()
        .any(|run| matches!(run.outcome, Outcome::Measured(_)));
    file.write(&Report {
        machine,
        options,
        runs,
    })?;
    match measured {
        true => Ok(()),
        false => bail!("nothing could be measured"),
    }
}

fn or_all<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    match chosen.is_empty() {
        true => T::value_variants().to_vec(),
        false => chosen.to_vec(),
    }
}

/// All engines at each number, in all rounds, until their lines end.
fn measure(options: &Options, operation: Operation, engines: &[Engine]) -> Vec<Run> {
    let budget = Duration::from_secs(options.seconds);
    // What each engine took last, or `None` where its line has ended.
    let mut took = vec![Some(Duration::ZERO); engines.len()];
    let mut runs = Vec::new();
    let counts = decades(options.from, most(operation, options));
    let mut before = counts[0];
    for &count in &counts {
        for round in 1..=options.rounds {
            for (&engine, took) in engines.iter().zip(&mut took) {
                let Some(last) = *took else { continue };
                let point = Point {
                    engine,
                    operation,
                    count,
                    rounds: None,
                };
                let rounds = options.rounds;
                progress(&format!("{point}: round {round} of {rounds}"));
                let smaller = Point {
                    count: before,
                    ..point
                };
                let growth = point.operations() as f64 / smaller.operations() as f64;
                let expected = if round == 1 {
                    last.mul_f64(growth)
                } else {
                    last
                };
                let begun = Instant::now();
                let outcome = match refused(&point, expected, budget, &Limits::here()) {
                    Some(reason) => Outcome::NotRun(reason),
                    None => match follow(&point, budget) {
                        Ok(measured) => Outcome::Measured(measured),
                        Err(error) => Outcome::Failed(format!("{error:#}")),
                    },
                };
                let measured = matches!(outcome, Outcome::Measured(_));
                *took = measured.then(|| begun.elapsed());
                runs.push(Run {
                    round,
                    point,
                    outcome,
                });
            }
        }
        before = count;
    }
    runs
}

/// The most at a time: connections end where descriptors do.
fn most(operation: Operation, options: &Options) -> u64 {
    match (operation, getrlimit(Resource::Nofile).current) {
        (Operation::Connection, Some(limit)) => {
            options.to.min(most_connections(limit)).max(options.from)
        }
        _ => options.to,
    }
}

/// Why a point should not be tried, if so.
fn refused(point: &Point, expected: Duration, budget: Duration, limits: &Limits) -> Option<String> {
    // Short runs are mostly the start of a process.
    if expected > budget && expected > Duration::from_secs(1) {
        return Some(format!(
            "it would take about {expected:.0?}, more than --seconds allows"
        ));
    }
    let forecast = point.forecast();
    if let Some(available) = limits
        .memory
        .filter(|available| forecast.0 > available.0 / 10 * 9)
    {
        return Some(format!(
            "it would take about {forecast} of the {available} available"
        ));
    }
    let (needed, granted) = (point.descriptors(), limits.descriptors.0);
    if let Some(granted) = granted.filter(|&granted| needed > granted) {
        return Some(format!(
            "it needs {} descriptors and RLIMIT_NOFILE is {}",
            count(needed),
            count(granted)
        ));
    }
    // Its stacks take two each, and for want of one it hangs.
    let needed = point.coroutines().saturating_mul(2).saturating_add(1000);
    let short = |granted: &u64| point.engine == Engine::May && needed > *granted;
    let granted = limits.mappings.filter(short)?;
    Some(format!(
        "its stacks need about {} mappings and vm.max_map_count is {}",
        count(needed),
        count(granted)
    ))
}

fn follow(point: &Point, budget: Duration) -> Result<Measured> {
    let arguments = [
        "scale-point".to_owned(),
        name(point.engine),
        name(point.operation),
        point.count.to_string(),
    ];
    let mut child = Child::start(arguments)?;
    serde_json::from_str(&child.line(budget.saturating_mul(2))?).context("what the engine printed")
}

/// The child: measures one point and prints the figures.
pub(crate) fn run_child(point: &Point) -> Result<()> {
    settle(Core::First)?;
    process::raise_descriptor_limit(point.descriptors())?;
    // Should memory run out after all, this process is the one to go. A system without this file has no such rule.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let measured = match point.engine {
        Engine::Maniple => own::run(point)?,
        Engine::May => may::run(point)?,
        Engine::Tokio => tokio::run(point)?,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

impl Stopwatch {
    /// What passed since, for each of so many operations.
    fn per(&self, operations: u64) -> Result<Measured> {
        let (wall, cpu) = self.elapsed()?;
        let per = |time: Duration| time.as_nanos() as f64 / operations as f64;
        Ok(Measured {
            cpu_nanos: per(cpu),
            wall_nanos: per(wall),
        })
    }
}

/// Long enough never to be reached.
const LONG: Duration = Duration::from_secs(600);
/// Bytes of a stack.
const SLOT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::quantity::Bytes;

    fn point(engine: Engine, operation: Operation, count: u64) -> Point {
        Point {
            engine,
            operation,
            count,
            rounds: None,
        }
    }

    #[test]
    fn a_line_ends_where_time_memory_descriptors_or_mappings_do() {
        let plenty = Limits {
            mappings: Some(65_530),
            descriptors: (Some(20_000), Some(20_000)),
            memory: Some(Bytes(16 << 30)),
            ..Limits::default()
        };
        let little = Limits {
            memory: Some(Bytes(1 << 30)),
            ..plenty.clone()
        };
        let (short, long, budget) = (
            Duration::ZERO,
            Duration::from_secs(40),
            Duration::from_secs(30),
        );
        let million = point(Engine::Maniple, Operation::Yield, 1_000_000);
        assert_eq!(refused(&million, short, budget, &plenty), None);
        let connections = point(Engine::Tokio, Operation::Connection, 100_000);
        let yields = point(Engine::May, Operation::Yield, 40_000);
        for (point, expected, limits, cause) in [
            (million, long, &plenty, "40s"),
            (million, short, &little, "1 GiB available"),
            (connections, short, &plenty, "RLIMIT_NOFILE is 20,000"),
            (yields, short, &plenty, "vm.max_map_count is 65,530"),
        ] {
            let reason = refused(&point, expected, budget, limits).unwrap();
            assert!(reason.contains(cause), "{point}: {reason}");
        }
    }
}
