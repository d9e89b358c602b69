//! Whether to receive at once, or to wait first: a guess from what came of it before.
//!
//! Who has sent a question receives next, and the answer cannot be there yet. So on a connection where that was seen
//! to be so, the receive that would find nothing is left out. A wrong guess costs a wait that ends at once, and nothing
//! else, so nothing here has to be right: not after a number is closed and used again, nor between threads.

use std::{
    ffi::c_int,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

/// By the descriptor's number: [`SENT`], and a count of first receives behind a send that found nothing.
static SEEN: [AtomicU8; NUMBERS] = [const { AtomicU8::new(0) }; NUMBERS];

/// Larger ones are never guessed about. Untouched, the table costs no memory.
const NUMBERS: usize = 1 << 16;

/// Nothing was received since something was sent.
const SENT: u8 = 0x80;

/// From so many on, the next receive is left out.
const SURE: u8 = 4;

/// After so many, one is tried again.
const LAST: u8 = SURE + 31;

/// Something was sent.
#[inline]
pub(crate) fn sent(fd: c_int) {
    if let Some(seen) = of(fd) {
        seen.store(seen.load(Relaxed) | SENT, Relaxed);
    }
}

/// Whether a receive would find nothing.
#[inline]
pub(crate) fn is_in_vain(fd: c_int) -> bool {
    let Some(seen) = of(fd) else {
        return false;
    };
    let known = seen.load(Relaxed);
    let count = known & !SENT;
    let is_sure = known & SENT != 0 && (SURE..LAST).contains(&count);
    if is_sure {
        seen.store(count + 1, Relaxed);
    }
    is_sure
}

/// A receive that was tried at once found something, or nothing.
#[inline]
pub(crate) fn tried(fd: c_int, found: bool) {
    let Some(seen) = of(fd) else {
        return;
    };
    let known = seen.load(Relaxed);
    if known & SENT == 0 {
        return;
    }
    let count = match (found, known & !SENT) {
        (true, _) => 0,
        (false, LAST..) => SURE,
        (false, count) => count + 1,
    };
    seen.store(count, Relaxed);
}

#[inline]
fn of(fd: c_int) -> Option<&'static AtomicU8> {
    SEEN.get(usize::try_from(fd).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a receive behind a send is tried at once, which then finds something or nothing.
    fn asks(fd: c_int, found: bool) -> bool {
        sent(fd);
        let tries = !is_in_vain(fd);
        if tries {
            tried(fd, found);
        }
        tries
    }

    #[test]
    fn a_receive_behind_a_send_is_left_out_where_some_found_nothing() {
        let fd = 60_000;
        assert!((0..SURE).all(|_| asks(fd, false)));
        assert!((SURE..LAST).all(|_| !asks(fd, false)));
        // One is tried now and then, and believed.
        assert!(asks(fd, false));
        assert!(!asks(fd, false));
        while !asks(fd, true) {}
        assert!((0..SURE).all(|_| asks(fd, false)));
    }

    #[test]
    fn a_receive_behind_another_is_tried() {
        let fd = 60_001;
        (0..SURE).for_each(|_| _ = asks(fd, false));
        assert!(!asks(fd, false));
        assert!(!is_in_vain(fd));
        tried(fd, true);
        assert!(!asks(fd, false), "that says nothing of those behind a send");
    }

    #[test]
    fn numbers_beyond_the_table_are_tried() {
        for fd in [-1, NUMBERS as c_int, c_int::MAX] {
            assert!((0..2 * SURE).all(|_| asks(fd, false)));
        }
    }
}
