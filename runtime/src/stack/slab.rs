//! The slots of one runtime: carved from large mappings, guarded once, shared by all workers.
//!
//! Each size class has its own mutex, its regions and two lists of free slots: *warm* ones, whose
//! touched pages are still backed, and *cold* ones, whose memory was given back. Slots are lent and
//! taken back in batches by the workers' pools, so the mutex is off the path of a single coroutine.
//! Warm slots become cold past a watermark, and when they went unused for long.
//!
//! Regions grow fourfold, from 64 slots to 40,960 or 10 GiB: a small program reserves little, and a
//! million stacks of 256 KiB lie in about thirty mappings. Where address space is rationed and a
//! region is refused, smaller ones are tried, down to a single slot.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::stack::census::{Census, StackStats};
use crate::stack::{GuardKind, OWNERS, SizeClass, Stack, StackError, StackLimits};
use crate::sys::{
    fenced, later,
    memory::{self, Mapping, Slot},
    overflow::Watch,
};

/// All stacks of one runtime.
///
/// When it is dropped, the regions whose stacks all came back are unmapped; others are kept, since a
/// coroutine may still be suspended there.
#[derive(Debug)]
pub(crate) struct Slabs {
    /// Marks its stacks, to catch one returned to other slabs.
    id: u8,
    default_class: SizeClass,
    guard: GuardKind,
    warm: Option<usize>,
    /// When unused warm stacks are looked for next, in milliseconds of the workers' coarse clock.
    shrink_due: AtomicU64,
    census: Census,
    classes: [Mutex<Class>; SizeClass::COUNT],
}

impl Slabs {
    /// Slabs without memory yet. Fails if the default size or the choice of guards cannot be had.
    pub(crate) fn new(limits: StackLimits) -> Result<Arc<Slabs>, StackError> {
        static NEXT_ID: AtomicU8 = AtomicU8::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed) % OWNERS;
        let guard = GuardKind::resolve(limits.guard)?;
        Ok(Arc::new(Slabs {
            id,
            default_class: SizeClass::for_size(limits.default_size)?,
            guard,
            warm: limits.warm,
            shrink_due: AtomicU64::new(0),
            census: Census::new(limits.max_stacks),
            classes: SizeClass::ALL.map(|class| Mutex::new(Class::new(class, id, guard))),
        }))
    }

    /// The class of a stack whose coroutine asks for no size of its own.
    pub(crate) fn default_class(&self) -> SizeClass {
        self.default_class
    }

    /// How stacks are guarded.
    pub(crate) fn guard(&self) -> GuardKind {
        self.guard
    }

    /// How many stacks there are, where.
    pub(crate) fn stats(&self) -> StackStats {
        let (trimmed, trimmed_bytes) = self.census.trimmed_so_far();
        let mut stats = StackStats {
            trimmed,
            trimmed_bytes,
            live: self.census.live(),
            high_water: self.census.high_water(),
            refused: self.census.refused(),
            ..StackStats::default()
        };
        for class in &self.classes {
            let class = lock(class);
            stats.warm += class.warm.len();
            stats.cold += class.cold.len();
            stats.regions += class.regions.len();
            stats.mapped += class
                .regions
                .iter()
                .map(|region| region.mapping.length())
                .sum::<usize>();
        }
        stats
    }

    /// One stack, for a thread that has no pool.
    pub(crate) fn acquire(&self, class: SizeClass) -> io::Result<Stack> {
        let mut stacks = Vec::with_capacity(1);
        self.lend(class, 1, &mut stacks)?;
        Ok(stacks.pop().expect("at least one stack was lent"))
    }

    /// One stack outside the limit and the counts; comes back by [`Slabs::take_back_uncounted`], or another in
    /// its place.
    pub(super) fn lend_uncounted(&self, class: SizeClass) -> Result<Stack, StackError> {
        let mut stacks = Vec::with_capacity(1);
        lock(&self.classes[class.index()]).take(1, &mut stacks)?;
        Ok(stacks.pop().expect("one stack was taken"))
    }

    pub(super) fn take_back_uncounted(&self, stack: Stack) {
        let mut stack = [stack];
        discard(&mut stack);
        let [stack] = stack;
        lock(&self.classes[stack.class().index()]).cold.push(stack);
    }

    /// The most stacks that may be lent at once.
    pub(super) fn limit(&self) -> usize {
        self.census.limit()
    }

    /// Appends at least one and at most `wanted` stacks to `stacks`, the warmest last.
    pub(super) fn lend(
        &self,
        class: SizeClass,
        wanted: usize,
        stacks: &mut Vec<Stack>,
    ) -> Result<(), StackError> {
        let granted = self.census.lend(wanted);
        if granted == 0 {
            return Err(StackError::TooMany {
                limit: self.census.limit(),
            });
        }
        let before = stacks.len();
        let outcome = lock(&self.classes[class.index()]).take(granted, stacks);
        let taken = stacks.len() - before;
        self.census.take_back(granted - taken);
        if self.guard == GuardKind::Mprotect {
            warn_near_mapping_limit();
        }
        match outcome {
            Err(error) if taken == 0 => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes back stacks of one class, on which nothing lives any more.
    ///
    /// Past the watermark of warm slots their memory goes back to the kernel, outside the lock.
    pub(super) fn take_back(&self, class: SizeClass, stacks: impl ExactSizeIterator<Item = Stack>) {
        let count = stacks.len();
        let mut stacks = stacks.inspect(|stack| {
            assert!(
                stack.owner() == self.id && stack.class() == class,
                "{stack:?} returned to a slab that is not its own"
            );
        });
        let mut free = lock(&self.classes[class.index()]);
        let watermark = self.warm.unwrap_or_else(|| warm_limit(class));
        let room = watermark.saturating_sub(free.warm.len());
        free.warm.extend(stacks.by_ref().take(room));
        drop(free);

        let mut excess: Vec<Stack> = stacks.collect();
        if !excess.is_empty() {
            discard(&mut excess);
            lock(&self.classes[class.index()]).cold.append(&mut excess);
        }
        self.census.take_back(count);
    }

    /// Gives back the memory of warm stacks that nobody needed for `patience`, at most `batch` of each size
    /// at a time; when to come again, or `None` once there are no warm ones.
    pub(crate) fn shrink(
        &self,
        now: Duration,
        patience: Duration,
        batch: usize,
    ) -> Option<Duration> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = self.shrink_due.load(Ordering::Relaxed);
        // Of several workers one is first. The time guards nothing: the lists have their locks.
        let first = millis(now) >= due
            && self
                .shrink_due
                .compare_exchange(
                    due,
                    millis(now + patience),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if first && self.discard_unused(batch) {
            self.shrink_due.store(millis(now), Ordering::Relaxed);
            return Some(now);
        }
        let warm = self.classes.iter().any(|class| {
            let mut free = lock(class);
            if first {
                free.least_warm = free.warm.len();
            }
            !free.warm.is_empty()
        });
        let due = self.shrink_due.load(Ordering::Relaxed);
        warm.then_some(Duration::from_millis(due))
    }

    /// Gives back the memory of unused warm stacks, at most `batch` of each size; whether there are more.
    fn discard_unused(&self, batch: usize) -> bool {
        let mut more = false;
        for class in &self.classes {
            let mut free = lock(class);
            let mut unused = free.take_unused(batch);
            more |= free.least_warm > 0;
            drop(free);
            if !unused.is_empty() {
                discard(&mut unused);
                lock(class).cold.append(&mut unused);
            }
        }
        more
    }

    /// Counts a coroutine that could not begin for want of a stack.
    pub(crate) fn count_refused(&self) {
        self.census.count_refused();
    }

    /// Counts suspended stacks that gave back so many bytes in all.
    pub(crate) fn trimmed(&self, stacks: usize, bytes: usize) {
        self.census.trimmed(stacks, bytes);
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        for class in &mut self.classes {
            let class = class.get_mut().unwrap_or_else(PoisonError::into_inner);
            for stack in class.warm.drain(..).chain(class.cold.drain(..)) {
                let mut regions = class.regions.iter_mut().rev();
                if let Some(region) = regions.find(|it| it.mapping.holds(&stack.0)) {
                    region.mapping.take_back(stack.0);
                }
            }
            for region in class.regions.drain(..) {
                if !region.mapping.is_whole() {
                    continue;
                }
                if self.guard == GuardKind::Mprotect {
                    PROTECTED.fetch_sub(region.carved, Ordering::Relaxed);
                }
                region.watch.end();
                if let Err(error) = region.mapping.unmap() {
                    fenced::tell!(
                        warn,
                        "unmap coroutine stacks: {error}; their address space stays reserved"
                    );
                }
            }
        }
    }
}

/// The slots of one size.
#[derive(Debug)]
struct Class {
    class: SizeClass,
    owner: u8,
    guard: GuardKind,
    regions: Vec<Region>,
    warm: Vec<Stack>,
    cold: Vec<Stack>,
    /// The fewest warm stacks there have been since the last look: so many went unused, and they are the
    /// lowest in the list.
    least_warm: usize,
}

impl Class {
    fn new(class: SizeClass, owner: u8, guard: GuardKind) -> Class {
        Class {
            class,
            owner,
            guard,
            regions: Vec::new(),
            warm: Vec::new(),
            cold: Vec::new(),
            least_warm: 0,
        }
    }

    /// Moves `wanted` stacks to `stacks`: cold ones first, so that warm ones are on top and used
    /// before them. Stacks that were moved before an error stay moved.
    fn take(&mut self, wanted: usize, stacks: &mut Vec<Stack>) -> Result<(), StackError> {
        let warm = wanted.min(self.warm.len());
        let cold = (wanted - warm).min(self.cold.len());
        let outcome = (warm + cold..wanted).try_for_each(|_| {
            stacks.push(self.carve()?);
            Ok(())
        });
        stacks.extend(self.cold.drain(self.cold.len() - cold..));
        stacks.extend(self.warm.drain(self.warm.len() - warm..));
        self.least_warm = self.least_warm.min(self.warm.len());
        outcome
    }

    /// Removes warm stacks that went unused, `most` of them.
    fn take_unused(&mut self, most: usize) -> Vec<Stack> {
        let count = self.least_warm.min(most);
        self.least_warm -= count;
        self.warm.drain(..count).collect()
    }

    /// Makes the stack of a slot that was never used, guard and all.
    fn carve(&mut self) -> Result<Stack, StackError> {
        if self
            .regions
            .last()
            .is_none_or(|last| last.carved == last.slots)
        {
            self.regions
                .push(Region::reserve(self.class, self.regions.len())?);
        }
        let region = self
            .regions
            .last_mut()
            .expect("a region with room was found or made");
        let slot = region.mapping.carve(self.class.size(), self.owner);
        let mut stack = Stack(slot.expect("a region has room for as many slots as it says"));
        match guard(&mut stack.0, self.guard) {
            Ok(()) => {
                region.carved += 1;
                Ok(stack)
            }
            Err(error) => {
                region.mapping.take_back(stack.0);
                Err(error)
            }
        }
    }
}

/// One mapping, cut into slots from its lowest address up.
#[derive(Debug)]
struct Region {
    mapping: Mapping,
    watch: Watch,
    slots: usize,
    carved: usize,
}

impl Region {
    /// Reserves the region that follows `earlier` ones of its class.
    fn reserve(class: SizeClass, earlier: usize) -> Result<Region, StackError> {
        let growth = 1 << (2 * earlier.min(8));
        let mut slots = (FIRST_REGION_SLOTS * growth)
            .min(MAX_REGION_SLOTS)
            .min(MAX_REGION_BYTES / class.size());
        loop {
            match Mapping::reserve(slots * class.size()) {
                Ok(mapping) => {
                    let watch = Watch::begin(&mapping, class.size());
                    return Ok(Region {
                        mapping,
                        watch,
                        slots,
                        carved: 0,
                    });
                }
                Err(source) if slots == 1 => {
                    return Err(StackError::Reserve {
                        size: class.size(),
                        source,
                    });
                }
                Err(_) => slots /= 2,
            }
        }
    }
}

/// Guards the lowest page, unless there are to be no guards.
fn guard(slot: &mut Slot, kind: GuardKind) -> Result<(), StackError> {
    match kind {
        GuardKind::None => Ok(()),
        GuardKind::Madvise => slot
            .guard_lowest()
            .map_err(|source| StackError::GuardRegion { source }),
        GuardKind::Mprotect => {
            slot.protect_lowest()
                .map_err(|source| StackError::GuardPage {
                    max_map_count: max_map_count(),
                    source,
                })?;
            PROTECTED.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
}

/// Gives back the memory of free stacks, neighbours joined, all in one call.
///
/// The whole slot goes, its top page too. Sparing that page would save a page fault (1.4 µs) when
/// the slot is used again, but it would spare most of the memory there is to give back, for most
/// stacks touch little else; and joined neighbours are given back, guards and all, for a tenth of
/// what each costs alone while another processor runs the process (1 µs against 12).
fn discard(stacks: &mut [Stack]) {
    stacks.sort_unstable_by_key(Stack::limit);
    // Should the kernel refuse, they keep their memory and work as before.
    let _ = memory::empty(stacks.iter_mut().map(|stack| &mut stack.0));
}

/// How many free slots of a class keep their memory: 4,096, or fewer if they span more than 1 GiB.
fn warm_limit(class: SizeClass) -> usize {
    (MAX_WARM_BYTES / class.size()).min(MAX_WARM_STACKS)
}

/// Warns once per process when guards by `mprotect` have used up four fifths of the mappings the
/// kernel allows. Later, since the caller has a worker's stacks in hand.
fn warn_near_mapping_limit() {
    static MOST: OnceLock<usize> = OnceLock::new();
    static WARNED: AtomicBool = AtomicBool::new(false);
    let most = *MOST.get_or_init(|| max_map_count() / 2);
    let stacks = PROTECTED.load(Ordering::Relaxed);
    if stacks > most / 5 * 4 && !WARNED.swap(true, Ordering::Relaxed) {
        let line = format!(
            "{stacks} coroutine stacks are guarded by mprotect, at two mappings each; \
             vm.max_map_count ends this at about {most}. Raise it with \
             `sysctl -w vm.max_map_count=N`, or run Linux 6.13 or later"
        );
        later::say(log::Level::Warn, line);
    }
}

/// `vm.max_map_count` as it is now, or the kernel's default where it cannot be read.
fn max_map_count() -> usize {
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_530)
}

/// A panic under the lock leaves every list whole, so a poisoned one is as good as any.
fn lock(class: &Mutex<Class>) -> MutexGuard<'_, Class> {
    class.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stacks of the process that are guarded by `mprotect`: the limit on mappings is the process's,
/// not a runtime's.
static PROTECTED: AtomicUsize = AtomicUsize::new(0);

const FIRST_REGION_SLOTS: usize = 64;
const MAX_REGION_SLOTS: usize = 40_960;
const MAX_REGION_BYTES: usize = 10 << 30;
const MAX_WARM_BYTES: usize = 1 << 30;
const MAX_WARM_STACKS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Guarding, StackGuard, child};
    use crate::sys::memory::NoOverflow;

    fn limits(max_stacks: usize, guard: StackGuard) -> StackLimits {
        StackLimits {
            default_size: 256 << 10,
            max_stacks,
            guard: Guarding::By(guard),
            warm: None,
        }
    }

    /// Slabs for each kind of guard that this kernel has.
    fn each_kind() -> impl Iterator<Item = Arc<Slabs>> {
        [StackGuard::Madvise, StackGuard::Mprotect]
            .into_iter()
            .filter(|guard| *guard == StackGuard::Mprotect || memory::has_guard_regions())
            .map(|guard| Slabs::new(limits(usize::MAX, guard)).unwrap())
    }

    fn lend(slabs: &Slabs, count: usize) -> Vec<Stack> {
        let mut stacks = Vec::new();
        slabs
            .lend(slabs.default_class(), count, &mut stacks)
            .unwrap();
        assert_eq!(stacks.len(), count);
        stacks
    }

    fn take_back(slabs: &Slabs, stacks: Vec<Stack>) {
        slabs.take_back(slabs.default_class(), stacks.into_iter());
    }

    fn touch(stack: &Stack) {
        let top = stack.base().get() - size_of::<u64>();
        // SAFETY: the word is the stack's topmost, and nothing else uses the stack.
        unsafe { std::ptr::with_exposed_provenance_mut::<u64>(top).write_volatile(1) };
    }

    fn resident(stack: &Stack) -> usize {
        memory::resident(stack.limit().get()..stack.base().get()).unwrap()
    }

    #[test]
    fn slots_do_not_overlap_and_each_has_its_guard() {
        for slabs in each_kind() {
            let mut stacks = lend(&slabs, 500);
            stacks.sort_unstable_by_key(Stack::limit);
            for pair in stacks.windows(2) {
                assert!(pair[0].base() <= pair[1].limit());
            }
            for stack in &stacks {
                assert_eq!(stack.base().get() % 16, 0);
                assert_eq!(stack.base().get() - stack.limit().get(), 256 << 10);
                assert_eq!(stack.usable(), (256 << 10) - memory::page_size());
                let page = memory::page_size();
                assert!(
                    !memory::is_readable(stack.limit().get()),
                    "{:?}",
                    slabs.guard()
                );
                assert!(!memory::is_readable(stack.limit().get() + page - 1));
                assert!(memory::is_readable(stack.limit().get() + page));
                assert!(memory::is_readable(stack.base().get() - 1));
            }
            take_back(&slabs, stacks);
        }
    }

    #[test]
    fn the_slot_taken_back_last_is_lent_first() {
        let slabs = each_kind().next().unwrap();
        let mut stacks = lend(&slabs, 2);
        let (last, first) = (stacks.pop().unwrap(), stacks.pop().unwrap());
        let address = last.limit();
        take_back(&slabs, vec![first]);
        take_back(&slabs, vec![last]);
        let again = lend(&slabs, 1);
        assert_eq!(again[0].limit(), address);
        take_back(&slabs, again);
    }

    #[test]
    fn without_guards_the_lowest_page_is_as_any_other() {
        let slabs = Slabs::new(StackLimits {
            // SAFETY: nothing runs on these.
            guard: Guarding::NotAtAll(unsafe { NoOverflow::promised() }),
            ..limits(1, StackGuard::Auto)
        })
        .unwrap();
        assert_eq!(slabs.guard(), GuardKind::None);
        let stacks = lend(&slabs, 1);
        assert!(memory::is_readable(stacks[0].limit().get()));
        take_back(&slabs, stacks);
    }

    #[test]
    fn past_the_watermark_memory_is_given_back_and_guards_stay() {
        for slabs in each_kind() {
            let watermark = warm_limit(slabs.default_class());
            let stacks = lend(&slabs, watermark + 100);
            stacks.iter().for_each(touch);
            take_back(&slabs, stacks);
            let stats = slabs.stats();
            assert_eq!((stats.live, stats.warm, stats.cold), (0, watermark, 100));

            let stacks = lend(&slabs, watermark + 100);
            assert_eq!(slabs.stats().regions, stats.regions);
            let (warm, cold): (Vec<_>, Vec<_>) =
                stacks.iter().partition(|stack| resident(stack) > 0);
            assert_eq!((warm.len(), cold.len()), (watermark, 100));
            for stack in cold {
                assert!(
                    !memory::is_readable(stack.limit().get()),
                    "{:?}",
                    slabs.guard()
                );
                touch(stack);
            }
            take_back(&slabs, stacks);
        }
    }

    #[test]
    fn warm_stacks_that_went_unused_give_back_their_memory_and_others_do_not() {
        const PATIENCE: Duration = Duration::from_secs(60);
        for slabs in each_kind() {
            let at = |minutes| PATIENCE * minutes;
            let look = |minutes| {
                let mut due = slabs.shrink(at(minutes), PATIENCE, 16);
                while due == Some(at(minutes)) {
                    due = slabs.shrink(at(minutes), PATIENCE, 16);
                }
                let stats = slabs.stats();
                (due.is_some(), stats.warm, stats.cold)
            };
            let stacks = lend(&slabs, 100);
            stacks.iter().for_each(touch);
            assert_eq!(look(1), (false, 0, 0));
            take_back(&slabs, stacks);
            assert_eq!(look(2), (true, 100, 0), "they were in use since");
            take_back(&slabs, lend(&slabs, 30));
            assert_eq!(slabs.shrink(at(2), PATIENCE, 16), Some(at(3)), "not yet");
            assert_eq!(look(3), (true, 30, 70));
            let stacks = lend(&slabs, 31);
            let (warm, cold): (Vec<_>, Vec<_>) =
                stacks.iter().partition(|stack| resident(stack) > 0);
            assert_eq!((warm.len(), cold.len()), (30, 1));
            take_back(&slabs, stacks);
            assert_eq!(look(4), (true, 31, 69));
            assert_eq!(look(5), (false, 0, 100));
        }
    }

    #[test]
    fn a_watermark_of_ones_own_holds() {
        let slabs = Slabs::new(StackLimits {
            warm: Some(3),
            ..limits(usize::MAX, StackGuard::Auto)
        })
        .unwrap();
        take_back(&slabs, lend(&slabs, 10));
        assert_eq!((slabs.stats().warm, slabs.stats().cold), (3, 7));
    }

    #[test]
    fn a_hundred_thousand_stacks_fit_in_a_few_mappings() {
        if !memory::has_guard_regions() {
            return;
        }
        // In a process of its own, where no other test maps memory meanwhile.
        let test = "a_hundred_thousand_stacks_fit_in_a_few_mappings";
        child::run(module_path!(), test, || {
            let mappings = || {
                fs::read_to_string("/proc/self/maps")
                    .unwrap()
                    .lines()
                    .count()
            };
            let before = mappings();
            let slabs = Slabs::new(limits(100_000, StackGuard::Auto)).unwrap();
            let stacks = lend(&slabs, 100_000);
            stacks.iter().for_each(touch);
            assert!(
                stacks
                    .iter()
                    .all(|stack| resident(stack) == memory::page_size())
            );
            let stats = slabs.stats();
            assert_eq!(
                (stats.live, stats.high_water, stats.regions),
                (100_000, 100_000, 7)
            );
            assert!(
                mappings() <= before + 16,
                "{before} before, {} after",
                mappings()
            );
            take_back(&slabs, stacks);
        })
        .by_exit(0);
    }

    #[test]
    fn the_limit_is_an_error_that_names_itself() {
        let slabs = Slabs::new(limits(3, StackGuard::Auto)).unwrap();
        let stacks = lend(&slabs, 3);
        let error = slabs.acquire(slabs.default_class()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        let text = error.to_string();
        assert!(
            text.contains("limit of 3 stacks") && text.contains("max_coroutines"),
            "{text}"
        );
        take_back(&slabs, stacks);
        take_back(&slabs, lend(&slabs, 3));
    }

    #[test]
    fn regions_are_unmapped_with_their_slabs_unless_a_stack_is_out() {
        // In a process of its own, where no other test maps the same addresses again.
        let test = "regions_are_unmapped_with_their_slabs_unless_a_stack_is_out";
        child::run(module_path!(), test, || {
            for keep_one in [false, true] {
                let slabs = each_kind().next().unwrap();
                let mut stacks = lend(&slabs, 10);
                let kept = keep_one.then(|| stacks.remove(0));
                let range = stacks[0].limit().get()..stacks[0].base().get();
                take_back(&slabs, stacks);
                drop(slabs);
                assert_eq!(memory::resident(range).is_ok(), keep_one);
                if let Some(stack) = kept {
                    touch(&stack);
                }
            }
        })
        .by_exit(0);
    }

    #[test]
    #[should_panic(expected = "not its own")]
    fn a_stack_is_not_taken_for_another_runtimes() {
        let limits = limits(usize::MAX, StackGuard::Auto);
        let (ours, other) = (Slabs::new(limits).unwrap(), Slabs::new(limits).unwrap());
        take_back(&other, lend(&ours, 1));
    }

    #[test]
    fn where_address_space_is_rationed_smaller_regions_serve_until_the_error() {
        let ended = child::run(
            module_path!(),
            "where_address_space_is_rationed_smaller_regions_serve_until_the_error",
            || {
                let slabs = Slabs::new(limits(usize::MAX, StackGuard::Auto)).unwrap();
                let status = fs::read_to_string("/proc/self/statm").unwrap();
                let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
                let room = pages * memory::page_size() as u64 + (5 << 20);
                let limit = libc::rlimit {
                    rlim_cur: room,
                    rlim_max: room,
                };
                // SAFETY: sets a limit of this process from a valid structure.
                assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
                let mut stacks = Vec::with_capacity(64);
                let refused = loop {
                    if let Err(error) = slabs.lend(slabs.default_class(), 1, &mut stacks) {
                        break io::Error::from(error);
                    }
                };
                eprintln!("{} stacks, {:?}: {refused}", stacks.len(), refused.kind());
                take_back(&slabs, stacks);
            },
        );
        let text = ended.by_exit(0);
        let stacks: usize = text.split(' ').next().unwrap().parse().unwrap();
        assert!((10..=20).contains(&stacks), "{text}");
        assert!(text.contains("OutOfMemory: reserve 262144 bytes"), "{text}");
        assert!(text.contains("ulimit -v"), "{text}");
    }

    #[test]
    fn mprotect_guards_warn_near_the_limit_on_mappings_and_name_it_at_the_end() {
        struct ToStderr;
        impl log::Log for ToStderr {
            fn enabled(&self, _: &log::Metadata<'_>) -> bool {
                true
            }
            fn log(&self, record: &log::Record<'_>) {
                eprintln!("{}: {}", record.level(), record.args());
            }
            fn flush(&self) {}
        }

        let most = max_map_count() / 2;
        if most > 1 << 20 {
            return;
        }
        let ended = child::run(
            module_path!(),
            "mprotect_guards_warn_near_the_limit_on_mappings_and_name_it_at_the_end",
            || {
                log::set_logger(&ToStderr).unwrap();
                log::set_max_level(log::LevelFilter::Warn);
                let most = max_map_count() / 2;
                let slabs = Slabs::new(limits(usize::MAX, StackGuard::Mprotect)).unwrap();
                let class = SizeClass::for_size(1).unwrap();
                let mut stacks = Vec::with_capacity(most + 1);
                let refused = loop {
                    if let Err(error) = slabs.lend(class, 32, &mut stacks) {
                        break io::Error::from(error);
                    }
                    // As a worker would.
                    if later::take_on() {
                        later::say_all();
                    }
                };
                eprintln!("{:?}: {refused}", refused.kind());
                assert!(
                    stacks.len() > most - 1000 && stacks.len() <= most,
                    "{} stacks",
                    stacks.len()
                );
                // At the limit even unmapping may fail, for it can split a mapping.
                std::process::exit(0);
            },
        );
        let text = ended.by_exit(0);
        assert_eq!(text.matches("WARN").count(), 1, "{text}");
        assert!(
            text.contains("OutOfMemory: install a stack guard by mprotect"),
            "{text}"
        );
        assert!(
            text.contains(&format!("allows {} in all", max_map_count())),
            "{text}"
        );
    }
}
