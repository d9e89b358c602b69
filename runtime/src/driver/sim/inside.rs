//! Which world a thread is in, and what code there asks of it.

use std::{
    cell::RefCell,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::world::World;

/// Worlds that some thread is in. While there is none, nobody looks for one.
static ENTERED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CURRENT: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// Whether any thread is in a world.
#[inline]
pub(crate) fn is_any() -> bool {
    // Relaxed: what counts was done by this very thread.
    ENTERED.load(Ordering::Relaxed) != 0
}

/// Whether this thread is in a world.
#[inline]
pub fn is_inside() -> bool {
    current().is_some()
}

/// The world that this thread is in, if it is in one.
#[inline]
pub(crate) fn current() -> Option<Arc<World>> {
    match is_any() {
        false => None,
        true => entered(),
    }
}

#[cold]
fn entered() -> Option<Arc<World>> {
    // None, too, while the thread's values are being dropped.
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// The time in the world that this thread is in, if it is in one.
pub(crate) fn now() -> Option<Instant> {
    current().map(|world| world.now())
}

/// Whether that place takes its rare way now, in the world that this thread is in, if it is in one.
#[cold]
pub(crate) fn strikes(at: &'static Location<'static>) -> bool {
    current().is_some_and(|world| world.strikes(at))
}

/// A call was refused because its scope is over.
#[cold]
pub(crate) fn note_refused() {
    if let Some(world) = current() {
        world.note_refused();
    }
}

/// A number that follows from the seed, in the world that this thread is in; `None` if it is in none.
///
/// For code that would otherwise draw keys, ids or pauses from the process: `random().unwrap_or_else(own)`.
///
/// # Examples
/// ```
/// use maniple::sim;
/// assert_eq!(sim::random(), None);
/// sim::check(0..2, |_| assert_ne!(sim::random(), sim::random()));
/// ```
#[inline]
pub fn random() -> Option<u64> {
    match is_any() {
        false => None,
        true => drawn_in_world(),
    }
}

#[cold]
fn drawn_in_world() -> Option<u64> {
    current().map(|world| world.random())
}

/// A round of turns is over, and others can run.
#[cold]
pub(crate) fn note_round() {
    if let Some(world) = current() {
        world.note_round();
    }
}

/// What the system's clock that nobody sets would show in the world that this thread is in, if it is in one. The same
/// as [`now`], in another form.
pub(crate) fn monotonic() -> Option<Duration> {
    current().map(|world| world.monotonic())
}

/// What the clock of the caller's host shows, since 1970, in the world that this thread is in, if it is in one.
pub(crate) fn wall() -> Option<Duration> {
    current().map(|world| world.wall())
}

/// Panics in a world: what is wanted there would reach out of it.
#[track_caller]
pub(crate) fn refuse(what: &str) {
    if current().is_some() {
        reaches_out(what);
    }
}

#[cold]
#[track_caller]
fn reaches_out(what: &str) -> ! {
    panic!(
        "{what} is real and this is a simulated world, which has none: its order and time would not be the seed's"
    );
}

impl World {
    /// Makes it this thread's, for as long as the value lives.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        ENTERED.fetch_add(1, Ordering::Relaxed);
        let outer = CURRENT.replace(Some(self.clone()));
        self.beginning();
        Entered { outer }
    }
}

/// A thread is in a world; dropping this leaves it.
pub(crate) struct Entered {
    outer: Option<Arc<World>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENTERED.fetch_sub(1, Ordering::Relaxed);
        _ = CURRENT.replace(self.outer.take());
    }
}
