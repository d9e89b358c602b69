//! Numbers that look random and follow from a seed: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
//! number generators, 2014).

use std::ops::Range;

pub(crate) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of the numbers below `bound`; 0 if there is none.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// One of the numbers within; its start if there is none.
    pub(super) fn within(&mut self, range: &Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// True so often, of one.
    pub(super) fn chance(&mut self, of_one: f64) -> bool {
        // 53 bits are all that an `f64` tells apart.
        let drawn = (self.number() >> 11) as f64 / (1u64 << 53) as f64;
        drawn < of_one
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut dice = Dice::new(7);
        let drawn: Vec<u64> = (0..1000).map(|_| dice.within(&(3..6))).collect();
        assert!([3, 4, 5].iter().all(|number| drawn.contains(number)));
        assert!(drawn.iter().all(|number| (3..6).contains(number)));
        assert_eq!((dice.below(0), dice.within(&(4..4))), (0, 4));
    }

    #[test]
    fn a_chance_comes_about_as_often_as_it_says() {
        let mut dice = Dice::new(7);
        let held = (0..10_000).filter(|_| dice.chance(0.25)).count();
        assert!((2_000..3_000).contains(&held), "{held}");
        assert!(!dice.chance(0.0) && dice.chance(1.0));
    }
}
