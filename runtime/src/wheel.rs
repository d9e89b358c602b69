//! A timer wheel over plain ticks: O(1) to arm and to disarm, and it knows no clock.
//!
//! # How it works
//!
//! A tick is a number of eleven digits in base 64 (64 bits and two to spare). The wheel has a level
//! for each digit, and 64 slots per level. A timer lies on the level of the *highest digit in which
//! its tick differs from the present one*, in the slot of that digit: the timers of the next ticks
//! lie on level 1, one tick to a slot, and distant ones lie high up among others as distant.
//!
//! ```text
//!              digit:  10 ...    2        1        0
//!    present tick       0 ...    0        3       61
//!    timer at           0 ...    0        3       63   level 1, slot 63
//!    timer at           0 ...    0        4        0   level 2, slot 4
//!    timer at           0 ...    7        1        9   level 3, slot 7
//! ```
//!
//! As time enters a slot above level 1, its timers are dealt out to the levels below, each at most
//! ten times in its life. Level 0 is one list: the timers that were armed for a tick already past.
//! What follows from the rule, and what the code relies on:
//!
//! * All timers of a level come after all timers of the levels below it. So the earliest slot is
//!   the lowest occupied one of the lowest occupied level: two bit scans find it, across any gap.
//! * The slot of a timer follows from its tick and the present one at any time, so it is not
//!   stored.
//! * Timers of one tick are always in one slot. So timers fire in the order of their ticks, and
//!   those of one tick in the order they were armed. Timers armed for the past fire before all
//!   others, in the order they were armed.
//!
//! Entries live in one `Vec` and are linked by index into circular lists; a freed entry is used
//! again first. When the last timer is gone, the memory of more than a thousand is given back. A
//! key carries the number of its arming, so a key kept beyond its timer's end finds nothing (unless
//! it is kept for exactly 2³² - 1 further armings).

use std::num::NonZeroU32;

/// Timers ordered by tick, each with a payload.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// Every timer for this tick or an earlier one has fired, or lies on level 0.
    present: u64,
    /// Which levels have timers.
    levels: u16,
    /// Which slots of each level have timers.
    occupied: [u64; LEVELS],
    /// The first timer of each slot.
    slots: [[Link; SLOTS]; LEVELS],
    entries: Vec<Entry<T>>,
    /// The first free entry.
    free: Link,
    armed: usize,
    next_generation: NonZeroU32,
}

/// Names one armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: NonZeroU32,
}

impl Key {
    /// The key as a number that is not zero.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.index)
    }

    /// The key that has become this number; `None` for one that no key becomes.
    pub(crate) fn from_bits(bits: u64) -> Option<Key> {
        Some(Key {
            index: bits as u32,
            generation: NonZeroU32::new((bits >> 32) as u32)?,
        })
    }
}

impl<T> Wheel<T> {
    /// An empty wheel whose present is `start_tick`.
    pub(crate) fn new(start_tick: u64) -> Wheel<T> {
        Wheel {
            present: start_tick,
            levels: 0,
            occupied: [0; LEVELS],
            slots: [[NONE; SLOTS]; LEVELS],
            entries: Vec::new(),
            free: NONE,
            armed: 0,
            next_generation: NonZeroU32::MIN,
        }
    }

    /// Arms a timer. One for the present tick or an earlier one fires at the next advance.
    #[inline]
    pub(crate) fn insert(&mut self, at: u64, payload: T) -> Key {
        let generation = self.next_generation;
        self.next_generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let entry = Entry {
            at,
            previous: NONE,
            next: NONE,
            generation: Some(generation),
            payload: Some(payload),
        };
        let index = self.free;
        let index = if index == NONE {
            self.entries.push(entry);
            link_to(self.entries.len() - 1)
        } else {
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            index
        };
        self.link(index);
        self.armed += 1;
        Key { index, generation }
    }

    /// Disarms a timer and returns its payload, or nothing if it has fired or was disarmed before.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != Some(key.generation) {
            return None;
        }
        let place = self.place(entry.at);
        self.unlink(key.index, place);
        self.release(key.index)
    }

    /// A tick at which advancing fires a timer or brings this answer forward; never later than the
    /// earliest timer.
    ///
    /// It is exact if the earliest timer is within 64 ticks or alone in its slot, and otherwise the
    /// tick at which time enters that slot.
    #[inline]
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let place = self.earliest()?;
        let first = self.slots[place.level][place.slot];
        let entry = &self.entries[first as usize];
        if place.level > 1 && entry.next == first {
            return Some(entry.at);
        }
        Some(self.entered_at(place))
    }

    /// Moves the present to `to` and fires what is due by then, in order; a tick before the present
    /// counts as the present.
    ///
    /// If `fired` panics, the timers it has not been given stay armed.
    pub(crate) fn advance(&mut self, to: u64, fired: &mut impl FnMut(T)) {
        while let Some(place) = self.earliest() {
            let start = self.entered_at(place);
            if start > to && place.level > 0 {
                break;
            }
            if place.level > 1 {
                self.deal_out(place, start);
                continue;
            }
            // The present follows only once the slot is empty: should `fired` panic, the timers
            // left in it are still where their ticks say.
            loop {
                let first = self.slots[place.level][place.slot];
                if first == NONE {
                    break;
                }
                self.unlink(first, place);
                if let Some(payload) = self.release(first) {
                    fired(payload);
                }
            }
            self.present = start;
        }
        self.present = self.present.max(to);
    }

    /// How many timers are armed.
    pub(crate) fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Moves the timers of a slot, which time enters at `start`, to the levels below.
    fn deal_out(&mut self, place: Place, start: u64) {
        let first = self.slots[place.level][place.slot];
        self.vacate(place);
        self.present = start;
        let mut index = first;
        loop {
            let next = self.entries[index as usize].next;
            self.link(index);
            if next == first {
                return;
            }
            index = next;
        }
    }

    /// Where a timer for the tick `at` lies.
    #[inline]
    fn place(&self, at: u64) -> Place {
        if at <= self.present {
            return Place { level: 0, slot: 0 };
        }
        let digit = (at ^ self.present).ilog2() / DIGIT_BITS;
        let slot = (at >> (digit * DIGIT_BITS)) as usize % SLOTS;
        Place {
            level: digit as usize + 1,
            slot,
        }
    }

    /// The occupied slot that time enters first.
    #[inline]
    fn earliest(&self) -> Option<Place> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.occupied[level].trailing_zeros() as usize;
        Some(Place { level, slot })
    }

    /// The first tick of an occupied slot.
    #[inline]
    fn entered_at(&self, place: Place) -> u64 {
        let Some(digit) = place.level.checked_sub(1) else {
            return self.present;
        };
        let shift = digit as u32 * DIGIT_BITS;
        let above = (self.present >> shift) & !(SLOTS as u64 - 1);
        (above | place.slot as u64) << shift
    }

    /// Appends an entry to the list of the slot where its tick belongs.
    #[inline]
    fn link(&mut self, index: Link) {
        let place = self.place(self.entries[index as usize].at);
        let first = self.slots[place.level][place.slot];
        if first == NONE {
            let entry = &mut self.entries[index as usize];
            (entry.previous, entry.next) = (index, index);
            self.slots[place.level][place.slot] = index;
            self.occupied[place.level] |= 1 << place.slot;
            self.levels |= 1 << place.level;
        } else {
            let last = self.entries[first as usize].previous;
            self.entries[last as usize].next = index;
            self.entries[first as usize].previous = index;
            let entry = &mut self.entries[index as usize];
            (entry.previous, entry.next) = (last, first);
        }
    }

    /// Takes an entry out of the list of its slot.
    #[inline]
    fn unlink(&mut self, index: Link, place: Place) {
        let Entry { previous, next, .. } = self.entries[index as usize];
        if next == index {
            self.vacate(place);
            return;
        }
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
        let first = &mut self.slots[place.level][place.slot];
        if *first == index {
            *first = next;
        }
    }

    #[inline]
    fn vacate(&mut self, place: Place) {
        self.slots[place.level][place.slot] = NONE;
        self.occupied[place.level] &= !(1 << place.slot);
        if self.occupied[place.level] == 0 {
            self.levels &= !(1 << place.level);
        }
    }

    /// Frees an entry that is in no list.
    #[inline]
    fn release(&mut self, index: Link) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        let payload = entry.payload.take();
        entry.generation = None;
        entry.next = self.free;
        self.free = index;
        self.armed -= 1;
        if self.armed == 0 && self.entries.len() > KEPT_ENTRIES {
            self.give_memory_back();
        }
        payload
    }

    #[cold]
    fn give_memory_back(&mut self) {
        self.entries = Vec::new();
        self.free = NONE;
    }
}

/// A timer, or a free entry: then it has neither generation nor payload, and `next` is the next
/// free one.
#[derive(Debug)]
struct Entry<T> {
    at: u64,
    previous: Link,
    next: Link,
    generation: Option<NonZeroU32>,
    payload: Option<T>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    level: usize,
    slot: usize,
}

/// The index of an entry, or [`NONE`].
type Link = u32;

const NONE: Link = Link::MAX;

#[inline]
fn link_to(index: usize) -> Link {
    match Link::try_from(index) {
        Ok(link) if link != NONE => link,
        _ => panic!("a timer wheel holds at most {NONE} timers"),
    }
}

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// One for the timers overdue, and one for each digit of a tick.
const LEVELS: usize = 1 + u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// An empty wheel keeps the memory of this many entries.
const KEPT_ENTRIES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;

    fn advanced<T>(wheel: &mut Wheel<T>, to: u64) -> Vec<T> {
        let mut fired = Vec::new();
        wheel.advance(to, &mut |payload| fired.push(payload));
        fired
    }

    #[test]
    fn a_timer_fires_at_its_tick_and_not_before() {
        for at in [1, 63, 64, 65, 4095, 4096, 1 << 30, u64::MAX] {
            let mut wheel = Wheel::new(0);
            wheel.insert(at, "late");
            assert_eq!(advanced(&mut wheel, at - 1), [""; 0], "tick {at}");
            assert_eq!(advanced(&mut wheel, at), ["late"], "tick {at}");
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn timers_fire_in_the_order_of_their_ticks_across_levels() {
        let ticks = [5_000_000, 3, u64::MAX, 64, 4096, 63, 1 << 40, 65];
        let mut wheel = Wheel::new(0);
        for at in ticks {
            wheel.insert(at, at);
        }
        let mut sorted = ticks;
        sorted.sort_unstable();
        assert_eq!(advanced(&mut wheel, u64::MAX), sorted);
    }

    #[test]
    fn timers_of_one_tick_fire_in_the_order_they_were_armed() {
        let mut wheel = Wheel::new(0);
        wheel.insert(10_000, 'a');
        wheel.insert(10_000, 'b');
        assert_eq!(advanced(&mut wheel, 9_990), []);
        wheel.insert(10_000, 'c');
        assert_eq!(advanced(&mut wheel, 10_000), ['a', 'b', 'c']);
    }

    #[test]
    fn a_timer_for_the_past_fires_at_the_next_advance_before_all_others() {
        let mut wheel = Wheel::new(100);
        wheel.insert(101, "next");
        wheel.insert(100, "present");
        wheel.insert(7, "past");
        assert_eq!(wheel.next_expiry(), Some(100));
        assert_eq!(advanced(&mut wheel, 100), ["present", "past"]);
        wheel.insert(3, "past again");
        assert_eq!(advanced(&mut wheel, 50), ["past again"]);
        assert_eq!(advanced(&mut wheel, 101), ["next"]);
    }

    #[test]
    fn a_disarmed_timer_gives_its_payload_back_once_and_never_fires() {
        let mut wheel = Wheel::new(0);
        let key = wheel.insert(500, "gone");
        wheel.insert(500, "stays");
        assert_eq!(wheel.remove(key), Some("gone"));
        assert_eq!(wheel.remove(key), None);
        assert_eq!(wheel.len(), 1);
        assert_eq!(advanced(&mut wheel, 500), ["stays"]);
    }

    #[test]
    fn a_key_of_a_fired_timer_does_not_name_its_successor() {
        let mut wheel = Wheel::new(0);
        let old = wheel.insert(1, "old");
        assert_eq!(advanced(&mut wheel, 1), ["old"]);
        let new = wheel.insert(2, "new");
        assert_eq!(old.index, new.index);
        assert_eq!(wheel.remove(old), None);
        assert_eq!(wheel.remove(new), Some("new"));
    }

    #[test]
    fn the_next_expiry_of_a_lone_timer_is_its_tick_however_far() {
        for at in [1, 100, 1 << 20, u64::MAX] {
            let mut wheel = Wheel::new(0);
            assert_eq!(wheel.next_expiry(), None);
            wheel.insert(at, ());
            assert_eq!(wheel.next_expiry(), Some(at));
        }
    }

    #[test]
    fn a_panic_while_firing_leaves_the_other_timers_armed() {
        let mut wheel = Wheel::new(0);
        for payload in 0..3 {
            wheel.insert(5, payload);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            wheel.advance(9, &mut |payload| assert_ne!(payload, 0))
        }));
        assert!(outcome.is_err());
        assert_eq!(advanced(&mut wheel, 9), [1, 2]);
    }

    #[test]
    fn the_memory_of_many_timers_is_given_back_with_the_last() {
        let mut wheel = Wheel::new(0);
        let stale = wheel.insert(1, 0);
        for at in 1..10_000 {
            wheel.insert(at, at);
        }
        assert_eq!(advanced(&mut wheel, 10_000).len(), 10_000);
        assert_eq!(wheel.entries.capacity(), 0);
        wheel.insert(20_000, 1);
        assert_eq!(wheel.remove(stale), None);
        assert_eq!(advanced(&mut wheel, 20_000), [1]);
    }

    #[test]
    fn an_entry_stays_within_half_a_cache_line() {
        assert_eq!(size_of::<Entry<std::ptr::NonNull<u8>>>(), 32);
        assert_eq!(size_of::<Option<Key>>(), 8);
    }

    #[test]
    #[ignore = "a million timers: seconds without optimisation"]
    fn a_million_timers_fire_in_order() {
        const TIMERS: u64 = 1_000_000;
        let mut wheel = Wheel::new(0);
        let mut keys = Vec::new();
        let mut random = 1_u64;
        for _ in 0..TIMERS {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (random >> 33) % 100_000_000;
            keys.push(wheel.insert(at, at));
        }
        for key in keys.iter().step_by(2) {
            assert!(wheel.remove(*key).is_some());
        }
        let mut now = 0;
        let mut fired = 0;
        let mut previous = 0;
        while let Some(next) = wheel.next_expiry() {
            assert!(next > now || now == 0);
            now = next;
            wheel.advance(now, &mut |at| {
                assert!(previous <= at && at <= now);
                previous = at;
                fired += 1;
            });
        }
        assert_eq!(fired, TIMERS / 2);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm { at: u64 },
        ArmAfter { delay: u64 },
        Disarm { key: prop::sample::Index },
        AdvanceBy { ticks: u64 },
        AdvanceToNext,
    }

    /// Numbers of every magnitude, ends included.
    fn any_magnitude() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32, -1..=1_i64).prop_flat_map(|(random, shift, off)| {
            prop_oneof![
                Just(random >> shift),
                Just((1_u64 << shift).wrapping_add_signed(off)),
                Just(u64::MAX),
                Just(0),
            ]
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => any_magnitude().prop_map(|at| Step::Arm { at }),
            4 => any_magnitude().prop_map(|delay| Step::ArmAfter { delay }),
            2 => any::<prop::sample::Index>().prop_map(|key| Step::Disarm { key }),
            2 => any_magnitude().prop_map(|ticks| Step::AdvanceBy { ticks }),
            2 => Just(Step::AdvanceToNext),
        ]
    }

    proptest! {
        /// The model: timers sorted by tick, then by arming; those armed for the past sort first.
        #[test]
        fn it_behaves_as_a_sorted_map(
            start in any_magnitude(),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut wheel = Wheel::new(start);
            let mut present = start;
            let mut model: BTreeMap<(u64, usize), ()> = BTreeMap::new();
            let mut keys: Vec<(Key, (u64, usize))> = Vec::new();
            for step in steps {
                let to = match step {
                    Step::Arm { .. } | Step::ArmAfter { .. } => {
                        let at = match step {
                            Step::Arm { at } => at,
                            Step::ArmAfter { delay } => present.saturating_add(delay),
                            _ => unreachable!("matched above"),
                        };
                        let sorted = (if at <= present { 0 } else { at }, keys.len());
                        keys.push((wheel.insert(at, sorted), sorted));
                        model.insert(sorted, ());
                        None
                    }
                    Step::Disarm { key } => {
                        if !keys.is_empty() {
                            let (key, sorted) = keys[key.index(keys.len())];
                            let expected = model.remove(&sorted).map(|()| sorted);
                            prop_assert_eq!(wheel.remove(key), expected);
                        }
                        None
                    }
                    Step::AdvanceBy { ticks } => Some(present.saturating_add(ticks)),
                    Step::AdvanceToNext => wheel.next_expiry(),
                };
                if let Some(to) = to {
                    let fired = advanced(&mut wheel, to);
                    let later = model.split_off(&(to.saturating_add(1), 0));
                    let mut due: Vec<_> = model.into_keys().collect();
                    model = later;
                    if to == u64::MAX {
                        due.extend(std::mem::take(&mut model).into_keys());
                    }
                    present = to;
                    let nothing_fired = fired.is_empty();
                    prop_assert_eq!(fired, due);
                    if nothing_fired {
                        prop_assert!(wheel.next_expiry().is_none_or(|next| next > to));
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let earliest = model.keys().next().map(|(tick, _)| (*tick).max(present));
                match (wheel.next_expiry(), earliest) {
                    (None, None) => {}
                    (Some(next), Some(earliest)) => {
                        prop_assert!(present <= next && next <= earliest);
                    }
                    (next, earliest) => prop_assert!(false, "{next:?} for {earliest:?}"),
                }
            }
        }
    }
}
