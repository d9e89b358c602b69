//! One configuration: which engine, how many coroutines, with what stacks.

use std::fmt;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::capacity::{plan::slot, quantity::Bytes};

/// What one child process measures.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Spec {
    pub(super) engine: Engine,
    #[arg(long)]
    pub(super) count: u64,
    #[arg(long, value_parser = slot)]
    pub(super) slot: Bytes,
    /// Pages of each stack.
    #[arg(long)]
    pub(super) touch: u32,
    #[arg(long)]
    pub(super) guard: Guard,
    #[arg(long)]
    pub(super) workers: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    Maniple,
    May,
    /// Its tasks have no stacks.
    Tokio,
    /// Its goroutines have stacks that grow and shrink.
    Go,
    /// The standard library's.
    Threads,
}

impl Engine {
    /// Whether a size is chosen for its stacks.
    pub(super) fn has_slots(self) -> bool {
        !matches!(self, Self::Tokio | Self::Go)
    }
}

/// How maniple guards its stacks; the others have their own ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Guard {
    Auto,
    Madvise,
    Mprotect,
    None,
}

impl Spec {
    /// The arguments that give this to a child.
    pub(super) fn arguments(&self) -> Vec<String> {
        vec![
            name(self.engine),
            format!("--count={}", self.count),
            format!("--slot={}", self.slot.0),
            format!("--touch={}", self.touch),
            format!("--guard={}", name(self.guard)),
            format!("--workers={}", self.workers),
        ]
    }

    /// Why it makes no sense, if so.
    pub(super) fn refused(&self) -> Option<String> {
        if !self.engine.has_slots() {
            return None;
        }
        let pages = self.slot.0 / page_size();
        let is_guarded = self.engine == Engine::Maniple && self.guard != Guard::None;
        // A guard makes a page that was counted on too much a report, not a neighbour's loss.
        let spare = if is_guarded {
            GUARDED_SPARE_PAGES
        } else {
            SPARE_PAGES
        };
        let room = pages.saturating_sub(spare);
        let Self { touch, slot, .. } = self;
        (u64::from(*touch) > room).then(|| {
            format!("{touch} pages of a {slot} stack: it has room for {room}, beside its guard and the engine's frames")
        })
    }

    /// The memory that it will take, from what engines are known to need beside the pages touched. Who takes two
    /// mappings for each stack will not get beyond half of those that the kernel allows.
    pub(super) fn forecast(&self, mappings: Option<u64>) -> Bytes {
        let tables = self.slot.0.div_ceil(512).max(16).min(2 * page_size());
        let beside = match self.engine {
            Engine::Maniple | Engine::May => {
                let split = self.engine == Engine::May || self.guard == Guard::Mprotect;
                tables + RECORD + if split { 2 * MAPPING } else { 0 }
            }
            Engine::Tokio | Engine::Go => RECORD,
            Engine::Threads => tables + 4 * MAPPING + KERNEL_THREAD,
        };
        let pages = u64::from(self.touch).max(1);
        let stack = match self.engine {
            Engine::Go => grown(pages),
            _ => pages.saturating_mul(page_size()),
        };
        let each = stack.saturating_add(beside);
        let splits = match self.engine {
            Engine::Maniple => self.guard == Guard::Mprotect,
            Engine::May | Engine::Threads => true,
            Engine::Tokio | Engine::Go => false,
        };
        let most = mappings
            .filter(|_| splits)
            .map_or(u64::MAX, |mappings| mappings / 2);
        Bytes(self.count.min(most).saturating_mul(each))
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (engine, pages) = (name(self.engine), pages(self.touch));
        match self.engine {
            Engine::Maniple => write!(
                f,
                "{engine}, {}, {pages}, guard {}",
                self.slot,
                name(self.guard)
            ),
            Engine::Tokio | Engine::Go => write!(f, "{engine}, {pages}"),
            Engine::May | Engine::Threads => write!(f, "{engine}, {}, {pages}", self.slot),
        }
    }
}

pub(super) fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// The size to which a stack of Go's doubles that reaches so many pages: it begins on the first one's end.
fn grown(pages: u64) -> u64 {
    let used = (pages - 1).saturating_mul(page_size()) + GO_FRAME;
    used.checked_next_power_of_two()
        .unwrap_or(u64::MAX)
        .max(GO_LEAST)
}

pub(super) fn pages(count: u32) -> String {
    match count {
        1 => "1 page".to_owned(),
        _ => format!("{count} pages"),
    }
}

pub(in super::super) fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// The guard, and the frames around those that touch.
const SPARE_PAGES: u64 = 3;
/// The guard, and what the last frame takes below the page that was asked for.
const GUARDED_SPARE_PAGES: u64 = 2;
/// A task's record with its handle.
const RECORD: u64 = 512;
/// What a goroutine takes of its stack in any case, and the stack that it begins with.
const GO_FRAME: u64 = 512;
const GO_LEAST: u64 = 2048;
/// The kernel's record of a mapping, with its share of the tree of mappings.
const MAPPING: u64 = 256;
/// The kernel's own stack of a thread, and its record.
const KERNEL_THREAD: u64 = 32 << 10;

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        spec: Spec,
    }

    pub(in super::super) fn spec(engine: Engine) -> Spec {
        Spec {
            engine,
            count: 100,
            slot: Bytes(64 << 10),
            touch: 2,
            guard: Guard::Auto,
            workers: 1,
        }
    }

    #[test]
    fn a_child_gets_what_its_parent_has() {
        for engine in Engine::value_variants() {
            let sent = Spec {
                guard: Guard::Mprotect,
                ..spec(*engine)
            };
            let words = std::iter::once("row".to_owned()).chain(sent.arguments());
            assert_eq!(Line::try_parse_from(words).unwrap().spec, sent);
        }
    }

    #[test]
    fn pages_that_a_stack_lacks_are_refused() {
        let narrow = Spec {
            slot: Bytes(16 << 10),
            touch: 2,
            ..spec(Engine::May)
        };
        let reason = narrow.refused().unwrap();
        assert!(reason.contains("16 KiB"), "{reason}");
        assert_eq!(Spec { touch: 1, ..narrow }.refused(), None);
        assert!(
            Spec {
                touch: u32::MAX,
                ..narrow
            }
            .refused()
            .is_some()
        );
    }

    #[test]
    fn who_splits_mappings_takes_no_more_memory_than_there_are_mappings_for() {
        let of = |engine, count| {
            let spec = Spec {
                count,
                ..spec(engine)
            };
            spec.forecast(Some(65_530))
        };
        for engine in [Engine::May, Engine::Threads] {
            assert_eq!(of(engine, 1_000_000), of(engine, 32_765), "{engine:?}");
        }
        assert!(of(Engine::Maniple, 1_000_000) > of(Engine::Maniple, 32_765));
    }

    #[test]
    fn stacks_that_grow_double() {
        assert_eq!(
            [1, 2, 3, 4, 5].map(grown),
            [2, 8, 16, 16, 32].map(|kib| kib << 10)
        );
        let deep = Spec {
            slot: Bytes(16 << 10),
            touch: 100,
            ..spec(Engine::Go)
        };
        assert_eq!(deep.refused(), None);
    }

    #[test]
    fn a_forecast_grows_with_what_is_touched() {
        let million = Spec {
            count: 1_000_000,
            touch: 1,
            ..spec(Engine::Maniple)
        };
        let four = Spec {
            touch: 4,
            ..million
        };
        assert_eq!(
            four.forecast(None).0 - million.forecast(None).0,
            3 * page_size() * 1_000_000
        );
        let threads = Spec {
            engine: Engine::Threads,
            ..million
        };
        assert!(threads.forecast(None) > million.forecast(None));
        assert_eq!(
            Spec {
                count: u64::MAX,
                ..million
            }
            .forecast(None),
            Bytes(u64::MAX)
        );
    }
}
