//! Coroutines by the hundred thousand: what each costs while it waits, and where an engine ends.
//!
//! Each configuration is a process of its own: it spawns coroutines that touch some pages of their stacks and wait,
//! measures itself, wakes them and lets them end.

mod arrivals;
mod go;
mod may;
mod own;
mod protocol;
mod report;
mod spec;
mod stages;
mod threads;
mod tokio;
mod touch;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

pub(crate) use self::spec::Spec;
pub(super) use self::{protocol::Outcome, spec::page_size};
use self::{
    protocol::follow,
    spec::{Engine, Guard},
};
use super::{
    limits::Limits,
    plan::slot,
    quantity::{Bytes, count},
};
use crate::{
    go::{enlist, ready},
    json::JsonFile,
    process::{Core, settle},
    stats::Machine,
    terminal::progress,
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Coroutines in each configuration.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: u64,
    /// Sizes of stacks, rounded up to powers of two.
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',', default_value = "64K,256K,1M", value_parser = slot)]
    slot: Vec<Bytes>,
    /// How many pages of its stack each coroutine touches.
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "1,2,4"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=262_144))]
    touch: Vec<u32>,
    /// How maniple guards stacks; the others have their own ways.
    #[arg(
        long,
        value_name = "KIND,..",
        value_delimiter = ',',
        default_value = "auto"
    )]
    guard: Vec<Guard>,
    /// Whose coroutines; go needs its toolchain.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "maniple,may,tokio,threads"
    )]
    engine: Vec<Engine>,
    /// Worker threads; a single one is bound to a core.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    /// How often each configuration is measured.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A folder for the figure, `stacks.svg`.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// One configuration in one round.
#[derive(Debug, Serialize)]
struct Run {
    round: u16,
    #[serde(flatten)]
    spec: Spec,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let specs = specs(options);
    if let Some(reason) = specs.iter().find_map(Spec::refused) {
        bail!("{reason}");
    }
    let file = JsonFile::create(options.json.as_deref())?;
    let mut machine = Machine::here(&["maniple", "may", "tokio"]);
    enlist(&options.engine, &[], &[Engine::Go], &mut machine);
    println!("{machine}\n");
    let runs = measure(&specs, options.rounds);
    let wanted = count(options.count);
    println!("{wanted} coroutines; median (min..max) where there are several rounds\n");
    print!("{}", report::table(&specs, &runs));
    if let Some(folder) = &options.plot {
        report::figure(&specs, &runs, &wanted).write(folder, "stacks.svg")?;
    }
    let measured = runs.iter().any(|run| run.outcome.parked.is_some());
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

/// Every combination that differs: who has a choice of guards has them all, who has no stacks has one size.
fn specs(options: &Options) -> Vec<Spec> {
    let mut specs = Vec::new();
    for &slot in &options.slot {
        for &touch in &options.touch {
            for &engine in &options.engine {
                for &guard in &options.guard {
                    let spec = Spec {
                        engine,
                        count: options.count,
                        slot: if engine.has_slots() {
                            slot
                        } else {
                            options.slot[0]
                        },
                        touch,
                        guard: if engine == Engine::Maniple {
                            guard
                        } else {
                            Guard::Auto
                        },
                        workers: options.workers,
                    };
                    if !specs.contains(&spec) {
                        specs.push(spec);
                    }
                }
            }
        }
    }
    specs
}

/// All rounds of all configurations: A B C, A B C.
fn measure(specs: &[Spec], rounds: u16) -> Vec<Run> {
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for &spec in specs {
            let of = match rounds {
                1 => String::new(),
                _ => format!(", round {round} of {rounds}"),
            };
            runs.push(Run {
                round,
                spec,
                outcome: measure_once(&spec, &of),
            });
        }
    }
    progress("");
    runs
}

fn measure_once(spec: &Spec, round: &str) -> Outcome {
    if spec.engine == Engine::Go
        && let Err(error) = ready()
    {
        return Outcome::failed(error.to_string());
    }
    let limits = Limits::here();
    match too_much(spec.forecast(limits.mappings), limits.memory) {
        Some(reason) => Outcome::failed(reason),
        None => follow(spec, round),
    }
}

/// Has `count` of maniple's coroutines touch so many pages of such stacks and wait.
pub(super) fn park(count: u64, slot: Bytes, pages: u64) -> Outcome {
    let spec = Spec {
        engine: Engine::Maniple,
        count,
        slot,
        touch: pages.try_into().unwrap_or(u32::MAX),
        guard: Guard::Auto,
        workers: 1,
    };
    match spec.refused() {
        Some(reason) => Outcome::failed(reason),
        None => measure_once(&spec, ""),
    }
}

/// Why so much memory should not be taken, if so: a process that takes all there is drives others out.
fn too_much(forecast: Bytes, available: Option<Bytes>) -> Option<String> {
    let available = available?;
    let most = Bytes(available.0 / 10 * 9);
    (forecast > most)
        .then(|| format!("not run: it would take about {forecast} of the {available} available"))
}

/// The child: measures one configuration and prints what comes of it.
pub(crate) fn run_child(spec: &Spec) -> Result<()> {
    if let Some(reason) = spec.refused() {
        bail!("{reason}");
    }
    settle(if spec.workers == 1 {
        Core::First
    } else {
        Core::Any
    })?;
    // Should memory run out after all, this process is the one to go. A system without this file has no such rule.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    match spec.engine {
        Engine::Maniple => own::run(spec),
        Engine::May => may::run(spec),
        Engine::Tokio => tokio::run(spec),
        Engine::Go => go::run(spec),
        Engine::Threads => threads::run(spec),
    }
}

/// Coroutines that are spawned before they get to run.
const BATCH: u64 = 64;

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(arguments: &str) -> Result<Options, String> {
        let words = std::iter::once("stacks").chain(arguments.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn lists_multiply() {
        let options =
            parsed("--slot 64K,1M --touch 1,4 --engine maniple,may,tokio --guard madvise,none")
                .unwrap();
        let specs = specs(&options);
        let of = |engine| specs.iter().filter(|spec| spec.engine == engine).count();
        assert_eq!(of(Engine::Maniple), 2 * 2 * 2);
        assert_eq!(of(Engine::May), 2 * 2);
        assert_eq!(of(Engine::Tokio), 2);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for (arguments, cause) in [
            ("--count 0", "0 is not in"),
            ("--count=-1", "-1"),
            ("--slot 64K,", "no size"),
            ("--slot 2G", "1 GiB"),
            ("--touch 0", "0 is not in"),
            ("--engine maniple,fibers", "'fibers'"),
            ("--guard strong", "'strong'"),
            ("--rounds 0", "0 is not in"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(cause), "{arguments}: {error}");
        }
        let options = parsed("--slot 16K,64K --touch 2").unwrap();
        assert!(run(&options).unwrap_err().to_string().contains("16 KiB"));
    }

    #[test]
    fn memory_that_is_not_there_is_not_asked_for() {
        let gib = |count: u64| Bytes(count << 30);
        let reason = too_much(gib(16), Some(gib(10))).unwrap();
        assert!(
            reason.contains("16 GiB") && reason.contains("10 GiB"),
            "{reason}"
        );
        assert_eq!(too_much(gib(8), Some(gib(10))), None);
        assert_eq!(too_much(gib(8), None), None);
    }

    #[test]
    fn every_engine_has_a_name() {
        for engine in Engine::value_variants() {
            assert!(!spec::name(*engine).is_empty());
        }
    }
}
