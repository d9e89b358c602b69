//! maniple beside its peers, measured in one run.
//!
//! Every contender is a process of its own, started from this binary by a hidden subcommand and pinned to a core.
//! Rounds are interleaved, so that a drift of the machine meets all contenders alike.

mod budget;
mod callgrind;
mod capacity;
mod cargo;
mod compare;
mod count;
mod go;
mod json;
mod load;
mod memory;
mod micro;
mod models;
mod outcome;
mod process;
mod scale;
mod servers;
mod siege;
mod soak;
mod stats;
mod survive;
mod task;
mod terminal;
mod worlds;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, error::ErrorKind};

#[derive(Debug, Parser)]
#[command(version, about = "maniple beside its peers, measured in one run")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Whole programs under the same load.
    #[command(subcommand)]
    Compare(compare::Compare),
    /// What coroutines cost in memory, descriptors and kernel objects.
    #[command(subcommand)]
    Capacity(capacity::Capacity),
    /// The classic server models under the same loads.
    Models(models::Options),
    /// One model of `models`, which starts it.
    #[command(hide = true)]
    ModelServe(models::server::Options),
    /// The backends of `models`, which starts them.
    #[command(hide = true)]
    ModelBackends,
    /// Single operations of each engine.
    Micro(micro::Options),
    /// What one operation costs when ten do it, and when a million do.
    Scale(scale::Options),
    /// Cache lines and pages that one operation misses when many wait, simulated; needs valgrind.
    Misses(scale::misses::Options),
    /// Where the time of an HTTP request goes, by parts; needs valgrind.
    Budget(budget::Options),
    /// Instructions of hot paths, held against those in the repository; needs valgrind.
    Count(count::Options),
    /// A server under clients that do all that clients do wrong, with a verdict.
    Soak(soak::Options),
    /// A server under many thousands of connections that idle, dawdle and reset, with a verdict.
    Siege(siege::Options),
    /// What retries within a budget, hedging and ejection buy.
    Survive(survive::Options),
    /// How fast simulated worlds go, and an ordinary test in one.
    Worlds(worlds::Options),
    /// The server of `siege`, which starts it.
    #[command(hide = true)]
    ServeSiege,
    /// The server of `soak`, which starts it.
    #[command(hide = true)]
    ServeSoak(soak::server::Options),
    /// One server of `compare http`, which starts it.
    #[command(hide = true)]
    Serve(servers::Options),
    /// The load of `compare http`, which starts it.
    #[command(hide = true)]
    Load(load::Options),
    /// One server of `compare streams`, which starts it.
    #[command(hide = true)]
    ServeStream(servers::streams::Options),
    /// The load of `compare streams`, which starts it.
    #[command(hide = true)]
    StreamLoad(load::streams::Options),
    /// The load of `compare latency` and `compare skew`, which start it.
    #[command(hide = true)]
    OpenLoad(load::open::Options),
    /// The load of `compare tls`, which starts it.
    #[command(hide = true)]
    TlsLoad(load::tls::Options),
    /// One client of `compare client`, which starts it.
    #[command(hide = true)]
    Call(compare::client::ChildOptions),
    /// One server of `compare grpc`, which starts it.
    #[command(hide = true)]
    ServeGrpc(compare::grpc::ServeOptions),
    /// One client of `compare grpc`, which starts it.
    #[command(hide = true)]
    CallGrpc(compare::grpc::CallOptions),
    /// One server of `compare rpc`, which starts it.
    #[command(hide = true)]
    ServeRpc(compare::rpc::ServeOptions),
    /// One client of `compare rpc`, which starts it.
    #[command(hide = true)]
    CallRpc(compare::rpc::CallOptions),
    /// The backends of `compare fanout`, which starts them.
    #[command(hide = true)]
    Backends(compare::fanout::BackendOptions),
    /// One variant of `compare fanout`, which starts it.
    #[command(hide = true)]
    Aggregate(compare::fanout::ChildOptions),
    /// One gateway of `compare gateway`, or a backend, which starts it.
    #[command(hide = true)]
    ServeGateway(compare::gateway::ChildOptions),
    /// One row of `micro` on one engine, which starts it.
    #[command(hide = true)]
    MicroRow(micro::ChildOptions),
    /// One point of `scale`, which starts it.
    #[command(hide = true)]
    ScalePoint(scale::Point),
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Compare(compare) => compare::run(compare),
        Command::Capacity(capacity) => capacity::run(capacity),
        Command::Scale(options) => scale::run(options),
        Command::Misses(options) => scale::misses::run(options),
        Command::ScalePoint(point) => scale::run_child(point),
        Command::Call(options) => compare::client::call(options),
        Command::Serve(options) => servers::run(options),
        Command::Load(options) => load::run(options),
        Command::ServeStream(options) => servers::streams::run(options),
        Command::StreamLoad(options) => load::streams::run(options),
        Command::OpenLoad(options) => load::open::run(options),
        Command::TlsLoad(options) => load::tls::run(options),
        Command::Micro(options) => micro::run(options),
        Command::Budget(options) => budget::run(options),
        Command::Count(options) => count::run(options),
        Command::Survive(options) => survive::run(options),
        Command::Worlds(options) => worlds::run(options),
        Command::Siege(options) => siege::run(options),
        Command::ServeSiege => siege::serve(),
        Command::Soak(options) => soak::run(options),
        Command::ServeSoak(options) => soak::server::run(options),
        Command::Models(options) => models::run(options),
        Command::ModelServe(options) => models::server::run(options),
        Command::ModelBackends => models::server::run_backends(),
        Command::ServeGrpc(options) => compare::grpc::serve(options),
        Command::CallGrpc(options) => compare::grpc::call(options),
        Command::ServeRpc(options) => compare::rpc::serve(options),
        Command::CallRpc(options) => compare::rpc::call(options),
        Command::Backends(options) => compare::fanout::serve_backends(options),
        Command::Aggregate(options) => compare::fanout::aggregate(options),
        Command::ServeGateway(options) => compare::gateway::serve(options),
        Command::MicroRow(options) => micro::run_child(options),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maniple-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Help goes out as clap has it; an error becomes one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            eprintln!("maniple-bench: {}", one_line(&error.to_string()));
            ExitCode::from(2)
        }
    }
}

/// The first paragraph of clap's message, without its line ends.
fn one_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or(message);
    let paragraph = paragraph.trim_start_matches("error: ");
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &str) -> String {
        let words = std::iter::once("maniple-bench").chain(arguments.split(' '));
        one_line(&Cli::try_parse_from(words).unwrap_err().to_string())
    }

    #[test]
    fn an_unknown_server_is_named_with_those_that_are_known() {
        let message = refused("compare http --only epoll,nginx");
        assert!(message.contains("'nginx'"), "{message}");
        assert!(message.contains("known are maniple, "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let cases = [
            ("compare http --seconds 0", "longer than 0"),
            ("compare http --seconds soon", "not a number"),
            ("compare http --rounds 0", "'0'"),
            ("compare http --connections 64,0", "'0'"),
            ("compare http --fast", "--fast"),
            ("compare ftp", "ftp"),
            ("compare latency --load 1.5", "between 0 and 1"),
            ("compare latency --connections 0", "'0'"),
            ("compare skew --only epoll", "one core"),
            ("compare skew --cases uneven", "cpu-bound"),
            ("compare skew --workers 0", "'0'"),
            ("count --only fork", "'fork'"),
        ];
        for (arguments, cause) in cases {
            let message = refused(arguments);
            assert!(message.contains(cause), "{arguments}: {message}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
