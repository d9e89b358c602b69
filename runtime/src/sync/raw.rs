//! What lock_api asks of our locks: its traits, whose implementors promise that they exclude.
//!
//! The locks themselves, in `mutex`, `rwlock` and `reentrant`, are safe code. Here their promise becomes access to what
//! they protect, and so here is all that is unsafe about them.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lock_api::GuardSend;

use super::{
    CallerId, RawMutex, RawRwLock, RwLock, RwLockReadGuard,
    rwlock::{Access, READER, UPGRADABLE},
};
use crate::{scheduler::now, wait};

// SAFETY: `lock` returns only after this waiter moved the state from FREE, or an unlock handed a
// locked state over to it alone; until its `unlock` nobody else can.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "the trait's way to make one"
    )]
    #[cfg(not(loom))]
    const INIT: Self = RawMutex::new();

    #[cfg(loom)]
    const INIT: Self = panic!("loom cannot make its atomics in a constant");

    type Guard = GuardSend;

    #[inline]
    fn lock(&self) -> Self::Guard {
        wait::point_of_tests();
        if !self.take() {
            self.take_in_turn(None);
        }
        wait::point_of_tests();
        GuardSend::new()
    }

    #[inline]
    fn try_lock(&self) -> Option<Self::Guard> {
        if self.take() {
            return Some(GuardSend::new());
        }
        // A loop that tries again must not keep the holder from its turn.
        wait::spend();
        None
    }

    #[inline]
    unsafe fn unlock(&self, _: Self::Guard) {
        self.leave(false);
    }

    fn is_locked(&self) -> bool {
        self.is_held()
    }
}

// SAFETY: as for `RawMutex`; one that is handed over stays locked.
unsafe impl lock_api::RawMutexFair for RawMutex {
    #[inline]
    unsafe fn unlock_fair(&self, _: Self::Guard) {
        self.leave(true);
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl lock_api::RawMutexTimed for RawMutex {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_for(&self, timeout: Duration) -> Option<Self::Guard> {
        let locked = self.take() || self.take_in_turn(now().checked_add(timeout));
        locked.then(GuardSend::new)
    }

    fn try_lock_until(&self, deadline: Instant) -> Option<Self::Guard> {
        let locked = self.take() || self.take_in_turn(Some(deadline));
        locked.then(GuardSend::new)
    }
}

// SAFETY: a locker returns only after its access was added to the state by itself or by who let it
// in, in either case when `Access::fits` held and no other could add; `leave` and `leave_exclusive` take
// away what was added.
unsafe impl lock_api::RawRwLock for RawRwLock {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "the trait's way to make one"
    )]
    #[cfg(not(loom))]
    const INIT: Self = RawRwLock::new();

    #[cfg(loom)]
    const INIT: Self = panic!("loom cannot make its atomics in a constant");

    type SharedGuard = GuardSend;
    type ExclusiveGuard = GuardSend;

    #[inline]
    fn lock_shared(&self) -> GuardSend {
        self.lock(Access::Shared);
        GuardSend::new()
    }

    #[inline]
    fn try_lock_shared(&self) -> Option<GuardSend> {
        self.try_enter(Access::Shared).then(GuardSend::new)
    }

    #[inline]
    unsafe fn unlock_shared(&self, _: GuardSend) {
        self.leave(READER, 0);
    }

    #[inline]
    fn lock_exclusive(&self) -> GuardSend {
        self.lock(Access::Exclusive);
        GuardSend::new()
    }

    #[inline]
    fn try_lock_exclusive(&self) -> Option<GuardSend> {
        self.try_enter(Access::Exclusive).then(GuardSend::new)
    }

    #[inline]
    unsafe fn unlock_exclusive(&self, _: GuardSend) {
        self.leave_exclusive(0);
    }

    fn is_locked(&self) -> bool {
        self.is_held()
    }

    fn is_locked_exclusive(&self) -> bool {
        self.is_held_exclusively()
    }
}

// SAFETY: as for `RawRwLock`. Each unlocking is fair: while somebody waits, newcomers queue behind.
unsafe impl lock_api::RawRwLockFair for RawRwLock {
    #[inline]
    unsafe fn unlock_shared_fair(&self, _: GuardSend) {
        self.leave(READER, 0);
    }

    #[inline]
    unsafe fn unlock_exclusive_fair(&self, _: GuardSend) {
        self.leave_exclusive(0);
    }
}

// SAFETY: what is kept is taken away by the unlocking of what is returned.
unsafe impl lock_api::RawRwLockDowngrade for RawRwLock {
    #[inline]
    unsafe fn downgrade(&self, guard: GuardSend) -> GuardSend {
        self.leave_exclusive(READER);
        guard
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl lock_api::RawRwLockTimed for RawRwLock {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_shared_for(&self, timeout: Duration) -> Option<GuardSend> {
        self.lock_for(Access::Shared, timeout).then(GuardSend::new)
    }

    fn try_lock_shared_until(&self, deadline: Instant) -> Option<GuardSend> {
        self.lock_until(Access::Shared, deadline)
            .then(GuardSend::new)
    }

    fn try_lock_exclusive_for(&self, timeout: Duration) -> Option<GuardSend> {
        self.lock_for(Access::Exclusive, timeout)
            .then(GuardSend::new)
    }

    fn try_lock_exclusive_until(&self, deadline: Instant) -> Option<GuardSend> {
        self.lock_until(Access::Exclusive, deadline)
            .then(GuardSend::new)
    }
}

// SAFETY: as for `RawRwLock`; an upgrade that fails has not changed the state.
unsafe impl lock_api::RawRwLockUpgrade for RawRwLock {
    type UpgradableGuard = GuardSend;

    #[inline]
    fn lock_upgradable(&self) -> GuardSend {
        self.lock(Access::Upgradable);
        GuardSend::new()
    }

    #[inline]
    fn try_lock_upgradable(&self) -> Option<GuardSend> {
        self.try_enter(Access::Upgradable).then(GuardSend::new)
    }

    #[inline]
    unsafe fn unlock_upgradable(&self, _: GuardSend) {
        self.leave(UPGRADABLE, 0);
    }

    #[inline]
    unsafe fn upgrade(&self, guard: GuardSend) -> GuardSend {
        self.lock(Access::Upgraded);
        guard
    }

    #[inline]
    unsafe fn try_upgrade(&self, guard: GuardSend) -> Result<GuardSend, GuardSend> {
        done(self.try_enter(Access::Upgraded), guard)
    }
}

// SAFETY: as for `RawRwLockDowngrade`.
unsafe impl lock_api::RawRwLockUpgradeDowngrade for RawRwLock {
    #[inline]
    unsafe fn downgrade_upgradable(&self, guard: GuardSend) -> GuardSend {
        self.leave(UPGRADABLE, READER);
        guard
    }

    #[inline]
    unsafe fn downgrade_to_upgradable(&self, guard: GuardSend) -> GuardSend {
        self.leave_exclusive(UPGRADABLE);
        guard
    }
}

// SAFETY: as for `RawRwLockUpgrade`.
unsafe impl lock_api::RawRwLockUpgradeTimed for RawRwLock {
    fn try_lock_upgradable_for(&self, timeout: Duration) -> Option<GuardSend> {
        self.lock_for(Access::Upgradable, timeout)
            .then(GuardSend::new)
    }

    fn try_lock_upgradable_until(&self, deadline: Instant) -> Option<GuardSend> {
        self.lock_until(Access::Upgradable, deadline)
            .then(GuardSend::new)
    }

    unsafe fn try_upgrade_for(
        &self,
        guard: GuardSend,
        timeout: Duration,
    ) -> Result<GuardSend, GuardSend> {
        done(self.lock_for(Access::Upgraded, timeout), guard)
    }

    unsafe fn try_upgrade_until(
        &self,
        guard: GuardSend,
        deadline: Instant,
    ) -> Result<GuardSend, GuardSend> {
        done(self.lock_until(Access::Upgraded, deadline), guard)
    }
}

fn done(upgraded: bool, guard: GuardSend) -> Result<GuardSend, GuardSend> {
    if upgraded { Ok(guard) } else { Err(guard) }
}

/// The guard of a read that `enter` has begun, if it says so.
pub(super) fn reader<T: ?Sized>(
    lock: &RwLock<T>,
    enter: impl FnOnce(&RawRwLock) -> bool,
) -> Option<RwLockReadGuard<'_, T>> {
    // SAFETY: nothing is unlocked through it: all callers here do is to enter.
    let entered = enter(unsafe { lock.raw() });
    // SAFETY: a read has been entered, and no guard made for it yet.
    entered.then(|| unsafe { lock.make_read_guard_unchecked(GuardSend::new()) })
}

// SAFETY: coroutines and threads draw their numbers from one source, which gives none twice. So a number
// also stays its owner's after that has ended, when a guard that it made may still be on the thread.
unsafe impl lock_api::GetThreadId for CallerId {
    const INIT: Self = CallerId;

    #[inline]
    fn nonzero_thread_id(&self) -> NonZeroUsize {
        CallerId::number()
    }
}
