//! Runtimes: how many workers, which limits, when they start and how they end.

use std::{
    fmt, io,
    panic::{Location, resume_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::Config,
    scheduler::{Scheduler, Stuck},
    stack::Guarding,
    sys::fenced,
    task::{self, JoinHandle},
};

pub use crate::{stack::StackGuard, sys::memory::NoOverflow};

/// Workers that run coroutines.
///
/// Dropping it shuts it down, as [`Runtime::shutdown`] does, and logs what did not end. Several may
/// exist side by side; coroutines of one may wait for those of another.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = maniple::Runtime::builder().workers(1).build()?;
/// let answer = runtime.run(|| maniple::spawn(|| 42).join().unwrap());
/// assert_eq!(answer, 42);
/// assert!(runtime.shutdown().is_clean());
/// # Ok(())
/// # }
/// ```
pub struct Runtime {
    scheduler: Arc<Scheduler>,
}

impl Runtime {
    /// A runtime with the defaults; see [`Builder`].
    ///
    /// # Errors
    /// If a setting is out of range (`InvalidInput`, naming it), the kernel lacks the guards that were insisted on
    /// (`Unsupported`), or the system refuses a thread, an epoll set or memory.
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// A builder with the defaults.
    pub fn builder() -> Builder {
        Builder {
            config: Config::default(),
        }
    }

    /// Runs `main` on a coroutine of this runtime and returns its value.
    ///
    /// Coroutines that it leaves behind go on until the runtime is shut down. `main` may borrow from
    /// the caller, who waits for it, whatever happens.
    ///
    /// # Panics
    /// With the panic of `main`. If the runtime is shut down meanwhile and `main` was cancelled.
    #[track_caller]
    pub fn run<T: Send>(&self, main: impl FnOnce() -> T + Send) -> T {
        match task::call_on(&self.scheduler, "main", main) {
            Ok(value) => value,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(error) => panic!("main {error}"),
        }
    }

    /// Spawns a coroutine on this runtime, from anywhere; see [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F, T>(&self, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        task::spawn_on(&self.scheduler, None, body)
    }

    /// Spawns a coroutine like [`Runtime::spawn`], with a name or stack size of its own.
    ///
    /// # Errors
    /// Fails as [`task::Builder::spawn`] does.
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: task::Builder, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        builder.spawn_on(&self.scheduler, body)
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.scheduler.workers()
    }

    /// Cancels all coroutines, waits for them to end, children before leaders, and stops the workers.
    ///
    /// What has not begun never will. What does not end within the grace time (default 5 s) is named in
    /// the report. It never goes on, and all that it may have lent to others is kept for as long as the process
    /// lives: its memory, its worker, and that worker's thread with its thread-locals. A coroutine that holds
    /// its worker with a computation or a blocking call may end later; its worker then ends too.
    /// A worker that no coroutine holds, and that gets no processor, is waited for up to ten seconds longer: only that
    /// worker can tell what is left on it.
    pub fn shutdown(self) -> ShutdownReport {
        self.end()
    }

    fn end(&self) -> ShutdownReport {
        let grace = self.scheduler.config.shutdown_grace;
        ShutdownReport {
            stuck: self
                .scheduler
                .shut_down(grace)
                .into_iter()
                .map(|stuck| StuckCoroutine { stuck })
                .collect(),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for stuck in self.end().stuck {
            fenced::tell!(error, "{stuck}");
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("config", &self.scheduler.config)
            .finish_non_exhaustive()
    }
}

/// Configures a [`Runtime`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    config: Config,
}

impl Builder {
    /// Worker threads. Default: the cores that the process may use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Whether each worker is bound to one of the allowed cores. Default: no.
    pub fn pin_workers(mut self, pin: bool) -> Self {
        self.config.pin_workers = pin;
        self
    }

    /// Address space of each stack in bytes, its guard page included, rounded up to a power of two.
    /// Default: 256 KiB. Memory is committed page by page, as deep as a stack is used.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.config.stack_size = bytes;
        self
    }

    /// How stacks are guarded against overflow. Default: [`StackGuard::Auto`], the best there is;
    /// [`inspect::stacks`](crate::inspect::stacks) tells what that was.
    pub fn stack_guard(mut self, guard: StackGuard) -> Self {
        self.config.stack_guard = Guarding::By(guard);
        self
    }

    /// Leaves stacks without guards, to measure what guards cost. A later call of
    /// [`stack_guard`](Self::stack_guard) takes it back.
    ///
    /// What takes the place of the guards is a promise, [`NoOverflow`], which only unsafe code can make.
    ///
    /// # Examples
    /// ```
    /// use maniple::runtime::{NoOverflow, Runtime};
    /// # fn main() -> std::io::Result<()> {
    /// // SAFETY: nothing here comes near the end of its stack.
    /// let promise = unsafe { NoOverflow::promised() };
    /// let runtime = Runtime::builder().without_stack_guards(promise).build()?;
    /// assert_eq!(runtime.run(|| 42), 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_stack_guards(mut self, promise: NoOverflow) -> Self {
        self.config.stack_guard = Guarding::NotAtAll(promise);
        self
    }

    /// How long a coroutine has waited when the memory of its stack that it does not need meanwhile goes back
    /// to the kernel: the pages below its suspended frames, which it or one before it has touched. `None`
    /// keeps them. Default: 10 s; from 1 ms to 365 days.
    ///
    /// Each worker looks after its own coroutines, in batches of some microseconds when it has nothing else to
    /// do, or now and then if it always has. A coroutine is trimmed once it has waited for one to two of these
    /// times, and the worker takes half a percent of its time for looking at the most: with more than
    /// 500,000 coroutines per worker the default becomes 20 µs for each. Trimming costs the worker some
    /// microseconds once for each long wait, and the coroutine a page fault, about a microsecond, for each
    /// page that it needs again. A worker whose coroutines all wait and are trimmed sleeps undisturbed.
    ///
    /// Free stacks that went unused for six times as long give up their memory too.
    pub fn idle_trim(mut self, after: Option<Duration>) -> Self {
        self.config.idle_trim = after;
        self
    }

    /// Free stacks of each size that keep their memory, so that the next coroutines find it backed already;
    /// the memory of others goes back to the kernel as they become free. Default: 4,096, or as many as span
    /// 1 GiB of addresses where these are fewer. Each keeps what the deepest coroutine on it has touched, until
    /// it goes unused for six times [`idle_trim`](Self::idle_trim). Beside these, each worker keeps up to 64
    /// of each size at hand.
    pub fn warm_stacks(mut self, stacks: usize) -> Self {
        self.config.warm_stacks = Some(stacks);
        self
    }

    /// Whether the first 64 KiB of each stack are filled with a pattern before a coroutine begins on it, so that
    /// [`inspect::measure_depths`](crate::inspect::measure_depths) can tell to the byte how deep it came. Default:
    /// no. Does nothing while depths are not measured.
    ///
    /// Meant for experiments: every stack then takes these 64 KiB of memory, or all of it where it is smaller;
    /// filling them takes some ten microseconds for a coroutine whose stack has no memory yet, looking at them about
    /// a microsecond for each of its turns; and waiting coroutines are not [trimmed](Self::idle_trim).
    pub fn paint_stacks(mut self, paint: bool) -> Self {
        self.config.paint_stacks = paint;
        self
    }

    /// Stacks that may exist at a time. Default: 8,388,608.
    ///
    /// A coroutine that would need one more does not run: see [`spawn`](crate::spawn()). One further stack for each
    /// worker is not counted; what such a coroutine owns is dropped there.
    pub fn max_coroutines(mut self, max: usize) -> Self {
        self.config.max_coroutines = max;
        self
    }

    /// How long a shutdown waits for coroutines to end. Default: 5 s; more than a hundred years count as that.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.config.shutdown_grace = grace;
        self
    }

    /// Prefix of the workers' thread names. Default: `maniple`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.config.thread_name = name.into();
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// If a setting is out of range (`InvalidInput`, naming it), the kernel lacks the guards that
    /// were insisted on (`Unsupported`), or the system refuses a thread, an epoll set or memory.
    pub fn build(self) -> io::Result<Runtime> {
        self.config.check()?;
        Ok(Runtime {
            scheduler: Scheduler::start(self.config)?,
        })
    }
}

/// What a shutdown left behind.
#[derive(Clone, Debug, Default)]
#[must_use = "it names the coroutines that did not end"]
pub struct ShutdownReport {
    stuck: Vec<StuckCoroutine>,
}

impl ShutdownReport {
    /// Whether everything ended in time.
    pub fn is_clean(&self) -> bool {
        self.stuck.is_empty()
    }

    /// The coroutines that did not end.
    pub fn stuck(&self) -> &[StuckCoroutine] {
        &self.stuck
    }
}

/// A coroutine that did not end within the grace time.
#[derive(Clone, Debug)]
pub struct StuckCoroutine {
    stuck: Stuck,
}

impl StuckCoroutine {
    /// Its id.
    pub fn id(&self) -> u64 {
        self.stuck.id
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.stuck.name.as_deref()
    }

    /// Where it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.stuck.spawned_at
    }

    /// What it waits for, or `None` if it holds its worker.
    pub fn waits_for(&self) -> Option<&str> {
        self.stuck.waits_for.as_deref()
    }
}

impl fmt::Display for StuckCoroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "coroutine {:?} (id {}), spawned at {}, did not end in time: ",
            self.name().unwrap_or("unnamed"),
            self.id(),
            self.spawned_at(),
        )?;
        match self.waits_for() {
            Some(what) => write!(f, "it waits for {what}"),
            None => f.write_str("it holds its worker"),
        }
    }
}

/// Runs `main` on a coroutine of a new default runtime, shuts that down and returns the value.
///
/// # Panics
/// With the panic of `main`, or if the runtime cannot be started.
///
/// # Examples
/// ```
/// let sum = maniple::run(|| {
///     let (a, b) = maniple::join!(20 + 1, 20 + 1);
///     a + b
/// });
/// assert_eq!(sum, 42);
/// ```
#[track_caller]
pub fn run<T: Send>(main: impl FnOnce() -> T + Send) -> T {
    match Runtime::new() {
        Ok(runtime) => runtime.run(main),
        Err(error) => panic!("the runtime could not be started: {error}"),
    }
}
