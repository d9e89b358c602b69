//! A pattern on unused stack, by which one can tell afterwards how deep a coroutine came.
//!
//! What the coroutine has written over is no pattern any more, so the lowest byte that differs tells its depth.
//! Bytes that it reserved and never wrote do not show, nor does what happens to look like the pattern.

use std::{ops::Range, ptr, slice};

/// Never the value of a byte that was zeroed or of an ASCII letter.
const PATTERN: u8 = 0xa5;

/// Compared at a time.
const CHUNK: [u8; 256] = [PATTERN; 256];

/// Fills the addresses with the pattern.
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

#[cfg(test)]
mod tests {
    use super::*;

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
