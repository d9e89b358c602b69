//! Coroutines with a name or a stack size of their own.

use std::{borrow::Cow, io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Instant};

use super::{
    JoinHandle, least_loaded, local_worker, on_workers,
    typed::{make_reserved, spawn_local_reserved, stand_by},
};
use crate::{
    coroutine::Name,
    local,
    scheduler::{Scheduler, current_scheduler},
    stack::SizeClass,
    waiter::Locals,
};

/// Spawns a coroutine with a name or a stack size of its own.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let depth = maniple::run(|| {
///     maniple::task::Builder::new()
///         .name("deep")
///         .stack_size(1024 * 1024)
///         .spawn(|| 42)
///         .map(|handle| handle.join().unwrap())
/// })?;
/// assert_eq!(depth, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Name>,
    stack_size: Option<usize>,
    without_locals: bool,
}

impl Builder {
    /// A builder with the defaults: no name, the runtime's stack size.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name that reports and dumps show.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(Name::Text(name.into()));
        self
    }

    /// Names it `connection from PEER`. That costs no allocation: the text is made when somebody asks for it, so a
    /// server can name each of its many connections.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// maniple::run(|| {
    ///     let builder = maniple::task::Builder::new().connection_from(([127, 0, 0, 1], 4711).into());
    ///     let serving = builder.spawn(|| ())?;
    ///     assert_eq!(serving.name().as_deref(), Some("connection from 127.0.0.1:4711"));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn connection_from(mut self, peer: SocketAddr) -> Self {
        self.name = Some(Name::ConnectionFrom(peer));
        self
    }

    /// Address space for the stack in bytes, rounded up to a power of two, its guard page included.
    ///
    /// Memory is committed page by page as the stack grows; see the book's chapter on stacks.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Begins without the coroutine-local values that it would inherit, for what serves many and outlives its spawner:
    /// it would keep the values of the spawner that happened to come first.
    ///
    /// # Examples
    /// ```
    /// maniple::coroutine_local! {
    ///     static REQUEST: std::cell::Cell<u32> = std::cell::Cell::new(0), inherited;
    /// }
    /// # fn main() -> std::io::Result<()> {
    /// maniple::run(|| {
    ///     REQUEST.set(7);
    ///     let heir = maniple::task::Builder::new().spawn(|| REQUEST.get())?;
    ///     let service = maniple::task::Builder::new().without_locals().spawn(|| REQUEST.get())?;
    ///     assert_eq!((heir.join().unwrap(), service.join().unwrap()), (7, 0));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn without_locals(mut self) -> Self {
        self.without_locals = true;
        self
    }

    fn locals(&self) -> Locals {
        match self.without_locals {
            true => Locals::new(),
            false => local::bequest(),
        }
    }

    /// Spawns a coroutine like [`spawn`](crate::spawn()), with its stack reserved now.
    ///
    /// # Errors
    /// If the stack size is out of range (`InvalidInput`), the runtime's limit of coroutines is
    /// reached (`QuotaExceeded`), the system has no memory for another stack (`OutOfMemory`), or the
    /// runtime is shutting down.
    #[track_caller]
    pub fn spawn<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_on(current_scheduler(), body)
    }

    #[track_caller]
    pub(crate) fn spawn_on<F, T>(
        self,
        scheduler: &Arc<Scheduler>,
        body: F,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let class = self.class(scheduler)?;
        let locals = self.locals();
        let reserve = || scheduler.reserve_stack(class);
        let (task, handle) = make_reserved(self.name, class, locals, reserve, body)?;
        scheduler.spawn(task);
        Ok(JoinHandle::new(handle))
    }

    /// Spawns a coroutine like [`spawn_local`](crate::spawn_local()), with its stack reserved now.
    ///
    /// # Errors
    /// If the stack size is out of range (`InvalidInput`), the runtime's limit of coroutines is reached
    /// (`QuotaExceeded`), the system has no memory for another stack (`OutOfMemory`), or the runtime is shutting
    /// down.
    ///
    /// # Panics
    /// On a plain thread.
    #[track_caller]
    pub fn spawn_local<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let worker = local_worker();
        let class = self.class(worker.scheduler())?;
        let locals = self.locals();
        spawn_local_reserved(worker, self.name, class, locals, body).map(JoinHandle::new)
    }

    /// Runs `body` once on each worker, like [`spawn_on_workers`](crate::task::spawn_on_workers). Each coroutine gets
    /// its stack when it begins, and its handle reports it if there is none.
    ///
    /// # Errors
    /// If the stack size is out of range (`InvalidInput`).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// maniple::run(|| {
    ///     let builder = maniple::task::Builder::new().name("sweeper");
    ///     for sweeper in builder.spawn_on_workers(|_worker| ())? {
    ///         assert_eq!(sweeper.name().as_deref(), Some("sweeper"));
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_on_workers<F, T>(self, body: F) -> io::Result<Vec<JoinHandle<T>>>
    where
        F: Fn(usize) -> T + Clone + Send + 'static,
        T: Send + 'static,
    {
        let scheduler = current_scheduler();
        let class = self.size_class(scheduler)?;
        let locals = || self.locals();
        Ok(on_workers(scheduler, &self.name, class, locals, body))
    }

    /// Spawns a coroutine on the worker with the fewest if the caller's has many more, like
    /// [`spawn_least_loaded`](crate::task::spawn_least_loaded). The coroutine gets its stack when it begins, and its
    /// handle reports it if there is none.
    ///
    /// # Errors
    /// If the stack size is out of range (`InvalidInput`).
    #[track_caller]
    pub fn spawn_least_loaded<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let scheduler = current_scheduler();
        let class = self.size_class(scheduler)?;
        let locals = self.locals();
        Ok(least_loaded(scheduler, self.name, class, locals, body))
    }

    /// Spawns a coroutine that begins once `source` is readable, or at `until`, like
    /// [`spawn_when_readable`](crate::task::spawn_when_readable). The coroutine gets its stack when it begins, and its
    /// handle reports it if there is none.
    ///
    /// # Errors
    /// If the stack size is out of range (`InvalidInput`).
    #[track_caller]
    pub fn spawn_when_readable<S, F, T>(
        self,
        source: S,
        until: Instant,
        body: F,
    ) -> io::Result<JoinHandle<T>>
    where
        S: AsFd + Send + 'static,
        F: FnOnce(S) -> T + Send + 'static,
        T: Send + 'static,
    {
        let scheduler = current_scheduler();
        let class = self.size_class(scheduler)?;
        let locals = self.locals();
        let handle = stand_by(scheduler, self.name, class, locals, source, until, body);
        Ok(JoinHandle::new(handle))
    }

    pub(crate) fn class(&self, scheduler: &Scheduler) -> io::Result<SizeClass> {
        if scheduler.is_stopping() {
            return Err(io::Error::other("the runtime is shutting down"));
        }
        self.size_class(scheduler)
    }

    fn size_class(&self, scheduler: &Scheduler) -> io::Result<SizeClass> {
        match self.stack_size {
            None => Ok(scheduler.default_class),
            Some(bytes) => Ok(SizeClass::for_size(bytes)?),
        }
    }

    pub(crate) fn into_name(self) -> Option<Cow<'static, str>> {
        self.name.map(Name::into_text)
    }
}
