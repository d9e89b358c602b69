//! Recycled heap blocks for objects that come and go by the thousand.
//!
//! A general allocator gives large bursts of small blocks back to the system and faults them in again.
//! Each thread keeps freed blocks of a few sizes, up to a bound; a block may be freed on another thread
//! than it was made on, and is then kept there.
//!
//! With the feature `sanitizer` nothing is kept: a block that is taken again at once hides who still uses it.

use std::{cell::RefCell, mem::MaybeUninit};

/// Memory that belongs to nobody yet: so many lines, and what is there says nothing.
pub(crate) type Block = Box<[MaybeUninit<Line>]>;

/// As much memory as a cache line, and aligned like one.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(#[allow(dead_code, reason = "it is room")] [u8; STEP]);

/// How many lines hold a `T`, which may begin where a line does.
pub(crate) const fn lines_for<T>() -> Option<usize> {
    if align_of::<T>() > align_of::<Line>() {
        return None;
    }
    let lines = size_of::<T>().div_ceil(STEP);
    Some(if lines == 0 { 1 } else { lines })
}

const STEP: usize = 64;

/// Blocks of more lines than this are left to the allocator.
const CLASSES: usize = if cfg!(feature = "sanitizer") { 0 } else { 16 };

/// Blocks that a thread keeps of each size.
const KEPT: usize = 1024;

thread_local! {
    static FREE: [RefCell<Vec<Block>>; CLASSES] = const { [const { RefCell::new(Vec::new()) }; CLASSES] };
}

/// A block of so many lines, one at the least.
#[inline]
pub(crate) fn take(lines: usize) -> Block {
    let class = lines - 1;
    let kept = match class < CLASSES {
        true => FREE.try_with(|free| free[class].borrow_mut().pop()),
        false => Ok(None),
    };
    kept.ok().flatten().unwrap_or_else(|| allocate(lines))
}

/// Keeps a block for its next user, or frees it.
#[inline]
pub(crate) fn give(block: Block) {
    let class = block.len().wrapping_sub(1);
    if class < CLASSES {
        // Freed if this thread ends, since what it kept has gone then.
        let _kept = FREE.try_with(|free| {
            let mut kept = free[class].borrow_mut();
            if kept.len() < KEPT {
                kept.push(block);
            }
        });
    }
}

#[cold]
fn allocate(lines: usize) -> Block {
    Box::new_uninit_slice(lines)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[cfg(not(feature = "sanitizer"))]
    #[test]
    fn a_block_given_back_is_taken_again() {
        let first = take(5);
        let place = first.as_ptr();
        assert_eq!((first.len(), place.addr() % STEP), (5, 0));
        give(first);
        let again = take(5);
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn large_blocks_pass_through() {
        let block = take(500);
        assert_eq!(block.len(), 500);
        give(block);
        assert!(FREE.with(|free| free.iter().all(|kept| kept.borrow().is_empty())));
    }

    #[test]
    fn what_is_aligned_more_strictly_than_a_line_has_no_lines() {
        #[repr(align(128))]
        struct Strict;
        assert_eq!(lines_for::<Strict>(), None);
        assert_eq!(lines_for::<()>(), Some(1));
        assert_eq!(lines_for::<[u64; 8]>(), Some(1));
        assert_eq!(lines_for::<[u64; 9]>(), Some(2));
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let all: Vec<_> = (0..KEPT + 10).map(|_| take(2)).collect();
        all.into_iter().for_each(give);
        let kept = FREE.with(|free| free.get(1).map_or(0, |kept| kept.borrow().len()));
        assert!(kept <= KEPT, "{kept}");
    }

    #[test]
    fn blocks_may_be_given_back_on_another_thread() {
        let block = take(3);
        std::thread::spawn(move || give(block)).join().unwrap();
    }
}
