//! Servers of streams by CPU time per message: WebSocket messages that are sent back, and events that are sent to all
//! subscribers. The server is on one core, the load on another.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::rows::{self, Figures};
use crate::{
    json::JsonFile,
    load::streams::Seen,
    outcome::Outcome,
    process::{Child, raise_descriptor_limit},
    servers::streams::Name,
    stats::{Machine, Spread, Table},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// WebSockets, each with a message under way.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    websockets: u16,
    /// Bytes of their messages.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u8).range(..126))]
    message: u8,
    /// Subscribers of events.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    subscribers: u16,
    /// How often an event is published to all of them.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    period_ms: u64,
    /// How long each server is measured in each round.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// How long each server runs under load before.
    #[arg(long, default_value = "1", value_parser = seconds)]
    warm_up: f64,
    /// How often each server is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is compared, and to whom.
#[derive(Clone, Copy, Debug, Serialize)]
enum Kind {
    Websocket,
    Events,
}

impl Kind {
    fn servers(self) -> &'static [Name] {
        match self {
            Kind::Websocket => &Name::WEBSOCKETS,
            Kind::Events => &Name::EVENTS,
        }
    }

    fn peer(self) -> Name {
        match self {
            Kind::Websocket => Name::TokioTungstenite,
            Kind::Events => Name::AxumEvents,
        }
    }
}

type Run = rows::Run<Name, Seen>;
type Row = rows::Row<Name>;

impl Figures for Seen {
    fn cpu_us(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.messages as f64
    }

    fn per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    // A closed loop and a clock: latency is not what they are about.
    fn p50_us(&self) -> f64 {
        f64::NAN
    }

    fn p99_us(&self) -> f64 {
        f64::NAN
    }
}

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    comparisons: Vec<Comparison>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    kind: Kind,
    servers: Vec<Row>,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(u64::from(options.websockets.max(options.subscribers)) + 64)?;
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&CRATES);
    println!("{machine}");
    let mut report = Report {
        machine,
        options,
        comparisons: Vec::new(),
    };
    for kind in [Kind::Websocket, Kind::Events] {
        let runs = measure(options, kind);
        let row = |&server: &Name| Row::of(server, kind.peer(), &runs);
        let servers: Vec<Row> = kind.servers().iter().map(row).collect();
        println!("\n{}\n", Title(options, kind));
        print!("{}", table(kind, &servers, &runs));
        report.comparisons.push(Comparison {
            kind,
            servers,
            runs,
        });
    }
    file.write(&report)
}

struct Title<'a>(&'a Options, Kind);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.0;
        match self.1 {
            Kind::Websocket => write!(
                f,
                "{} WebSockets, echo of {} bytes",
                options.websockets, options.message
            )?,
            Kind::Events => write!(
                f,
                "{} subscribers, an event to all every {} ms",
                options.subscribers, options.period_ms
            )?,
        }
        write!(
            f,
            "; median (min..max) of {} × {} s",
            options.rounds, options.seconds
        )
    }
}

/// All rounds of one kind: A B C, A B C.
fn measure(options: &Options, kind: Kind) -> Vec<Run> {
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for &server in kind.servers() {
            progress(&format!("round {round} of {}, {server}", options.rounds));
            runs.push(Run {
                round,
                contender: server,
                outcome: measure_once(options, kind, server).into(),
            });
        }
    }
    progress("");
    runs
}

fn measure_once(options: &Options, kind: Kind, server: Name) -> Result<Seen> {
    let serve = [
        "serve-stream".to_owned(),
        server.to_string(),
        format!("--period-ms={}", options.period_ms),
    ];
    let mut child = Child::start(serve)?;
    let address = child.line(PATIENCE)?;
    let mut load = vec![
        "stream-load".to_owned(),
        format!("--address={address}"),
        format!("--server={}", child.id()),
        format!("--warm-up-seconds={}", options.warm_up),
        format!("--seconds={}", options.seconds),
    ];
    match kind {
        Kind::Websocket => {
            load.push(format!("--connections={}", options.websockets));
            load.push(format!("--message={}", options.message));
        }
        Kind::Events => load.push(format!("--connections={}", options.subscribers)),
    }
    let mut loading = Child::start(load)?;
    let patience = PATIENCE + Duration::from_secs_f64(options.warm_up + options.seconds);
    let line = loading.line(patience).map_err(|error| {
        let cause = child.ended();
        cause.map_or(error, |cause| cause.context(format!("{server} ended")))
    })?;
    serde_json::from_str(&line).context("what the load printed")
}

fn table(kind: Kind, rows: &[Row], runs: &[Run]) -> Table {
    let ratio = format!("× {}", kind.peer());
    let mut table = Table::new(&[
        "server",
        "CPU µs/message",
        &ratio,
        "own µs",
        "messages/s",
        "resident MiB",
    ]);
    let show = |spread: &Option<Spread>, decimals| {
        spread.map_or("-".to_owned(), |spread| spread.show(decimals))
    };
    for (row, &server) in rows.iter().zip(kind.servers()) {
        let seen = || {
            runs.iter().filter_map(|run| match &run.outcome {
                Outcome::Seen(seen) if run.contender == server => Some(seen),
                _ => None,
            })
        };
        // Of the CPU time what is not the kernel's.
        let own = seen().map(|seen: &Seen| seen.cpu_us() * (1.0 - seen.server_kernel_share));
        let resident =
            seen().map(|seen: &Seen| seen.server_resident_bytes as f64 / f64::from(1 << 20));
        table.row(vec![
            server.to_string(),
            show(&row.cpu_us, 2),
            show(&row.ratio, 2),
            show(&Spread::of(own), 2),
            show(&row.per_second, 0),
            show(&Spread::of(resident), 0),
        ]);
        let failed = runs.iter().find_map(|run| match &run.outcome {
            Outcome::Failed(cause) if run.contender == server => Some(cause),
            _ => None,
        });
        if let Some(cause) = failed {
            table.note(format!("{server} failed: {cause}"));
        }
    }
    table
}

/// How long a server may take to listen, and a load to connect.
const PATIENCE: Duration = Duration::from_secs(120);

/// The crates whose versions a reader must know.
const CRATES: [&str; 5] = [
    "maniple-server",
    "tokio-tungstenite",
    "tungstenite",
    "axum",
    "tokio",
];
