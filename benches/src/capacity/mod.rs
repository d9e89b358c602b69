//! What coroutines cost in memory, descriptors and kernel objects, and where the machine ends.

mod limits;
mod plan;
pub(crate) mod plot;
mod quantity;
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
}

pub(crate) fn run(capacity: &Capacity) -> Result<()> {
    match capacity {
        Capacity::Plan(options) => plan::run(options),
        Capacity::Stacks(options) => stacks::run(options),
        Capacity::StacksRow(spec) => stacks::run_child(spec),
    }
}
