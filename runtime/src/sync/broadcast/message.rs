//! A message among those who are still to read it: counted once when it is sent, not at each reading.
//!
//! As many shares as there are receivers are issued at once, as the message enters the ring. A receiver
//! takes its share out under the ring's lock, which costs no atomic operation, and reads outside of it.
//! The holder of all the shares that are left is alone with the message and may take it whole.

use std::{mem::ManuallyDrop, ptr::NonNull};

use crate::loom::{AtomicUsize, Ordering, fence};

/// Some of a message's shares; none once all have been split off.
pub(super) struct Shares<T> {
    counted: NonNull<Counted<T>>,
    held: usize,
}

/// Freed with the last share.
struct Counted<T> {
    shares: AtomicUsize,
    message: T,
}

// SAFETY: holders on several threads read the message, and one of them drops it or takes it out.
unsafe impl<T: Send + Sync> Send for Shares<T> {}
// SAFETY: a reference gives nothing away but what a share does.
unsafe impl<T: Send + Sync> Sync for Shares<T> {}

impl<T> Shares<T> {
    /// One share of a message that nobody else has seen.
    pub(super) fn new(message: T) -> Self {
        let counted = Box::new(Counted {
            shares: AtomicUsize::new(1),
            message,
        });
        Self {
            counted: NonNull::from(Box::leak(counted)),
            held: 1,
        }
    }

    /// Makes the one share so many; there must not be others.
    pub(super) fn issue(&mut self, shares: usize) {
        debug_assert_eq!(self.held, 1, "a message is issued once");
        // Relaxed: a share is had by way of the ring's lock.
        self.counted().shares.store(shares, Ordering::Relaxed);
        self.held = shares;
    }

    /// One of these shares.
    #[inline]
    pub(super) fn split(&mut self) -> Self {
        debug_assert!(self.held > 0, "there is a share for each receiver");
        self.held -= 1;
        Self {
            counted: self.counted,
            held: 1,
        }
    }

    /// The message itself, if all other shares have been given back.
    #[inline]
    pub(super) fn try_into_message(self) -> Result<T, Self> {
        // Acquire pairs with the release of those who gave theirs back. All that are left are here, and
        // new ones come from these alone.
        if self.counted().shares.load(Ordering::Acquire) != self.held {
            return Err(self);
        }
        let shares = ManuallyDrop::new(self);
        // SAFETY: nobody else can reach it, and it came from a box in `new`.
        Ok(unsafe { Box::from_raw(shares.counted.as_ptr()) }.message)
    }

    /// The message itself if possible, else a clone.
    #[inline]
    pub(super) fn into_message(self) -> T
    where
        T: Clone,
    {
        match self.try_into_message() {
            Ok(message) => message,
            Err(shared) => shared.counted().message.clone(),
        }
    }

    #[inline]
    fn counted(&self) -> &Counted<T> {
        debug_assert!(self.held > 0, "without a share it may be gone");
        // SAFETY: it is freed with the last share, and these are not given back yet.
        unsafe { self.counted.as_ref() }
    }
}

impl<T> Drop for Shares<T> {
    #[inline]
    fn drop(&mut self) {
        if self.held == 0 {
            return;
        }
        // Release: what was read here was read before it is dropped elsewhere.
        if self
            .counted()
            .shares
            .fetch_sub(self.held, Ordering::Release)
            == self.held
        {
            // Pairs with the release of all who gave theirs back before.
            fence(Ordering::Acquire);
            // SAFETY: these were the last shares, and it came from a box in `new`.
            drop(unsafe { Box::from_raw(self.counted.as_ptr()) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_holder_of_all_that_is_left_takes_the_message_whole() {
        let original = Arc::new(());
        let mut ring = Shares::new(original.clone());
        ring.issue(3);
        let (first, second) = (ring.split(), ring.split());
        drop(first.into_message());
        assert_eq!(Arc::strong_count(&original), 2, "a clone came and went");
        let second = second.try_into_message().unwrap_err();
        drop(ring);
        assert!(Arc::ptr_eq(&second.into_message(), &original));
        assert_eq!(Arc::strong_count(&original), 1);
    }

    #[test]
    fn what_has_no_shares_left_outlives_the_message() {
        let original = Arc::new(());
        let mut ring = Shares::new(original.clone());
        ring.issue(1);
        drop(ring.split());
        assert_eq!(
            Arc::strong_count(&original),
            1,
            "dropped with the last share"
        );
        drop(ring);
    }
}
