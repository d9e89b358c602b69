//! Locks and channels for coroutines and plain threads alike.
//!
//! A call that has to wait suspends the coroutine, or blocks the plain thread that made it. There is
//! no poisoning: a panic while a lock is held unlocks it, as in parking_lot.

pub mod channel;
mod condvar;
mod mutex;
mod semaphore;

pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard, RawMutex};
pub use semaphore::{
    AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError,
};
