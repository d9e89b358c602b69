//! What is noted of turns, and the gate at their end: how other threads look at a coroutine that runs.

use std::{
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::sys::memory;

/// What is noted of each turn.
static LOOKS: AtomicU8 = AtomicU8::new(0);

/// What is noted of each turn: one load, and a branch that is never taken while it is nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks(u8);

impl Looks {
    const TIMES: u8 = 1;
    const DEPTHS: u8 = 2;
    const GATE: u8 = 4;

    #[inline]
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether turns are timed and counted.
    #[inline]
    pub(crate) fn times(self) -> bool {
        self.0 & Self::TIMES != 0
    }

    /// Whether the depth of stacks is measured.
    #[inline]
    pub(crate) fn depths(self) -> bool {
        self.0 & Self::DEPTHS != 0
    }

    /// Whether the worker must pass its gate once a turn is over.
    #[inline]
    pub(super) fn gated(self) -> bool {
        self.0 & Self::GATE != 0
    }

    pub(crate) fn set_times(on: bool) {
        Self::set(Self::TIMES, on);
    }

    pub(crate) fn set_depths(on: bool) {
        Self::set(Self::DEPTHS, on);
    }

    fn set(bit: u8, on: bool) {
        match on {
            true => LOOKS.fetch_or(bit, Ordering::SeqCst),
            false => LOOKS.fetch_and(!bit, Ordering::SeqCst),
        };
    }
}

#[inline]
pub(crate) fn looks() -> Looks {
    Looks(LOOKS.load(Ordering::Relaxed))
}

/// Keeps workers that are in a turn, while they are looked at, from going on past its end; dropping it ends that.
///
/// # How it works
/// A worker clears `running` at the end of a turn, and passes its gate if it then finds the flag of the gates
/// raised, before it touches a coroutine or its list of them: both in `begun`, around the turn itself. Who
/// looks raises the flag, has all threads pass a barrier, takes the gate's lock and reads `running`. By the barrier
/// either the worker sees the flag, or the cleared pointer is seen here. So while `running` is there and the lock is
/// held, nothing of the worker's changes but what the running coroutine itself changes.
pub(crate) struct Gate(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Gate {
    /// # Errors
    /// If the kernel lacks membarrier(2).
    pub(crate) fn shut() -> io::Result<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = Self(turn);
        Looks::set(Looks::GATE, true);
        if memory::barrier_on_all_threads() {
            return Ok(gate);
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "running coroutines cannot be looked at: no membarrier(2)",
        ))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        Looks::set(Looks::GATE, false);
    }
}
