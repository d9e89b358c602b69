//! From a depth to the slot that it calls for, and to the memory of many; and how far off that was.

use serde::Serialize;

use crate::capacity::{plan::slot_for, quantity::Bytes, stacks::page_size};

/// How much larger than the deepest that was seen a stack should be: other inputs come deeper.
pub(super) const FACTOR: u64 = 2;

/// What many coroutines will take that came so deep and wait.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Forecast {
    /// The size of stack that is recommended.
    pub(super) slot: Bytes,
    /// Pages of each stack.
    pub(super) pages: u64,
    pub(super) count: u64,
    pub(super) resident: Bytes,
    pub(super) page_tables: Bytes,
}

impl Forecast {
    /// For `count` coroutines that came `deepest` bytes deep and have `heap` bytes beside their stacks.
    pub(super) fn of(deepest: u64, count: u64, heap: Bytes) -> Self {
        let slot = recommended(deepest);
        let pages = deepest.div_ceil(page_size()).max(1);
        let each = pages * page_size() + heap.0;
        Self {
            slot,
            pages,
            count,
            resident: Bytes(count.saturating_mul(each)),
            page_tables: Bytes(count.saturating_mul(tables(slot))),
        }
    }

    pub(super) fn total(&self) -> Bytes {
        Bytes(self.resident.0.saturating_add(self.page_tables.0))
    }

    /// By how much it is more, or less, than what was measured for `count` of them, in percent of that.
    pub(super) fn error(&self, measured: u64, count: u64) -> Option<f64> {
        if measured == 0 || self.count == 0 {
            return None;
        }
        let predicted = self.total().0 as f64 / self.count as f64 * count as f64;
        Some(100.0 * (predicted - measured as f64) / measured as f64)
    }
}

/// The smallest size with room for [`FACTOR`] times that and the guard page.
pub(super) fn recommended(deepest: u64) -> Bytes {
    slot_for(Bytes(
        deepest.saturating_mul(FACTOR).saturating_add(page_size()),
    ))
}

/// Page tables of one slot: eight bytes for each page, in tables of a page each, of which a slot that is larger than
/// one covers touches the first, with its guard, and the last.
fn tables(slot: Bytes) -> u64 {
    (slot.0 / page_size() * 8).min(2 * page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_twice_the_depth_and_the_guard_and_is_never_below_the_smallest() {
        if page_size() != 4096 {
            return;
        }
        for (deepest, slot) in [
            (0, 16 << 10),
            (6 << 10, 16 << 10),
            ((6 << 10) + 1, 32 << 10),
            (14 << 10, 32 << 10),
            (40 << 10, 128 << 10),
            (1 << 20, 4 << 20),
            (u64::MAX, 1 << 30),
        ] {
            assert_eq!(recommended(deepest), Bytes(slot), "{deepest}");
        }
    }

    #[test]
    fn memory_is_pages_and_heap_and_page_tables_go_by_the_slot() {
        if page_size() != 4096 {
            return;
        }
        let forecast = Forecast::of(5000, 1000, Bytes(512));
        assert_eq!((forecast.pages, forecast.slot), (2, Bytes(16 << 10)));
        assert_eq!(forecast.resident, Bytes(1000 * (8192 + 512)));
        assert_eq!(forecast.page_tables, Bytes(1000 * 32));
        let deep = Forecast::of(3 << 20, 10, Bytes(0));
        assert_eq!(deep.page_tables, Bytes(10 * 8192));
    }

    #[test]
    fn an_error_is_a_share_of_what_was_measured_for_as_many() {
        let forecast = Forecast {
            slot: Bytes(16 << 10),
            pages: 1,
            count: 100,
            resident: Bytes(1000),
            page_tables: Bytes(100),
        };
        assert_eq!(forecast.error(1000, 100), Some(10.0));
        assert_eq!(forecast.error(1100, 50), Some(-50.0));
        assert_eq!(forecast.error(0, 100), None);
    }
}
