//! Rare ways that code takes on purpose, in some worlds.

use std::{panic::Location, time::Duration};

use crate::{cancel, driver::sim, time};

/// Whether something rare is to happen here. What [`buggify!`](super::buggify) calls.
#[doc(hidden)]
#[inline]
#[track_caller]
pub fn buggified() -> bool {
    sim::is_any() && sim::strikes(Location::caller())
}

/// Says yes now and then in a simulated world, and no everywhere else, at the cost of one look at a static.
///
/// For code that is to be simulated: where it may take a way that is right and rare, it can take it on purpose in some
/// worlds, as if a buffer were full, a connection had been closed meanwhile, or another had come first. Which places
/// say yes in a world is drawn, each in one of four, and these do so one time in four. After FoundationDB's macro of
/// that name.
///
/// # Examples
/// ```
/// use maniple::sim;
///
/// fn read_ahead(kept: &mut Option<Vec<u8>>) -> Option<Vec<u8>> {
///     // It may be gone at any time, and that is seldom met otherwise.
///     if sim::buggify!() {
///         *kept = None;
///     }
///     kept.take()
/// }
/// assert!(read_ahead(&mut Some(vec![1])).is_some());
/// sim::check(0..100, |_| sim::sometimes!(read_ahead(&mut Some(vec![1])).is_none()));
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! sim_buggify {
    () => {
        $crate::sim::buggified()
    };
}

/// Takes a while now and then in a simulated world, at places that are drawn as those of [`buggify!`](super::buggify)
/// are, and nothing everywhere else.
///
/// For code that is to be simulated, between two steps that a slow machine may part. Up to ten milliseconds of the
/// world's time; no cancellation point.
///
/// # Examples
/// ```
/// use maniple::sim;
/// use std::time::Duration;
///
/// sim::dawdle();
/// sim::check(0..100, |world| {
///     (0..20).for_each(|_| sim::dawdle());
///     sim::sometimes!(world.now() == Duration::ZERO);
///     sim::sometimes!(world.now() > Duration::from_millis(10));
/// });
/// ```
#[inline]
#[track_caller]
pub fn dawdle() {
    if buggified() {
        take_a_while();
    }
}

#[cold]
fn take_a_while() {
    let Some(world) = sim::current() else { return };
    let time = Duration::from_nanos(world.draw(LONGEST_WHILE));
    cancel::shield(|| time::sleep(time));
}

/// Nanoseconds.
const LONGEST_WHILE: u64 = 10_000_000;
