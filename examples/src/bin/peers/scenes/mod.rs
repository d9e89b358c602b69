//! The scenes of the demo. Each checks what it shows: one that goes otherwise is an error.

mod beats;
mod death;
mod guard;
mod long;
mod order;

use clap::ValueEnum;

/// One point about processes that talk only TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scene {
    /// A port as the lock of a single instance
    Guard,
    /// A killed process is seen by its connections, a stopped one is not
    Death,
    /// The client starts first, the server later, and again
    Order,
    /// What keepalive does not find, heartbeats do
    Beats,
    /// Many requests on one connection, and how to spread them
    Long,
}

/// Plays these, or all, one after the other.
pub fn play(wanted: &[Scene]) -> anyhow::Result<()> {
    let wanted = match wanted {
        [] => Scene::value_variants(),
        some => some,
    };
    for (n, scene) in wanted.iter().enumerate() {
        if n > 0 {
            println!();
        }
        let (title, play): (_, fn() -> anyhow::Result<()>) = match scene {
            Scene::Guard => ("one instance on a port", guard::play),
            Scene::Death => ("a process dies", death::play),
            Scene::Order => ("any start order", order::play),
            Scene::Beats => ("a process stands still", beats::play),
            Scene::Long => ("long connections", long::play),
        };
        println!("== {title}");
        play()?;
    }
    Ok(())
}
