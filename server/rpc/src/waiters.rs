//! Who waits for what one of them, or all of them, can have, in the order in which they came.

use std::{collections::VecDeque, task::Waker};

/// Stands under the lock of what is waited for. Who gives up has to [leave](Self::leave): to wake it in the place of another
/// would wake nobody.
#[derive(Debug, Default)]
pub(crate) struct Waiters(VecDeque<Waker>);

impl Waiters {
    /// Has `waker` woken in its turn. `own` is where the caller keeps note of it: none at first.
    pub(crate) fn join(&mut self, own: &mut Option<Waker>, waker: &Waker) {
        // Who comes for the first time is not there yet.
        let is_there = own.is_some() && self.0.iter().any(|each| each.will_wake(waker));
        if !is_there {
            self.0.push_back(waker.clone());
        }
        *own = Some(waker.clone());
    }

    /// Gives the place up that `own` is the note of, if there is one.
    pub(crate) fn leave(&mut self, own: Option<&Waker>) {
        if let Some(own) = own {
            self.0.retain(|each| !each.will_wake(own));
        }
    }

    /// Who is to be woken next, once the lock is given up.
    pub(crate) fn pop(&mut self) -> Option<Waker> {
        self.0.pop_front()
    }

    /// All of them, to be woken once the lock is given up.
    pub(crate) fn take(&mut self) -> VecDeque<Waker> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn they_are_woken_in_their_order_once_and_not_after_they_left() {
        let woken = [(); 3].map(|()| Arc::new(Woken::default()));
        let wakers = woken.clone().map(Waker::from);
        let mut own = [None, None, None];
        let mut waiters = Waiters::default();
        for _ in 0..2 {
            for (own, waker) in own.iter_mut().zip(&wakers) {
                waiters.join(own, waker);
            }
        }
        waiters.leave(own[1].as_ref());
        waiters.leave(None);
        while let Some(first) = waiters.pop() {
            first.wake();
        }
        assert_eq!(woken.each_ref().map(|each| each.0.load(Relaxed)), [1, 0, 1]);
        assert!(waiters.take().is_empty());
    }
}
