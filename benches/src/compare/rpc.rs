//! Calls over long connections by CPU time per call: RPC, a client and a server of nothing but its bytes, and gRPC of both
//! kinds; one worker on a core of its own at each end, one connection.

mod bytes;
mod ours;

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::grpc::{self, BODY, ECHO, Kind, Message, START_PATIENCE, Seen, Served, count, watch};
use crate::{
    json::JsonFile,
    process::{self, Child, Core},
    stats::{Machine, Spread, Table},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Calls at a time.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [1, 100])]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    calls: Vec<u16>,
    /// How long each is measured in each round, after a fifth of that to warm up.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: f64,
    /// How often each is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What both ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Stack {
    /// Loops around epoll that send the same frames, and look at no more than lengths and calls.
    Bytes,
    /// maniple-rpc.
    Rpc,
    /// maniple-grpc.
    Grpc,
    /// tonic.
    Tonic,
}

const STACKS: [Stack; 4] = [Stack::Bytes, Stack::Rpc, Stack::Grpc, Stack::Tonic];

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bytes => "bytes",
            Self::Rpc => "rpc",
            Self::Grpc => "grpc",
            Self::Tonic => "tonic",
        })
    }
}

/// One server, to be run in this process until it is killed.
#[derive(Args, Debug)]
pub(crate) struct ServeOptions {
    stack: Stack,
}

pub(crate) fn serve(options: &ServeOptions) -> Result<()> {
    process::settle(Core::First)?;
    match options.stack {
        Stack::Bytes => bytes::serve(),
        _ => ours::serve(),
    }
}

/// One client, to be run in this process.
#[derive(Args, Debug)]
pub(crate) struct CallOptions {
    stack: Stack,
    #[arg(long)]
    address: String,
    /// The process of the server.
    #[arg(long)]
    server: u32,
    #[arg(long)]
    calls: u16,
    #[arg(long, value_parser = seconds)]
    seconds: f64,
}

pub(crate) fn call(options: &CallOptions) -> Result<()> {
    process::settle(Core::Last)?;
    let (server, measured) = (options.server, Duration::from_secs_f64(options.seconds));
    std::thread::spawn(move || {
        let seen = watch(server, measured);
        let code = match seen {
            Ok(seen) => {
                println!("{}", serde_json::to_string(&seen).unwrap_or_default());
                0
            }
            Err(error) => {
                eprintln!("{error:#}");
                1
            }
        };
        std::process::exit(code);
    });
    match options.stack {
        Stack::Bytes => bytes::call(&options.address, options.calls),
        _ => ours::call(&options.address, options.calls),
    }
}

#[derive(Debug, Serialize)]
struct Run {
    round: u16,
    stack: Stack,
    calls: u16,
    seen: Seen,
}

impl Run {
    /// CPU time of both ends.
    fn us(&self) -> f64 {
        let Seen {
            server_cpu_seconds,
            client_cpu_seconds,
            ..
        } = self.seen;
        self.seen.us(server_cpu_seconds + client_cpu_seconds)
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let file = JsonFile::create(options.json.as_deref())?;
    let machine = Machine::here(&["tonic", "h2", "prost", "tokio"]);
    println!("{machine}");
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for &calls in &options.calls {
            for stack in STACKS {
                progress(&format!("round {round}: {stack}, {calls} at a time"));
                runs.push(Run {
                    round,
                    stack,
                    calls,
                    seen: measure(stack, calls, options.seconds)?,
                });
            }
        }
    }
    progress("");
    print(options, &runs);
    file.write(&Report {
        machine,
        options,
        runs,
    })
}

fn measure(stack: Stack, calls: u16, seconds: f64) -> Result<Seen> {
    let patience = START_PATIENCE + Duration::from_secs_f64(seconds * 2.0);
    let of_grpc = |engine| -> Result<_> {
        let served = Served::start(engine)?;
        let mut calling = served.client(engine, Kind::Unary, calls, seconds)?;
        calling.line(patience)
    };
    let line = match stack {
        Stack::Grpc => of_grpc(grpc::Engine::Maniple)?,
        Stack::Tonic => of_grpc(grpc::Engine::Tonic)?,
        Stack::Bytes | Stack::Rpc => {
            let mut server = Child::start(["serve-rpc".to_owned(), stack.to_string()])?;
            let address = server.line(START_PATIENCE)?;
            let mut calling = Child::start([
                "call-rpc".to_owned(),
                stack.to_string(),
                format!("--address={}", address.trim()),
                format!("--server={}", server.id()),
                format!("--calls={calls}"),
                format!("--seconds={}", seconds.max(0.1)),
            ])?;
            calling.line(patience)?
        }
    };
    serde_json::from_str(&line).context("what the client printed")
}

fn print(options: &Options, runs: &[Run]) {
    println!(
        "\nOne message of {BODY} bytes each way; median (min..max) of {} × {} s\n",
        options.rounds, options.seconds
    );
    let mut table = Table::new(&[
        "calls at a time",
        "stack",
        "server CPU µs/call",
        "client CPU µs/call",
        "both",
        "× bytes",
        "× tonic",
        "calls/s",
    ]);
    for &calls in &options.calls {
        for stack in STACKS {
            let of = |stack| {
                let wanted = move |run: &&Run| (run.stack, run.calls) == (stack, calls);
                runs.iter().filter(wanted)
            };
            let show = |figure: &dyn Fn(&Run) -> Option<f64>, decimals| {
                let spread = Spread::of(of(stack).filter_map(figure).collect::<Vec<_>>());
                spread.map_or("-".to_owned(), |spread| spread.show(decimals))
            };
            let beside = |peer, run: &Run| {
                let peer = of(peer).find(|peer| peer.round == run.round)?;
                Some(run.us() / peer.us())
            };
            table.row(vec![
                calls.to_string(),
                stack.to_string(),
                show(&|run| Some(run.seen.us(run.seen.server_cpu_seconds)), 2),
                show(&|run| Some(run.seen.us(run.seen.client_cpu_seconds)), 2),
                show(&|run| Some(run.us()), 2),
                show(&|run| beside(Stack::Bytes, run), 2),
                show(&|run| beside(Stack::Tonic, run), 2),
                show(
                    &|run| Some(run.seen.operations as f64 / run.seen.seconds),
                    0,
                ),
            ]);
        }
    }
    println!("{table}");
}
