//! The arithmetic: from a load to coroutines, from coroutines to memory and kernel objects.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};

use super::{Guard, Options};
use crate::capacity::quantity::{Bytes, count};

/// What a service needs at its peak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) leaders: u64,
    pub(super) children: u64,
    /// Bytes, as are all sizes here.
    pub(super) address_space: u64,
    pub(super) resident: u64,
    pub(super) page_tables: u64,
    pub(super) mappings: u64,
    pub(super) descriptors: u64,
}

impl Needs {
    /// An error if they are more than a 64-bit machine can count.
    pub(super) fn of(options: &Options) -> Result<Self> {
        let in_flight = ceil(options.rps * options.latency.as_secs_f64() * options.headroom)?;
        let child_latency = options.child_latency.unwrap_or(options.latency);
        let children = options.rps * child_latency.as_secs_f64() * options.headroom;
        let children = ceil(children * f64::from(options.fanout))?;
        let others = options.descriptors.unwrap_or(options.fanout);
        let needs = || {
            let leaders = in_flight.checked_add(options.idle)?;
            let stacks = leaders.checked_add(children)?;
            let each = pages(options.touched.0)
                .checked_mul(PAGE)?
                .checked_add(options.heap.0)?;
            let others = in_flight.checked_mul(others.into())?;
            Some(Self {
                leaders,
                children,
                address_space: stacks.checked_mul(options.slot.0)?,
                resident: stacks.checked_mul(each)?,
                page_tables: page_tables(stacks, options)?,
                mappings: mappings(stacks, options)?,
                descriptors: leaders.checked_add(others)?.checked_add(OWN_DESCRIPTORS)?,
            })
        };
        let needs = needs().context(TOO_MUCH)?;
        ensure!(
            options.touched <= options.slot,
            "touched is {} and a slot is only {}",
            options.touched,
            options.slot
        );
        Ok(needs)
    }

    pub(super) fn stacks(&self) -> u64 {
        self.leaders + self.children
    }

    /// What all of it takes of the machine's memory.
    pub(super) fn memory(&self) -> u64 {
        self.resident.saturating_add(self.page_tables)
    }

    /// Each formula with its numbers.
    pub(super) fn explain(&self, options: &Options) -> String {
        let Options {
            rps,
            latency,
            fanout,
            idle,
            headroom,
            slot,
            touched,
            heap,
            ..
        } = options;
        let child_latency = options.child_latency.unwrap_or(*latency);
        let in_flight = self.leaders - idle;
        let others = options.descriptors.unwrap_or(*fanout);
        let stacks = count(self.stacks());
        let held = Bytes(pages(touched.0) * PAGE);
        let tables = match options.guard {
            Guard::Madvise => "the pages touched and the guard marks",
            Guard::Mprotect | Guard::None => "the pages touched",
        };
        let split = match options.guard {
            Guard::Mprotect => "two a stack",
            Guard::Madvise | Guard::None => "one a region",
        };
        let lines = [
            (
                "requests in flight",
                format!("{rps}/s x {latency:?} x {headroom} headroom"),
                count(in_flight),
            ),
            (
                "leaders",
                format!("{} in flight + {} idle", count(in_flight), count(*idle)),
                count(self.leaders),
            ),
            (
                "children",
                format!("{rps}/s x {fanout} x {child_latency:?} x {headroom}"),
                count(self.children),
            ),
            (
                "stacks",
                format!("{} + {}", count(self.leaders), count(self.children)),
                stacks.clone(),
            ),
            (
                "address space",
                format!("{stacks} x {slot}"),
                Bytes(self.address_space).to_string(),
            ),
            (
                "resident memory",
                format!("{stacks} x ({held} touched + {heap} heap)"),
                Bytes(self.resident).to_string(),
            ),
            (
                "page tables",
                format!("4 KiB per 2 MiB that hold {tables}"),
                Bytes(self.page_tables).to_string(),
            ),
            (
                "kernel mappings",
                format!("{split} + {OWN_MAPPINGS} of the program"),
                count(self.mappings),
            ),
            (
                "descriptors",
                format!(
                    "{} + {} x {others} + {OWN_DESCRIPTORS}",
                    count(self.leaders),
                    count(in_flight)
                ),
                count(self.descriptors),
            ),
        ];
        let mut text = String::new();
        for (name, formula, result) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<18} = {formula} = {result}");
        }
        text
    }
}

/// A count of what comes in whole ones.
fn ceil(number: f64) -> Result<u64> {
    // What is off by rounding alone is not one more.
    let rounded = number.round();
    let whole = match (number - rounded).abs() <= number * 1e-12 {
        true => rounded,
        false => number.ceil(),
    };
    ensure!(whole < 2_f64.powi(63), "{TOO_MUCH}");
    Ok(whole as u64)
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE)
}

/// Bytes of page tables under so many stacks: frames begin at a slot's top, its guard is at the bottom.
fn page_tables(stacks: u64, options: &Options) -> Option<u64> {
    let slot = options.slot.0;
    let tables = match slot <= TABLE_SPAN {
        true => stacks.div_ceil(TABLE_SPAN / slot),
        false => {
            let guard = u64::from(options.guard == Guard::Madvise);
            let touched = options.touched.0.div_ceil(TABLE_SPAN);
            stacks.checked_mul((touched + guard).min(slot / TABLE_SPAN))?
        }
    };
    // Each level above has a table for 512 below; a region's tables lie next to each other.
    let upper = stacks
        .checked_mul(slot)?
        .div_ceil(TABLE_SPAN * 512)
        .checked_add(2)?;
    tables.checked_add(upper)?.checked_mul(PAGE)
}

/// Regions grow fourfold from 64 slots to 40,960 or 10 GiB, as the runtime's slabs do.
fn mappings(stacks: u64, options: &Options) -> Option<u64> {
    let largest = (10 << 30) / options.slot.0;
    let largest = largest.clamp(1, 40_960);
    let (mut regions, mut carved, mut next) = (0_u64, 0_u64, 64.min(largest));
    while carved < stacks && next < largest {
        carved += next;
        regions += 1;
        next = (next * 4).min(largest);
    }
    regions = regions.checked_add(stacks.saturating_sub(carved).div_ceil(largest))?;
    let stacks = match options.guard {
        Guard::Mprotect => stacks.checked_mul(2)?,
        Guard::Madvise | Guard::None => 0,
    };
    regions.checked_add(stacks)?.checked_add(OWN_MAPPINGS)
}

const PAGE: u64 = 4 << 10;
/// The bytes that one page of a page table covers.
const TABLE_SPAN: u64 = 2 << 20;
/// Of the program, its libraries, its threads and its heap.
const OWN_MAPPINGS: u64 = 100;
/// Standard streams, listeners, epoll sets.
const OWN_DESCRIPTORS: u64 = 16;
const TOO_MUCH: &str =
    "so much that it cannot be counted: check the rate, the latency and the fan-out";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::plan::tests::parsed;

    fn needs(arguments: &str) -> Needs {
        Needs::of(&parsed(arguments).unwrap()).unwrap()
    }

    #[test]
    fn requests_in_flight_are_rate_times_latency() {
        let needs = needs("--rps 10000 --latency 50ms --headroom 1");
        assert_eq!((needs.leaders, needs.children), (500, 0));
    }

    #[test]
    fn a_fraction_of_a_request_is_one_more() {
        assert_eq!(needs("--rps 0.5 --latency 100ms --headroom 1").leaders, 1);
        assert_eq!(needs("--rps 101 --latency 10ms --headroom 1").leaders, 2);
        // 0.1 s times 1.1 is a little more than 0.11 in binary; the product is whole in decimal.
        assert_eq!(
            needs("--rps 100 --latency 100ms --headroom 1.1").leaders,
            11
        );
    }

    #[test]
    fn children_live_as_long_as_they_are_said_to() {
        let needs = needs(
            "--rps 1000 --latency 100ms --fanout 3 --child-latency 20ms --headroom 2 --idle 50",
        );
        assert_eq!((needs.leaders, needs.children), (250, 120));
        assert_eq!(needs.stacks(), 370);
        assert_eq!(needs.descriptors, 250 + 200 * 3 + OWN_DESCRIPTORS);
    }

    #[test]
    fn memory_is_what_the_stacks_touch_in_whole_pages() {
        let needs =
            needs("--rps 1000000 --latency 1s --headroom 1 --slot 64K --touched 5000 --heap 512");
        assert_eq!(needs.address_space, 1_000_000 * (64 << 10));
        assert_eq!(needs.resident, 1_000_000 * (8192 + 512));
        // 32 slots share a table: 31,250 of these, 62 above them and 2 above those.
        assert_eq!(needs.page_tables, (31_250 + 62 + 2) * 4096);
        assert_eq!(needs.memory(), needs.resident + needs.page_tables);
    }

    #[test]
    fn a_slot_beyond_a_table_has_tables_for_both_its_ends() {
        let tables = |arguments: &str| {
            let line = format!("--rps 1000 --latency 1s --headroom 1 --slot 8M {arguments}");
            needs(&line).page_tables / PAGE - 8 - 2
        };
        assert_eq!(tables("--guard madvise"), 2000);
        assert_eq!(tables("--guard mprotect"), 1000);
        assert_eq!(tables("--guard madvise --touched 3M"), 3000);
        assert_eq!(tables("--guard madvise --touched 8M"), 4000);
    }

    #[test]
    fn a_million_stacks_lie_in_few_mappings_unless_each_is_split() {
        let line = "--rps 1000000 --latency 1s --headroom 1 --slot 256K";
        let regions = needs(line).mappings - OWN_MAPPINGS;
        // 64 + 256 + ... + 16,384 slots, then 40,960 each.
        assert_eq!(regions, 5 + (1_000_000_u64 - 21_824).div_ceil(40_960));
        let split = needs(&format!("{line} --guard mprotect")).mappings - OWN_MAPPINGS;
        assert_eq!(split, regions + 2_000_000);
        assert_eq!(
            needs("--rps 15 --latency 1s --headroom 1 --slot 1G").mappings - OWN_MAPPINGS,
            2
        );
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for line in [
            "--rps 1e12 --latency 1440m --headroom 1000000",
            "--rps 1e12 --latency 1000m --slot 1G",
            "--rps 1 --latency 1s --idle 18446744073709551615",
            "--rps 1e9 --latency 1440m --fanout 4000000000",
            "--rps 1e6 --latency 1440m --heap 16777215T",
        ] {
            let error = Needs::of(&parsed(line).unwrap()).unwrap_err();
            assert_eq!(error.to_string(), TOO_MUCH, "{line}");
        }
    }

    #[test]
    fn a_stack_cannot_be_used_deeper_than_it_is() {
        let options = parsed("--rps 1 --latency 1s --slot 64K --touched 65K").unwrap();
        let error = Needs::of(&options).unwrap_err().to_string();
        assert!(
            error.contains("65 KiB") && error.contains("64 KiB"),
            "{error}"
        );
    }

    #[test]
    fn each_formula_shows_its_numbers() {
        let options = parsed("--rps 10000 --latency 50ms --fanout 3 --slot 64K").unwrap();
        let text = Needs::of(&options).unwrap().explain(&options);
        for part in [
            "= 10000/s x 50ms x 2 headroom = 1,000\n",
            "= 1,000 + 3,000 = 4,000\n",
            "= 4,000 x 64 KiB = 250 MiB\n",
            "= 4,000 x (8 KiB touched + 1 KiB heap) = 35.2 MiB\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
