//! Why an engine cannot take part in a row.

use super::{
    Engine, limit, may,
    row::{COUNTS, Row},
};

/// Why an engine cannot take part in a row, on this machine or at all.
pub(super) fn not_run(engine: Engine, row: Row) -> Option<String> {
    match (engine, row) {
        (Engine::May, Row::Sleepers) => may::too_few_mappings(COUNTS.sleepers),
        _ => lacks(engine, row).map(str::to_owned),
    }
}

fn lacks(engine: Engine, row: Row) -> Option<&'static str> {
    match (engine, row) {
        (Engine::May, Row::Rendezvous | Row::ChannelMpmc) => Some("its channels have no bound"),
        (Engine::Tokio, Row::Rendezvous) => Some("its channels hold one message at least"),
        (Engine::Tokio | Engine::Threads, Row::ChannelMpmc) => {
            Some("its channels have one receiver")
        }
        (Engine::Threads, Row::Semaphore | Row::SemaphoreContended) => {
            Some("the standard library has no semaphore")
        }
        (Engine::Threads, Row::Sleepers) => {
            Some("100,000 threads are more than a system usually grants")
        }
        (Engine::Threads, Row::Select2) => Some("its channels have no select"),
        (Engine::May | Engine::Threads, Row::Oneshot | Row::Broadcast4 | Row::Watch) => {
            Some("it has no such channel")
        }
        (Engine::Go, Row::ChannelUnbounded) => Some("its channels have a bound"),
        (Engine::Go, Row::Broadcast4 | Row::Watch) => Some("it has no such channel"),
        (Engine::Go, Row::Barrier2) => Some("its standard library has no barrier"),
        (Engine::Crossbeam, row) => match row {
            Row::PingPong
            | Row::Rendezvous
            | Row::ChannelUnbounded
            | Row::ChannelMpmc
            | Row::Select2
            | Row::Timer => None,
            Row::Oneshot | Row::Broadcast4 | Row::Watch => Some("it has no such channel"),
            _ => Some("it is channels alone"),
        },
        (Engine::Limit, row) if !limit::bounds(row) => Some("no single thing bounds it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn maniple_takes_part_in_every_row_beside_at_least_one_peer() {
        for &row in Row::value_variants() {
            assert_eq!(lacks(Engine::Maniple, row), None, "{row:?}");
            let mut engines = Engine::value_variants().iter();
            let peer = engines.find(|&&engine| engine.is_peer() && lacks(engine, row).is_none());
            assert!(peer.is_some(), "{row:?}");
        }
    }
}
