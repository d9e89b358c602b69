//! Descriptors that others own, and may close at any time: each is watched for one wait.
//!
//! When the last descriptor of a file is closed, the kernel drops what was registered for it and says nothing; the
//! number may come to stand for another file. So nothing that is known here of a number is believed. Each wait arms it
//! anew, for one event: the kernel holds the number against the file that it stands for now, and refuses what it does
//! not know, which is then added. That is one call, by which the event comes too if the descriptor is ready already.
//!
//! An event hands back all who wait for the number, whatever for: each tries again. It may be of a wait that is over,
//! or of a file that had the number before, and is open under another. What it says of readiness is kept if it is of
//! the file that was armed last, which is the one that was waited for: who asked the kernel again would hear the same.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
    io::Errno,
};

use super::Token;

#[derive(Default)]
pub(super) struct Lent {
    /// By the descriptor's number.
    entries: Vec<Entry>,
}

struct Entry {
    /// Whether the number was added here, for whatever file it stood for then.
    known: bool,
    /// How often it was armed, which the events of the last time carry.
    armed: u32,
    /// What the event said that was the last to hand back somebody; nothing if it may be of another file.
    came: EventFlags,
    waiter: Option<(Token, EventFlags)>,
    /// Further waiters for the same number.
    more: Vec<(Token, EventFlags)>,
}

/// Tells an event of a lent descriptor from all others: no registration's generation is so large.
const MARK: u64 = 1 << 63;

/// Between the mark and the number is how often that was armed.
const ARMED_SHIFT: u32 = 32;
const MOST_ARMED: u32 = (1 << (63 - ARMED_SHIFT)) - 1;

/// Numbers from here on are not watched: the table goes by them. A process has to ask for so many on purpose.
const MOST: usize = 1 << 20;

impl Lent {
    /// Has the next event of `fd` that is one of `events` hand back `waiter`, if the kernel can watch it.
    pub(super) fn watch(
        &mut self,
        set: &OwnedFd,
        fd: BorrowedFd<'_>,
        events: u32,
        waiter: Token,
    ) -> rustix::io::Result<()> {
        let number = fd.as_raw_fd() as usize;
        if number >= MOST {
            return Err(Errno::MFILE);
        }
        if self.entries.len() <= number {
            self.entries.resize_with(number + 1, Entry::default);
        }
        let entry = &mut self.entries[number];
        let own = EventFlags::from_bits_retain(events);
        let all = entry.waiters().fold(own, |all, (_, flags)| all | *flags);
        let flags = all | EventFlags::ONESHOT;
        entry.armed = (entry.armed + 1) & MOST_ARMED;
        let data = MARK | u64::from(entry.armed) << ARMED_SHIFT | number as u64;
        let data = EventData::new_u64(data);
        let armed = match entry.known {
            true => epoll::modify(set, fd, data, flags),
            false => Err(Errno::NOENT),
        };
        match armed {
            Err(Errno::NOENT) => epoll::add(set, fd, data, flags)?,
            armed => armed?,
        }
        entry.known = true;
        match entry.waiter {
            None => entry.waiter = Some((waiter, own)),
            Some(_) => entry.more.push((waiter, own)),
        }
        Ok(())
    }

    /// Takes a waiter out; how often it was in there.
    pub(super) fn forget(&mut self, fd: BorrowedFd<'_>, waiter: Token) -> usize {
        let Some(entry) = self.entries.get_mut(fd.as_raw_fd() as usize) else {
            return 0;
        };
        let before = entry.more.len();
        entry.more.retain(|(other, _)| *other != waiter);
        let mut taken = before - entry.more.len();
        if entry.waiter.is_some_and(|(other, _)| other == waiter) {
            entry.waiter = entry.more.pop();
            taken += 1;
        }
        taken
    }

    /// An event that is of no registration: hands back who waits for it. How many those were.
    #[cold]
    pub(super) fn fire(
        &mut self,
        data: u64,
        flags: EventFlags,
        wake: &mut impl FnMut(Token),
    ) -> usize {
        if data & MARK == 0 {
            return 0;
        }
        let Some(entry) = self.entries.get_mut(data as u32 as usize) else {
            return 0;
        };
        let armed = (data & !MARK) >> ARMED_SHIFT;
        entry.came = match armed == u64::from(entry.armed) {
            true => flags,
            false => EventFlags::empty(),
        };
        let (first, more) = (entry.waiter.take(), entry.more.drain(..));
        let mut woken = 0;
        for (waiter, _) in first.into_iter().chain(more) {
            wake(waiter);
            woken += 1;
        }
        woken
    }

    /// What the last event of that number said, which has handed back who asks; nothing, if that is not certain.
    pub(super) fn came(&self, fd: BorrowedFd<'_>) -> u32 {
        let entry = self.entries.get(fd.as_raw_fd() as usize);
        entry.map_or(0, |entry| entry.came.bits())
    }

    /// The number belongs to the runtime from now on. Whether what is registered for it was added here, so that it is
    /// there to be changed.
    pub(super) fn take_back(&mut self, fd: BorrowedFd<'_>) -> bool {
        let entry = self.entries.get_mut(fd.as_raw_fd() as usize);
        entry.is_some_and(|entry| std::mem::take(&mut entry.known) && entry.waiter.is_none())
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            known: false,
            armed: 0,
            came: EventFlags::empty(),
            waiter: None,
            more: Vec::new(),
        }
    }
}

impl Entry {
    fn waiters(&self) -> impl Iterator<Item = &(Token, EventFlags)> {
        self.waiter.iter().chain(&self.more)
    }
}
