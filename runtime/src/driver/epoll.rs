//! Readiness by epoll: edge-triggered, a descriptor registered once, its readiness remembered.
//!
//! A descriptor is added for both directions at its first wait and stays until it is closed, so a
//! wait costs no `epoll_ctl`. The kernel reports edges; between them a bit per direction says whether
//! the last edge has been used up. The bit is cleared by whoever ran into `EAGAIN`, or read or wrote
//! less than it asked for: on a stream that says the same (epoll(7), question 9), without the extra
//! call. After a hang-up or an error the descriptor counts as ready for good, since no edge follows.
//!
//! All of this is one thread's. A descriptor that is used on several workers is registered with each
//! of them, and each gets its edges and keeps its own bits.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
};

use super::Waiter;
use crate::sys::event::{Bell, Direction, timespec};

pub(crate) struct Driver {
    epoll: Arc<OwnedFd>,
    slots: Vec<Registration>,
    free: Vec<u32>,
    registered: usize,
    events: Vec<Event>,
}

// SAFETY: a driver is made on one thread and then used by one other. What keeps it from being `Send` are
// the waiters, of which there are none before that, and the events' buffer, which is plain data.
unsafe impl Send for Driver {}

/// Names a registration; valid until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

#[derive(Default)]
struct Registration {
    /// Tells an event of this registration from one of the slot's former owner.
    generation: u32,
    read: Side,
    write: Side,
}

#[derive(Default)]
struct Side {
    ready: bool,
    /// Ready for good: no edge follows a hang-up or an error.
    ended: bool,
    waiter: Option<Waiter>,
    /// Further waiters of a descriptor that is shared by several.
    more: Vec<Waiter>,
}

/// Events taken from the kernel at a time; more wait for the next call.
const EVENTS_AT_ONCE: usize = 512;

/// The bell's event carries what no slot can.
const BELL: u64 = u64::MAX;

impl Driver {
    pub(crate) fn new(bell: &Bell) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        epoll::add(
            &epoll,
            bell,
            EventData::new_u64(BELL),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            slots: Vec::new(),
            free: Vec::new(),
            registered: 0,
            events: Vec::with_capacity(EVENTS_AT_ONCE),
        })
    }

    /// Whether any descriptor is registered, that is, whether polling can find anything.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.registered == 0
    }

    /// Registers `fd` for both directions; it counts as not ready until the kernel says so, which it
    /// does at the next poll if it is ready now.
    pub(crate) fn register(&mut self, fd: BorrowedFd<'_>) -> io::Result<Slot> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Registration::default());
                u32::try_from(self.slots.len() - 1).expect("fewer descriptors than 2^32")
            }
        };
        let generation = self.slots[index as usize].generation;
        let data = u64::from(generation) << 32 | u64::from(index);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(errno) = epoll::add(&self.epoll, fd, EventData::new_u64(data), flags) {
            self.free.push(index);
            return Err(errno.into());
        }
        self.registered += 1;
        Ok(Slot(index))
    }

    /// Forgets a registration whose descriptor has been, or is being, taken out of the epoll set.
    pub(crate) fn forget(&mut self, slot: Slot) {
        let registration = &mut self.slots[slot.0 as usize];
        debug_assert!(registration.read.waiter.is_none() && registration.write.waiter.is_none());
        let generation = registration.generation.wrapping_add(1);
        // The last index and generation together would be the bell's mark.
        *registration = Registration {
            generation: generation & (u32::MAX >> 1),
            ..Registration::default()
        };
        self.free.push(slot.0);
        self.registered -= 1;
    }

    pub(crate) fn remove(&mut self, slot: Slot, fd: BorrowedFd<'_>) {
        remove_from(self.epoll.as_fd(), fd);
        self.forget(slot);
    }

    #[inline]
    pub(crate) fn is_ready(&self, slot: Slot, direction: Direction) -> bool {
        self.slots[slot.0 as usize].side(direction).ready
    }

    /// A call moved less than it could have: not ready until the next edge, unless none will follow.
    #[inline]
    pub(crate) fn came_short(&mut self, slot: Slot, direction: Direction) {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        side.ready = side.ended;
    }

    /// A call would have blocked: not ready until the next edge, whatever was thought before.
    #[inline]
    pub(crate) fn would_block(&mut self, slot: Slot, direction: Direction) {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        side.ready = false;
        side.ended = false;
    }

    #[inline]
    pub(crate) fn add_waiter(&mut self, slot: Slot, direction: Direction, waiter: Waiter) {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        match side.waiter {
            None => side.waiter = Some(waiter),
            Some(_) => side.more.push(waiter),
        }
    }

    /// Takes a waiter out that was woken by something else.
    pub(crate) fn remove_waiter(&mut self, slot: Slot, direction: Direction, waiter: Waiter) {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        if side.waiter == Some(waiter) {
            side.waiter = side.more.pop();
        } else {
            side.more.retain(|other| *other != waiter);
        }
    }

    /// Waits for events, at most for `timeout` (`None`: for ever), and hands back who waited for them.
    pub(crate) fn poll(
        &mut self,
        timeout: Option<Duration>,
        mut wake: impl FnMut(Waiter),
    ) -> io::Result<()> {
        let timeout = timeout.map(timespec);
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &self.events {
            let data = event.data.u64();
            if data == BELL {
                continue;
            }
            let (index, generation) = (data as u32, (data >> 32) as u32);
            let Some(registration) = self.slots.get_mut(index as usize) else {
                continue;
            };
            if registration.generation != generation {
                continue;
            }
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            // A half-closed stream can still be written to, and become full: only its reading ends.
            let read_ended = broken || flags.contains(EventFlags::RDHUP);
            if read_ended || flags.contains(EventFlags::IN) {
                registration.read.fire(read_ended, &mut wake);
            }
            if broken || flags.contains(EventFlags::OUT) {
                registration.write.fire(broken, &mut wake);
            }
        }
        Ok(())
    }

    /// For taking descriptors out from another thread.
    pub(crate) fn handle(&self) -> Arc<OwnedFd> {
        self.epoll.clone()
    }
}

/// Takes `fd` out of an epoll set, from any thread.
pub(crate) fn remove_from(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) {
    if let Err(errno) = epoll::delete(epoll, fd) {
        // ENOENT: taken out already. Anything else is a descriptor closed behind our back.
        debug_assert_eq!(errno, Errno::NOENT);
    }
}

impl Registration {
    #[inline]
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    #[inline]
    fn side_mut(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Side {
    #[inline]
    fn fire(&mut self, ended: bool, wake: &mut impl FnMut(Waiter)) {
        self.ready = true;
        self.ended |= ended;
        if let Some(waiter) = self.waiter.take() {
            wake(waiter);
            if !self.more.is_empty() {
                self.more.drain(..).for_each(wake);
            }
        }
    }
}
