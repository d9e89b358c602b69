//! The driver: what a worker waits with when no coroutine is ready, and what knows which descriptors are.
//!
//! # Who calls
//! One driver per worker. Its thread alone calls it, through `Worker::with_driver`, in short calls that neither
//! suspend nor call back; only the worker's loop lets it wait, in [`Driver::poll`]. Other threads have two doors:
//! the [`Registrar`], to take out a descriptor that they close, and [`Standby`], which all workers share.
//!
//! The driver knows no coroutines: a waiter is a [`Token`] that it hands back. It reads no clock: instants come
//! with the call. Which kind it is, nobody above can tell, nor needs to. There are two, chosen when it is made:
//! [`epoll`], and in a simulated [world](sim::World) [`sim`], which differs in how it waits, and so in [`Driver::poll`]
//! alone. A further kind is one more arm of [`Kind`], with these promises, which `promises` tests of each.
//!
//! # A registration
//! [`Driver::register`] watches a descriptor for both directions until it is taken out. [`Slot`] names it. Its
//! owner takes it out before the descriptor is closed, and not while somebody waits there: on the worker with
//! [`Driver::remove`], elsewhere with [`Registrar::retire`]. A slot is used again after that, and what was under
//! way for the former owner never reaches the next.
//!
//! # An operation
//! The caller (`net/source`) keeps the operation, its buffer and its deadline on the coroutine's own stack. It is
//! done at once, or pending until its wait ends:
//!
//! 1. [`Driver::is_worth_reading`] or [`Driver::is_ready`] says whether to try. A slot counts as not ready at
//!    first; without a slot, try.
//! 2. The caller tries, and says how it went: [`Driver::came_short`], [`Driver::came_filled`], or
//!    [`Driver::would_block`]. What it says is all that the driver learns between two polls.
//! 3. If it has to wait: [`Driver::add_waiter`], then the door. A poll hands the token back **once**, when the
//!    direction has become ready, and has forgotten it then. The caller tries again, since others may have been
//!    there before it.
//!
//! No readiness that comes after step 1 is lost: it is remembered, or ends the wait. One token may wait in several
//! places at once; when one has handed it back, its owner takes it out of the others.
//!
//! # What others own
//! A descriptor that its owner may close without a word is not registered, but watched for one wait:
//! [`Driver::watch_lent`].
//!
//! # Cancellation
//! A deadline, a cancellation or a shutdown wakes the coroutine, not the driver. The woken coroutine calls
//! [`Driver::remove_waiter`] before it goes on, so no token outlives its wait. A token that was handed back and
//! lost the race for its waiter's claim is nobody's.
//!
//! # Buffers
//! An operation returns only once the kernel has returned its buffer. Here the kernel has a buffer for one
//! non-blocking call alone, so a wait that is cut short has none to give back. A kind that leaves buffers with the
//! kernel asks it to let go, and waits until it has, before the wait ends: the record of a pending operation lives
//! on the suspended stack beside the buffer.

mod epoll;
pub(crate) mod hangups;
mod lent;
#[cfg(all(test, not(loom)))]
mod promises;
mod read_predictor;
mod shared;
pub(crate) mod sim;

use std::{
    io,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) use shared::Standby;

use crate::{
    sys::event::{Bell, Direction},
    waiter::Waiter,
};
use epoll::Epoll;
use sim::World;

/// Who is told that a descriptor is ready; the driver only hands it back.
pub(crate) type Token = NonNull<Waiter>;

/// Names a registration; valid until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// What a poll found that is nobody's wait.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    /// Something that is on standby is due.
    pub(crate) standby: bool,
}

/// A worker's driver.
pub(crate) struct Driver {
    /// What is known of descriptors. All kinds have this in common, so calls about one do not ask which kind it is.
    ready: Epoll,
    kind: Kind,
}

/// How a driver waits.
pub(crate) enum Kind {
    /// For the kernel.
    Epoll,
    /// For nothing: the world's time moves on.
    Sim(Arc<World>),
}

/// What other threads may do with a worker's driver, and what it will be.
#[derive(Clone)]
pub(crate) struct Registrar {
    ready: Arc<epoll::Registrar>,
    world: Option<Arc<World>>,
}

impl Driver {
    /// The driver that belongs to `registrar`, of which there is one; made on the thread that calls it.
    pub(crate) fn of(registrar: Registrar) -> Self {
        Self {
            ready: Epoll::of(registrar.ready),
            kind: registrar.world.map_or(Kind::Epoll, Kind::Sim),
        }
    }

    /// Whether no descriptor is registered, so that a poll that does not wait finds nothing.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_idle()
    }

    /// How many descriptors are registered.
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Registers `fd` for both directions. It counts as not ready until a poll has found otherwise, which the next
    /// does if it is ready now.
    ///
    /// # Errors
    /// If the kernel cannot watch it, as with regular files, or will watch no more.
    pub(crate) fn register(&mut self, fd: BorrowedFd<'_>) -> io::Result<Slot> {
        if let Kind::Sim(world) = &self.kind {
            world.note_registered(sim::is_simulated(fd));
        }
        self.ready.register(fd)
    }

    /// Takes a registration out that nobody waits for, whose descriptor is still open.
    pub(crate) fn remove(&mut self, slot: Slot, fd: BorrowedFd<'_>) {
        self.ready.remove(slot, fd);
    }

    /// Has the next poll that finds one of `events` (poll(2)) on `fd` hand back `waiter`, once, or for nothing. Others
    /// own the descriptor, and may close it: nothing stays registered that is believed.
    ///
    /// # Errors
    /// If the kernel cannot watch it, as with regular files, or will watch no more, or watches it for a registration.
    pub(crate) fn watch_lent(
        &mut self,
        fd: BorrowedFd<'_>,
        events: u32,
        waiter: Token,
    ) -> rustix::io::Result<()> {
        if let Kind::Sim(world) = &self.kind {
            world.note_registered(false);
        }
        self.ready.watch_lent(fd, events, waiter)
    }

    /// Takes a waiter out of all its waits for what others own under that number.
    pub(crate) fn forget_lent(&mut self, fd: BorrowedFd<'_>, waiter: Token) {
        self.ready.forget_lent(fd, waiter);
    }

    /// What the event said (poll(2)) by which a poll has handed back who waited for that descriptor of others' alone;
    /// nothing, if that is not certain.
    pub(crate) fn came_lent(&self, fd: BorrowedFd<'_>) -> u32 {
        self.ready.came_lent(fd)
    }

    /// Whether nobody waits for it.
    pub(crate) fn is_unawaited(&self, slot: Slot) -> bool {
        self.ready.is_unawaited(slot)
    }

    /// Whether an operation in that direction may succeed, as far as is known.
    #[inline]
    pub(crate) fn is_ready(&self, slot: Slot, direction: Direction) -> bool {
        self.ready.is_ready(slot, direction)
    }

    /// Whether to try a read now. If not, the reader waits: the read may have been deferred, in which case a poll
    /// hands the reader back even if nothing comes.
    #[inline]
    pub(crate) fn is_worth_reading(&mut self, slot: Slot, now: impl FnOnce() -> Instant) -> bool {
        self.ready.is_worth_reading(slot, now)
    }

    /// An operation moved less than it could have. Not ready any more, unless `doubtful`, or something that is known
    /// here, says that this may have had another reason.
    #[inline]
    pub(crate) fn came_short(&mut self, slot: Slot, direction: Direction, doubtful: bool) {
        self.ready.came_short(slot, direction, doubtful);
    }

    /// A read filled its buffer: there may be more, or not.
    #[inline]
    pub(crate) fn came_filled(&mut self, slot: Slot) {
        self.ready.came_filled(slot);
    }

    /// An operation would have had to wait. Returns whether to try once more all the same.
    #[inline]
    pub(crate) fn would_block(&mut self, slot: Slot, direction: Direction) -> bool {
        self.ready.would_block(slot, direction)
    }

    /// Has the next poll that finds the direction ready hand back `waiter`, once.
    #[inline]
    pub(crate) fn add_waiter(&mut self, slot: Slot, direction: Direction, waiter: Token) {
        self.ready.add_waiter(slot, direction, waiter);
    }

    /// Takes a waiter out that something else has woken; does nothing if it was handed back.
    pub(crate) fn remove_waiter(&mut self, slot: Slot, direction: Direction, waiter: Token) {
        self.ready.remove_waiter(slot, direction, waiter);
    }

    /// Waits until something has come or the bell rings, at most for `timeout` (`None`: for ever), and hands back
    /// who waited for it. It may return for nothing.
    ///
    /// # Errors
    /// Those of the system, which only a fault here can lead to. No waiter is lost then.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        timeout: Option<Duration>,
        now: impl Fn() -> Instant,
        wake: impl FnMut(Token),
    ) -> io::Result<Polled> {
        match &self.kind {
            Kind::Epoll => self.ready.poll(timeout, now, wake),
            Kind::Sim(world) => sim::poll(&mut self.ready, world, timeout, &now, &mut { wake }),
        }
    }
}

impl Registrar {
    /// For a driver whose waits `bell` ends, and that reports what is due on `standby`. Made first, since a driver
    /// never leaves its thread. On a thread that is in a world, for a simulation's.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub(crate) fn new<T>(bell: &Bell, standby: &Standby<T>) -> io::Result<Self> {
        let ready = epoll::Registrar::new(bell, standby)?;
        Ok(Self {
            ready: Arc::new(ready),
            world: sim::current(),
        })
    }

    /// Takes a registration out that nobody waits for, whose descriptor is still open.
    pub(crate) fn retire(&self, slot: Slot, fd: BorrowedFd<'_>) {
        self.ready.retire(slot, fd);
    }
}
