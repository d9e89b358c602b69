//! A worker: the loop that runs ready coroutines, begins new ones, fires timers, polls and sleeps.
//!
//! Each round runs a bounded slice of ready coroutines, begins a bounded slice of new ones, and looks
//! at the clock and the kernel, so neither busy coroutines nor busy sockets starve the other.
//!
//! # Who may touch what
//!
//! A [`Worker`] is its thread's alone, and is found there by [`Worker::current`]. What other threads may touch is its
//! [`Remote`]. On its thread runs
//!
//! | what | and may touch |
//! |---|---|
//! | its loop, between two turns | everything |
//! | a coroutine, in its turn | `budget`; `timers`, `queue`, `driver` and `stacks`, by methods |
//! | a handler of signals | nothing |
//!
//! Nothing of it stays borrowed over a wait, or while users' code runs.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    panic::Location,
    ptr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_deque::Worker as Deque;
use log::Level;

use super::{
    Scheduler,
    ledger::Ledgers,
    now,
    run_queue::RunQueue,
    snapshot::{Counts, WorkerView, count},
    timers::Timers,
    trim::Trimmer,
    turns::BUDGET,
};
use crate::{
    coroutine::{
        self, Home, Name, Origin, Ready, Refused, Remote, Running, Unstarted, is_running,
        on_running,
    },
    driver::{Driver, Polled, Registrar, Standby},
    idle::{Parker, Sleeper},
    stack::{
        SizeClass, Stack,
        pool::{Ration, StackPool},
        slab::Slabs,
    },
    sys::{fenced, handler::AltStack, later, memory, overflow::Culprit, thread_trace},
    waiter::{Claimed, Outcome, Waiter},
};

pub(crate) struct Worker {
    pub(super) scheduler: Arc<Scheduler>,
    /// Which of the scheduler's workers it is.
    pub(super) index: usize,
    pub(super) home: Home,

    // What there is to do, and with what.
    pub(super) queue: RunQueue,
    /// Got no stack, and wait for the one on which they can drop what they own.
    pub(super) refused: RefCell<VecDeque<Refused>>,
    pub(super) has_refused: Cell<bool>,
    /// When the last of these had its turn.
    pub(super) refused_at: Cell<Instant>,
    pub(super) timers: Timers,
    pub(super) driver: RefCell<Driver>,
    pub(super) stacks: RefCell<StackPool>,

    // The turn under way.
    /// Operations that may succeed without suspending before the coroutine has to give way.
    pub(super) budget: Cell<u32>,
    /// Whether the one whose turn ended last had used that up. Read in simulated worlds alone.
    pub(super) gave_way: Cell<bool>,
    /// When the turn began, if that is kept.
    pub(super) turn_since: Cell<Option<Instant>>,
    /// The panics of those that are suspended while they unwind.
    pub(super) ledgers: RefCell<Ledgers>,

    // The loop's own.
    pub(super) sleeper: Sleeper,
    /// Since when it has not come to rest; kept where there are others to compare with.
    pub(super) awake_since: Cell<Instant>,
    pub(super) trimmer: Trimmer,
    /// When it was last said that the kernel cannot be asked for news.
    told_of_poll: Cell<Option<Instant>>,
    pub(super) counts: Counts,
}

/// What a worker is grown from; made before its thread so that failures reach the builder.
pub(super) struct Seed {
    pub(super) home: Arc<Remote>,
    pub(super) deque: Deque<Unstarted>,
    registrar: Registrar,
    stacks: StackPool,
}

impl Seed {
    pub(super) fn new(standby: &Standby<Unstarted>, slabs: &Arc<Slabs>) -> io::Result<Self> {
        let parker = Parker::new()?;
        let registrar = Registrar::new(parker.bell(), standby)?;
        Ok(Self {
            home: Arc::new(Remote::new(parker, registrar.clone())),
            deque: Deque::new_fifo(),
            registrar,
            stacks: StackPool::with_reserve(slabs.clone())?,
        })
    }

    /// Has each stack of this worker's be asked for.
    pub(super) fn ration(&mut self, ration: Ration) {
        self.stacks.ration(ration);
    }
}

/// Coroutines resumed, and begun, in one round before the kernel is asked for news.
pub(super) const SLICE: usize = 64;

/// An error that stays is told no more often.
const TELL_EVERY: Duration = Duration::from_secs(10);

thread_local! {
    static CURRENT: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

impl Worker {
    /// This thread's worker. It lives for as long as anything can run on it.
    #[inline]
    pub(crate) fn current() -> Option<&'static Worker> {
        // SAFETY: set for the duration of `run` on this thread, where the worker does not move. The
        // reference is used by code on this thread's stacks, and on those of children whose leaders are
        // here: all of it ends before the worker goes, or it does not go.
        unsafe { CURRENT.get().as_ref() }
    }

    /// This thread's worker, if the caller is a coroutine.
    #[inline]
    pub(crate) fn of_coroutine() -> Option<&'static Worker> {
        Self::current().filter(|_| is_running())
    }

    /// The body of a worker's thread. If anything unwound out of it, coroutines would be left that others wait
    /// for and that nobody resumes.
    pub(super) fn run(scheduler: Arc<Scheduler>, index: usize, seed: Seed) {
        let live = |worker: &Self| {
            while !worker.scheduler.is_stopping() {
                worker.round();
            }
        };
        fenced::or_abort("a worker's loop", || {
            Self::work(scheduler, index, seed, live, |(), _| ());
        });
    }

    /// Makes a worker, which goes on as `live` says until it winds down; then `told` gets what that had to say, and
    /// whether all has ended.
    pub(super) fn work<V>(
        scheduler: Arc<Scheduler>,
        index: usize,
        seed: Seed,
        live: impl FnOnce(&Self) -> V,
        told: impl FnOnce(V, bool),
    ) {
        if scheduler.config.pin_workers {
            pin_to_core(index);
        }
        let _alt_stack = AltStack::install().inspect_err(|error| {
            fenced::tell!(warn, "no signal stack, overflows go unreported: {error}");
        });
        let worker = Worker {
            index,
            queue: RunQueue::new(seed.deque),
            refused: RefCell::new(VecDeque::new()),
            has_refused: Cell::new(false),
            refused_at: Cell::new(now()),
            stacks: RefCell::new(seed.stacks),
            driver: RefCell::new(Driver::of(seed.registrar)),
            timers: Timers::start(),
            budget: Cell::new(BUDGET),
            gave_way: Cell::new(false),
            turn_since: Cell::new(None),
            sleeper: Sleeper::default(),
            awake_since: Cell::new(now()),
            told_of_poll: Cell::new(None),
            counts: Counts::default(),
            trimmer: Trimmer::new(scheduler.config.idle_trim),
            ledgers: RefCell::new(Ledgers::new()),
            home: Home::new(seed.home),
            scheduler,
        };
        worker.show();
        CURRENT.set(&worker);
        let value = live(&worker);
        let all_ended = worker.wind_down();
        worker.scheduler.requests[index].close();
        worker.hide();
        if !all_ended {
            worker.scheduler.ending.worker_gave_up(index);
            told(value, false);
            // Suspended stacks may hold whatever they can reach, and lend it to others: their worker, and the
            // values of this thread, which would go with it.
            loop {
                std::thread::park();
            }
        }
        worker.await_rings();
        CURRENT.set(ptr::null());
        worker.scheduler.ending.worker_ended(index);
        told(value, true);
    }

    /// Lets others see where this thread and its coroutines are.
    fn show(&self) {
        let stack = memory::own_stack();
        let [lowest, highest] = &self.home.thread_stack;
        lowest.store(stack.start, Ordering::Relaxed);
        highest.store(stack.end, Ordering::Relaxed);
        let thread_id = &self.home.thread_id;
        thread_id.store(thread_trace::thread_id(), Ordering::Relaxed);
    }

    /// From here on nobody looks at this thread.
    fn hide(&self) {
        let _nobody_looks = self.home.at_gate.lock();
        self.home.thread_id.store(0, Ordering::Relaxed);
    }

    fn round(&self) {
        if !self.home.parker.looks_empty() {
            self.take_inbox();
        }
        self.run_requests();
        let waiting = self.queue.ready();
        for turn in 0..SLICE {
            // Coroutines woken during this round run after those spawned before it.
            if turn >= waiting && self.queue.has_unstarted() {
                break;
            }
            let Some(task) = self.queue.pop_ready() else {
                break;
            };
            self.resume(task);
        }
        for _ in 0..SLICE {
            let Some(task) = self.next_unstarted() else {
                break;
            };
            self.begin(task);
        }
        if self.has_refused.get() {
            self.begin_refused();
        }
        if later::is_wanted() {
            self.have_lines_said();
        }
        if !self.queue.is_empty() {
            self.trimmer.tidy_while_busy(self);
            if self.scheduler.workers() > 1 {
                let since = self.awake_since.get();
                self.scheduler.compare_load(since, self.recent());
            }
            self.poll(Some(Duration::ZERO));
        } else if self.steal() {
            self.timers.begin_round();
            count(&self.counts.stolen);
            self.sleeper.note_found();
        } else {
            self.sleep();
        }
    }

    /// Does what other threads ask of it.
    #[inline]
    pub(super) fn run_requests(&self) {
        let requests = &self.scheduler.requests[self.index];
        if !requests.is_empty() {
            requests.run(self);
        }
    }

    /// What this loop or a coroutine has to say and may not say where it was: a coroutine says it, for a logger may
    /// wait.
    #[cold]
    fn have_lines_said(&self) {
        if !later::take_on() {
            return;
        }
        let origin = Origin {
            id: coroutine::next_id(),
            name: Some(Name::Text("maniple-log".into())),
            spawned_at: Location::caller(),
            class: self.scheduler.default_class,
        };
        let (task, handle) = coroutine::make_free(later::say_all, origin);
        // Nothing has begun, so there is no error yet.
        _ = handle.detach();
        self.spawn_local(task);
    }

    /// Asks the kernel for news, waiting at most for `timeout`, and fires what is due.
    pub(super) fn poll(&self, timeout: Option<Duration>) {
        let mut driver = self.driver.borrow_mut();
        let mut standby_is_due = false;
        let mut failed = None;
        if timeout != Some(Duration::ZERO) || !driver.is_idle() || self.scheduler.on_standby() > 0 {
            count(&self.counts.polls);
            let sleeps = timeout != Some(Duration::ZERO);
            if sleeps {
                self.home.polling.store(true, Ordering::Relaxed);
            }
            let polled = driver.poll(
                timeout,
                || self.recent(),
                |waiter| {
                    // SAFETY: a waiter is in its wait until it is claimed, or takes itself out here.
                    if let Some(claimed) = unsafe { Waiter::claim(waiter, Outcome::Notified) } {
                        self.ready(claimed);
                    }
                },
            );
            if sleeps {
                self.home.polling.store(false, Ordering::Relaxed);
            }
            match polled {
                Ok(Polled { standby }) => standby_is_due = standby,
                // Only a programming error can lead here: bad descriptor, bad buffer.
                Err(error) => failed = Some(error),
            }
        }
        drop(driver);
        if let Some(error) = failed {
            self.tell_of_failed_poll(&error);
        }
        if standby_is_due {
            // Awake from here on, and not to be woken for what it takes now.
            self.take_inbox();
            self.scheduler.standby.take_due(|task| self.spawn(task));
        }
        self.timers.begin_round();
        self.timers.fire(|task| self.push_ready(task));
    }

    /// Now and then: an error that stays comes back at once.
    #[cold]
    fn tell_of_failed_poll(&self, error: &io::Error) {
        let now = now();
        let told = self.told_of_poll.get();
        if told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY) {
            self.told_of_poll.set(Some(now));
            later::say(Level::Error, format!("wait for the kernel's news: {error}"));
        }
    }

    #[inline]
    pub(crate) fn push_ready(&self, next: Ready) {
        self.queue.push_ready(next);
    }

    /// Puts a claimed waiter where it will be resumed.
    #[inline]
    pub(super) fn ready(&self, claimed: Claimed) {
        if let Some(next) = self.home.take_in(claimed) {
            self.push_ready(next);
        }
    }

    pub(super) fn take_inbox(&self) {
        self.home.take_sent(&self.sleeper, |task| {
            count(&self.counts.woken_from_elsewhere);
            self.push_ready(task);
        });
    }

    /// What this worker tells of itself.
    pub(super) fn own_view(&self) -> WorkerView {
        WorkerView {
            turns: self.home.turn.load(Ordering::Relaxed),
            begun: self.counts.begun.get(),
            stolen: self.counts.stolen.get(),
            polls: self.counts.polls.get(),
            sleeps: self.counts.sleeps.get(),
            woken_from_elsewhere: self.counts.woken_from_elsewhere.get(),
            ready: self.queue.ready(),
            unstarted: self.queue.unstarted(),
            timers: self.timers.len(),
            descriptors: self.driver.borrow().len(),
            coroutines: Vec::new(),
        }
    }

    pub(crate) fn belongs_to(&self, scheduler: &Arc<Scheduler>) -> bool {
        Arc::ptr_eq(&self.scheduler, scheduler)
    }

    pub(crate) fn scheduler(&self) -> &Arc<Scheduler> {
        &self.scheduler
    }

    pub(crate) fn home(&self) -> &Arc<Remote> {
        self.home.remote()
    }

    pub(crate) fn acquire_stack(&self, class: SizeClass) -> io::Result<Stack> {
        self.stacks.borrow_mut().acquire(class)
    }

    /// Sees to it that the running coroutine's wait, which is about to begin, ends at `deadline`.
    #[inline]
    pub(super) fn set_alarm(&self, task: Running<'_>, deadline: Instant) {
        self.timers.set_alarm(task, deadline);
    }

    /// The time as of this round, read at most once in it.
    #[inline]
    pub(crate) fn recent(&self) -> Instant {
        self.timers.recent()
    }

    /// Runs `f` on this worker's driver; `f` neither suspends nor calls back into the worker.
    #[inline]
    pub(crate) fn with_driver<R>(&self, f: impl FnOnce(&mut Driver) -> R) -> R {
        f(&mut self.driver.borrow_mut())
    }

    /// Whether what waits for its next piece of work had better let any worker take it.
    #[inline]
    pub(crate) fn is_imbalanced(&self) -> bool {
        self.scheduler.workers() > 1 && self.scheduler.balance.is_imbalanced(|| self.recent())
    }

    /// Whether `slot`'s owner registered it with this worker.
    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.home.worker_id
    }
}

/// For the overflow report: tells `report` whose stack starts at `limit`. Runs in a signal handler.
pub(super) fn culprit(limit: usize, report: &mut dyn FnMut(Option<Culprit<'_>>)) {
    on_running(|running| {
        let whose = running.filter(|task| task.stack_range().start == limit);
        report(whose.as_ref().map(|task| {
            Culprit {
                id: task.origin.id,
                name: task
                    .origin
                    .name
                    .as_ref()
                    .map(|name| name as &dyn std::fmt::Display),
                spawned_at: task.origin.spawned_at,
            }
        }));
    });
}

/// The shorter of two timeouts, or the earlier of two times, where `None` is for ever.
pub(super) fn sooner<T: Copy + Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

fn pin_to_core(index: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let pinned = sched_getaffinity(None).and_then(|allowed| {
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&c| allowed.is_set(c))
            .collect();
        let mut only = CpuSet::new();
        only.set(cores[index % cores.len()]);
        sched_setaffinity(None, &only)
    });
    if let Err(error) = pinned {
        fenced::tell!(
            warn,
            "worker {index} could not be pinned to a core: {error}"
        );
    }
}
