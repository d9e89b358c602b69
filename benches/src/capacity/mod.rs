//! What coroutines cost in memory, descriptors and kernel objects, and where the machine ends.

mod connections;
mod depth;
pub(crate) mod limits;
mod plan;
pub(crate) mod plot;
pub(crate) mod quantity;
mod stacks;

use anyhow::Result;
use clap::Subcommand;

/// What to count.
#[derive(Debug, Subcommand)]
pub(crate) enum Capacity {
    /// What a service needs, from its load, by Little's law.
    Plan(plan::Options),
    /// What waiting coroutines cost, with stacks of some sizes, and where engines end.
    Stacks(stacks::Options),
    /// One configuration of `capacity stacks`, which starts it.
    #[command(hide = true)]
    StacksRow(stacks::Spec),
    /// How deep a server's handlers use their stacks, what slot follows from it, and what memory.
    Depth(depth::Options),
    /// The server of one route of `capacity depth`, which starts it.
    #[command(hide = true)]
    DepthServer(depth::ServiceOptions),
    /// How many keep-alive connections HTTP servers hold, and what an idle one costs.
    Connections(connections::Options),
    /// The connections to one server of `capacity connections`, which starts it.
    #[command(hide = true)]
    ConnectionsClient(connections::ClientOptions),
}

pub(crate) fn run(capacity: &Capacity) -> Result<()> {
    match capacity {
        Capacity::Plan(options) => plan::run(options),
        Capacity::Stacks(options) => stacks::run(options),
        Capacity::StacksRow(spec) => stacks::run_child(spec),
        Capacity::Depth(options) => depth::run(options),
        Capacity::DepthServer(options) => depth::run_server(options),
        Capacity::Connections(options) => connections::run(options),
        Capacity::ConnectionsClient(options) => connections::run_client(options),
    }
}
