//! What a worker is to run: coroutines that may go on, and new ones that have not begun.
//!
//! Those that have begun here are this thread's alone, so their queue is a plain ring. New ones lie where other workers
//! may steal them, but for those that must begin here.

use std::{cell::RefCell, collections::VecDeque};

use crossbeam_deque::{Injector, Steal, Stealer, Worker as Deque};

use crate::coroutine::{Header, Ready, Unstarted};

pub(super) struct RunQueue {
    ready: RefCell<VecDeque<Ready>>,
    /// New coroutines that others may steal.
    shared: Deque<Unstarted>,
    /// New coroutines that must begin here: their closures are not `Send`, or there is no other worker.
    local: RefCell<VecDeque<Unstarted>>,
}

/// How many turns ahead the lines of a coroutine are asked for; the header first, since it tells where
/// the stack is.
const HEADERS_AHEAD: usize = 3;
const STACKS_AHEAD: usize = 1;

/// More new coroutines than this are not kept where others may steal. A deque that grows takes some 14 KiB of the
/// spawner's stack to do so, which may be all it has; the runtime's injector takes next to nothing.
const MOST_SHARED: usize = 64;

/// What became of a new coroutine that others may steal.
pub(super) enum Queued {
    /// It is the next that this worker begins.
    Next,
    Behind,
    /// Here is no room for it.
    No(Unstarted),
}

/// What was drawn to have the next turn.
pub(super) enum Drawn {
    Ready(Ready),
    Unstarted(Unstarted),
}

impl RunQueue {
    pub(super) fn new(shared: Deque<Unstarted>) -> Self {
        Self {
            ready: RefCell::new(VecDeque::with_capacity(256)),
            shared,
            local: RefCell::new(VecDeque::new()),
        }
    }

    /// Queues a coroutine that may go on; each is there once.
    #[inline]
    pub(super) fn push_ready(&self, task: Ready) {
        self.ready.borrow_mut().push_back(task);
    }

    #[inline]
    pub(super) fn pop_ready(&self) -> Option<Ready> {
        let mut ready = self.ready.borrow_mut();
        let task = ready.pop_front();
        // With thousands of coroutines each turn begins with cache misses; those of the next turns can
        // be under way meanwhile.
        if let Some(next) = ready.get(HEADERS_AHEAD) {
            next.prefetch_header();
        }
        if let Some(next) = ready.get(STACKS_AHEAD) {
            next.prefetch_stack();
        }
        task
    }

    #[inline]
    pub(super) fn ready(&self) -> usize {
        self.ready.borrow().len()
    }

    pub(super) fn unstarted(&self) -> usize {
        self.shared.len() + self.local.borrow().len()
    }

    #[inline]
    pub(super) fn has_unstarted(&self) -> bool {
        !self.shared.is_empty() || !self.local.borrow().is_empty()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ready.borrow().is_empty() && !self.has_unstarted()
    }

    /// Queues a new coroutine that others may steal.
    #[inline]
    pub(super) fn share(&self, task: Unstarted) -> Queued {
        let waiting = self.shared.len();
        if waiting >= MOST_SHARED {
            return Queued::No(task);
        }
        self.shared.push(task);
        match waiting {
            0 => Queued::Next,
            _ => Queued::Behind,
        }
    }

    /// Queues a new coroutine that was taken from others.
    pub(super) fn share_again(&self, task: Unstarted) {
        self.shared.push(task);
    }

    /// Queues a new coroutine that must begin here.
    #[inline]
    pub(super) fn push_local(&self, task: Unstarted) {
        self.local.borrow_mut().push_back(task);
    }

    /// The next new coroutine of this worker's own.
    #[inline(always)]
    pub(super) fn pop_unstarted(&self) -> Option<Unstarted> {
        if let Some(task) = self.shared.pop() {
            return Some(task);
        }
        self.local.borrow_mut().pop_front()
    }

    /// Any of those that may run, by the number that `choose` has for it, below how many there are; and both numbers.
    ///
    /// Whom `choose` looks at it gets by number: the coroutine's header.
    pub(super) fn draw(
        &self,
        choose: impl FnOnce(usize, &dyn Fn(usize, &mut dyn FnMut(&Header))) -> usize,
    ) -> Option<(Drawn, usize, usize)> {
        let (mut ready, mut local) = (self.ready.borrow_mut(), self.local.borrow_mut());
        while let Some(task) = self.shared.pop() {
            local.push_back(task);
        }
        let count = ready.len() + local.len();
        if count == 0 {
            return None;
        }
        let drawn = choose(count, &|nth, look| match nth.checked_sub(ready.len()) {
            None => look(&ready[nth]),
            Some(nth) => look(local[nth].header()),
        });
        let task = match drawn.checked_sub(ready.len()) {
            None => Drawn::Ready(ready.remove(drawn)?),
            Some(drawn) => Drawn::Unstarted(local.remove(drawn)?),
        };
        Some((task, count, drawn))
    }

    /// Shows the new coroutines that must begin here.
    pub(super) fn each_unstarted(&self, look: &mut dyn FnMut(&Header)) {
        for task in &*self.local.borrow() {
            look(task.header());
        }
    }

    /// Takes a batch from what several may take from; returns the first of it.
    pub(super) fn take_batch(&self, from: &Injector<Unstarted>) -> Option<Unstarted> {
        if from.is_empty() {
            return None;
        }
        loop {
            match from.steal_batch_and_pop(&self.shared) {
                Steal::Success(task) => return Some(task),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    /// Brings a batch of another worker's new coroutines here; false if it has none.
    pub(super) fn steal(&self, victim: &Stealer<Unstarted>) -> bool {
        loop {
            match victim.steal_batch(&self.shared) {
                Steal::Success(()) => return true,
                Steal::Empty => return false,
                Steal::Retry => {}
            }
        }
    }
}
