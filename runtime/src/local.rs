//! Coroutine-local values: `thread_local!` for coroutines, on plain threads too.
//!
//! Each coroutine, and each plain thread, has a value of its own, made when it is first asked for.
//! Coroutines of one worker share that thread's [`std::thread_local!`]s; these they do not share.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    coroutine::Header,
    scheduler::on_coroutine,
    waiter::{Heir, Local, Locals},
};

/// Declares statics of which every coroutine has a value of its own; see [`LocalKey`](crate::local::LocalKey).
///
/// In the shape of [`std::thread_local!`]. With `, inherited` after the initialiser, a coroutine that is
/// spawned begins with a clone of its spawner's value, as it is at that moment, if the spawner has one.
///
/// # Examples
/// ```
/// use std::cell::{Cell, RefCell};
/// maniple::coroutine_local! {
///     /// How deep this coroutine is in its plan.
///     static DEPTH: Cell<u32> = Cell::new(0);
///     /// The request that is being served, also by the coroutines spawned for it.
///     static REQUEST: RefCell<String> = RefCell::default(), inherited;
/// }
/// maniple::run(|| {
///     DEPTH.set(1);
///     REQUEST.set("GET /".to_owned());
///     maniple::spawn(|| {
///         assert_eq!(DEPTH.get(), 0);
///         assert_eq!(REQUEST.with_borrow(|request| request.len()), 5);
///     })
///     .join()
///     .unwrap();
/// });
/// ```
#[macro_export]
macro_rules! coroutine_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident : $type:ty = $init:expr, inherited
        $(; $($rest:tt)*)?) => {
        $(#[$attr])* $vis static $name: $crate::local::LocalKey<$type> =
            $crate::local::LocalKey::inherited(|| $init);
        $($crate::coroutine_local! { $($rest)* })?
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident : $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attr])* $vis static $name: $crate::local::LocalKey<$type> =
            $crate::local::LocalKey::new(|| $init);
        $($crate::coroutine_local! { $($rest)* })?
    };
}

/// A static of which each coroutine and each plain thread has its own value; declared with
/// [`coroutine_local!`](crate::coroutine_local).
///
/// The value is made at its first use. When the coroutine ends it is dropped on the coroutine's own
/// stack, the youngest value first, so a destructor may wait (in a cancelled coroutine its waits are cut
/// short, as anywhere), and the coroutine has not ended before it returns. A panic in a destructor is
/// logged, the coroutine's result stays. On a plain thread values are dropped as those of
/// [`std::thread_local!`], where a destructor must not wait.
///
/// A value that is inherited is cloned when the coroutine is spawned, by whichever call: `spawn`, a
/// group, [`Runtime::run`](crate::Runtime::run). Later changes concern neither side. Spawning panics if
/// the clone does, as that of a `RefCell` that is mutably borrowed.
///
/// The cost: a look through the values that the coroutine has. One that uses none pays one word.
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    heir: Option<Heir>,
}

/// A local was asked for after it had been dropped, by a destructor of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> Self {
        Self { init, heir: None }
    }

    #[doc(hidden)]
    pub const fn inherited(init: fn() -> T) -> Self
    where
        T: Clone + Send,
    {
        Self {
            init,
            heir: Some(|value| match value.downcast_ref::<T>() {
                Some(value) => Rc::new(value.clone()),
                None => unreachable!("a key has one type"),
            }),
        }
    }

    /// Calls `f` with the caller's value, which is made first if there is none.
    ///
    /// `f` may wait.
    ///
    /// # Panics
    /// If the value has already been dropped; see [`LocalKey::try_with`]. With the panic of `f`, or of
    /// the initialiser, which will be tried again.
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// Hands out the value like [`LocalKey::with`], also to destructors of other locals, which may come later.
    ///
    /// # Errors
    /// If the value has already been dropped. On a plain thread, if its locals are being dropped.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = match self.find()? {
            Some(value) => value,
            None => self.make(|| (self.init)())?,
        };
        Ok(f(typed(&*value)))
    }

    /// Calls `f` with the caller's value if it has one, which is not made: a look costs the coroutine nothing, nor
    /// those that it spawns. `None` as well once the value has been dropped. `f` may wait.
    ///
    /// # Examples
    /// ```
    /// # use std::cell::Cell;
    /// maniple::coroutine_local! { static DEPTH: Cell<u32> = Cell::new(7) }
    /// assert_eq!(DEPTH.with_made(Cell::get), None);
    /// DEPTH.set(1);
    /// assert_eq!(DEPTH.with_made(Cell::get), Some(1));
    /// ```
    pub fn with_made<R>(&'static self, f: impl FnOnce(&T) -> R) -> Option<R> {
        let value = self.find().ok().flatten()?;
        Some(f(typed(&*value)))
    }

    /// Hands `look` the value of a coroutine of this thread that does not run, if it has one.
    pub(crate) fn of<R>(&'static self, task: &Header, look: impl FnOnce(&T) -> R) -> Option<R> {
        match task.locals.find(self.key()) {
            Local::Value(value) => Some(look(typed(&*value))),
            Local::Unmade | Local::Dropped => None,
        }
    }

    fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn find(&'static self) -> Result<Option<Rc<dyn Any>>, AccessError> {
        match on_own(|locals| locals.find(self.key()))? {
            Local::Unmade => Ok(None),
            Local::Value(value) => Ok(Some(value)),
            Local::Dropped => Err(AccessError),
        }
    }

    #[cold]
    fn make(&'static self, init: impl FnOnce() -> T) -> Result<Rc<dyn Any>, AccessError> {
        let made: Rc<dyn Any> = Rc::new(init());
        // The initialiser may have asked for the very value: then that one counts.
        if let Some(value) = self.find()? {
            return Ok(value);
        }
        if self.heir.is_some() {
            ANY_INHERITED.store(true, Ordering::Relaxed);
        }
        on_own(|locals| locals.add(self.key(), made.clone(), self.heir))?;
        Ok(made)
    }

    /// Puts `value` in if there is none, without the initialiser; else gives it back.
    #[track_caller]
    fn begin_with(&'static self, value: T) -> Result<(), T> {
        let begun = self.find().and_then(|found| match found {
            Some(_) => Ok(Err(value)),
            None => self.make(|| value).map(|_| Ok(())),
        });
        begun.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value, without running the initialiser.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        if let Err(cell) = self.begin_with(Cell::new(value)) {
            self.with(|own| own.set(cell.into_inner()));
        }
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does.
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value, leaving the default.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the value and returns the former one.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|own| own.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the borrowed value.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does, and if it is mutably borrowed.
    #[track_caller]
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|own| f(&own.borrow()))
    }

    /// Calls `f` with the mutably borrowed value.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does, and if it is borrowed.
    #[track_caller]
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|own| f(&mut own.borrow_mut()))
    }

    /// Sets the value, without running the initialiser.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does, and if it is borrowed.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        if let Err(cell) = self.begin_with(RefCell::new(value)) {
            self.with(|own| own.replace(cell.into_inner()));
        }
    }

    /// Takes the value, leaving the default.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does, and if it is borrowed.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value and returns the former one.
    ///
    /// # Panics
    /// Panics as [`LocalKey::with`] does, and if it is borrowed.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|own| own.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey")
            .field("inherited", &self.heir.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine-local value has already been dropped")
    }
}

impl std::error::Error for AccessError {}

/// Whether there ever was a value that spawning must look for: most programs have none.
static ANY_INHERITED: AtomicBool = AtomicBool::new(false);

/// What a coroutine spawned now begins with.
#[inline]
pub(crate) fn bequest() -> Locals {
    // Relaxed: what counts was made by the caller, on this very thread.
    if !ANY_INHERITED.load(Ordering::Relaxed) {
        return Locals::new();
    }
    on_own(Locals::bequeath).unwrap_or(const { Locals::new() })
}

/// `f` runs no user code, unless it is `bequeath`, which looks at copies.
fn on_own<R>(f: impl FnOnce(&Locals) -> R) -> Result<R, AccessError> {
    thread_local! {
        static THREAD: Locals = const { Locals::new() };
    }
    on_coroutine(|task| match task {
        Some(task) => Ok(f(&task.locals)),
        None => THREAD.try_with(f).map_err(|_| AccessError),
    })
}

fn typed<T: 'static>(value: &dyn Any) -> &T {
    match value.downcast_ref() {
        Some(value) => value,
        None => unreachable!("a key has one type"),
    }
}
