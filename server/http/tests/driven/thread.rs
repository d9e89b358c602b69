//! Threads; in a world, coroutines.

use std::{any::Any, thread, time::Duration};

use super::is_simulated;

/// One that was begun.
pub enum JoinHandle<T> {
    Thread(thread::JoinHandle<T>),
    Coroutine(maniple::JoinHandle<T>),
}

/// Begins one.
#[track_caller]
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match is_simulated() {
        true => JoinHandle::Coroutine(maniple::spawn(body)),
        false => JoinHandle::Thread(thread::spawn(body)),
    }
}

impl<T> JoinHandle<T> {
    /// Its value, or what it panicked with.
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        match self {
            Self::Thread(thread) => thread.join(),
            Self::Coroutine(coroutine) => coroutine.join().map_err(|error| Box::new(error) as _),
        }
    }

    pub fn is_finished(&self) -> bool {
        match self {
            Self::Thread(thread) => thread.is_finished(),
            Self::Coroutine(coroutine) => coroutine.is_finished(),
        }
    }
}

/// Gives others their turn: to be called in a loop until something is so. In a world it lets time pass, too.
pub fn yield_now() {
    match is_simulated() {
        true => maniple::sleep(Duration::from_millis(1)),
        false => thread::yield_now(),
    }
}

/// Waits for good.
pub fn park() {
    match is_simulated() {
        true => maniple::park(),
        false => thread::park(),
    }
}

/// Plain threads that borrow.
#[track_caller]
pub fn scope<'env, T>(
    main: impl for<'scope> FnOnce(&'scope thread::Scope<'scope, 'env>) -> T,
) -> T {
    super::needs_the_kernel("plain threads that borrow");
    thread::scope(main)
}
