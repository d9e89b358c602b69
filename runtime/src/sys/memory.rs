//! Memory from the kernel: address space, guard pages, giving pages back, and telling what of it was used.
//!
//! Everything here deals in addresses, not pointers. A [`Mapping`] exposes its provenance once,
//! when it is made, so that a stack pointer set up from one of its addresses is a valid pointer.
//!
//! # Who may do what
//!
//! A mapping, and each [`Slot`] that was carved from it, is its owner's alone: nobody else may use its addresses. So an
//! owner may guard it, empty it and give it back without a promise. Who puts something there, or has others do so,
//! makes a pointer from an address, which is unsafe; the promise is made there, and is to keep what owns the memory for
//! as long. What is done with a stack on which something is suspended is in [`Resting`], whose making is the promise.

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::thread::{MembarrierCommand, membarrier};

/// The size of a page, the unit of guarding and of giving back.
#[inline]
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// The promise that no coroutine needs more than its stack's size, with which stacks may be without guards: see
/// [`Builder::without_stack_guards`](crate::runtime::Builder::without_stack_guards).
#[derive(Clone, Copy, Debug)]
pub struct NoOverflow(());

impl NoOverflow {
    /// Makes the promise.
    ///
    /// # Safety
    /// No coroutine of a runtime that is built with it may ever need more than its stack's size: one that does
    /// overwrites what lies below, such as the stack of another, unnoticed. No test can show this for any input;
    /// hence this is for experiments only.
    #[must_use]
    pub const unsafe fn promised() -> Self {
        Self(())
    }
}

/// A range of private anonymous memory, backed by the kernel page by page as it is touched.
///
/// Dropping it keeps the range mapped, because stacks may still be suspended in it: see
/// [`Mapping::unmap`].
#[derive(Debug)]
pub(crate) struct Mapping {
    pages: Pages,
    /// How much of it was carved into slots, from the lowest address up.
    carved: usize,
    /// How many of those have not come back.
    out: usize,
}

impl Mapping {
    /// Reserves `length` bytes of address space, a multiple of the page size.
    ///
    /// `MAP_NORESERVE` keeps a large reservation out of the overcommit account. Huge pages are
    /// refused: where the system uses them always, they would make the first touched byte of a stack
    /// without a guard in the same 2 MiB cost as much, which is any stack of 4 MiB or more. Since Linux 6.7
    /// `MAP_STACK` refuses them too.
    pub(crate) fn reserve(length: usize) -> io::Result<Mapping> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        // SAFETY: without an address the kernel picks a range that nothing else uses.
        let memory = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )?
        };
        // SAFETY: the range is ours and empty. A kernel built without huge pages refuses with
        // EINVAL, and then there is nothing to refuse.
        let _ = unsafe { mm::madvise(memory, length, Advice::LinuxNoHugepage) };
        let start = NonZeroUsize::new(memory.expose_provenance())
            .ok_or_else(|| io::Error::other("the kernel mapped memory at address zero"))?;
        Ok(Mapping {
            pages: Pages { start, length },
            carved: 0,
            out: 0,
        })
    }

    /// Reserves like [`Mapping::reserve`]; every access to the lowest page faults.
    pub(crate) fn reserve_guarded(length: usize) -> io::Result<Mapping> {
        let mut mapping = Self::reserve(length)?;
        match mapping.pages.protect_lowest() {
            Ok(()) => Ok(mapping),
            Err(error) => {
                let _ = mapping.unmap();
                Err(error)
            }
        }
    }

    /// The lowest address.
    #[inline]
    pub(crate) fn start(&self) -> NonZeroUsize {
        self.pages.start
    }

    /// The length in bytes.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.pages.length
    }

    /// The next slot of a size, a power of two and whole pages, and marked with a number below 128; `None` if there is
    /// no room for it.
    pub(crate) fn carve(&mut self, size: usize, mark: u8) -> Option<Slot> {
        assert!(size.is_power_of_two() && size.is_multiple_of(page_size()) && mark < MARKS);
        let start = self.pages.start.saturating_add(self.carved);
        if self.pages.length - self.carved < size {
            return None;
        }
        self.carved += size;
        self.out += 1;
        let low_bits = size.trailing_zeros() as usize | usize::from(mark) << SIZE_BITS;
        Some(Slot(start | low_bits))
    }

    /// Whether the slot was carved from this one.
    pub(crate) fn holds(&self, slot: &Slot) -> bool {
        self.pages.range().contains(&slot.start().get())
    }

    /// Ends a slot that was carved from this one. The one that was carved last is then carved again.
    pub(crate) fn take_back(&mut self, mut slot: Slot) {
        assert!(self.holds(&slot), "{slot:?} is of another mapping");
        self.out -= 1;
        let range = slot.pages().range();
        if range.end == self.start().get() + self.carved {
            self.carved -= range.len();
        }
    }

    /// Whether no slot is out.
    pub(crate) fn is_whole(&self) -> bool {
        self.out == 0
    }

    /// Gives the whole range back to the kernel. To be called when no slot is out.
    pub(crate) fn unmap(self) -> io::Result<()> {
        assert!(self.is_whole(), "somebody has a part of what is unmapped");
        let Pages { start, length } = self.pages;
        // SAFETY: we mapped exactly this range, which is ours alone: all that was carved from it is back.
        unsafe { mm::munmap(pointer(start.get()), length)? };
        Ok(())
    }
}

/// A part of a mapping, and the right to do with it what one wants. One that is dropped stays mapped for good.
///
/// It is one word, so that it travels in a register: it begins at a page, which leaves the low bits of its lowest
/// address free for its size, as a power of two, and for a mark.
#[derive(Debug)]
#[must_use = "a slot that does not come back keeps its mapping"]
pub(crate) struct Slot(NonZeroUsize);

/// No page is smaller than 4 KiB.
const LOW_BITS: usize = (4 << 10) - 1;
const SIZE_BITS: u32 = 5;
const MARKS: u8 = 128;

impl Slot {
    /// The lowest address.
    #[inline]
    pub(crate) fn start(&self) -> NonZeroUsize {
        // The high bits are an address that is not zero, so this never falls back.
        NonZeroUsize::new(self.0.get() & !LOW_BITS).unwrap_or(self.0)
    }

    /// The size in bytes, as a power of two.
    #[inline]
    pub(crate) fn size_log2(&self) -> u32 {
        (self.0.get() & ((1 << SIZE_BITS) - 1)) as u32
    }

    #[inline]
    pub(crate) fn mark(&self) -> u8 {
        ((self.0.get() & LOW_BITS) >> SIZE_BITS) as u8
    }

    /// Makes every access to the lowest page fault, without splitting the mapping it lies in. What was there is lost.
    ///
    /// The guard survives [`empty`] and lasts until the range is unmapped.
    pub(crate) fn guard_lowest(&mut self) -> io::Result<()> {
        self.pages().guard_lowest()
    }

    /// Makes every access to the lowest page fault by taking its access rights, which splits the mapping it lies in.
    pub(crate) fn protect_lowest(&mut self) -> io::Result<()> {
        self.pages().protect_lowest()
    }

    fn pages(&mut self) -> Pages {
        Pages {
            start: self.start(),
            length: 1 << self.size_log2(),
        }
    }
}

/// Gives the memory of slots back to the kernel, neighbours in one piece: what was there is lost, the addresses stay.
pub(crate) fn empty<'a>(slots: impl Iterator<Item = &'a mut Slot>) -> io::Result<()> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for slot in slots {
        let range = slot.pages().range();
        match runs.last_mut() {
            Some(run) if run.end == range.start => run.end = range.end,
            _ => runs.push(range),
        }
    }
    // SAFETY: the slots are borrowed from who owns them, and nothing of theirs lives there.
    unsafe { discard(&runs) }
}

/// A range that belongs to who has this, or has borrowed what it was made from.
#[derive(Debug)]
struct Pages {
    start: NonZeroUsize,
    length: usize,
}

impl Pages {
    fn range(&self) -> Range<usize> {
        self.start.get()..self.start.get() + self.length
    }

    fn guard_lowest(&mut self) -> io::Result<()> {
        /// `linux/mman.h`; neither rustix nor libc names it yet.
        const MADV_GUARD_INSTALL: libc::c_int = 102;
        let lowest = pointer(self.start.get());
        // SAFETY: a page of the range, which is the caller's alone.
        match unsafe { libc::madvise(lowest, page_size(), MADV_GUARD_INSTALL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn protect_lowest(&mut self) -> io::Result<()> {
        let lowest = pointer(self.start.get());
        // SAFETY: as for `guard_lowest`.
        unsafe { mm::mprotect(lowest, page_size(), MprotectFlags::empty())? };
        Ok(())
    }
}

/// Whether the kernel has lightweight guard regions (`MADV_GUARD_INSTALL`, Linux 6.13). Probed once
/// per process.
///
/// The answer comes from a guard that was really tried, since emulators and sandboxes are known to
/// accept an advice they do not understand: populating a guard must fail with `EFAULT`.
pub(crate) fn has_guard_regions() -> bool {
    static PROBED: OnceLock<bool> = OnceLock::new();
    *PROBED.get_or_init(|| {
        let Ok(mut page) = Mapping::reserve(page_size()) else {
            return false;
        };
        let address = pointer(page.start().get());
        let guards = page.pages.guard_lowest().is_ok()
            // SAFETY: the page is ours and holds nothing.
            && unsafe { mm::madvise(address, page_size(), Advice::LinuxPopulateRead) }
                == Err(Errno::FAULT);
        let _ = page.unmap();
        guards
    })
}

/// A stack on which nothing runs for `'a`, above its guard: what lives there is suspended.
#[derive(Debug)]
pub(crate) struct Resting<'a> {
    addresses: Range<usize>,
    /// Where nothing lives: from the guard up.
    vacant: Range<usize>,
    lent: PhantomData<&'a ()>,
}

/// Whole pages of a resting stack, in which nothing lives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vacant<'a> {
    pages: Range<usize>,
    lent: PhantomData<&'a ()>,
}

impl<'a> Resting<'a> {
    /// `stack` begins with its guard page.
    ///
    /// # Safety
    /// The stack stays mapped, and nothing runs on it or else touches it, for `'a`. Nothing lives between its guard and
    /// `frames`.
    pub(crate) unsafe fn new(stack: Range<usize>, frames: usize) -> Self {
        let start = stack.start + page_size();
        Self {
            vacant: start..frames.clamp(start, stack.end),
            addresses: start..stack.end,
            lent: PhantomData,
        }
    }

    /// The whole pages in that part of it in which nothing lives.
    pub(crate) fn vacant(&self, part: &Range<usize>) -> Vacant<'a> {
        let Range { start, end } = overlap(part, &self.vacant);
        let (start, end) = (
            start.next_multiple_of(page_size()),
            end & !(page_size() - 1),
        );
        Vacant {
            pages: start..end.max(start),
            lent: PhantomData,
        }
    }

    /// Fills that part with a pattern, but for where something lives: by it one can tell afterwards how deep a
    /// coroutine came.
    ///
    /// What the coroutine has written over is no pattern any more, so the lowest byte that differs tells its depth.
    /// Bytes that it reserved and never wrote do not show, nor does what happens to look like the pattern.
    pub(crate) fn paint(&mut self, part: &Range<usize>) {
        let part = overlap(part, &self.vacant);
        let start = ptr::with_exposed_provenance_mut::<u8>(part.start);
        open_to_all(&part);
        // SAFETY: mapped, and of no use to anybody meanwhile, by the promise at `new`.
        unsafe { start.write_bytes(PATTERN, part.len()) };
    }

    /// The lowest address in that part that has changed since it was painted.
    pub(crate) fn lowest_change(&self, part: &Range<usize>) -> Option<usize> {
        let part = overlap(part, &self.addresses);
        let start = ptr::with_exposed_provenance::<u8>(part.start);
        open_to_all(&part);
        // SAFETY: mapped, so initialised, if only by the kernel; nobody writes there, by the promise at `new`.
        let bytes = unsafe { slice::from_raw_parts(start, part.len()) };
        let differs = |chunk: &[u8]| chunk != &CHUNK[..chunk.len()];
        let index = bytes.chunks(CHUNK.len()).position(differs)? * CHUNK.len();
        let within = bytes[index..].iter().position(|byte| *byte != PATTERN)?;
        Some(part.start + index + within)
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> Range<usize> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

impl Vacant<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The bytes of them that memory backs now.
    pub(crate) fn resident(&self) -> io::Result<usize> {
        resident(self.pages.clone())
    }
}

/// Gives pages of resting stacks back to the kernel.
///
/// # Errors
/// If it does not take them: memory that is locked stays.
pub(crate) fn give_back(pages: &[Vacant<'_>]) -> io::Result<()> {
    let ranges: Vec<_> = pages.iter().map(|vacant| vacant.pages.clone()).collect();
    // SAFETY: nothing lives there, nor is put there while they are lent.
    unsafe { discard(&ranges) }
}

/// Gives the pages behind `ranges` back to the kernel. The addresses stay mapped and read as zero;
/// guards stay.
///
/// Since Linux 6.16 many ranges cost one flush of the other processors' address caches, which is
/// otherwise most of the price of each.
///
/// # Safety
///
/// Each range must be whole pages of mappings that the caller owns, and nothing may live there: its
/// contents are lost.
pub(crate) unsafe fn discard(ranges: &[Range<usize>]) -> io::Result<()> {
    /// `linux/pidfd.h`; names the calling process without a descriptor.
    const PIDFD_SELF: libc::c_int = -10_000;
    let part = |range: &Range<usize>| libc::iovec {
        iov_base: pointer(range.start),
        iov_len: range.len(),
    };
    for ranges in ranges.chunks(MAX_VECTOR) {
        if ranges.len() > 1 {
            let vector: Vec<libc::iovec> = ranges.iter().map(part).collect();
            let (start, count) = (vector.as_ptr(), vector.len());
            let (call, advice) = (libc::SYS_process_madvise, libc::MADV_DONTNEED);
            // SAFETY: the caller owns the ranges, and nothing lives in them. The vector is as long as it says.
            let discarded = unsafe { libc::syscall(call, PIDFD_SELF, start, count, advice, 0) };
            let whole = ranges.iter().map(Range::len).sum::<usize>();
            // Older kernels do not take several in one call.
            if usize::try_from(discarded) == Ok(whole) {
                continue;
            }
        }
        for range in ranges {
            let memory = pointer(range.start);
            // SAFETY: the caller owns the range, and nothing lives in it.
            unsafe { mm::madvise(memory, range.len(), Advice::LinuxDontNeed)? };
        }
    }
    Ok(())
}

/// The addresses of the calling thread's own stack; empty if they cannot be known.
pub(crate) fn own_stack() -> Range<usize> {
    let (mut start, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the attributes are written whole before they are read, and given back.
    let known = unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) == 0 && {
            let got = libc::pthread_attr_getstack(&attributes, &mut start, &mut length);
            libc::pthread_attr_destroy(&mut attributes);
            got == 0
        }
    };
    match known {
        true => start.addr()..start.addr() + length,
        false => 0..0,
    }
}

/// Takes AddressSanitizer's marks away, with which frames forbid what lies between their variables: they do not
/// mean those who look at a stack from outside.
#[cfg(feature = "sanitizer")]
fn open_to_all(range: &Range<usize>) {
    unsafe extern "C" {
        fn __asan_unpoison_memory_region(start: *const u8, size: usize);
    }
    let start = ptr::with_exposed_provenance(range.start);
    // SAFETY: changes the sanitizer's marks alone.
    unsafe { __asan_unpoison_memory_region(start, range.len()) };
}

#[cfg(not(feature = "sanitizer"))]
fn open_to_all(_range: &Range<usize>) {}

/// Makes every running thread of the process pass a full memory barrier (membarrier(2)); false if the
/// kernel cannot. The other threads need then only a compiler fence for their half of a handshake.
pub(crate) fn barrier_on_all_threads() -> bool {
    let call = |command| membarrier(command).is_ok();
    // The first takes microseconds, if the process has registered for it; the last milliseconds, and kernels with
    // processors that are kept free of ticks do not have it.
    call(MembarrierCommand::PrivateExpedited)
        || (call(MembarrierCommand::RegisterPrivateExpedited)
            && call(MembarrierCommand::PrivateExpedited))
        || call(MembarrierCommand::Global)
}

/// The bytes of `range`, whole mapped pages, that memory backs now; those that are swapped out are not
/// counted.
pub(crate) fn resident(range: Range<usize>) -> io::Result<usize> {
    let mut resident = 0;
    look_at_pages(range, |_, pages| {
        resident += pages.iter().filter(|page| **page & 1 == 1).count() * page_size();
        ControlFlow::Continue(())
    })?;
    Ok(resident)
}

/// The address of the lowest page of `range`, whole mapped pages, that memory backs now.
pub(crate) fn lowest_resident(range: Range<usize>) -> io::Result<Option<usize>> {
    let mut lowest = None;
    look_at_pages(range, |start, pages| {
        let found = pages.iter().position(|page| page & 1 == 1);
        lowest = found.map(|page| start + page * page_size());
        match lowest {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(lowest)
}

/// Shows `look` what mincore(2) says of the pages of `range`, some at a time, with the address of the first.
fn look_at_pages(
    range: Range<usize>,
    mut look: impl FnMut(usize, &[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut pages = [0_u8; 256];
    let stride = pages.len() * page_size();
    for start in range.clone().step_by(stride) {
        let length = stride.min(range.end - start);
        // SAFETY: mincore reads no memory of the range and writes one byte per page into `pages`.
        if unsafe { libc::mincore(pointer(start), length, pages.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if look(start, &pages[..length.div_ceil(page_size())]).is_break() {
            break;
        }
    }
    Ok(())
}

/// Whether a byte can be read at `address`, found out without a fault: the kernel is asked to copy
/// it into a pipe.
#[cfg(test)]
pub(crate) fn is_readable(address: usize) -> bool {
    use std::os::fd::AsRawFd;

    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: the kernel checks the address itself and answers EFAULT.
    unsafe { libc::write(writer.as_raw_fd(), pointer(address), 1) == 1 }
}

fn pointer(address: usize) -> *mut libc::c_void {
    ptr::with_exposed_provenance_mut(address)
}

/// Never the value of a byte that was zeroed or of an ASCII letter.
const PATTERN: u8 = 0xa5;

/// Compared at a time.
const CHUNK: [u8; 256] = [PATTERN; 256];

/// The kernel's `UIO_MAXIOV`.
const MAX_VECTOR: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: usize = 8;

    fn mapped() -> (Mapping, Range<usize>) {
        let mapping = Mapping::reserve(PAGES * page_size()).unwrap();
        let start = mapping.start().get();
        let range = start..start + mapping.length();
        (mapping, range)
    }

    fn touch(address: usize) {
        // SAFETY: the tests touch only pages of their own mapping outside its guards.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
    }

    #[test]
    fn reserved_memory_is_backed_only_where_it_is_touched() {
        let (mapping, range) = mapped();
        assert_eq!(resident(range.clone()).unwrap(), 0);
        assert_eq!(lowest_resident(range.clone()).unwrap(), None);
        touch(range.start + 3 * page_size());
        touch(range.end - 1);
        assert_eq!(resident(range.clone()).unwrap(), 2 * page_size());
        let third = range.start + 3 * page_size();
        assert_eq!(lowest_resident(range).unwrap(), Some(third));
        mapping.unmap().unwrap();
    }

    /// Under `always`, or in time by khugepaged, a page that is touched becomes 2 MiB. Asked for by name, the
    /// kernel does the same under any setting, unless the mapping refuses.
    #[test]
    fn no_touched_page_becomes_a_huge_one() {
        const HUGE: usize = 2 << 20;
        let mapping = Mapping::reserve(3 * HUGE).unwrap();
        let start = mapping.start().get();
        let aligned = start.next_multiple_of(HUGE);
        touch(aligned);
        // SAFETY: what is in the range, which is ours, stays the same.
        let collapsed = unsafe { libc::madvise(pointer(aligned), HUGE, libc::MADV_COLLAPSE) };
        assert_eq!(collapsed, -1);
        let range = start..start + mapping.length();
        assert_eq!(resident(range).unwrap(), page_size());
        mapping.unmap().unwrap();
    }

    #[test]
    fn discarded_pages_read_as_zero_and_cost_nothing() {
        let (mapping, range) = mapped();
        touch(range.start);
        // SAFETY: nothing lives in the range.
        unsafe { discard(slice::from_ref(&range)) }.unwrap();
        assert_eq!(resident(range.clone()).unwrap(), 0);
        // SAFETY: the page is mapped and readable.
        let byte = unsafe { ptr::with_exposed_provenance::<u8>(range.start).read_volatile() };
        assert_eq!(byte, 0);
        mapping.unmap().unwrap();
    }

    #[test]
    fn many_ranges_are_discarded_and_what_lies_between_is_kept() {
        let (mapping, range) = mapped();
        let page = |index| range.start + index * page_size();
        (0..PAGES).for_each(|index| touch(page(index)));
        let discarded = [page(1)..page(2), page(4)..page(7)];
        // SAFETY: nothing lives in the ranges.
        unsafe { discard(&discarded) }.unwrap();
        assert_eq!(resident(range.clone()).unwrap(), (PAGES - 4) * page_size());
        for range in discarded {
            assert_eq!(resident(range).unwrap(), 0);
        }
        mapping.unmap().unwrap();
    }

    #[test]
    fn a_guard_costs_no_memory_and_survives_a_discard() {
        if !has_guard_regions() {
            return;
        }
        let (mut mapping, range) = mapped();
        let mut slot = mapping.carve(range.len(), 0).unwrap();
        slot.guard_lowest().unwrap();
        touch(range.start + page_size());
        assert_eq!(resident(range.clone()).unwrap(), page_size());
        empty([&mut slot].into_iter()).unwrap();
        assert_eq!(resident(range.clone()).unwrap(), 0);
        assert!(!is_readable(range.start));
        assert!(is_readable(range.start + page_size()));
        mapping.take_back(slot);
        mapping.unmap().unwrap();
    }

    #[test]
    fn slots_lie_side_by_side_and_know_their_size_and_mark() {
        let (mut mapping, range) = mapped();
        let size = 4 * page_size();
        let [low, high] = [1, MARKS - 1].map(|mark| mapping.carve(size, mark).unwrap());
        assert!(mapping.carve(size, 0).is_none(), "there is no room");
        for (slot, mark, start) in [(&low, 1, range.start), (&high, 127, range.start + size)] {
            assert_eq!((slot.mark(), slot.start().get()), (mark, start));
            assert_eq!(1 << slot.size_log2(), size);
        }
        assert!(!mapping.is_whole());
        mapping.take_back(high);
        let high = mapping.carve(size, 1).expect("the last one comes again");
        mapping.take_back(low);
        assert!(
            mapping.carve(size, 1).is_none(),
            "what is below another does not"
        );
        mapping.take_back(high);
        assert!(mapping.is_whole());
        mapping.unmap().unwrap();
    }

    #[test]
    #[should_panic(expected = "somebody has a part")]
    fn what_somebody_has_a_part_of_is_not_unmapped() {
        let (mut mapping, range) = mapped();
        let _slot = mapping.carve(range.len(), 0).unwrap();
        let _ = mapping.unmap();
    }

    #[test]
    #[should_panic(expected = "of another mapping")]
    fn a_slot_comes_back_to_its_own_mapping_alone() {
        let ((mut one, range), (mut other, _)) = (mapped(), mapped());
        let slot = one.carve(range.len(), 0).unwrap();
        other.take_back(slot);
    }

    #[test]
    fn a_reservation_beyond_the_address_space_is_an_error() {
        let error = Mapping::reserve(1 << 60).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn the_lowest_byte_that_changed_is_found_wherever_it_lies() {
        let mut memory = vec![0_u8; 3 * CHUNK.len() + 17];
        let start = memory.as_mut_ptr().expose_provenance();
        let range = start..start + memory.len();
        let mut stack = Resting {
            addresses: range.clone(),
            vacant: range.clone(),
            lent: PhantomData,
        };
        stack.paint(&range);
        assert_eq!(stack.lowest_change(&range), None);
        for at in (range.start..range.end).rev().step_by(5) {
            // SAFETY: within the vector.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(at).write(0) };
            assert_eq!(stack.lowest_change(&range), Some(at));
        }
    }

    #[test]
    fn of_a_resting_stack_only_that_is_touched_in_which_nothing_lives() {
        let (mapping, range) = mapped();
        let (page, frames) = (page_size(), range.end - page_size() - 64);
        // SAFETY: nothing but this test uses the mapping.
        let mut stack = unsafe { Resting::new(range.clone(), frames) };
        let everything = 0..usize::MAX;
        stack.paint(&everything);
        assert_eq!(stack.lowest_change(&everything), Some(frames));
        assert_eq!(stack.lowest_change(&(0..range.start)), None);
        let vacant = stack.vacant(&everything);
        let pages = range.start + page..range.end - 2 * page;
        assert_eq!(vacant.pages, pages);
        assert_eq!(vacant.resident().unwrap(), pages.len());
        give_back(&[vacant]).unwrap();
        assert_eq!(resident(pages).unwrap(), 0);
        assert!(stack.vacant(&(0..range.start + page)).is_empty());
        // SAFETY: as above.
        let full = unsafe { Resting::new(range.clone(), range.start) };
        assert!(full.vacant(&everything).is_empty());
        mapping.unmap().unwrap();
    }
}
