//! The measured server, a process of its own: it answers one route until it is told to end, then tells how deep its
//! coroutines came.

use std::io::stdin;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use maniple::inspect::{self, DepthsOf, Distribution, MeasureDepths};
use maniple_server::Server;
use serde::{Deserialize, Serialize};

use super::routes::{Route, router};
use crate::{
    capacity::quantity::{Bytes, size},
    process::{Core, settle},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    route: Route,
    #[arg(long, value_parser = size)]
    recurse: Bytes,
    #[arg(long)]
    paint: bool,
    /// What the fan-out asks.
    #[arg(long)]
    backend: Vec<String>,
}

/// How deep the coroutines of one place, name and label came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Depths {
    /// File and line of the spawning, with the name and the label if there are any.
    pub(super) place: String,
    pub(super) ended: u64,
    pub(super) suspended: Option<Spread>,
    pub(super) resident: Option<Spread>,
    /// Of how many the pages were not known.
    pub(super) unknown: u64,
    pub(super) painted: Option<Spread>,
    /// How many came deeper than paint reaches.
    pub(super) beyond_paint: u64,
    /// The deepest that is known, in bytes.
    pub(super) deepest: u64,
}

/// A distribution, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    pub(super) count: u64,
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    settle(Core::First)?;
    hush_panics();
    let router = router(options.route, options.recurse, options.backend.clone());
    let runtime = maniple::Runtime::builder()
        .workers(1)
        .stack_size(ROOM)
        .paint_stacks(options.paint)
        .build()?;
    let server = runtime.run(|| Server::builder(router).bind("127.0.0.1:0"))?;
    let handle = server.handle();
    inspect::measure_depths(MeasureDepths::OnFreshStacks);
    println!("{}", server.local_addr());
    let serving = runtime.spawn(move || server.serve());
    stdin().read_line(&mut String::new())?;
    handle.drain();
    serving.join().map_err(|error| anyhow!("{error}"))??;
    inspect::measure_depths(MeasureDepths::Off);
    let depths: Vec<Depths> = inspect::depths().iter().map(Depths::of).collect();
    println!("{}", serde_json::to_string(&depths)?);
    Ok(())
}

/// Large enough that no depth is cut off.
const ROOM: usize = 4 << 20;

/// The message is written, as a service's is, but nobody reads it thousands of times.
fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| {
        std::hint::black_box(panic.to_string());
    }));
}

impl Depths {
    fn of(measured: &DepthsOf) -> Self {
        let at = measured.spawned_at().map(|at| {
            let file = at.file().rsplit('/').next().unwrap_or_default();
            format!("{file}:{}", at.line())
        });
        let mut place = at.unwrap_or_else(|| "elsewhere".to_owned());
        if let Some(name) = measured.name() {
            place += &format!(" {name:?}");
        }
        if let Some(label) = measured.label() {
            place += &format!(" [{label}]");
        }
        Self {
            place,
            ended: measured.ended(),
            suspended: Spread::of(measured.suspended()),
            resident: Spread::of(measured.resident()),
            unknown: measured.unknown(),
            painted: Spread::of(measured.painted()),
            beyond_paint: measured.beyond_paint(),
            deepest: measured.deepest() as u64,
        }
    }
}

impl Spread {
    fn of(seen: &Distribution) -> Option<Self> {
        let at = |share| seen.quantile(share).map(|bytes| bytes as u64);
        Some(Self {
            count: seen.count(),
            p50: at(0.5)?,
            p99: at(0.99)?,
            max: at(1.0)?,
        })
    }
}

/// What a child printed.
pub(super) fn read(line: &str) -> Result<Vec<Depths>> {
    serde_json::from_str(line).context("a child's depths")
}
