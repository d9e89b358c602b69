//! Touches pages of the stack it runs on.

use std::hint::black_box;

use super::spec::page_size;

/// Writes to so many pages of the present stack, downwards from the one that holds the caller's frame, and returns
/// the lowest address written.
pub(super) fn touch(pages: u32) -> usize {
    let here = 0_u8;
    let page = page_size() as usize;
    let top = (&raw const here).addr() / page * page;
    descend(top - page * (pages.saturating_sub(1) as usize) + page)
}

/// Calls itself until its frame is below `end`.
#[inline(never)]
fn descend(end: usize) -> usize {
    let mut frame = [0_u8; FRAME];
    // As good as a use: the frame exists and is written.
    let lowest = black_box(&mut frame).as_ptr().addr();
    let deepest = match lowest < end {
        true => lowest,
        false => descend(end),
    };
    black_box(&mut frame);
    deepest
}

/// Small beside a page, so that the last frame hardly reaches beyond it.
const FRAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pages_are_touched_as_were_asked_for() {
        for pages in [1, 2, 4, 16] {
            let here = 0_u8;
            let page = page_size() as usize;
            let deepest = touch(pages) / page;
            let own = (&raw const here).addr() / page;
            // The test's frame may be on the page above that of `touch`.
            let touched = own - deepest + 1;
            assert!(
                (pages as usize..=pages as usize + 1).contains(&touched),
                "{touched} of {pages}"
            );
        }
    }
}
