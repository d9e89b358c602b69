//! Cuts, counted over the whole process: so that it can be told whether one came after a moment that another remembers.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many cuts there were.
static CUTS: AtomicU32 = AtomicU32::new(0);

/// The number of a cut, or none. Numbers come round: of two, one is after the other if it lies less than 2³¹ ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut(u32);

impl Cut {
    pub(crate) const NONE: Self = Self(0);

    /// That of one more.
    pub(crate) fn next() -> Self {
        let next = CUTS.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // The number that says none is nobody's.
        Self(next.max(1))
    }

    /// That of the last one.
    pub(crate) fn last() -> Self {
        Self(CUTS.load(Ordering::Relaxed))
    }

    pub(crate) fn is_after(self, other: Self) -> bool {
        self != Self::NONE && self.0.wrapping_sub(other.0).cast_signed() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::Cut;

    #[test]
    fn what_comes_later_is_after() {
        assert!(Cut(2).is_after(Cut(1)));
        assert!(!Cut(2).is_after(Cut(2)));
        assert!(!Cut(1).is_after(Cut(2)));
        assert!(!Cut::NONE.is_after(Cut(u32::MAX)));
    }

    #[test]
    fn numbers_come_round() {
        assert!(Cut(3).is_after(Cut(u32::MAX - 3)));
        assert!(!Cut(u32::MAX - 3).is_after(Cut(3)));
    }
}
