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
//!
//! A worker's pool keeps one stack more, outside the limit: the *reserve*, on which a coroutine that gets
//! none drops what it owns. Whichever stack of its size is released next takes its place, so it is out only
//! while every other stack is.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::stack::slab::Slabs;
use crate::stack::{SizeClass, Stack, StackError};

/// The stacks a worker keeps at hand. Dropping it returns them to the slabs.
#[derive(Debug)]
pub(crate) struct StackPool {
    caches: [Cache; SizeClass::COUNT],
    reserve: Reserve,
    slabs: Arc<Slabs>,
    /// Who has a say in each stack; then none is kept at hand.
    ration: Option<Ration>,
}

/// Says, before a stack is given, whether it may be.
pub(crate) struct Ration(pub(crate) Box<dyn Fn() -> Result<(), StackError> + Send>);

impl fmt::Debug for Ration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ration")
    }
}

#[derive(Debug)]
enum Reserve {
    None,
    Kept(Stack),
    /// Lent. Meanwhile the cache of its class has no capacity, of which this is what it had: so a release comes
    /// by the slow path, and no other has to ask.
    Out(usize),
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
        StackPool {
            caches,
            reserve: Reserve::None,
            slabs,
            ration: None,
        }
    }

    /// Has each stack from here on, except for the reserve, be asked for there first.
    pub(crate) fn ration(&mut self, ration: Ration) {
        self.give_back_all();
        for cache in &mut self.caches {
            cache.capacity = 0;
        }
        self.ration = Some(ration);
    }

    /// An empty pool with a reserve of the default size.
    pub(crate) fn with_reserve(slabs: Arc<Slabs>) -> io::Result<StackPool> {
        let stack = slabs.lend_uncounted(slabs.default_class())?;
        let mut pool = StackPool::new(slabs);
        pool.reserve = Reserve::Kept(stack);
        Ok(pool)
    }

    /// The reserve, if it is there.
    pub(crate) fn take_reserve(&mut self) -> Option<Stack> {
        if !matches!(self.reserve, Reserve::Kept(_)) {
            return None;
        }
        let cache = &mut self.caches[self.slabs.default_class().index()];
        let capacity = std::mem::take(&mut cache.capacity);
        match std::mem::replace(&mut self.reserve, Reserve::Out(capacity)) {
            Reserve::Kept(stack) => Some(stack),
            Reserve::Out(_) | Reserve::None => None,
        }
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
        if let Some(Ration(may)) = &self.ration {
            may()?;
        }
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
        if let Reserve::Out(capacity) = self.reserve
            && class == self.slabs.default_class()
        {
            cache.capacity = capacity;
            if let Some(stack) = cache.stacks.pop() {
                self.reserve = Reserve::Kept(stack);
            }
            return;
        }
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
        if let Reserve::Kept(stack) = std::mem::replace(&mut self.reserve, Reserve::None) {
            self.slabs.take_back_uncounted(stack);
        }
    }
}

const MAX_CACHED: usize = 64;
const MAX_CACHED_BYTES: usize = 16 << 20;
const SHARE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Guarding, StackGuard, StackLimits};

    fn slabs(max_stacks: usize) -> Arc<Slabs> {
        let guard = Guarding::By(StackGuard::Auto);
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
    fn the_next_stack_that_is_released_takes_the_place_of_the_reserve() {
        let slabs = slabs(SHARE * 2);
        let class = slabs.default_class();
        let mut pool = StackPool::with_reserve(Arc::clone(&slabs)).unwrap();
        let first = pool.acquire(class).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| pool.acquire(class).ok()).collect();
        assert_eq!(all.len() + 1, SHARE * 2, "the reserve is beyond the limit");
        let reserve = pool.take_reserve().unwrap();
        assert!(pool.take_reserve().is_none());
        let large = SizeClass::for_size(1 << 20).unwrap();
        assert!(pool.acquire(large).is_err());
        let limit = first.limit();
        pool.release(first);
        assert!(pool.acquire(class).is_err());
        pool.release(reserve);
        let again = pool.take_reserve().unwrap();
        assert_eq!(again.limit(), limit);
        pool.release(again);
        all.into_iter().for_each(|stack| pool.release(stack));
        drop(pool);
        let stats = slabs.stats();
        assert_eq!((stats.live, stats.warm + stats.cold), (0, SHARE * 2 + 1));
    }

    #[test]
    fn a_rationed_pool_asks_for_each_stack_and_keeps_its_reserve() {
        let mut pool = StackPool::with_reserve(slabs(1 << 20)).unwrap();
        let class = pool.slabs.default_class();
        let before = pool.acquire(class).unwrap();
        pool.release(before);
        let refusing = || Err(StackError::TooMany { limit: 7 });
        pool.ration(Ration(Box::new(refusing)));
        let error = pool.acquire(class).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        let reserve = pool.take_reserve().unwrap();
        pool.release(reserve);
        assert!(pool.acquire(class).is_err());
        pool.ration(Ration(Box::new(|| Ok(()))));
        let stack = pool.acquire(class).unwrap();
        pool.release(stack);
        assert!(pool.is_empty() && pool.take_reserve().is_some());
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
