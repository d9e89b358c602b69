//! A cancellation at every suspension that there is: whatever is cut, nothing is lost, doubled or left locked.
//!
//! Most scenarios cut one of several, the *victim*: what it takes with it is what the others wait for, for ever.
//! They run beside [`cancel_at`](maniple::cancel::cancel_at), whose count has their suspensions too, so that some
//! cuts come after the victim was woken and before it runs.

mod channels;
mod connecting;
mod coroutines;
mod locks;
mod meeting;
mod moving;
mod planted;
mod policies;
mod processes;
mod sockets;

use std::time::Duration;

use maniple::cancel::at_every_suspension;

/// Bounds a wait that must end, so that a failure does not hang.
const LONG: Duration = Duration::from_secs(60);

/// Runs `f` when dropped.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
