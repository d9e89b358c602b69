//! One worker's stacks at hand: a last-in-first-out cache for each size class in front of the
//! slabs.
//!
//! The stack released last is the one whose top is still in the processor's cache, so it is
//! acquired first. A pool that runs empty borrows half its capacity from the slabs, and one that
//! runs over returns its oldest half: a worker that swings around a level touches the slabs' mutex
//! once in dozens of stacks.
//!
//! What a pool keeps counts against the limit of stacks while other workers cannot have it.
//! Therefore a pool keeps at most a 256th of that limit per class, which for small limits is
//! nothing, and small limits are exact.

use std::io;
use std::sync::Arc;

use crate::stack::slab::Slabs;
use crate::stack::{SizeClass, Stack, StackError};

/// The stacks a worker keeps at hand. Dropping it returns them to the slabs.
#[derive(Debug)]
pub(crate) struct StackPool {
    caches: [Cache; SizeClass::COUNT],
    slabs: Arc<Slabs>,
}

#[derive(Debug)]
struct Cache {
    stacks: Vec<Stack>,
    /// How many may be kept.
    capacity: usize,
}

impl StackPool {
    /// An empty pool in front of `slabs`.
    pub(crate) fn new(slabs: Arc<Slabs>) -> StackPool {
        let share = slabs.limit() / SHARE;
        let caches = SizeClass::ALL.map(|class| {
            let capacity = MAX_CACHED.min(MAX_CACHED_BYTES / class.size()).min(share);
            Cache {
                stacks: Vec::new(),
                capacity,
            }
        });
        StackPool { caches, slabs }
    }

    /// A guarded stack whose contents are unspecified.
    #[inline]
    pub(crate) fn acquire(&mut self, class: SizeClass) -> io::Result<Stack> {
        match self.caches[class.index()].stacks.pop() {
            Some(stack) => Ok(stack),
            None => self.refill(class),
        }
    }

    /// Returns a stack on which nothing lives any more.
    #[inline]
    pub(crate) fn release(&mut self, stack: Stack) {
        let class = stack.class();
        let cache = &mut self.caches[class.index()];
        cache.stacks.push(stack);
        if cache.stacks.len() > cache.capacity {
            self.give_back(class);
        }
    }

    #[cold]
    fn refill(&mut self, class: SizeClass) -> io::Result<Stack> {
        let wanted = (self.caches[class.index()].capacity / 2).max(1);
        match self
            .slabs
            .lend(class, wanted, &mut self.caches[class.index()].stacks)
        {
            Err(StackError::TooMany { .. }) => {
                self.give_back_all();
                self.slabs
                    .lend(class, 1, &mut self.caches[class.index()].stacks)?;
            }
            outcome => outcome?,
        }
        let stack = self.caches[class.index()].stacks.pop();
        Ok(stack.expect("the slabs lend at least one stack"))
    }

    #[cold]
    fn give_back(&mut self, class: SizeClass) {
        let cache = &mut self.caches[class.index()];
        let oldest = cache.stacks.len() - cache.capacity / 2;
        self.slabs.take_back(class, cache.stacks.drain(..oldest));
    }

    /// Whether nothing is at hand.
    pub(crate) fn is_empty(&self) -> bool {
        self.caches.iter().all(|cache| cache.stacks.is_empty())
    }

    /// Returns all that is at hand to the slabs.
    pub(crate) fn give_back_all(&mut self) {
        for class in SizeClass::ALL {
            let cache = &mut self.caches[class.index()];
            if !cache.stacks.is_empty() {
                self.slabs.take_back(class, cache.stacks.drain(..));
            }
        }
    }
}

impl Drop for StackPool {
    fn drop(&mut self) {
        self.give_back_all();
    }
}

const MAX_CACHED: usize = 64;
const MAX_CACHED_BYTES: usize = 16 << 20;
const SHARE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{StackGuard, StackLimits};

    fn slabs(max_stacks: usize) -> Arc<Slabs> {
        let guard = Some(StackGuard::Auto);
        Slabs::new(StackLimits {
            default_size: 64 << 10,
            max_stacks,
            guard,
            warm: None,
        })
        .unwrap()
    }

    #[test]
    fn the_stack_released_last_is_acquired_first() {
        let slabs = slabs(1 << 20);
        let class = slabs.default_class();
        let mut pool = StackPool::new(slabs);
        let (first, last) = (pool.acquire(class).unwrap(), pool.acquire(class).unwrap());
        let (older, newer) = (first.limit(), last.limit());
        pool.release(first);
        pool.release(last);
        let again = [pool.acquire(class).unwrap(), pool.acquire(class).unwrap()];
        assert_eq!([again[0].limit(), again[1].limit()], [newer, older]);
        again.into_iter().for_each(|stack| pool.release(stack));
    }

    #[test]
    fn a_burst_leaves_no_more_than_the_capacity_with_the_pool() {
        let slabs = slabs(1 << 20);
        let class = slabs.default_class();
        let mut pool = StackPool::new(Arc::clone(&slabs));
        let burst: Vec<_> = (0..1000).map(|_| pool.acquire(class).unwrap()).collect();
        burst.into_iter().for_each(|stack| pool.release(stack));
        let stats = slabs.stats();
        assert!(stats.live <= MAX_CACHED, "{stats:?}");
        assert_eq!(stats.live + stats.warm, stats.high_water);
    }

    #[test]
    fn a_dropped_pool_has_returned_everything() {
        let slabs = slabs(1 << 20);
        let mut pool = StackPool::new(Arc::clone(&slabs));
        for size in [1, 64 << 10, 1 << 20] {
            let stack = pool.acquire(SizeClass::for_size(size).unwrap()).unwrap();
            pool.release(stack);
        }
        assert!(slabs.stats().live > 0);
        drop(pool);
        assert_eq!(slabs.stats().live, 0);
    }

    #[test]
    fn a_small_limit_is_exact_across_pools() {
        let slabs = slabs(3);
        let class = slabs.default_class();
        let mut pools = [
            StackPool::new(Arc::clone(&slabs)),
            StackPool::new(Arc::clone(&slabs)),
        ];
        let warmed = [(); 3].map(|()| pools[0].acquire(class).unwrap());
        warmed.into_iter().for_each(|stack| pools[0].release(stack));

        let stacks = [(); 3].map(|()| pools[1].acquire(class).unwrap());
        let error = pools[0].acquire(class).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        stacks.into_iter().for_each(|stack| pools[1].release(stack));
        let stack = pools[0].acquire(class).unwrap();
        pools[0].release(stack);
    }

    #[test]
    fn at_the_limit_a_pool_gives_up_what_it_keeps_of_other_sizes() {
        let slabs = slabs(SHARE * 2);
        let mut pool = StackPool::new(slabs);
        let large = SizeClass::for_size(1 << 20).unwrap();
        let small = SizeClass::for_size(1).unwrap();
        let kept = pool.acquire(large).unwrap();
        pool.release(kept);
        let stacks: Vec<_> = (0..SHARE * 2)
            .map(|_| pool.acquire(small).unwrap())
            .collect();
        assert!(pool.acquire(large).is_err());
        stacks.into_iter().for_each(|stack| pool.release(stack));
    }
}
