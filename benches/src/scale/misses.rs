//! What the processor misses in one operation with many waiting: lines that are in none of its caches, and pages whose
//! translations are in none of its tables, counted by simulation, since many machines lend no counters.
//!
//! valgrind's cachegrind has caches of any geometry. A cache whose lines are pages, with as many of them as a table of
//! translations has entries, counts the misses of that table. Each point runs twice, the second time for two rounds
//! more: what starting and ending miss falls out.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::point::{Engine, Operation, Point, name};
use crate::{
    callgrind::{HINT, this_program},
    capacity::quantity,
    stats::Table,
    terminal::progress,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many wait at a time.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
}

/// The rows of the table.
const POINTS: [(Engine, Operation); 4] = [
    (Engine::Maniple, Operation::Permit),
    (Engine::Maniple, Operation::TimerCancel),
    (Engine::Tokio, Operation::Permit),
    (Engine::Tokio, Operation::TimerCancel),
];

/// Size in bytes, associativity and size of a line, of the first level and the last, as cachegrind takes them.
struct Geometry([&'static str; 2]);

/// 48 KiB before 1 MiB: the private caches of a core.
const PRIVATE: Geometry = Geometry(["49152,12,64", "1048576,16,64"]);
/// 48 KiB before the 32 MiB that cores share.
const SHARED: Geometry = Geometry(["49152,12,64", "33554432,16,64"]);
/// Translations of 64 pages before those of 2,048.
const TRANSLATIONS: Geometry = Geometry(["262144,4,4096", "8388608,16,4096"]);

/// What two runs differ by, in rounds.
const ROUNDS: [u64; 2] = [1, 3];

pub(crate) fn run(options: &Options) -> Result<()> {
    let program = this_program()?;
    let mut table = Table::new(&[
        "operation",
        "instructions",
        "beyond 48 KiB",
        "beyond 1 MiB",
        "beyond 32 MiB",
        "beyond 64 pages",
        "beyond 2,048 pages",
    ]);
    for (engine, operation) in POINTS {
        let count = |geometry| per_operation(&program, engine, operation, options.count, geometry);
        let (private, shared) = (count(&PRIVATE)?, count(&SHARED)?);
        let pages = count(&TRANSLATIONS)?;
        let show = |figure: f64| format!("{figure:.1}");
        table.row(vec![
            format!("{}: {}", name(engine), operation.title()),
            format!("{:.0}", shared.instructions),
            show(shared.first),
            show(private.last),
            show(shared.last),
            show(pages.first),
            show(pages.last),
        ]);
    }
    progress("");
    println!(
        "per operation, {} at a time, simulated by cachegrind\n\n{table}",
        quantity::count(options.count)
    );
    Ok(())
}

/// Of a run, or the difference of two for each operation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Misses {
    instructions: f64,
    /// Reads and writes that the first level has not, and the last has not.
    first: f64,
    last: f64,
}

fn per_operation(
    program: &Path,
    engine: Engine,
    operation: Operation,
    count: u64,
    geometry: &Geometry,
) -> Result<Misses> {
    let seen = |rounds| {
        let point = Point {
            engine,
            operation,
            count,
            rounds: Some(rounds),
        };
        progress(&format!("{point}: {rounds} rounds"));
        simulate(program, &point, geometry).with_context(|| point.to_string())
    };
    let [fewer, more] = [seen(ROUNDS[0])?, seen(ROUNDS[1])?];
    let operations = ((ROUNDS[1] - ROUNDS[0]) * count) as f64;
    let per = |of: fn(&Misses) -> f64| (of(&more) - of(&fewer)) / operations;
    Ok(Misses {
        instructions: per(|seen| seen.instructions),
        first: per(|seen| seen.first),
        last: per(|seen| seen.last),
    })
}

fn simulate(program: &Path, point: &Point, Geometry([first, last]): &Geometry) -> Result<Misses> {
    let file = std::env::temp_dir().join(format!("maniple-misses.{}", std::process::id()));
    let mut output = std::ffi::OsString::from("--cachegrind-out-file=");
    output.push(&file);
    let ran = Command::new("valgrind")
        .args(["--quiet", "--tool=cachegrind", "--cache-sim=yes"])
        .args(["--I1=32768,8,64".to_owned(), format!("--D1={first}")])
        .arg(format!("--LL={last}"))
        .arg(output)
        .arg(program)
        .arg("scale-point")
        .args([name(point.engine), name(point.operation)])
        .args([point.count.to_string(), point.rounds().to_string()])
        .stdin(Stdio::null())
        .output()
        .context(HINT)?;
    let told = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()));
    // It is of no use to anybody else, in whatever state.
    let _ = std::fs::remove_file(&file);
    ensure!(
        ran.status.success(),
        "{}: {}",
        ran.status,
        String::from_utf8_lossy(&ran.stderr).trim()
    );
    told_by(&told?).context("cachegrind's counts are not as expected")
}

/// The totals of a run, from the lines that name the events and sum them up.
fn told_by(text: &str) -> Option<Misses> {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let events = line("events: ")?.split_ascii_whitespace();
    let sums = line("summary: ")?.split_ascii_whitespace();
    let all: Vec<_> = events.zip(sums).collect();
    let of = |event: &str| {
        let (_, sum) = all.iter().find(|(name, _)| *name == event)?;
        sum.parse::<f64>().ok()
    };
    Some(Misses {
        instructions: of("Ir")?,
        first: of("D1mr")? + of("D1mw")?,
        last: of("DLmr")? + of("DLmw")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_that_miss_are_summed_by_the_names_of_the_events() {
        let text = "desc: D1 cache: 1\ncmd: x\nevents: Ir Dr D1mr DLmr Dw D1mw DLmw\n\
                    fl=a\nfn=b\n1 2 3 4 5 6 7 8\nsummary: 1000 300 20 7 100 10 3\n";
        let expected = Misses {
            instructions: 1000.0,
            first: 30.0,
            last: 10.0,
        };
        assert_eq!(told_by(text), Some(expected));
        assert_eq!(told_by("events: Ir\nsummary: 5\n"), None);
        assert_eq!(told_by(""), None);
    }
}
