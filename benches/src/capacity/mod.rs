//! What coroutines cost in memory, descriptors and kernel objects, and where the machine ends.

mod limits;
mod plan;
mod quantity;

use anyhow::Result;
use clap::Subcommand;

/// What to count.
#[derive(Debug, Subcommand)]
pub(crate) enum Capacity {
    /// What a service needs, from its load, by Little's law.
    Plan(plan::Options),
}

pub(crate) fn run(capacity: &Capacity) -> Result<()> {
    match capacity {
        Capacity::Plan(options) => plan::run(options),
    }
}
