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
mod policies;
mod processes;
mod sockets;

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// Bounds a wait that must end, so that a failure does not hang.
const LONG: Duration = Duration::from_secs(60);

/// Runs `scenario` with a cancellation at its first suspension, its second, and so on to its last; returns
/// how many there were. A hang ends the process with the test's name.
fn at_every_suspension(mut scenario: impl FnMut(u32) -> bool + Send) -> usize {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (done, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        if ended.recv_timeout(2 * LONG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    let points = runtime.run(move || (0..10_000).take_while(|&after| scenario(after)).count());
    assert!(runtime.shutdown().is_clean(), "coroutines are left");
    drop(done);
    points
}

/// Runs `f` when dropped.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
