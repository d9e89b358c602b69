//! Leader groups: children that borrow from their leader's stack and end before it goes on.
//!
//! The leader is the caller of [`group`](crate::group()), on a coroutine or a plain thread; its
//! children are coroutines. The group's state lives on the leader's stack, and the call leaves by no
//! path, value, error, panic or cancellation, before the last child has ended: that is what makes
//! borrowing sound, and why no orphan is left behind.
//!
//! ```text
//!   leader:  group(|g| …) ──body──► Ok ───────────► wait for all ──► value
//!                             └───► Err or unwinding ► cancel all ► wait for all ──► error / unwind
//!   child:   ends ──► unlinks from the group's scope; the last one wakes the leader
//!            panics, or a try_spawn'ed one fails ──► cancels the scope, then as above
//! ```
//!
//! In other words for the same thing: Go's `errgroup`, Java's `StructuredTaskScope`
//! (`ShutdownOnFailure`), Kotlin's `coroutineScope`, Trio's nursery, `std::thread::scope`.

mod hedge;
mod hedge_cap;
mod join;
mod joiner;
mod map;
mod parallel;
mod partial;
mod race;
mod supervise;

use std::{
    any::Any,
    borrow::Cow,
    fmt, io,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, OnceLock},
    time::Instant,
};

pub use hedge::{HedgeStats, Hedger, hedge};
use join::cause;
pub use join::try_join;
#[doc(hidden)]
pub use join::{Failed, FirstError, call, joined, try_joined};
pub use joiner::{Ended, Joiner, Member, join_with};
pub use map::{map, map_as_completed, try_map};
pub use parallel::{Ending, Fate, Gathered, Parallel};
pub use partial::{Part, partial_deadline, partial_timeout};
pub use race::{Indexed, quorum, race};
pub use supervise::{FailedAttempt, GaveUp, Restart, supervised};

use crate::{
    cancel,
    coroutine::{Header, Name, Unstarted},
    error::{Cause, Unwind},
    panics,
    scheduler::{Scheduler, current_scheduler, on_coroutine, on_waiter},
    stay::Frame,
    sys::{fenced, spin::SpinLock},
    task::{self, End, Handle, JoinError},
    wait::{self, Interruptible, ready},
    waiter::Waiter,
};

/// Runs `body` as the leader of a group of children and returns once every child has ended.
///
/// The children may borrow whatever outlives the call. They inherit the leader's deadline and its
/// cancellation. How it ends:
///
/// - `body` returns `Ok`: waits for the children that are still running, returns the value.
/// - `body` returns `Err`: the children are cancelled and waited for, the error is returned.
/// - A child panics: the group is cancelled (siblings, and the leader's own waits inside it) and the
///   panic is resumed here, with the child's payload, whether or not the child was joined.
/// - A child spawned with [`Group::try_spawn`] returns `Err`: the group is cancelled and that error is
///   returned in place of what `body` returns later. The first error counts, of whichever child.
/// - The leader is cancelled, or past its deadline: so are the children, and its waits in `body` are
///   cut short as anywhere.
///
/// The closing wait itself is never cut short; a child that ignores cancellation holds its leader.
///
/// # Errors
/// That of `body`, or of a child that was spawned with [`Group::try_spawn`].
///
/// # Panics
/// With a child's panic, or that of `body`. If a child could not get a stack, unless the leader unwinds, or got
/// no stack itself and drops what it owns: then it runs the child itself, before `spawn` returns. On a plain
/// thread, if the default runtime cannot be started.
///
/// # Examples
/// ```
/// use maniple::JoinError;
/// let words = vec!["three", "small", "words"];
/// let total: Result<usize, JoinError> = maniple::group(|g| {
///     let first = g.spawn(|| words[0].len());
///     let second = g.spawn(|| words[1].len());
///     Ok(first.join()? + second.join()?)
/// });
/// assert_eq!(total.unwrap(), 10);
/// ```
pub fn group<'env, T, E, F>(body: F) -> Result<T, E>
where
    F: for<'scope> FnOnce(&'scope Group<'scope, 'env, E>) -> Result<T, E>,
{
    on_waiter(|leader| led_by(leader, body))
}

fn led_by<'env, T, E, F>(leader: &Waiter, body: F) -> Result<T, E>
where
    F: for<'scope> FnOnce(&'scope Group<'scope, 'env, E>) -> Result<T, E>,
{
    let group = Group {
        frame: Frame::of(leader),
        scheduler: current_scheduler(),
        deadline: leader.deadline(),
        must_begin: task::panicking() || is_refused(),
        panic: SpinLock::new(None),
        error: SpinLock::new(None),
        prefix: OnceLock::new(),
        scope_marker: PhantomData,
        env_marker: PhantomData,
    };
    // Leaving waits for the children.
    let outcome = group.frame.lead(leader, || {
        match catch_unwind(AssertUnwindSafe(|| body(&group))) {
            Ok(Ok(value)) => Ok(Some(value)),
            // Before the cancellation, whose errors in the children come after this one.
            Ok(Err(error)) => {
                group.fail(error, Cause::Leader);
                Ok(None)
            }
            Err(payload) => {
                group.cancel_because(Cause::Leader);
                Err(payload)
            }
        }
    });
    let panic = group.panic.lock().take();
    if let Some(payload) = panic {
        // Not by the unwinding, which a destructor that panics would turn into the end of the process.
        fenced::drop_value(outcome, "what is left of a group that panicked");
        resume_unwind(payload);
    }
    assert!(
        !group.frame.is_starved(),
        "a child of the group could not begin: no stack (see runtime::Builder::max_coroutines)"
    );
    let first_error = group.error.lock().take();
    match (first_error, outcome) {
        // The leader's own panic goes first; a cancellation that the error caused does not.
        (Some(error), Ok(_)) => Err(error),
        (Some(error), Err(payload)) if payload.is::<Unwind>() && !leader.is_cancelled() => {
            Err(error)
        }
        (error, Err(payload)) => {
            fenced::drop_value(error, "the error of a group that panicked");
            resume_unwind(payload);
        }
        (None, Ok(Some(value))) => Ok(value),
        (None, Ok(None)) => unreachable!("an error of the body is the group's"),
    }
}

/// Whether the caller is a coroutine that got no stack, and drops what it owns.
#[inline]
fn is_refused() -> bool {
    on_coroutine(|task| task.is_some_and(Header::is_refused))
}

/// Runs a group like [`group`](crate::group()), for a leader that has nothing to return if its children are cut.
///
/// It then unwinds. In a destructor that runs while unwinding already that would abort, so whatever is cancelled
/// outside, the children are carried out there.
#[inline]
fn decided<'env, T, E, F>(body: F) -> Result<T, E>
where
    F: for<'scope> FnOnce(&'scope Group<'scope, 'env, E>) -> Result<T, E>,
{
    match task::panicking() {
        false => group(body),
        true => cancel::shield(|| group(body)),
    }
}

/// The leader's hold on its children; see [`group`](crate::group()).
pub struct Group<'scope, 'env: 'scope, E> {
    frame: Frame<'scope>,
    /// The leader's, which outlives its stay in the group.
    scheduler: &'static Arc<Scheduler>,
    deadline: Option<Instant>,
    /// Whether children begin without a stack of their own too, on their spawner's. A leader that unwinds could not
    /// tell that one did not begin: a second throw would abort. One that was refused may have the last stack, for
    /// which a child that is refused in its turn would wait.
    must_begin: bool,
    panic: SpinLock<Option<Box<dyn Any + Send>>>,
    error: SpinLock<Option<E>>,
    prefix: OnceLock<Cow<'static, str>>,
    /// Invariant in both, as in `std::thread::Scope`: a shorter `'scope` would let a child outlive what
    /// it borrows, a longer `'env` would let it borrow what is gone.
    scope_marker: PhantomData<&'scope mut &'scope ()>,
    env_marker: PhantomData<&'env mut &'env ()>,
}

impl<'scope, 'env, E> Group<'scope, 'env, E> {
    /// Runs `body` on a child coroutine.
    ///
    /// A panic of `body` cancels the group, which will resume it. What `body` returns, errors
    /// included, is the child's result: see [`Group::try_spawn`] for errors that concern the group.
    ///
    /// A child may spawn further children into its group, with the group's deadline and not its own.
    ///
    /// # Examples
    /// ```
    /// use maniple::{group::Group, sync::Mutex};
    ///
    /// /// Each folder is a child of one flat group, found by the one above it.
    /// fn walk<'scope>(g: &'scope Group<'scope, '_, ()>, depth: u32, found: &'scope Mutex<Vec<u32>>) {
    ///     found.lock().push(depth);
    ///     for _ in 0..depth {
    ///         g.spawn(move || walk(g, depth - 1, found));
    ///     }
    /// }
    ///
    /// let found = Mutex::new(Vec::new());
    /// maniple::group(|g| Ok::<_, ()>(walk(g, 3, &found))).unwrap();
    /// assert_eq!(found.lock().len(), 1 + 3 + 6 + 6);
    /// ```
    #[track_caller]
    #[inline]
    pub fn spawn<F, T>(&'scope self, body: F) -> Child<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        self.start(None, move || End::Value(body()))
    }

    /// Spawns a child like [`Group::spawn`], with a name for reports and dumps.
    #[track_caller]
    pub fn spawn_named<F, T>(
        &'scope self,
        name: impl Into<Cow<'static, str>>,
        body: F,
    ) -> Child<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        self.start(Some(name.into()), move || End::Value(body()))
    }

    /// Runs `body` on a child coroutine whose error is the group's: the first one cancels the siblings
    /// and is what the group returns.
    ///
    /// Joining a failed child yields a [`JoinError`], so that the leader's `?` leaves the body; the
    /// group then returns the child's own error.
    #[track_caller]
    pub fn try_spawn<F, T>(&'scope self, body: F) -> Child<'scope, T>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        self.start(None, self.failing(body))
    }

    fn failing<F, T>(&'scope self, body: F) -> impl FnOnce() -> End<T> + Send + 'scope
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        E: Send,
    {
        move || match body() {
            Ok(value) => End::Value(value),
            Err(error) => {
                self.fail(error, Cause::Sibling);
                End::Failed
            }
        }
    }

    /// Keeps the group's first error and cancels what is still running.
    fn fail(&self, error: E, cause: Cause) {
        let mut first = self.error.lock();
        let later = match *first {
            None => {
                *first = Some(error);
                None
            }
            Some(_) => Some(error),
        };
        drop(first);
        self.cancel_because(cause);
        drop(later);
    }

    /// Gives the children that are spawned from now on names that begin with `prefix`: `prefix/name`, and
    /// `prefix` alone for those without a name of their own.
    ///
    /// Only the first call has an effect. Such names cost an allocation for each named child.
    ///
    /// # Examples
    /// ```
    /// let done: Result<(), ()> = maniple::group(|g| {
    ///     g.name_children("page");
    ///     let ads = g.spawn_named("ads", || maniple::current().unwrap().name().map(String::from));
    ///     assert_eq!(ads.name().as_deref(), Some("page/ads"));
    ///     assert_eq!(ads.join().unwrap().as_deref(), Some("page/ads"));
    ///     assert_eq!(g.spawn(|| ()).name().as_deref(), Some("page"));
    ///     Ok(())
    /// });
    /// assert!(done.is_ok());
    /// ```
    pub fn name_children(&self, prefix: impl Into<Cow<'static, str>>) {
        let _kept_if_first = self.prefix.set(prefix.into());
    }

    #[inline]
    fn full_name(&self, own: Option<Cow<'static, str>>) -> Option<Name> {
        match self.prefix.get() {
            None => own.map(Name::Text),
            Some(_) => self.prefixed(own),
        }
    }

    /// A child's name, with that of its group in front.
    #[cold]
    fn prefixed(&self, own: Option<Cow<'static, str>>) -> Option<Name> {
        let prefix = self.prefix.get()?;
        Some(Name::Text(match own {
            None => prefix.clone(),
            Some(own) => format!("{prefix}/{own}").into(),
        }))
    }

    /// A builder for a child with a name or a stack size of its own.
    pub fn builder(&'scope self) -> Builder<'scope, 'env, E> {
        Builder {
            group: self,
            builder: task::Builder::new(),
            env: PhantomData,
        }
    }

    /// Cancels the children and the leader's own waits inside the group; does not wait for them.
    pub fn cancel(&self) {
        self.cancel_because(Cause::Group);
    }

    fn cancel_because(&self, cause: Cause) {
        self.frame.cancel(cause);
    }

    /// Whether the group has been cancelled, by whatever cause.
    pub fn is_cancelled(&self) -> bool {
        let cancelled = self.frame.is_cancelled();
        if !cancelled {
            wait::spend();
        }
        cancelled
    }

    #[track_caller]
    #[inline]
    fn start<F, T>(&'scope self, name: Option<Cow<'static, str>>, body: F) -> Child<'scope, T>
    where
        F: FnOnce() -> End<T> + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        self.start_unguarded(name, self.guarded(body))
    }

    /// For a body whose panic is not the group's.
    #[track_caller]
    #[inline]
    fn start_unguarded<F, T>(
        &'scope self,
        name: Option<Cow<'static, str>>,
        body: F,
    ) -> Child<'scope, T>
    where
        F: FnOnce() -> End<T> + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        let class = self.scheduler.default_class;
        let (task, handle) = task::make_below(
            &self.frame,
            self.full_name(name),
            class,
            self.deadline,
            body,
        );
        self.launch(task, handle)
    }

    /// Spawns a task that must begin, or runs it here if no stack can be reserved for it.
    #[cold]
    fn begin(&self, task: Unstarted) {
        if task.needs_stack() {
            match self.scheduler.reserve_stack(task.header().origin.class) {
                Ok(stack) => task.reserve(stack),
                Err(_) => return task.run_here(ready),
            }
        }
        self.scheduler.spawn(task);
    }

    #[inline]
    fn launch<T>(&'scope self, task: Unstarted, handle: Handle<End<T>>) -> Child<'scope, T> {
        match self.must_begin {
            false => self.scheduler.spawn(task),
            true => self.begin(task),
        }
        Child {
            handle,
            scope: PhantomData,
        }
    }

    /// Turns a panic into the group's.
    fn guarded<F, T>(&'scope self, body: F) -> impl FnOnce() -> End<T> + Send + 'scope
    where
        F: FnOnce() -> End<T> + Send + 'scope,
        E: Send,
    {
        move || {
            catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
                if payload.is::<Unwind>() {
                    resume_unwind(payload);
                }
                let message = panics::message_or_none(&*payload).to_owned();
                let mut first = self.panic.lock();
                let later = match *first {
                    None => {
                        *first = Some(payload);
                        None
                    }
                    Some(_) => Some(payload),
                };
                drop(first);
                self.cancel_because(Cause::Sibling);
                if let Some(later) = later {
                    fenced::discard(later);
                }
                End::Panicked(message)
            })
        }
    }
}

impl<E> fmt::Debug for Group<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("cancelled", &self.frame.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// The leader's handle to one child.
///
/// Dropping it does not detach the child from the group: the group still waits for it. A result that nobody
/// takes is dropped as that of a [`JoinHandle`](crate::JoinHandle), before the group returns. A panic of its
/// destructor is logged; it is not the child's, so it does not cancel the group.
pub struct Child<'scope, T> {
    handle: Handle<End<T>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> Child<'_, T> {
    /// Waits for the child to end and returns its result.
    ///
    /// The wait is cut short if the leader, or the group, is cancelled, or at the leader's deadline.
    ///
    /// # Errors
    /// If the child panicked, failed, was cancelled, or the wait was cut short.
    #[inline]
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join_child(Interruptible::Yes)
    }

    /// As `join`, by a wait that is not cut short, like that for the end of the group.
    fn conclude(self) -> Result<T, JoinError> {
        self.handle.join_child(Interruptible::No)
    }

    /// Cancels this child alone.
    pub fn cancel(&self) {
        self.handle.cancel(Cause::Handle);
    }

    /// Whether the child has ended. Asked again and again in vain, it gives way to others.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The child's name, if it was given one.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.handle
            .task()
            .header()
            .origin
            .name
            .as_ref()
            .map(Name::text)
    }
}

impl<T> fmt::Debug for Child<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Spawns a child with a name or a stack size of its own; made by [`Group::builder`].
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder<'scope, 'env, E> {
    group: &'scope Group<'scope, 'env, E>,
    builder: task::Builder,
    env: PhantomData<&'env ()>,
}

impl<'scope, 'env, E> Builder<'scope, 'env, E> {
    /// The name that reports and dumps show.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.builder = self.builder.name(name);
        self
    }

    /// Address space for the child's stack; see [`task::Builder::stack_size`](crate::task::Builder::stack_size).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.builder = self.builder.stack_size(bytes);
        self
    }

    /// Spawns a child like [`Group::spawn`], with its stack reserved now.
    ///
    /// # Errors
    /// Fails as [`task::Builder::spawn`](crate::task::Builder::spawn) does.
    #[track_caller]
    pub fn spawn<F, T>(self, body: F) -> io::Result<Child<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        self.start(move || End::Value(body()))
    }

    /// Spawns a child like [`Group::try_spawn`], with its stack reserved now.
    ///
    /// # Errors
    /// Fails as [`task::Builder::spawn`](crate::task::Builder::spawn) does.
    #[track_caller]
    pub fn try_spawn<F, T>(self, body: F) -> io::Result<Child<'scope, T>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        let body = self.group.failing(body);
        self.start(body)
    }

    #[track_caller]
    fn start<F, T>(self, body: F) -> io::Result<Child<'scope, T>>
    where
        F: FnOnce() -> End<T> + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        let group = self.group;
        let class = self.builder.class(group.scheduler)?;
        let (task, handle) = task::make_below_reserved(
            &group.frame,
            group.full_name(self.builder.into_name()),
            class,
            group.deadline,
            || group.scheduler.reserve_stack(class),
            group.guarded(body),
        )?;
        Ok(group.launch(task, handle))
    }
}

impl<E> fmt::Debug for Builder<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.builder.fmt(f)
    }
}
