//! How many keep-alive connections HTTP servers hold, and what an idle one costs: 300,000 of them on one machine if
//! it lets them.
//!
//! As many server processes as the descriptor limit demands, and as many clients. Connections are opened, each with
//! one request; held idle; used once more each, by a trickle of requests; and closed, until the servers have none. A
//! server that loses one on the way has not survived, and is tried with half as many.

mod attempt;
mod checks;
mod client;
mod figure;
mod meter;
mod orders;
mod plan;
mod rows;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use self::{
    attempt::Phases,
    checks::{Machine as Granted, check, grants, refuse},
    plan::Plan,
    rows::{Attempt, Outcome},
};
use super::quantity::count;
use crate::{
    go::enlist, json::JsonFile, process::raise_descriptor_limit, servers::Name, stats::Machine,
};

pub(crate) use self::client::{Options as ClientOptions, run as run_client};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Connections to every server.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// The servers.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "maniple,hyper,may_minihttp,epoll"
    )]
    server: Vec<Name>,
    /// Requests per second over all connections once they are open; each is used at least once.
    #[arg(long, value_name = "RPS", default_value = "5000", value_parser = rate)]
    trickle: f64,
    /// How long the connections are idle before that.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    hold: f64,
    /// Processes on either side, if the descriptor limit does not demand more.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    processes: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A folder for the figure, `connections.svg`.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    attempts: &'a [Attempt],
}

pub(crate) fn run(options: &Options) -> Result<()> {
    // Children inherit it.
    raise_descriptor_limit(0)?;
    let grants = grants();
    let plan = Plan::of(
        options.count as usize,
        usize::from(options.processes),
        &grants,
    )?;
    let shorts = check(&plan, &options.server, &grants, &Granted::here());
    for short in shorts.iter().filter(|short| !short.fatal) {
        eprintln!("maniple-bench: {}", short.text);
    }
    refuse(&shorts)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let mut machine = Machine::here(&CRATES);
    let servers = enlist(&options.server, &[], &[Name::Go], &mut machine);
    println!("{machine}");
    println!(
        "\n{} connections; {} processes on either side, of up to {} each; {} at a time are opened in each\n",
        count(plan.connections as u64),
        plan.processes,
        count(plan.share(0) as u64),
        plan.window
    );
    let mut attempts = Vec::new();
    for server in servers {
        attempts.extend(
            rows::halve_until_it_survives(plan.connections, |connections| {
                let least = usize::from(options.processes).min(connections);
                let plan = Plan::of(connections, least, &grants)?;
                attempt::measure(server, &plan, &options.phases(connections)).map(Into::into)
            })
            .into_iter()
            .map(|tried| Attempt { server, tried }),
        );
    }
    print!("{}", rows::table(&attempts));
    if let Some(folder) = &options.plot {
        figure::figure(&attempts).write(folder, "connections.svg")?;
    }
    file.write(&Report {
        machine,
        options,
        attempts: &attempts,
    })?;
    let survived = |attempt: &Attempt| matches!(attempt.tried.outcome, Outcome::Survived(_));
    if attempts.iter().any(survived) {
        return Ok(());
    }
    let reason = attempts.last().map(|attempt| match &attempt.tried.outcome {
        Outcome::Failed(reason) => &**reason,
        Outcome::Survived(_) => "",
    });
    bail!(
        "no server survived, not even with one connection: {}",
        reason.unwrap_or("none was tried")
    )
}

impl Options {
    fn phases(&self, connections: usize) -> Phases {
        Phases {
            hold: Duration::from_secs_f64(self.hold),
            // A round over all, and a second at least.
            requests: (connections as u64).max(self.trickle as u64),
            per_second: self.trickle,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|_| "not a number of requests per second")?;
    match (1.0..=1e7).contains(&rate) {
        true => Ok(rate),
        false => Err("must be from 1 to 10000000".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match (0.0..=3600.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("must be from 0 to 3600".to_owned()),
    }
}

/// The crates whose versions a reader must know.
const CRATES: [&str; 6] = [
    "maniple-server",
    "may_minihttp",
    "may",
    "hyper",
    "axum",
    "tokio",
];
