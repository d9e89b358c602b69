//! The scheduler: workers that run coroutines, and how work reaches them.
//!
//! # Concepts
//!
//! A *worker* is a thread with a queue of ready coroutines, a driver, a timer wheel and a cache of
//! stacks, all of which it alone touches. A coroutine that has begun stays with its worker, so waking
//! it from the same worker is a push to a plain ring buffer; from elsewhere it is a push to the
//! worker's inbox, and a ring of its bell only if it sleeps. A coroutine that has not begun is a heap
//! object without a stack: it sits in its spawner's deque, from which idle workers steal, or in the
//! runtime's injector if it was spawned by a plain thread.
//!
//! # Rejected
//!
//! Moving started coroutines between workers would balance better, but makes `spawn` unsafe:
//! thread-locals, `Rc` and lock guards may live on their stacks.
//!
//! How workers sleep, and are woken when there is work for them: see [`idle`](crate::idle).

mod balance;
mod ledger;
pub(crate) mod refusal;
mod requests;
mod run_queue;
mod shutdown;
pub(crate) mod simulated;
mod sleep;
pub(crate) mod snapshot;
mod supply;
pub(crate) mod suspend;
mod timers;
mod trim;
mod turns;
pub(crate) mod watermark;
mod wind_down;
mod worker;

use std::{
    io,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crossbeam_deque::{Injector, Steal, Stealer};

use balance::Balance;
use requests::Requests;
pub(crate) use shutdown::Stuck;
pub(crate) use suspend::{may_block_thread, suspend, suspend_parked_thread, yield_turn};
pub(crate) use worker::Worker;

use crate::{
    config::Config,
    coroutine::{
        self, Failure, Header, Remote, Running, TaskRef, Unstarted, WaiterAct, Won, on_running,
    },
    driver::{Standby, sim},
    error::Interrupt,
    idle::{Idle, Parker},
    stack::{SizeClass, Stack, pool::StackPool, slab::Slabs},
    sys::fenced,
    waiter::{Claimed, Waiter},
};

/// One runtime's workers and the work that belongs to none of them yet.
pub(crate) struct Scheduler {
    pub(crate) config: Config,
    pub(crate) default_class: SizeClass,
    remotes: Vec<Arc<Remote>>,
    stealers: Vec<Stealer<Unstarted>>,
    injector: Injector<Unstarted>,
    idle: Idle,
    balance: Balance,
    standby: Standby<Unstarted>,
    requests: Box<[Requests]>,
    stopping: AtomicBool,
    pub(crate) slabs: Arc<Slabs>,
    ending: shutdown::Ending,
}

impl Scheduler {
    /// Makes a scheduler and starts its workers.
    pub(crate) fn start(config: Config) -> io::Result<Arc<Scheduler>> {
        if sim::current().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated world has the one runtime that it runs on: no other begins in it",
            ));
        }
        let (scheduler, seeds) = Self::make(config)?;
        snapshot::register(&scheduler);
        for (index, seed) in seeds.into_iter().enumerate() {
            let own = scheduler.clone();
            let thread = std::thread::Builder::new()
                .name(format!("{}-{index}", scheduler.config.thread_name))
                .spawn(move || Worker::run(own, index, seed));
            match thread {
                Ok(thread) => scheduler.ending.add_thread(thread),
                Err(error) => {
                    scheduler.shut_down(Duration::ZERO);
                    return Err(error);
                }
            }
        }
        Ok(scheduler)
    }

    /// Makes a scheduler, and what its workers grow from.
    fn make(config: Config) -> io::Result<(Arc<Scheduler>, Vec<worker::Seed>)> {
        warn_without_unwinding();
        crate::sys::handler::install_for_overflows()?;
        crate::sys::overflow::set_culprit(worker::culprit);
        let slabs = Slabs::new(config.stack_limits())?;
        let default_class = slabs.default_class();
        let standby = Standby::new(now)?;
        let mut seeds = Vec::with_capacity(config.workers);
        for _ in 0..config.workers {
            seeds.push(worker::Seed::new(&standby, &slabs)?);
        }
        let scheduler = Arc::new(Scheduler {
            default_class,
            remotes: seeds.iter().map(|seed| seed.home.clone()).collect(),
            stealers: seeds.iter().map(|seed| seed.deque.stealer()).collect(),
            injector: Injector::new(),
            idle: Idle::new(config.workers),
            balance: Balance::new(),
            standby,
            requests: seeds.iter().map(|_| Requests::new()).collect(),
            stopping: AtomicBool::new(false),
            slabs,
            ending: shutdown::Ending::default(),
            config,
        });
        Ok((scheduler, seeds))
    }

    pub(crate) fn workers(&self) -> usize {
        self.remotes.len()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Queues a task that any worker may begin.
    pub(crate) fn spawn(self: &Arc<Self>, task: Unstarted) {
        match Worker::current() {
            Some(worker) if worker.belongs_to(self) => worker.spawn(task),
            _ => self.inject(task),
        }
    }

    fn inject(&self, task: Unstarted) {
        if self.is_stopping() {
            self.refuse(task);
            return;
        }
        self.injector.push(task);
        if self.is_stopping() {
            // The workers may have looked here for the last time.
            self.refuse_injected();
        }
        self.wake_one();
    }

    /// The worker with the fewest coroutines, and how many that is, as far as can be known from outside.
    fn fewest(&self) -> Option<(&Remote, usize)> {
        let remotes = self.remotes.iter().map(|home| {
            let begun = home.live.load(Ordering::Relaxed);
            (&**home, begun + home.offered.len())
        });
        remotes.min_by_key(|&(_, coroutines)| coroutines)
    }

    /// Queues a task that some worker should rather begin than others.
    fn offer_to(&self, home: &Remote, task: Unstarted) {
        home.offered.push(task);
        if self.is_stopping() {
            self.refuse_offered(home);
        }
        if !home.parker.wake() {
            self.offer();
        }
    }

    fn refuse_offered(&self, home: &Remote) {
        loop {
            match home.offered.steal() {
                Steal::Success(task) => self.refuse(task),
                Steal::Empty => return,
                Steal::Retry => {}
            }
        }
    }

    /// Queues a task that the worker of that index must begin.
    pub(crate) fn assign(&self, index: usize, task: Unstarted) {
        let home = &self.remotes[index];
        home.assigned.lock().push_back(task);
        if self.is_stopping() {
            self.refuse_assigned(home);
        }
        home.parker.wake();
    }

    /// Queues a task once `fd`, which it owns, is readable, or the deadline has come. `fd` is not used after
    /// the task can begin.
    pub(crate) fn stand_by(self: &Arc<Self>, fd: BorrowedFd<'_>, until: Instant, task: Unstarted) {
        if let Err(task) = self.standby.enter(fd, until, task) {
            self.spawn(task);
        }
        if self.is_stopping() {
            // The workers may have looked there for the last time.
            self.refuse_standby();
        }
    }

    /// How many tasks wait for a descriptor before they begin.
    pub(crate) fn on_standby(&self) -> usize {
        self.standby.len()
    }

    fn refuse_standby(&self) {
        let all = self.standby.take_all();
        all.into_iter().for_each(|task| self.refuse(task));
    }

    fn refuse_assigned(&self, home: &Remote) {
        let assigned = std::mem::take(&mut *home.assigned.lock());
        assigned.into_iter().for_each(|task| self.refuse(task));
    }

    /// Ends a task that will never run.
    fn refuse(&self, task: Unstarted) {
        if let Some(stack) = task.fail(Failure::Interrupted(Interrupt::Cancelled), ready) {
            StackPool::new(self.slabs.clone()).release(stack);
        }
    }

    fn refuse_injected(&self) {
        self.refuse_standby();
        for home in &self.remotes {
            self.refuse_assigned(home);
            self.refuse_offered(home);
        }
        loop {
            match self.injector.steal() {
                Steal::Success(task) => self.refuse(task),
                Steal::Empty => return,
                Steal::Retry => {}
            }
        }
    }

    /// Reserves a stack now, so that the spawner learns whether there is one.
    pub(crate) fn reserve_stack(self: &Arc<Self>, class: SizeClass) -> io::Result<Stack> {
        match Worker::current() {
            Some(worker) if worker.belongs_to(self) => worker.acquire_stack(class),
            _ => self.slabs.acquire(class),
        }
    }

    /// Wakes a sleeping worker, if there is one, because there is something to steal.
    #[inline]
    fn wake_one(&self) {
        self.idle.wake_one(self.parkers());
    }

    /// Tells of work that its worker will most likely come to itself: nobody is woken for it now.
    #[inline]
    fn offer(&self) {
        self.idle.offer(self.parkers());
    }

    /// Compares what a worker has to do, which has not come to rest since then, with the others.
    #[inline]
    fn compare_load(&self, worked_since: Instant, now: Instant) {
        self.balance
            .compare(worked_since, now, || self.idle.any_parked());
    }

    #[inline]
    fn parkers(&self) -> impl Iterator<Item = &Parker<Won>> {
        self.remotes.iter().map(|home| &home.parker)
    }

    /// Work that no worker has begun, from anywhere but `thief`'s own deque.
    fn has_work_to_steal(&self) -> bool {
        !self.injector.is_empty() || self.stealers.iter().any(|stealer| !stealer.is_empty())
    }
}

/// Says once that the program was built so that more than panics ends it.
fn warn_without_unwinding() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if cfg!(panic = "abort") && !TOLD.swap(true, Ordering::Relaxed) {
        fenced::tell!(
            warn,
            "built with panic = \"abort\": a panic in a coroutine ends the process, and so does a timeout or a \
             cancellation that cuts a wait which returns no error (sleep, join!, hedge, ...); \
             set panic = \"unwind\" in the profile"
        );
    }
}

/// Puts a claimed waiter where it will be resumed.
#[inline]
pub(crate) fn ready(claimed: Claimed) {
    match Worker::current() {
        Some(worker) => worker.ready(claimed),
        None => coroutine::send_home(claimed),
    }
}

/// The scheduler of the calling coroutine, or the process-wide default on a plain thread, which is
/// started at its first use.
///
/// Valid for as long as the caller's coroutine, or for good on a plain thread.
#[inline]
pub(crate) fn current_scheduler() -> &'static Arc<Scheduler> {
    match Worker::current() {
        Some(worker) => worker.scheduler(),
        None => default_scheduler(),
    }
}

#[cold]
fn default_scheduler() -> &'static Arc<Scheduler> {
    static DEFAULT: OnceLock<Arc<Scheduler>> = OnceLock::new();
    DEFAULT.get_or_init(|| match Scheduler::start(Config::default()) {
        Ok(scheduler) => scheduler,
        Err(error) => panic!("the default runtime could not be started: {error}"),
    })
}

/// The waiter that calls: the running coroutine's, or the plain thread's own.
#[inline]
pub(crate) fn current_waiter() -> NonNull<Waiter> {
    coroutine::current_waiter()
}

/// Hands `act` the waiter that calls: the running coroutine's, or the plain thread's own.
#[inline(always)]
pub(crate) fn on_waiter<R>(act: impl FnOnce(&Waiter) -> R) -> R {
    struct Call<F>(F);
    impl<R, F: FnOnce(&Waiter) -> R> WaiterAct for Call<F> {
        type Result = R;

        #[inline(always)]
        fn act(self, waiter: &Waiter) -> R {
            self.0(waiter)
        }
    }
    coroutine::on_waiter(Call(act))
}

/// Hands `act` the running coroutine, if the caller is one.
#[inline(always)]
pub(crate) fn on_coroutine<R>(act: impl FnOnce(Option<&Header>) -> R) -> R {
    on_running(|running| act(running.as_deref()))
}

/// A reference to the running coroutine, if the caller is one.
pub(crate) fn current_task() -> Option<TaskRef> {
    on_running(|running| running.map(Running::counted))
}

/// The clock, read now; in a simulated world, the world's.
#[inline]
#[allow(
    clippy::disallowed_methods,
    reason = "the scheduler's clock: everything else asks here"
)]
pub(crate) fn now() -> Instant {
    match sim::is_any() {
        false => Instant::now(),
        true => now_by_world(),
    }
}

/// The time of day; in a simulated world, what the caller's host takes for it.
#[inline]
#[allow(
    clippy::disallowed_methods,
    reason = "the scheduler's clock: everything else asks here"
)]
pub(crate) fn system_now() -> SystemTime {
    match sim::is_any().then(sim::wall).flatten() {
        None => SystemTime::now(),
        Some(since) => SystemTime::UNIX_EPOCH + since,
    }
}

/// Kept out of line: what reads the clock is small enough to be inlined nearly everywhere.
#[cold]
#[inline(never)]
#[allow(
    clippy::disallowed_methods,
    reason = "the scheduler's clock, where another thread is in a world"
)]
fn now_by_world() -> Instant {
    sim::now().unwrap_or_else(Instant::now)
}
