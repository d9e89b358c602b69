//! Thread pools for what cannot suspend: name look-ups, file I/O, C libraries, long computations.
//!
//! The coroutine waits, its worker does not. A pool starts a thread when work waits and none is idle, up
//! to a limit; threads that stay idle end. Work beyond that queues, up to a limit too. [`offload`] uses
//! the pool that all share; an [`OffloadPool`] has limits, and a queue, of its own. Files and names have pools of
//! their own as well, so that a file system or a name server that stands still keeps neither the other nor
//! [`offload`] from going on; threads stand in there for those whose call was left behind.
//!
//! A pool whose threads are all busy, while a job has waited for one for a second, says so in the log, once in
//! ten seconds.
//!
//! # What a job inherits
//!
//! The caller's deadline, which [`time::remaining`](crate::time::remaining) tells inside the job, and its
//! cancellation, which [`cancel::check`](crate::cancel::check) sees there once the caller's wait has been
//! cut by it. Waits of this crate inside the job obey both. A job that looks at neither runs to its end.

mod pool;
mod ticket;

use std::{
    fmt, io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use pool::{Pool, Settings};
use ticket::{Begun, Ticket};

use crate::{
    driver::sim::{self, World},
    scheduler::{may_block_thread, on_coroutine},
    wait::{self, Interruptible, Reason},
};

/// Threads that the shared pool starts at most, and the default of others.
pub const MAX_THREADS: usize = 128;

/// Jobs that wait for a thread of the shared pool at most, and the default of others.
pub const MAX_QUEUED: usize = 16 * 1024;

/// How long a thread of the shared pool waits for work before it ends, and the default of others.
pub const IDLE: Duration = Duration::from_secs(10);

/// Runs `job` on a thread of the shared pool while the calling coroutine waits. A plain thread, which has
/// nobody to hold up, runs it itself.
///
/// The wait is cut short by cancellation and by the deadline of the caller's scope. A job that no thread
/// has taken up yet is then withdrawn; one that has begun is left to see it ([what it
/// inherits](self#what-a-job-inherits)), and its result is dropped.
///
/// # Errors
/// If the queue is full ([`MAX_QUEUED`], kind `WouldBlock`), no thread could be started, the scope was
/// cancelled or its deadline passed.
///
/// # Panics
/// With the panic of `job`.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let text = maniple::run(|| maniple::offload(|| std::fs::read_to_string("/proc/version")))??;
/// assert!(text.contains("Linux"));
/// # Ok(())
/// # }
/// ```
pub fn offload<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    run_unless_thread(&SHARED, job, Begun::IsLeft, &mut false)
}

/// Offloads a call on a file of which half would be worse than late: once begun, the wait is not cut.
pub(crate) fn file_whole<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    sim::refuse("a file");
    run_unless_thread(&FILES, job, Begun::IsAwaited, &mut false)
}

/// Offloads a call on a file that may be left behind; `left` becomes true if it was and had begun.
pub(crate) fn file_leaving<T, F>(job: F, left: &mut bool) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    sim::refuse("a file");
    run_unless_thread(&FILES, job, Begun::IsLeft, left)
}

/// Offloads the look-up of a name.
pub(crate) fn look_up<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    run_unless_thread(&NAMES, job, Begun::IsLeft, &mut false)
}

fn run_unless_thread<T, F>(
    pool: &OffloadPool,
    job: F,
    begun: Begun,
    left: &mut bool,
) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if on_coroutine(|task| task.is_none()) {
        may_block_thread(&Reason::Offload);
        wait::check()?;
        return Ok(job());
    }
    pool.run_as(job, begun, left)
}

static SHARED: LazyLock<OffloadPool> = LazyLock::new(|| OffloadPool {
    pool: Pool::new(Builder::default().settings),
});

static FILES: LazyLock<OffloadPool> = LazyLock::new(|| internal("maniple-files", MAX_THREADS));

static NAMES: LazyLock<OffloadPool> = LazyLock::new(|| internal("maniple-names", NAME_THREADS));

/// Threads that look names up at most, beside those whose look-up was left behind.
const NAME_THREADS: usize = 32;

/// Threads of each of these two pools, at most, that hang in a call that was left behind while others stand in for
/// them. Beyond that, calls wait until one comes back.
const MOST_LEFT: usize = 1024;

fn internal(name: &str, max_threads: usize) -> OffloadPool {
    let mut settings = Builder::default().name(name).settings;
    settings.max_threads = max_threads;
    settings.most_left = MOST_LEFT;
    OffloadPool {
        pool: Pool::new(settings),
    }
}

/// Jobs that wait for a thread of the pools that all share.
pub(crate) fn queued() -> usize {
    SHARED.queued() + FILES.queued() + NAMES.queued()
}

/// A pool of threads with limits of its own: for a library that bears two calls at a time, or work that
/// must not take the shared pool's threads from others.
///
/// Dropping it lets what is queued run and then ends its threads; it does not wait for them.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// use maniple::offload::OffloadPool;
/// let database = OffloadPool::builder().name("database").max_threads(2).queue_limit(64).build()?;
/// let rows = maniple::run(|| database.run(|| 3))?;
/// assert_eq!(rows, 3);
/// # Ok(())
/// # }
/// ```
pub struct OffloadPool {
    pool: Arc<Pool>,
}

impl OffloadPool {
    /// A builder with the shared pool's limits.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs `job` on a thread of this pool while the caller, a coroutine or a plain thread, waits.
    ///
    /// Inside a job of this very pool it runs at once, where it is: to wait for a thread there could be to
    /// wait for oneself. For the rest as [`offload`].
    ///
    /// # Errors
    /// If the queue is full (kind `WouldBlock`, naming the pool and its limits), no thread could be
    /// started, the scope was cancelled or its deadline passed.
    ///
    /// # Panics
    /// With the panic of `job`.
    pub fn run<T, F>(&self, job: F) -> io::Result<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.run_as(job, Begun::IsLeft, &mut false)
    }

    fn run_as<T, F>(&self, job: F, begun: Begun, left: &mut bool) -> io::Result<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        wait::check()?;
        if let Some(world) = sim::current() {
            return in_world(&world, job);
        }
        if self.pool.serves_here() {
            return Ok(job());
        }
        let ticket = Arc::new(Ticket::new());
        let theirs = ticket.clone();
        self.pool
            .submit(Box::new(move |free| theirs.work(job, free)))?;
        ticket.wait(begun).map_err(|cut| {
            *left = cut.was_running;
            match cut.was_running {
                true => self.pool.job_was_left(),
                false => self.pool.job_was_withdrawn(),
            }
            cut.error
        })
    }

    /// How many threads it has now.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// How many jobs wait for a thread.
    pub fn queued(&self) -> usize {
        self.pool.queued()
    }
}

/// In a simulated world, which has no threads: the job runs where it is, after a time that is drawn, and takes none.
#[cold]
fn in_world<T>(world: &World, job: impl FnOnce() -> T) -> io::Result<T> {
    let begins = world.now() + Duration::from_nanos(world.draw(LONGEST_QUEUING));
    wait::pass(Reason::Offload, begins, Interruptible::Yes)?;
    Ok(job())
}

/// Nanoseconds, in a simulated world, before a job begins.
const LONGEST_QUEUING: u64 = 1_000_000;

impl Drop for OffloadPool {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl fmt::Debug for OffloadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffloadPool")
            .field("settings", &self.pool.settings)
            .field("threads", &self.threads())
            .field("queued", &self.queued())
            .finish()
    }
}

/// Configures an [`OffloadPool`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    settings: Settings,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            settings: Settings {
                name: "maniple-offload".to_owned(),
                max_threads: MAX_THREADS,
                queue_limit: MAX_QUEUED,
                idle: IDLE,
                most_left: 0,
            },
        }
    }
}

impl Builder {
    /// The name of its threads, and of the pool in errors. Default: `maniple-offload`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Threads that it starts at most. Default: [`MAX_THREADS`].
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.settings.max_threads = threads;
        self
    }

    /// Jobs that wait at most while all threads are busy; a withdrawn one keeps its place until its turn
    /// comes. Default: [`MAX_QUEUED`].
    pub fn queue_limit(mut self, jobs: usize) -> Self {
        self.settings.queue_limit = jobs;
        self
    }

    /// How long a thread waits for work before it ends. Default: [`IDLE`].
    pub fn idle(mut self, idle: Duration) -> Self {
        self.settings.idle = idle;
        self
    }

    /// Makes the pool, as yet without threads.
    ///
    /// # Errors
    /// If `max_threads` is 0 or the name has a NUL (`InvalidInput`).
    pub fn build(self) -> io::Result<OffloadPool> {
        self.settings.check()?;
        Ok(OffloadPool {
            pool: Pool::new(self.settings),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::cancel::CancelToken;

    #[test]
    fn a_thread_is_taken_for_busy_until_what_came_too_late_is_dropped() {
        /// Is dropped once its peer is.
        struct Late(mpsc::Sender<()>, mpsc::Receiver<()>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
                _ = self.1.recv();
            }
        }
        let pool = internal("late", 1);
        let (go_on, gone_on) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let (hold, held) = mpsc::channel();
        crate::run(|| {
            let mut left = false;
            let job = move || {
                _ = gone_on.recv();
                Late(begun, held)
            };
            let waited = crate::timeout(Duration::from_millis(20), || {
                pool.run_as(job, Begun::IsLeft, &mut left)
                    .map(std::mem::forget)
            });
            assert!(waited.unwrap().is_err() && left);
            drop(go_on);
            crate::offload(move || has_begun.recv()).unwrap().unwrap();
            let next = crate::timeout(Duration::from_secs(60), || pool.run(|| 4));
            assert_eq!(next.unwrap().unwrap(), 4);
            drop(hold);
        });
    }

    #[test]
    fn a_whole_job_that_has_begun_is_awaited_and_one_that_has_not_is_withdrawn() {
        let pool = OffloadPool::builder().max_threads(1).build().unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        crate::run(|| {
            let token = CancelToken::new();
            crate::group(|g| {
                let whole = g.spawn(|| {
                    let job = move || {
                        begun.send(()).unwrap();
                        released.recv().is_ok()
                    };
                    token.run(|| pool.run_as(job, Begun::IsAwaited, &mut false))
                });
                crate::offload(move || has_begun.recv()).unwrap().unwrap();
                let queued =
                    g.spawn(|| token.run(|| pool.run_as(|| (), Begun::IsAwaited, &mut false)));
                while pool.queued() == 0 {
                    crate::yield_now();
                }
                token.cancel();
                let withdrawn = queued.join()?.unwrap().unwrap_err();
                assert!(crate::cancel::is_cancelled_error(&withdrawn));
                assert!(!whole.is_finished());
                release.send(()).unwrap();
                assert!(whole.join()?.unwrap().unwrap());
                Ok::<_, crate::JoinError>(())
            })
            .unwrap();
        });
    }
}
