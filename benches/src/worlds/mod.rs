//! How fast simulated worlds go: one in which hardly anything happens, one in which much does, and an ordinary test in a
//! world beside the same over the kernel.

mod clusters;
mod exchanges;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::{
    json::JsonFile,
    process::{self, Core, Stopwatch},
    stats::{Machine, Spread, Table},
    terminal::progress,
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Runs of each.
    #[arg(long, value_name = "N", default_value_t = 11)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Of the world's time, in a run of an idle cluster.
    #[arg(long, value_name = "N", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    minutes: u32,
    /// Messages of a run of a busy cluster.
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1000..))]
    messages: u32,
    /// Exchanges of an ordinary test.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    exchanges: u32,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    idle: Vec<Pace>,
    busy: Vec<Pace>,
    tests: Vec<Beside>,
}

/// How fast something goes in a world.
#[derive(Debug, Serialize)]
struct Pace {
    name: String,
    /// Of what it is counted in, in a second of real time.
    in_a_second: Spread,
    /// The same, of CPU time.
    in_a_cpu_second: Spread,
}

/// How long the same takes, in milliseconds of real time.
#[derive(Debug, Serialize)]
struct Beside {
    name: String,
    kernel: Spread,
    world: Spread,
    /// Within a round.
    ratio: Spread,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&[]);
    println!("{machine}");
    // The threads of worlds and runtimes are started from here, and have its core.
    process::pin(Core::Last)?;
    let mut idle: [Vec<_>; clusters::PACES.len()] = Default::default();
    let mut busy: [Vec<_>; clusters::CONNECTIONS.len()] = Default::default();
    let mut tests: [Vec<_>; exchanges::TESTS.len()] = Default::default();
    let rounds = options.rounds;
    // One comes first that is not counted.
    for round in 0..=rounds {
        progress(&format!("round {round} of {rounds}"));
        for (runs, pace) in idle.iter_mut().zip(clusters::PACES) {
            let time = Duration::from_secs(60) * options.minutes;
            let took = timed(|| clusters::idle(pace, time))?;
            runs.push(took.map(|took| time.as_secs_f64() / took.as_secs_f64()));
        }
        for (runs, connections) in busy.iter_mut().zip(clusters::CONNECTIONS) {
            let messages = options.messages;
            let took = timed(|| clusters::busy(connections, messages))?;
            runs.push(took.map(|took| f64::from(messages) / took.as_secs_f64()));
        }
        for (runs, test) in tests.iter_mut().zip(exchanges::TESTS) {
            let count = options.exchanges;
            let [kernel, _] = timed(|| test.over_the_kernel(count))?;
            let [world, _] = timed(|| test.in_a_world(count))?;
            runs.push([kernel, world].map(|took| took.as_secs_f64() * 1e3));
        }
    }
    progress("");
    let report = Report {
        idle: paces(&clusters::PACES.map(shown), &idle),
        busy: paces(&clusters::CONNECTIONS.map(|count| count.to_string()), &busy),
        tests: (exchanges::TESTS.iter().zip(&tests))
            .filter_map(|(test, runs)| beside(test.name(options.exchanges), runs))
            .collect(),
        machine,
        options,
    };
    tell(&report);
    file.write(&report)
}

/// Real time and CPU time of the process meanwhile.
fn timed(does: impl FnOnce() -> Result<()>) -> Result<[Duration; 2]> {
    let watch = Stopwatch::start()?;
    does()?;
    let (real, cpu) = watch.elapsed()?;
    Ok([real, cpu])
}

/// The pace of heartbeats, for a table.
fn shown(pace: Duration) -> String {
    format!("{} ms", pace.as_millis())
}

/// Of each contender, without its first run.
fn paces(names: &[String], runs: &[Vec<[f64; 2]>]) -> Vec<Pace> {
    let spread =
        |runs: &[[f64; 2]], which: usize| Spread::of(runs.iter().skip(1).map(|run| run[which]));
    (names.iter().zip(runs))
        .filter_map(|(name, runs)| {
            Some(Pace {
                name: name.clone(),
                in_a_second: spread(runs, 0)?,
                in_a_cpu_second: spread(runs, 1)?,
            })
        })
        .collect()
}

fn beside(name: String, runs: &[[f64; 2]]) -> Option<Beside> {
    let counted = || runs.iter().skip(1);
    Some(Beside {
        name,
        kernel: Spread::of(counted().map(|run| run[0]))?,
        world: Spread::of(counted().map(|run| run[1]))?,
        ratio: Spread::of(counted().map(|run| run[1] / run[0]))?,
    })
}

fn tell(report: &Report<'_>) {
    let rounds = report.options.rounds;
    println!("\nmedian (min..max) of {rounds}\n");
    let paced = |title: &str, of_what: &str, paces: &[Pace]| {
        let (real, cpu) = (
            format!("{of_what} in a second"),
            format!("{of_what} in a CPU second"),
        );
        let mut table = Table::new(&[title, &real, &cpu]);
        for pace in paces {
            table.row(vec![
                pace.name.clone(),
                pace.in_a_second.show(0),
                pace.in_a_cpu_second.show(0),
            ]);
        }
        println!("{table}");
    };
    paced("idle cluster, a heartbeat each", "seconds", &report.idle);
    paced(
        "busy cluster, connections each way",
        "messages",
        &report.busy,
    );
    let mut table = Table::new(&["ordinary test", "kernel ms", "world ms", "× kernel"]);
    for test in &report.tests {
        table.row(vec![
            test.name.clone(),
            test.kernel.show(2),
            test.world.show(2),
            test.ratio.show(2),
        ]);
    }
    print!("{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_is_not_counted_and_tests_are_compared_within_a_round() {
        let runs = [[900.0, 1.0], [2.0, 4.0], [10.0, 5.0]];
        let test = beside(String::new(), &runs).unwrap();
        assert_eq!(Some(test.ratio), Spread::of([0.5, 2.0]));
        assert_eq!(Some(test.kernel), Spread::of([2.0, 10.0]));
        let pace = &paces(&["a".to_owned()], &[runs.to_vec()])[0];
        assert_eq!(Some(pace.in_a_cpu_second), Spread::of([4.0, 5.0]));
    }
}
