//! Processes that know of each other by nothing but TCP: one instance, death, any start order, heartbeats,
//! long connections.
//!
//! Try it: `cargo run --bin peers -- --demo` plays the scenes, with processes of its own, and ends.
//! By hand: `cargo run --bin peers -- call` and, elsewhere and in any order, `cargo run --bin peers -- serve`.

mod alone;
mod backoff;
mod call;
mod scenes;
mod serve;
mod session;
mod stage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::scenes::Scene;

/// A server and a client that outlive each other, and scenes that show how
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    /// Play the scenes and end
    #[arg(long)]
    demo: bool,

    /// Play this scene only; repeat for more
    #[arg(long, value_name = "SCENE", requires = "demo")]
    scene: Vec<Scene>,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Greet and answer pings, as the only instance on the port
    Serve(serve::Serve),
    /// Ping a server, and find it again whenever it was lost
    Call(call::Call),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let cli = Cli::parse();
    let result = maniple::Runtime::builder()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.run(|| match &cli.role {
                Some(Role::Serve(options)) => Ok(serve::run(options)?),
                Some(Role::Call(options)) => Ok(call::run(options)?),
                None => scenes::play(&cli.scene),
            })
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
