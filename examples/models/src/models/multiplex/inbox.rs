//! Where other threads leave something for a loop: a list and a bell that the loop hears
//! while it waits for sockets.

use std::{
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use rustix::event::{EventfdFlags, eventfd};

pub(in super::super) struct Inbox<T> {
    items: Mutex<Vec<T>>,
    /// Ready for reading after it was written to, like a socket: what an event loop can wait for.
    bell: OwnedFd,
}

impl<T> Inbox<T> {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            items: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Leaves `item`, and rings if the loop does not yet know that there is something.
    pub fn put(&self, item: T) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push(item);
        let first = items.len() == 1;
        drop(items);
        if first {
            // Fails only if it was rung 2^64 - 2 times and not heard.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Takes all that is there. First the bell is silenced: whatever comes after that rings
    /// it anew or is taken here.
    pub fn take(&self) -> Vec<T> {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        mem::take(&mut self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> AsFd for Inbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
