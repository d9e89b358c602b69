//! Locks and channels for coroutines and plain threads alike.
//!
//! A call that has to wait suspends the coroutine, or blocks the plain thread that made it. There is
//! no poisoning: a panic while a lock is held unlocks it, as in parking_lot.

mod barrier;
pub mod broadcast;
pub mod channel;
mod condvar;
mod failed;
pub mod mpsc;
mod mutex;
mod notify;
mod once;
#[allow(unsafe_code)]
pub mod oneshot;
#[allow(unsafe_code)]
mod raw;
mod recursive;
mod reentrant;
mod rwlock;
mod semaphore;
mod wait_group;
pub mod watch;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{MappedMutexGuard, Mutex, MutexGuard, RawMutex};
pub use notify::Notify;
pub use once::{LazyLock, Once, OnceLock};
pub use recursive::ReadRecursive;
pub use reentrant::{CallerId, MappedReentrantMutexGuard, ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, RawRwLock, RwLock, RwLockReadGuard,
    RwLockUpgradableReadGuard, RwLockWriteGuard,
};
pub use semaphore::{
    AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError,
};
pub use wait_group::WaitGroup;
