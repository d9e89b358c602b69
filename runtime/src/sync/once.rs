//! What happens once: [`Once`], and over it values that are set once, [`OnceLock`] and [`LazyLock`].
//!
//! The first to come initialises, outside any lock, so an initialiser may wait for other things;
//! the others wait for it in a list. One that panics, fails or is cut short leaves everything as it
//! was, wakes all, and the first of them to run initialises in its place: there is no poisoning.

use std::{convert::Infallible, fmt, ops::Deref};

use crate::{
    loom::{AtomicBool, Ordering},
    wait::{self, Interruptible, Node, QUEUE, Reason, Waited, Waiters},
};

/// Runs something once, however many ask for it.
///
/// Waiting for another's initialiser is a cancellation point: in a cancelled scope, or once its deadline
/// passes, the caller unwinds to the scope's edge; not while it unwinds already, when it waits on. What is
/// completed is so for cancelled callers too. An initialiser that asks for its own `Once` waits for ever.
///
/// # Examples
/// ```
/// use maniple::sync::Once;
/// static GREETING: Once = Once::new();
/// let greet = || GREETING.call_once(|| println!("once"));
/// maniple::join!(greet(), greet());
/// assert!(GREETING.is_completed());
/// ```
pub struct Once {
    /// Released by the one that completes it, acquired by all who rely on it.
    completed: AtomicBool,
    waiters: Waiters<State>,
}

struct State {
    running: bool,
}

impl Once {
    /// One that has not run.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            completed: AtomicBool::new(false),
            waiters: Waiters::new(State { running: false }),
        }
    }

    /// One that has not run.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            completed: AtomicBool::new(false),
            waiters: Waiters::new(State { running: false }),
        }
    }

    /// Calls `f` if nobody has; returns once somebody's has returned.
    ///
    /// # Panics
    /// If `f` does; the next caller then runs its own.
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) {
        if !self.is_completed()
            && let Some(running) = self.begin()
        {
            f();
            running.complete();
        }
    }

    /// Waits until it is completed, without running anything.
    pub fn wait(&self) {
        if !self.is_completed() {
            self.enter(false);
        }
    }

    /// Whether a call has completed it.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.completed.load(Ordering::Acquire)
    }

    /// Makes the caller the one who runs; `None` once it is completed.
    #[cold]
    fn begin(&self) -> Option<Running<'_>> {
        self.enter(true)
    }

    fn enter(&self, to_run: bool) -> Option<Running<'_>> {
        let mut interruptible = Interruptible::Yes;
        loop {
            let mut state = self.waiters.lock();
            if self.is_completed() {
                return None;
            }
            if to_run && !state.running {
                state.running = true;
                return Some(Running { once: self });
            }
            let mut node = Node::new(());
            let waited = state.wait(
                QUEUE,
                &mut node,
                Reason::Once,
                None,
                interruptible,
                |_, _| {},
            );
            match waited {
                Waited::AtOnce | Waited::Notified | Waited::TimedOut | Waited::Again => {}
                Waited::Interrupted(interrupt) => {
                    wait::unwind(Reason::Once, interrupt);
                    // It returns to a destructor alone, which must have what it asks for.
                    interruptible = Interruptible::No;
                }
            }
        }
    }
}

/// The exclusive right to complete a [`Once`]; dropped without that, the next may try.
struct Running<'a> {
    once: &'a Once,
}

impl Running<'_> {
    fn complete(self) {
        self.once.completed.store(true, Ordering::Release);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let all = {
            let mut state = self.once.waiters.lock();
            state.running = false;
            state.notify_all(QUEUE)
        };
        all.ready();
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("completed", &self.is_completed())
            .finish()
    }
}

/// A value that is set once and read by many.
///
/// Reading what is there costs a load. Waiting for another's initialiser is as for [`Once`].
///
/// # Examples
/// ```
/// use maniple::sync::OnceLock;
/// static ADDRESS: OnceLock<String> = OnceLock::new();
/// let look_up = || {
///     ADDRESS.get_or_init(|| {
///         maniple::yield_now();
///         "127.0.0.1".to_owned()
///     })
/// };
/// assert_eq!(maniple::join!(look_up().len(), look_up().len()), (9, 9));
/// assert!(ADDRESS.set("elsewhere".to_owned()).is_err());
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Set by the one who holds `Running`, so setting it never blocks the thread.
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// One without a value.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            once: Once::new(),
            value: std::sync::OnceLock::new(),
        }
    }

    /// One without a value.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            once: Once::new(),
            value: std::sync::OnceLock::new(),
        }
    }

    /// The value, if it has been set. Never waits.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // A model follows our own atomics alone.
        if cfg!(loom) && !self.once.is_completed() {
            return None;
        }
        self.value.get()
    }

    /// The value, if it has been set.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Sets the value, after waiting for an initialiser that is at work.
    ///
    /// # Errors
    /// The value, if there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.once.is_completed() {
            return Err(value);
        }
        match self.once.begin() {
            Some(running) => self.put(running, value),
            None => Err(value),
        }
    }

    /// The value; if there is none, what `f` returns becomes it.
    ///
    /// # Panics
    /// If `f` does; the next caller then uses its own.
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, Infallible>(f())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Returns the value, set first by an initialiser that may fail, like [`OnceLock::get_or_init`].
    ///
    /// # Errors
    /// The initialiser's; there is no value then, and the next caller uses its own.
    #[inline]
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.get() {
            Some(value) => Ok(value),
            None => self.initialise(f),
        }
    }

    #[cold]
    fn initialise<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(running) = self.once.begin() {
            let value = f()?;
            let put = self.put(running, value);
            debug_assert!(put.is_ok(), "a value is put once");
        }
        Ok(self.wait())
    }

    /// The value, once somebody has set it.
    pub fn wait(&self) -> &T {
        self.once.wait();
        match self.get() {
            Some(value) => value,
            None => unreachable!("a value is put before the completion"),
        }
    }

    fn put(&self, running: Running<'_>, value: T) -> Result<(), T> {
        let put = self.value.set(value);
        running.complete();
        put
    }

    /// Takes the value out; it can be set again.
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// The value, if it was set.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let lock = Self::new();
        // Nobody else has seen it, so it is set.
        let _ = lock.set(value);
        lock
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceLock").field(&self.get()).finish()
    }
}

/// A value that is computed when it is first used.
///
/// The initialiser is a [`Fn`]: after one that panicked the next use calls it again.
///
/// # Examples
/// ```
/// use maniple::sync::LazyLock;
/// use std::collections::HashMap;
/// static PORTS: LazyLock<HashMap<&str, u16>> =
///     LazyLock::new(|| HashMap::from([("http", 80), ("https", 443)]));
/// assert_eq!(PORTS["https"], 443);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    initialiser: F,
}

impl<T, F: Fn() -> T> LazyLock<T, F> {
    /// One that has not been computed.
    #[cfg(not(loom))]
    pub const fn new(initialiser: F) -> Self {
        Self {
            value: OnceLock::new(),
            initialiser,
        }
    }

    /// One that has not been computed.
    #[cfg(loom)]
    pub fn new(initialiser: F) -> Self {
        Self {
            value: OnceLock::new(),
            initialiser,
        }
    }

    /// The value, computed if need be; the same as dereferencing.
    ///
    /// # Panics
    /// If the initialiser does.
    #[inline]
    pub fn force(this: &Self) -> &T {
        this.value.get_or_init(&this.initialiser)
    }
}

impl<T, F: Fn() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LazyLock").field(&self.value.get()).finish()
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::{cell, sync::Arc};

    /// One of two initialises, and both see all that it wrote; loom's cell finds reads that nothing
    /// orders.
    #[test]
    fn loom_what_was_initialised_is_seen_whole() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let lock = Arc::new(OnceLock::<cell::UnsafeCell<u32>>::new());
            let theirs = lock.clone();
            let thread = loom::thread::spawn(move || ask(&theirs, 1));
            let mine = ask(&lock, 2);
            assert_eq!(thread.join().unwrap(), mine);
        });
    }

    /// The first initialiser fails, whichever it is: the other takes its place.
    #[test]
    fn loom_after_a_failure_the_other_has_its_turn() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let lock = Arc::new(OnceLock::<u32>::new());
            let theirs = lock.clone();
            let fails = loom::thread::spawn(move || theirs.get_or_try_init(|| Err(())).copied());
            assert_eq!(lock.get_or_init(|| 2), &2);
            assert!([Ok(2), Err(())].contains(&fails.join().unwrap()));
        });
    }

    fn ask(lock: &OnceLock<cell::UnsafeCell<u32>>, value: u32) -> u32 {
        let cell = lock.get_or_init(|| {
            let cell = cell::UnsafeCell::new(0);
            // SAFETY: nobody else has seen it.
            cell.with_mut(|place| unsafe { *place = value });
            cell
        });
        // SAFETY: it is not written any more.
        cell.with(|place| unsafe { *place })
    }
}
