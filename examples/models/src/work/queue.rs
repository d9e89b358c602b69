//! The ways between threads: a bounded queue to workers, and a mailbox back to a thread that waits for events.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::event::{EventfdFlags, eventfd};

/// A queue with a bound: taking waits while it is empty, and putting chooses what to do while it is full.
#[derive(Debug)]
pub struct Queue<T> {
    capacity: usize,
    items: Mutex<VecDeque<T>>,
    has_items: Condvar,
    has_room: Condvar,
}

impl<T> Queue<T> {
    /// An empty one, for so many.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            items: Mutex::default(),
            has_items: Condvar::new(),
            has_room: Condvar::new(),
        }
    }

    /// Puts an item at the end; waits while the queue is full.
    pub fn push(&self, item: T) {
        let mut items = lock(&self.items);
        while items.len() >= self.capacity {
            items = wait(&self.has_room, items);
        }
        items.push_back(item);
        self.has_items.notify_one();
    }

    /// Puts an item at the end, or gives it back if the queue is full.
    pub fn try_push(&self, item: T) -> Result<(), T> {
        let mut items = lock(&self.items);
        if items.len() >= self.capacity {
            return Err(item);
        }
        items.push_back(item);
        self.has_items.notify_one();
        Ok(())
    }

    /// Takes the oldest item; waits while there is none.
    pub fn pop(&self) -> T {
        let mut items = lock(&self.items);
        loop {
            if let Some(item) = items.pop_front() {
                self.has_room.notify_one();
                return item;
            }
            items = wait(&self.has_items, items);
        }
    }
}

/// What workers give back to a thread that waits in `epoll`: an eventfd is readable while there is something in it.
#[derive(Debug)]
pub struct Mailbox<T> {
    items: Mutex<Vec<T>>,
    bell: OwnedFd,
}

impl<T> Mailbox<T> {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            items: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Puts an item in; never waits.
    pub fn put(&self, item: T) {
        let mut items = lock(&self.items);
        items.push(item);
        if items.len() == 1 {
            // It can only fail if the bell has been rung 2^64 times and nobody came.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Takes everything out.
    pub fn take(&self) -> Vec<T> {
        let mut items = lock(&self.items);
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        std::mem::take(&mut items)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Nothing here panics between two steps of a change, so that a poisoned lock guards what is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_back_or_waits() {
        let queue = Queue::new(2);
        queue.push(1);
        queue.push(2);
        assert_eq!(queue.try_push(3), Err(3));
        std::thread::scope(|scope| {
            scope.spawn(|| queue.push(3));
            assert_eq!([queue.pop(), queue.pop(), queue.pop()], [1, 2, 3]);
        });
    }

    #[test]
    fn one_that_waits_at_an_empty_queue_gets_the_next() {
        let queue = Queue::new(1);
        std::thread::scope(|scope| {
            let takes = scope.spawn(|| queue.pop() + queue.pop());
            queue.push(1);
            queue.push(2);
            assert_eq!(takes.join().unwrap(), 3);
        });
    }

    #[test]
    fn the_bell_of_a_mailbox_rings_until_it_is_emptied() {
        let mailbox = Mailbox::new().unwrap();
        let rings = || {
            let mut asked = [rustix::event::PollFd::new(
                &mailbox,
                rustix::event::PollFlags::IN,
            )];
            let at_once = rustix::time::Timespec::default();
            rustix::event::poll(&mut asked, Some(&at_once)).unwrap() == 1
        };
        assert!(!rings());
        mailbox.put(1);
        mailbox.put(2);
        assert!(rings());
        assert_eq!(mailbox.take(), [1, 2]);
        assert!(!rings());
        mailbox.put(3);
        assert!(rings());
    }
}
