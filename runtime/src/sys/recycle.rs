//! Recycled heap blocks for objects that come and go by the thousand.
//!
//! A general allocator gives large bursts of small blocks back to the system and faults them in again.
//! Each thread keeps freed blocks of a few sizes, up to a bound; a block may be freed on another thread
//! than it was made on, and is then kept there.
//!
//! With the feature `sanitizer` nothing is kept: a block that is taken again at once hides who still uses it.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::{Cell, RefCell},
    ptr::NonNull,
};

/// Sizes are rounded up to multiples of this, a cache line, which is also every block's alignment.
const STEP: usize = 64;

/// Blocks larger than this many steps are left to the allocator.
const CLASSES: usize = if cfg!(feature = "sanitizer") { 0 } else { 16 };

/// Blocks that a thread keeps of each size.
const KEPT: usize = 1024;

thread_local! {
    static FREE: Free = const { Free { lists: [const { RefCell::new(Vec::new()) }; CLASSES], open: Cell::new(true) } };
}

struct Free {
    lists: [RefCell<Vec<NonNull<u8>>>; CLASSES],
    open: Cell<bool>,
}

impl Drop for Free {
    fn drop(&mut self) {
        self.open.set(false);
        for (class, list) in self.lists.iter().enumerate() {
            for block in list.take() {
                // SAFETY: a kept block was allocated with its class's layout.
                unsafe { dealloc(block.as_ptr(), class_layout(class)) };
            }
        }
    }
}

/// Memory for `layout`, uninitialised.
#[inline]
pub(crate) fn take(layout: Layout) -> NonNull<u8> {
    let Some(class) = class_of(layout) else {
        return allocate(layout);
    };
    FREE.try_with(|free| free.lists[class].borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| allocate(class_layout(class)))
}

/// Gives memory back that [`take`] returned for the same `layout`.
///
/// # Safety
/// The block came from `take(layout)` and is not used any more.
#[inline]
pub(crate) unsafe fn give(block: NonNull<u8>, layout: Layout) {
    let Some(class) = class_of(layout) else {
        // SAFETY: `take` allocated it with this layout.
        return unsafe { dealloc(block.as_ptr(), layout) };
    };
    let kept = FREE.try_with(|free| {
        let mut list = free.lists[class].borrow_mut();
        let keep = free.open.get() && list.len() < KEPT;
        if keep {
            list.push(block);
        }
        keep
    });
    if kept != Ok(true) {
        // SAFETY: `take` allocated it with its class's layout.
        unsafe { dealloc(block.as_ptr(), class_layout(class)) };
    }
}

#[inline]
fn class_of(layout: Layout) -> Option<usize> {
    let class = layout.size().div_ceil(STEP).max(1) - 1;
    (class < CLASSES && layout.align() <= STEP).then_some(class)
}

#[inline]
fn class_layout(class: usize) -> Layout {
    // SAFETY: the alignment is a power of two and the size a small multiple of it.
    unsafe { Layout::from_size_align_unchecked((class + 1) * STEP, STEP) }
}

#[cold]
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout is not empty: classes start at one step, larger ones exceed them all, and
    // where there are none, what is recycled is a task, which has a header.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[cfg(not(feature = "sanitizer"))]
    #[test]
    fn a_block_given_back_is_taken_again() {
        let layout = Layout::new::<[u64; 40]>();
        let first = take(layout);
        // SAFETY: taken above with the same layout.
        unsafe { give(first, layout) };
        let second = take(layout);
        assert_eq!(first, second);
        assert_eq!(second.as_ptr().addr() % STEP, 0);
        // SAFETY: as above.
        unsafe { give(second, layout) };
    }

    #[test]
    fn large_and_strictly_aligned_blocks_pass_through() {
        for layout in [
            Layout::new::<[u64; 4096]>(),
            Layout::from_size_align(64, 4096).unwrap(),
        ] {
            let block = take(layout);
            assert_eq!(block.as_ptr().addr() % layout.align(), 0);
            // SAFETY: taken above with the same layout.
            unsafe { give(block, layout) };
        }
    }

    #[test]
    fn blocks_may_be_given_back_on_another_thread() {
        let layout = Layout::new::<[u64; 20]>();
        let block = take(layout).as_ptr().expose_provenance();
        std::thread::spawn(move || {
            let block = NonNull::new(std::ptr::with_exposed_provenance_mut(block)).unwrap();
            // SAFETY: taken above with the same layout, and given away.
            unsafe { give(block, layout) };
        })
        .join()
        .unwrap();
    }
}
