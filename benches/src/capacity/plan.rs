//! What a service needs: Little's law, with the figures put in.
//!
//! Requests in flight are their rate times how long each takes; all else follows from what one coroutine costs.

mod needs;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use self::needs::Needs;
use super::{
    limits::Limits,
    quantity::{Bytes, count, size, time},
};
use crate::stats::Table;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Requests per second.
    #[arg(long, value_name = "R", value_parser = rate)]
    rps: f64,
    /// How long a request takes, waiting included: `250us`, `50ms`, `1.5s`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    latency: Duration,
    /// Children that a request has at once.
    #[arg(long, value_name = "N", default_value_t = 0)]
    fanout: u32,
    /// How long a child lives; as long as its leader if not given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    child_latency: Option<Duration>,
    /// Connections that wait for a request, each with a coroutine.
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: u64,
    /// Peak load over mean load.
    #[arg(long, value_name = "X", default_value = "2", value_parser = headroom)]
    headroom: f64,
    /// Address space of a stack, rounded up to a power of two.
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = slot)]
    slot: Bytes,
    /// How deep a stack is used, as `capacity depth` measures it; whole pages are taken.
    #[arg(long, value_name = "SIZE", default_value = "8K", value_parser = size)]
    touched: Bytes,
    /// What a coroutine has besides its stack: on the heap, in the kernel's socket buffers.
    #[arg(long, value_name = "SIZE", default_value = "1K")]
    heap: Bytes,
    /// Descriptors of a request beside its own connection; one for each child if not given.
    #[arg(long, value_name = "N")]
    descriptors: Option<u32>,
    /// How stacks are guarded.
    #[arg(long, value_name = "KIND", default_value = "madvise")]
    guard: Guard,
}

/// What marks the end of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Guard {
    /// A mark in the page table (Linux 6.13 and later).
    Madvise,
    /// A page without access, which splits the mapping in two.
    Mprotect,
    /// Nothing.
    None,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let needs = Needs::of(options)?;
    print!("{}", needs.explain(options));
    println!();
    print!("{}", verdicts(&needs, &Limits::here()));
    Ok(())
}

/// A limit of the machine or of the process.
struct Limit {
    name: &'static str,
    needed: u64,
    granted: Option<u64>,
    show: fn(u64) -> String,
    /// What to do where it is too low.
    remedy: String,
}

/// What is needed beside what this machine grants.
fn verdicts(needs: &Needs, limits: &Limits) -> Table {
    let mut table = Table::new(&["limit", "needed", "granted", "verdict"]);
    for limit in compared(needs, limits) {
        let needed = limit.needed;
        let verdict = match limit.granted {
            Some(granted) if needed > granted => limit.remedy,
            Some(granted) => format!(
                "{:.0} % used",
                100.0 * needed as f64 / granted.max(1) as f64
            ),
            None => "no limit".to_owned(),
        };
        let granted = limit.granted.map_or_else(|| "-".to_owned(), limit.show);
        table.row(vec![
            limit.name.to_owned(),
            (limit.show)(needed),
            granted,
            verdict,
        ]);
    }
    table
}

fn compared(needs: &Needs, limits: &Limits) -> [Limit; 6] {
    let in_bytes = |number: u64| Bytes(number).to_string();
    let limit = |name, needed, granted, remedy: String| Limit {
        name,
        needed,
        granted,
        show: count,
        remedy: format!("too low: {remedy}"),
    };
    let bytes = |name, needed, granted: Option<Bytes>, remedy: String| Limit {
        show: in_bytes,
        ..limit(name, needed, granted.map(|granted| granted.0), remedy)
    };
    let (soft, hard) = limits.descriptors;
    let Needs {
        mappings,
        descriptors,
        address_space,
        ..
    } = *needs;
    [
        limit(
            "vm.max_map_count",
            mappings,
            limits.mappings,
            format!("sysctl -w vm.max_map_count={mappings}"),
        ),
        limit(
            "RLIMIT_NOFILE (soft)",
            descriptors,
            soft,
            format!("ulimit -Sn {descriptors}"),
        ),
        limit(
            "RLIMIT_NOFILE (hard)",
            descriptors,
            hard,
            format!("ulimit -Hn {descriptors}"),
        ),
        bytes(
            "RLIMIT_AS",
            address_space,
            limits.address_space,
            format!("ulimit -v {}", address_space.div_ceil(1024)),
        ),
        bytes(
            "overcommit",
            address_space,
            limits.commit,
            "smaller slots, or sysctl -w vm.overcommit_memory=0".into(),
        ),
        bytes(
            "memory available",
            needs.memory(),
            limits.memory,
            "use stacks less deep, have fewer, or add memory".into(),
        ),
    ]
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, "requests per second", 1e-6, 1e12)
}

fn headroom(text: &str) -> Result<f64, String> {
    within(text, "a factor", 1.0, 1e6)
}

fn within(text: &str, what: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("'{text}' is not {what}"))?;
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(format!("'{text}' must be from {least} to {most:e}")),
    }
}

/// Parses the size of a slot as the runtime takes it: a power of two, from 16 KiB to 1 GiB.
pub(crate) fn slot(text: &str) -> Result<Bytes, String> {
    match size(text)? {
        bytes @ Bytes(..=MAX_SLOT) => Ok(slot_for(bytes)),
        bytes => Err(format!("{bytes} is too large: the largest stack is 1 GiB")),
    }
}

/// The smallest slot of so many bytes; the largest there is if that has not so many.
pub(crate) fn slot_for(bytes: Bytes) -> Bytes {
    Bytes(bytes.0.min(MAX_SLOT).next_power_of_two().max(MIN_SLOT))
}

const MIN_SLOT: u64 = 16 << 10;
const MAX_SLOT: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    pub(super) fn parsed(arguments: &str) -> Result<Options, String> {
        let words = std::iter::once("plan").chain(arguments.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_slot_is_rounded_as_the_runtime_does() {
        for (text, bytes) in [
            ("1", 16 << 10),
            ("64K", 64 << 10),
            ("65K", 128 << 10),
            ("1G", 1 << 30),
        ] {
            assert_eq!(slot(text), Ok(Bytes(bytes)), "{text}");
        }
        assert!(slot("0").is_err());
        assert!(slot("1025M").unwrap_err().contains("1 GiB"));
    }

    #[test]
    fn bad_inputs_are_refused_by_name() {
        for (arguments, cause) in [
            ("--latency 1s", "--rps"),
            ("--rps 0 --latency 1s", "'0' must be from"),
            ("--rps=-5 --latency 1s", "'-5' must be from"),
            ("--rps nan --latency 1s", "'nan' must be from"),
            ("--rps 1e13 --latency 1s", "'1e13' must be from"),
            ("--rps many --latency 1s", "'many' is not requests"),
            ("--rps 1 --latency 0s", "more than 0"),
            (
                "--rps 1 --latency 1s --headroom 0.5",
                "'0.5' must be from 1",
            ),
            ("--rps 1 --latency 1s --slot 0", "more than 0"),
            ("--rps 1 --latency 1s --slot 2G", "1 GiB"),
            ("--rps 1 --latency 1s --touched 0", "more than 0"),
            ("--rps 1 --latency 1s --fanout=-1", "'-1'"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(cause), "{arguments}: {error}");
        }
    }

    #[test]
    fn a_limit_that_is_met_says_how_to_raise_it() {
        let options = parsed("--rps 100000 --latency 1s --guard mprotect").unwrap();
        let needs = Needs::of(&options).unwrap();
        let limits = Limits {
            mappings: Some(65_530),
            descriptors: (Some(1024), Some(1 << 20)),
            ..Limits::default()
        };
        let table = verdicts(&needs, &limits).to_string();
        let line = |name: &str| table.lines().find(|line| line.contains(name)).unwrap();
        let remedy = format!("sysctl -w vm.max_map_count={}", needs.mappings);
        assert!(line("max_map_count").contains(&remedy), "{table}");
        assert!(line("(soft)").contains("ulimit -Sn"), "{table}");
        assert!(line("(hard)").contains("19 % used"), "{table}");
        assert!(line("RLIMIT_AS").contains("no limit"), "{table}");
    }
}
