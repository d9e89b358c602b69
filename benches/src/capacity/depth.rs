//! How deep the handlers of a server use their stacks, which slots and how much memory follow, and whether that holds.
//!
//! Each route is served by a process of its own and has all its load alone, so that the pages that a connection has
//! touched at its end are this route's. What is forecast is then tried: a process has so many coroutines touch as many
//! pages and wait.

mod forecast;
mod report;
mod routes;
mod service;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

pub(crate) use self::service::{Options as ServiceOptions, run as run_server};
use self::{forecast::Forecast, routes::Route, service::Depths};
use super::{
    quantity::{Bytes, count, size},
    stacks::{Outcome, park},
};
use crate::{
    json::JsonFile,
    load::Seen,
    process::{Child, raise_descriptor_limit},
    stats::Machine,
    terminal::progress,
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// What handlers do; each has a run of its own.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "text,json,fanout,template,recurse,panic"
    )]
    routes: Vec<Route>,
    /// Connections of the load.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How long each route has load.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: f64,
    /// Paint stacks, to tell the first 64 KiB to the byte.
    #[arg(long)]
    paint: bool,
    /// How deep the route `recurse` calls itself, at the least.
    #[arg(long, value_name = "SIZE", default_value = "40K", value_parser = recursion)]
    recurse: Bytes,
    /// Coroutines that memory is forecast for, and measured.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    coroutines: u64,
    /// What a coroutine keeps on the heap, its record included.
    #[arg(long, value_name = "SIZE", default_value = "640")]
    heap: Bytes,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A folder for the figure, `depth.svg`.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// What came of one route.
#[derive(Debug, Serialize)]
struct Measured {
    route: Route,
    requests: u64,
    places: Vec<Place>,
    /// What went wrong, if so.
    failure: Option<String>,
}

/// One place that coroutines are spawned at.
#[derive(Debug, Serialize)]
struct Place {
    #[serde(flatten)]
    depths: Depths,
    /// Where several ended, so that there may be many.
    #[serde(flatten)]
    many: Option<Many>,
}

/// A forecast, and how it went.
#[derive(Clone, Debug, Serialize)]
struct Many {
    forecast: Forecast,
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    routes: &'a [Measured],
}

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(u64::from(options.connections) + 64)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&["maniple", "maniple-server", "serde_json"]);
    println!("{machine}\n");
    let mut tried = Vec::new();
    let mut routes = Vec::new();
    for &route in &options.routes {
        progress(&format!("{}: under load", name(route)));
        let measured = match under_load(options, route) {
            Ok((requests, depths)) => Measured {
                route,
                requests,
                places: depths
                    .into_iter()
                    .map(|depths| place(options, depths, &mut tried))
                    .collect(),
                failure: None,
            },
            Err(error) => Measured {
                route,
                requests: 0,
                places: Vec::new(),
                failure: Some(format!("{error:#}")),
            },
        };
        routes.push(measured);
    }
    progress("");
    println!(
        "{} connections for {} s on each route; depths in bytes, of stacks that were new to each coroutine\n",
        options.connections, options.seconds
    );
    println!("{}", report::depths(&routes));
    println!(
        "{} coroutines that came so deep and wait\n",
        count(options.coroutines)
    );
    print!("{}", report::many(&routes));
    if let Some(folder) = &options.plot {
        report::figure(&routes).write(folder, "depth.svg")?;
    }
    file.write(&Report {
        machine,
        options,
        routes: &routes,
    })?;
    ensure!(
        routes.iter().any(|route| route.failure.is_none()),
        "nothing could be measured"
    );
    Ok(())
}

/// Has a server answer the route under load; the requests of the load, and the server's depths.
fn under_load(options: &Options, route: Route) -> Result<(u64, Vec<Depths>)> {
    let mut arguments = vec![
        "capacity".to_owned(),
        "depth-server".to_owned(),
        name(route),
        format!("--recurse={}", options.recurse.0),
    ];
    arguments.extend(options.paint.then(|| "--paint".to_owned()));
    // They are ended when this is left.
    let mut backends = Vec::new();
    if route == Route::Fanout {
        for _ in 0..BACKENDS {
            let mut backend = Child::start(["serve", "maniple"])?;
            let address = backend.line(PATIENCE).context("a backend")?;
            arguments.push(format!("--backend=http://{address}/"));
            backends.push(backend);
        }
    }
    let mut server = Child::start_to_tell(arguments)?;
    let address = server.line(PATIENCE).context("the server")?;
    let mut load = Child::start([
        "load".to_owned(),
        format!("--address={address}"),
        format!("--server={}", server.id()),
        format!("--connections={}", options.connections),
        "--pipeline=1".to_owned(),
        "--warm-up-seconds=0.1".to_owned(),
        format!("--seconds={}", options.seconds),
    ])?;
    let patience = PATIENCE + Duration::from_secs_f64(options.seconds);
    let seen: Seen = serde_json::from_str(&load.line(patience).context("the load")?)?;
    // Its connections end with it.
    drop(load);
    server.tell("end")?;
    let depths = service::read(&server.line(PATIENCE).context("the server")?)?;
    Ok((seen.requests, depths))
}

/// What follows from a place's depths; `tried` has what was measured before for as many pages of as large stacks.
fn place(options: &Options, depths: Depths, tried: &mut Vec<Many>) -> Place {
    if depths.ended < SEVERAL {
        return Place { depths, many: None };
    }
    let forecast = Forecast::of(depths.deepest, options.coroutines, options.heap);
    let same = |known: &&Many| known.forecast == forecast;
    let many = match tried.iter().find(same) {
        Some(known) => known.clone(),
        None => {
            let outcome = park(options.coroutines, forecast.slot, forecast.pages);
            let many = Many { forecast, outcome };
            tried.push(many.clone());
            many
        }
    };
    Place {
        depths,
        many: Some(many),
    }
}

impl Many {
    /// Memory, and page tables, that the coroutines took, and how many they were.
    fn taken(&self) -> Option<(u64, u64, u64)> {
        let parked = self.outcome.parked.as_ref()?;
        let (before, now) = (parked.before, parked.now);
        Some((
            now.resident.saturating_sub(before.resident),
            now.page_tables.saturating_sub(before.page_tables),
            parked.count,
        ))
    }

    /// By how many percent the forecast is off.
    fn error(&self) -> Option<f64> {
        let (resident, tables, count) = self.taken()?;
        self.forecast.error(resident + tables, count)
    }
}

fn name(route: Route) -> String {
    let value = route.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("must be from 0.1 to 3600".to_owned()),
    }
}

fn recursion(text: &str) -> Result<Bytes, String> {
    match size(text)? {
        bytes @ Bytes(..=MOST_RECURSION) => Ok(bytes),
        bytes => Err(format!("{bytes} is too deep: at most 1 MiB")),
    }
}

const BACKENDS: usize = 3;
/// A server has few of what it has once: listeners, its main coroutine.
const SEVERAL: u64 = 2;
/// The measured servers' stacks have four times that.
const MOST_RECURSION: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn what_cannot_be_measured_is_refused_by_name() {
        for (arguments, cause) in [
            ("--routes text,nowhere", "nowhere"),
            ("--connections 0", "0 is not in"),
            ("--seconds 0", "from 0.1"),
            ("--seconds nan", "from 0.1"),
            ("--recurse 2M", "at most 1 MiB"),
            ("--coroutines 0", "0 is not in"),
            ("--heap much", "'much' is no size"),
        ] {
            let words = std::iter::once("depth").chain(arguments.split_whitespace());
            let error = Line::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains(cause), "{arguments}: {error}");
        }
    }

    #[test]
    fn all_routes_are_measured_unless_some_are_named() {
        let options = Line::parse_from(["depth"]).options;
        assert_eq!(options.routes, Route::value_variants());
    }
}
