//! Instructions of hot paths, held against those in the repository: a regression that timings would drown in
//! noise shows here as a number that changed.
//!
//! Each path runs twice in processes of their own, the second doing twice as much: the difference is what the
//! path costs, and what starting and ending cost falls out. They are processes of a small program with nothing but
//! these paths in it, `maniple-counted`.

mod baseline;
mod program;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use maniple_counted::Path;

use self::{
    baseline::{Baseline, Count},
    program::Program,
};
use crate::{stats::Table, terminal::progress};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The paths; all if none is named.
    #[arg(long, value_name = "PATH,..", value_delimiter = ',')]
    only: Vec<Path>,
    /// Accept what is seen: write it to the baseline.
    #[arg(long)]
    update: bool,
    /// In a program whose calls are hooked, which is to cost these paths nothing.
    #[arg(long, conflicts_with = "update")]
    hooked: bool,
    /// The counts to hold against.
    #[arg(long, value_name = "FILE", default_value = BASELINE)]
    baseline: PathBuf,
}

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.json");

pub(crate) fn run(options: &Options) -> Result<()> {
    progress("building what is counted");
    let program = Program::built(options.hooked)?;
    progress("");
    let build = program.build()?;
    let mut baseline = match Baseline::read(&options.baseline) {
        Ok(baseline) => baseline,
        Err(_) if options.update => Baseline::new(build.clone()),
        Err(error) => return Err(error),
    };
    if !baseline.build.compares_to(&build) {
        if !options.update {
            println!(
                "instruction counts: skipped, as compilers generate different code: they are of {}, this is {build}",
                baseline.build
            );
            return Ok(());
        }
        ensure!(
            options.only.is_empty(),
            "other paths were counted with {}: update all of them",
            baseline.build
        );
        baseline = Baseline::new(build.clone());
    }
    let paths = match options.only.is_empty() {
        true => &Path::ALL[..],
        false => &options.only,
    };
    let mut table = Table::new(&[
        "path",
        "instructions",
        "expected",
        "change",
        "C library",
        "expected",
    ]);
    let mut complaints = Vec::new();
    for &path in paths {
        let name = path.to_string();
        progress(&name);
        let seen = count(&program, path).with_context(|| format!("counting {name}"))?;
        let expected = baseline.paths.get(&name).copied();
        table.row(row(&name, seen, expected));
        if options.update {
            baseline.paths.insert(name, seen);
        } else if let Some(complaint) = baseline.complaint(&name, seen, &build) {
            complaints.push(complaint);
        }
    }
    progress("");
    println!("{build}\n\n{table}");
    if options.update {
        baseline.build = build;
        baseline.write(&options.baseline)?;
        println!("accepted: written to {}", options.baseline.display());
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => bail!(
            "{}\nIf that is meant, accept it with `cargo run -p maniple-bench -- count --update` \
             and commit benches/counts.json",
            complaints.join("\n")
        ),
    }
}

fn row(name: &str, seen: Count, expected: Option<Count>) -> Vec<String> {
    let or_none =
        |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
    let change = expected.map(|expected| (seen.own / expected.own - 1.0) * 100.0);
    vec![
        name.to_owned(),
        format!("{:.1}", seen.own),
        or_none(expected.map(|count| count.own)),
        change.map_or("-".to_owned(), |percent| format!("{percent:+.1} %")),
        format!("{:.1}", seen.libc),
        or_none(expected.map(|count| count.libc)),
    ]
}

/// Instructions of doing it once.
fn count(program: &Program, path: Path) -> Result<Count> {
    let times = path.times();
    let (once, twice) = (program.run(path, times)?, program.run(path, 2 * times)?);
    let per = |once: u64, twice: u64| {
        let tenths = (twice as f64 - once as f64) * 10.0 / times as f64;
        // No negative zero, for the looks of it.
        tenths.round() / 10.0 + 0.0
    };
    Ok(Count {
        own: per(once.own, twice.own),
        libc: per(once.libc, twice.libc),
    })
}
