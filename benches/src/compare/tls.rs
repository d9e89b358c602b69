//! HTTPS servers by CPU time per request and per handshake, and by the memory of connections that do nothing.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{
    http::CRATES,
    pair::Served,
    rows::{self, Row, Run},
};
use crate::{
    json::JsonFile,
    load::{
        Seen,
        tls::{Held, Kind},
    },
    process::raise_descriptor_limit,
    servers::Name,
    stats::{Machine, Spread},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// What is done.
    #[arg(
        long,
        value_name = "KIND,..",
        value_delimiter = ',',
        default_value = "keep-alive,handshakes,resumptions,idle"
    )]
    kinds: Vec<Kind>,
    /// Keep-alive connections.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Connections that do nothing.
    #[arg(long, value_name = "N", default_value_t = 4000)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    idle: u16,
    /// How long each server is measured in each round.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: f64,
    /// How long each server runs under load before; for connections that do nothing, how long they do it.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warm_up: f64,
    /// How often each server is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    loads: Vec<(Kind, Vec<Row<Name>>)>,
    idle: Vec<(Name, Option<Spread>)>,
}

/// For connections that do nothing: longer than the server keeps their stacks, and then as free ones.
const LEAST_IDLE_SECONDS: f64 = 12.0;

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(u64::from(options.idle.max(options.connections)) + 256)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&[&CRATES[..], &["rustls", "tokio-rustls", "ring"]].concat());
    println!("{machine}");
    let mut report = Report {
        machine,
        options,
        loads: Vec::new(),
        idle: Vec::new(),
    };
    for &kind in &options.kinds {
        if kind == Kind::Idle {
            idle(options, &mut report.idle);
            continue;
        }
        let mut runs: Vec<Run<Name, Seen>> = Vec::new();
        for round in 1..=options.rounds {
            for contender in Name::WITH_TLS {
                progress(&format!(
                    "{kind:?}: round {round} of {}, {contender}",
                    options.rounds
                ));
                let outcome = measure(options, kind, contender).into();
                runs.push(Run {
                    round,
                    contender,
                    outcome,
                });
            }
        }
        progress("");
        let rows = Name::WITH_TLS.map(|server| Row::of(server, Name::Epoll, &runs));
        let what = match kind {
            Kind::KeepAlive => format!("{} connections", options.connections),
            Kind::Resumptions => "a connection for each request, with a session resumed".to_owned(),
            _ => "a connection for each request, with a full handshake".to_owned(),
        };
        let Options {
            rounds, seconds, ..
        } = options;
        println!("\n{what}; median (min..max) of {rounds} × {seconds} s\n");
        print!("{}", rows::table("server", "request", &rows));
        report.loads.push((kind, rows.into()));
    }
    file.write(&report)
}

fn measure(options: &Options, kind: Kind, server: Name) -> Result<Seen> {
    let seconds = options.warm_up + options.seconds;
    served(server)?.under("tls-load", &arguments(options, kind), seconds)
}

fn served(server: Name) -> Result<Served> {
    Served::start(server, &["--tls".to_owned()])
}

fn arguments(options: &Options, kind: Kind) -> [String; 4] {
    let (connections, warm_up) = match kind {
        Kind::Idle => (options.idle, options.warm_up.max(LEAST_IDLE_SECONDS)),
        _ => (options.connections, options.warm_up),
    };
    let kind = clap::ValueEnum::to_possible_value(&kind);
    let kind = kind
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default();
    [
        format!("--kind={kind}"),
        format!("--connections={connections}"),
        format!("--warm-up-seconds={warm_up}"),
        format!("--seconds={}", options.seconds),
    ]
}

fn idle(options: &Options, rows: &mut Vec<(Name, Option<Spread>)>) {
    println!(
        "\n{} connections that have asked once and do nothing; resident bytes of the server for each\n",
        options.idle
    );
    for server in Name::WITH_TLS {
        let held = (1..=options.rounds).filter_map(|round| {
            progress(&format!(
                "idle: round {round} of {}, {server}",
                options.rounds
            ));
            let held = served(server).and_then(|mut served| {
                served.under::<Held>("tls-load", &arguments(options, Kind::Idle), 60.0)
            });
            match held {
                Ok(held) => Some(held.bytes_each),
                Err(error) => {
                    println!("{server}: {error:#}");
                    None
                }
            }
        });
        let held = Spread::of(held);
        progress("");
        if let Some(held) = &held {
            println!("| {server:<12} | {} |", held.show(0));
        }
        rows.push((server, held));
    }
}
