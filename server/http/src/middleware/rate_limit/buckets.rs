//! How much each of many keys may still have, in a fixed amount of memory.
//!
//! Each bucket is one number, as in GCRA: the time at which it is full again. A key has one bucket in each of some rows,
//! found by its hash, and what it has left is what the fullest of them has. Others may share some of its buckets, and
//! seldom all. So nothing is ever thrown out: a client that invents keys can take from others, and never give them
//! anything back.

use std::{
    array,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Buckets of a key.
const ROWS: usize = 4;

/// Few requests meet at one of so many.
const LOCKS: usize = 256;

/// The buckets of all keys. Times are in nanoseconds since whenever its owner began to count.
pub(super) struct Buckets {
    /// When each is full again, one row behind the other.
    full_at: Box<[AtomicU64]>,
    /// One for those keys whose hashes end alike, held for some instructions.
    locks: [Mutex<()>; LOCKS],
    /// Bits of a hash that say which of a row.
    bits: u32,
    /// Time in which one request's worth comes back.
    each: u64,
    /// Time in which an empty one gets full.
    whole: u64,
}

/// What a bucket had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Enough; so many more could follow at once, and it is full again in so much time.
    Yes { left: u64, full_in: u64 },
    /// Too little, for so much time.
    No { wait: u64 },
}

impl Buckets {
    /// Buckets for so many keys that are busy at a time, each of which fills by one in `each` up to `burst`.
    pub(super) fn new(keys: usize, each: u64, burst: u32) -> Self {
        let row = keys.saturating_mul(2).clamp(2, MOST).next_power_of_two();
        let each = each.max(1);
        Self {
            full_at: (0..row * ROWS).map(|_| AtomicU64::new(0)).collect(),
            locks: [const { Mutex::new(()) }; LOCKS],
            bits: row.trailing_zeros(),
            each,
            whole: each.saturating_mul(u64::from(burst)),
        }
    }

    /// Takes one from that key's, if there is one.
    pub(super) fn take(&self, hash: u64, now: u64) -> Taken {
        let places = self.places(hash);
        // Or two requests of one key that meet would take the same. Nothing in here waits or panics.
        let lock = &self.locks[hash as usize % LOCKS];
        let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = places.map(|place| self.full_at[place].load(Relaxed));
        let fullest = full_at.into_iter().min().unwrap_or(0);
        let after = fullest.max(now).saturating_add(self.each);
        let full_in = after - now;
        if full_in > self.whole {
            let wait = full_in - self.whole;
            return Taken::No { wait };
        }
        for place in places {
            // Other keys that share it may be at it, under another lock.
            self.full_at[place].fetch_max(after, Relaxed);
        }
        let left = (self.whole - full_in) / self.each;
        Taken::Yes { left, full_in }
    }

    fn places(&self, hash: u64) -> [usize; ROWS] {
        let mask = (1 << self.bits) - 1;
        // Two halves make as many hashes as are wanted (Kirsch and Mitzenmacher, 2006).
        let (start, step) = (hash, hash.rotate_left(32) | 1);
        array::from_fn(|row| {
            let mixed = start.wrapping_add(step.wrapping_mul(row as u64));
            // The high bits of a product depend on all bits of what was multiplied.
            let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.bits);
            (row << self.bits) | (mixed as usize & mask)
        })
    }
}

/// Buckets of a row.
const MOST: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn admitted(buckets: &Buckets, hash: u64, now: u64, asks: usize) -> usize {
        let asks = 0..asks;
        asks.filter(|_| matches!(buckets.take(hash, now), Taken::Yes { .. }))
            .count()
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_at_a_time() {
        let buckets = Buckets::new(16, SECOND / 10, 5);
        let yes = |left, full_in| Taken::Yes { left, full_in };
        assert_eq!(buckets.take(7, SECOND), yes(4, SECOND / 10));
        assert_eq!(admitted(&buckets, 7, SECOND, 10), 4);
        let wait = SECOND / 10;
        assert_eq!(buckets.take(7, SECOND), Taken::No { wait });
        assert_eq!(buckets.take(7, SECOND + wait - 1), Taken::No { wait: 1 });
        assert_eq!(admitted(&buckets, 7, SECOND + wait, 10), 1);
        assert_eq!(admitted(&buckets, 7, 9 * SECOND, 10), 5);
    }

    #[test]
    fn what_is_refused_takes_nothing() {
        let buckets = Buckets::new(16, SECOND, 1);
        assert_eq!(admitted(&buckets, 7, SECOND, 1000), 1);
        assert_eq!(admitted(&buckets, 7, 2 * SECOND, 1000), 1);
    }

    #[test]
    fn keys_that_an_attacker_invents_give_nobody_anything_back() {
        let hashes = RandomState::new();
        let buckets = Buckets::new(64, SECOND, 3);
        let victim = hashes.hash_one("the attacker's own");
        assert_eq!(admitted(&buckets, victim, SECOND, 10), 3);
        for key in 0..100_000 {
            buckets.take(hashes.hash_one(key), SECOND);
            assert!(matches!(buckets.take(victim, SECOND), Taken::No { .. }));
        }
    }

    #[test]
    fn as_many_busy_keys_as_it_is_made_for_hardly_touch_one_another() {
        let hashes = RandomState::new();
        let buckets = Buckets::new(10_000, SECOND, 1);
        let first = (0..10_000).map(|key| hashes.hash_one(key));
        let let_in = first.map(|hash| admitted(&buckets, hash, SECOND, 1));
        let let_in: usize = let_in.sum();
        assert!(let_in > 9_500, "{let_in}");
    }

    #[test]
    fn numbers_near_the_end_neither_overflow_nor_let_all_through() {
        let buckets = Buckets::new(1, u64::MAX, u32::MAX);
        assert_eq!(admitted(&buckets, u64::MAX, u64::MAX, 3), 3);
        let slow = Buckets::new(1, u64::MAX / 2, 1);
        assert_eq!(admitted(&slow, 0, 1, 3), 1);
    }

    #[test]
    fn threads_that_ask_for_one_key_together_share_its_bucket() {
        let buckets = Buckets::new(16, SECOND, 1000);
        let let_in: usize = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| admitted(&buckets, 7, SECOND, 1000)))
                .collect();
            asking.into_iter().map(|each| each.join().unwrap()).sum()
        });
        assert_eq!(let_in, 1000);
    }
}
