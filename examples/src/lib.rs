//! What several examples use, and the book's and the README's examples, which are tests of this crate.

pub mod sockdiag;

macro_rules! chapters {
    ($($name:ident = $path:literal),* $(,)?) => {
        $(#[cfg(doctest)] #[doc = include_str!($path)] mod $name {})*
    };
}

chapters! {
    getting_started = "../../docs/src/getting-started.md",
    groups = "../../docs/src/groups.md",
    cancellation = "../../docs/src/cancellation.md",
    channels = "../../docs/src/channels.md",
    locks = "../../docs/src/locks.md",
    blocking = "../../docs/src/blocking.md",
    inspect = "../../docs/src/inspect.md",
    coming_from = "../../docs/src/coming-from.md",
    service = "../../docs/src/service.md",
    extractors = "../../docs/src/extractors.md",
    streaming = "../../docs/src/streaming.md",
    parts = "../../docs/src/parts.md",
    resilience = "../../docs/src/resilience.md",
    simulation = "../../docs/src/simulation.md",
    cookbook = "../../docs/src/cookbook.md",
    rpc = "../../docs/src/rpc.md",
    tls = "../../docs/src/tls.md",
    tcp_processes = "../../docs/src/tcp-processes.md",
    capacity = "../../docs/src/capacity.md",
    capacity_lab = "../../docs/src/capacity-lab.md",
    readme = "../../README.md",
}
