//! Memory from the kernel: address space, guard pages, giving pages back, and telling what of it was used.
//!
//! Everything here deals in addresses, not pointers. A [`Mapping`] exposes its provenance once,
//! when it is made, so that a stack pointer set up from one of its addresses is a valid pointer.
//! The calls that change what memory holds are `unsafe`: only the caller knows whether something
//! still lives there.

use std::io;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};

/// The size of a page, the unit of guarding and of giving back.
#[inline]
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// A range of private anonymous memory, backed by the kernel page by page as it is touched.
///
/// Dropping it keeps the range mapped, because stacks may still be suspended in it: see
/// [`Mapping::unmap`].
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonZeroUsize,
    length: usize,
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
        Ok(Mapping { start, length })
    }

    /// Reserves like [`Mapping::reserve`]; every access to the lowest page faults.
    pub(crate) fn reserve_guarded(length: usize) -> io::Result<Mapping> {
        let mapping = Self::reserve(length)?;
        let start = mapping.start.get();
        // SAFETY: fresh memory, where nothing lives yet.
        match unsafe { protect(start..start + page_size()) } {
            Ok(()) => Ok(mapping),
            Err(error) => {
                // SAFETY: nobody has been told of it.
                let _ = unsafe { mapping.unmap() };
                Err(error)
            }
        }
    }

    /// The lowest address.
    #[inline]
    pub(crate) fn start(&self) -> NonZeroUsize {
        self.start
    }

    /// The length in bytes.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Gives the whole range back to the kernel.
    ///
    /// # Safety
    ///
    /// Nothing may use an address in the range from here on.
    pub(crate) unsafe fn unmap(self) -> io::Result<()> {
        // SAFETY: we mapped exactly this range, and the caller vouches that nothing uses it.
        unsafe { mm::munmap(pointer(self.start.get()), self.length)? };
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
        let Ok(page) = Mapping::reserve(page_size()) else {
            return false;
        };
        let address = page.start().get();
        let length = page.length();
        // SAFETY: the page is ours and holds nothing.
        let guards = unsafe { install_guard(address..address + length) }.is_ok()
            // SAFETY: as above.
            && unsafe { mm::madvise(pointer(address), length, Advice::LinuxPopulateRead) }
                == Err(Errno::FAULT);
        // SAFETY: the page was never handed out.
        let _ = unsafe { page.unmap() };
        guards
    })
}

/// Makes every access to `range` fault, without splitting the mapping it lies in.
///
/// The guard survives [`discard`] and lasts until the range is unmapped.
///
/// # Safety
///
/// `range` must be whole pages of mappings that the caller owns, and nothing may live there: its
/// contents are lost.
pub(crate) unsafe fn install_guard(range: Range<usize>) -> io::Result<()> {
    /// `linux/mman.h`; neither rustix nor libc names it yet.
    const MADV_GUARD_INSTALL: libc::c_int = 102;
    // SAFETY: the caller owns the range, and nothing lives in it.
    match unsafe { libc::madvise(pointer(range.start), range.len(), MADV_GUARD_INSTALL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes every access to `range` fault by taking its access rights, which splits the mapping it
/// lies in.
///
/// # Safety
///
/// `range` must be whole pages of mappings that the caller owns, and nothing may live there.
pub(crate) unsafe fn protect(range: Range<usize>) -> io::Result<()> {
    // SAFETY: the caller owns the range, and nothing lives in it.
    unsafe { mm::mprotect(pointer(range.start), range.len(), MprotectFlags::empty())? };
    Ok(())
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
    for ranges in ranges.chunks(MAX_VECTOR) {
        // SAFETY: passed on to the caller.
        if ranges.len() == 1 || !unsafe { discard_at_once(ranges) } {
            for range in ranges {
                let memory = pointer(range.start);
                // SAFETY: the caller owns the range, and nothing lives in it.
                unsafe { mm::madvise(memory, range.len(), Advice::LinuxDontNeed)? };
            }
        }
    }
    Ok(())
}

/// Whether the kernel took all ranges in one call; older ones do not.
///
/// # Safety
///
/// As for [`discard`].
unsafe fn discard_at_once(ranges: &[Range<usize>]) -> bool {
    /// `linux/pidfd.h`; names the calling process without a descriptor.
    const PIDFD_SELF: libc::c_int = -10_000;
    let vector: Vec<libc::iovec> = ranges
        .iter()
        .map(|range| libc::iovec {
            iov_base: pointer(range.start),
            iov_len: range.len(),
        })
        .collect();
    // SAFETY: the caller owns the ranges, and nothing lives in them.
    let discarded = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF,
            vector.as_ptr(),
            vector.len(),
            libc::MADV_DONTNEED,
            0,
        )
    };
    usize::try_from(discarded)
        .is_ok_and(|bytes| bytes == ranges.iter().map(Range::len).sum::<usize>())
}

/// Fills the addresses with a pattern, by which one can tell afterwards how deep a coroutine came.
///
/// What the coroutine has written over is no pattern any more, so the lowest byte that differs tells its depth.
/// Bytes that it reserved and never wrote do not show, nor does what happens to look like the pattern.
///
/// # Safety
/// They belong to a stack of the caller's, above its guard, and nothing lives there.
pub(crate) unsafe fn paint(range: Range<usize>) {
    let start = ptr::with_exposed_provenance_mut::<u8>(range.start);
    open_to_all(&range);
    // SAFETY: mapped, and of no use to anybody, by the caller's promise.
    unsafe { start.write_bytes(PATTERN, range.len()) };
}

/// The lowest address that has changed since the range was painted.
///
/// # Safety
/// The range was painted, and nothing runs on the stack that it belongs to.
pub(crate) unsafe fn lowest_change(range: Range<usize>) -> Option<usize> {
    let start = ptr::with_exposed_provenance::<u8>(range.start);
    open_to_all(&range);
    // SAFETY: painted, so mapped and initialised; nobody writes there while nothing runs on the stack.
    let bytes = unsafe { slice::from_raw_parts(start, range.len()) };
    let differs = |chunk: &[u8]| chunk != &CHUNK[..chunk.len()];
    let index = bytes.chunks(CHUNK.len()).position(differs)? * CHUNK.len();
    let within = bytes[index..].iter().position(|byte| *byte != PATTERN)?;
    Some(range.start + index + within)
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
    // SAFETY: takes no pointers.
    let call =
        |command: libc::c_int| unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 };
    // The first takes microseconds, if the process has registered for it; the last milliseconds, and kernels with
    // processors that are kept free of ticks do not have it.
    call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        || (call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
            && call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED))
        || call(libc::MEMBARRIER_CMD_GLOBAL)
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
        // SAFETY: nothing else knows the range.
        unsafe { mapping.unmap() }.unwrap();
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
        // SAFETY: nothing else knows the range.
        unsafe { mapping.unmap() }.unwrap();
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
        // SAFETY: nothing else knows the range.
        unsafe { mapping.unmap() }.unwrap();
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
        // SAFETY: nothing else knows the range.
        unsafe { mapping.unmap() }.unwrap();
    }

    #[test]
    fn a_guard_costs_no_memory_and_survives_a_discard() {
        if !has_guard_regions() {
            return;
        }
        let (mapping, range) = mapped();
        // SAFETY: nothing lives in the range.
        unsafe { install_guard(range.start..range.start + page_size()) }.unwrap();
        touch(range.start + page_size());
        assert_eq!(resident(range.clone()).unwrap(), page_size());
        // SAFETY: nothing lives in the range.
        unsafe { discard(slice::from_ref(&range)) }.unwrap();
        assert!(!is_readable(range.start));
        assert!(is_readable(range.start + page_size()));
        // SAFETY: nothing else knows the range.
        unsafe { mapping.unmap() }.unwrap();
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
        // SAFETY: the vector's bytes, which nobody else uses.
        unsafe { paint(range.clone()) };
        // SAFETY: painted just now.
        assert_eq!(unsafe { lowest_change(range.clone()) }, None);
        for at in (range.start..range.end).rev().step_by(5) {
            // SAFETY: within the vector.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(at).write(0) };
            // SAFETY: painted above.
            assert_eq!(unsafe { lowest_change(range.clone()) }, Some(at));
        }
    }
}
