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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_deque::Worker as Deque;
use log::Level;

use super::{
    Scheduler,
    ledger::{Aside, Ledgers},
    now, ready, refusal,
    run_queue::{Queued, RunQueue},
    snapshot::{Counts, WorkerView, count},
    timers::Timers,
    trim::{Tidy, Trimmer},
    watermark,
};
use crate::{
    coroutine::{
        self, Failure, Header, Home, Host, Looks, Name, Origin, Ready, Refused, Remote, Running,
        Still, Timed, Unstarted, is_running, looks, on_running,
    },
    driver::{Driver, Polled, Registrar, Standby},
    error::{Cause, Interrupt},
    idle::{Parker, Sleeper},
    stack::{SizeClass, Stack, pool::StackPool, slab::Slabs},
    sys::{fenced, handler::AltStack, later, memory, overflow::Culprit, thread_trace},
    waiter::{Claimed, Outcome, Waiter},
    wheel::Key,
};

pub(crate) struct Worker {
    pub(super) scheduler: Arc<Scheduler>,
    /// Which of the scheduler's workers it is.
    index: usize,
    pub(super) home: Home,

    // What there is to do, and with what.
    pub(super) queue: RunQueue,
    /// Got no stack, and wait for the one on which they can drop what they own.
    refused: RefCell<VecDeque<Refused>>,
    pub(super) has_refused: Cell<bool>,
    /// When the last of these had its turn.
    refused_at: Cell<Instant>,
    pub(super) timers: Timers,
    driver: RefCell<Driver>,
    pub(super) stacks: RefCell<StackPool>,

    // The turn under way.
    /// Operations that may succeed without suspending before the coroutine has to give way.
    budget: Cell<u32>,
    /// When the turn began, if that is kept.
    turn_since: Cell<Option<Instant>>,
    /// The panics of those that are suspended while they unwind.
    ledgers: RefCell<Ledgers>,

    // The loop's own.
    sleeper: Sleeper,
    /// Since when it has not come to rest; kept where there are others to compare with.
    awake_since: Cell<Instant>,
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
}

/// Coroutines resumed, and begun, in one round before the kernel is asked for news.
const SLICE: usize = 64;

/// Operations without a suspension that a coroutine gets per turn.
const BUDGET: u32 = 128;

/// Work is not handed over for a smaller difference than this in the number of coroutines: to wake the other worker
/// costs a system call.
const MARGIN: usize = 8;

/// For so long a coroutine that got no stack may wait while it drops what it owns, before the next of these
/// takes a stack from those that can begin.
pub(super) const REFUSED_PATIENCE: Duration = Duration::from_millis(10);

/// For so long beyond the grace time what has not begun may still be told to drop what it owns.
const LATE: Duration = Duration::from_millis(100);

/// An error that stays is told no more often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Rounds after which new work from other threads goes before a worker's own.
const OTHERS_EVERY: u32 = 32;

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

    /// The last rounds: everything is cancelled, nothing new begins, until all has ended, or the
    /// grace time is over: false, and what is left has been reported.
    fn wind_down(&self) -> bool {
        self.home.rest(|rest| rest.for_each(|task| shut_down(task)));
        let give_up_at = self.scheduler.ending.give_up_at();
        let standby = self.scheduler.standby.take_all();
        standby.into_iter().for_each(|task| self.spawn_local(task));
        loop {
            self.timers.begin_round();
            self.take_inbox();
            self.run_requests();
            for _ in 0..SLICE {
                let Some(task) = self.queue.pop_ready() else {
                    break;
                };
                self.resume(task);
            }
            // So many at a time, for what they own may spawn further ones, without end.
            let mut more = true;
            for _ in 0..SLICE {
                let Some(task) = self.next_unstarted() else {
                    more = false;
                    break;
                };
                // On a stack of its own, where what it owns may lock and wait as it is dropped.
                shut_down(task.header());
                self.begin(task);
            }
            self.begin_refused();
            if self.home.is_empty() && !self.has_refused.get() && !more {
                return true;
            }
            let left = give_up_at.saturating_duration_since(now());
            if left.is_zero() && (!more || now() >= give_up_at + LATE) {
                break;
            }
            if more || !self.queue.is_empty() {
                self.poll(Some(Duration::ZERO));
            } else if self.home.parker.announce() && self.scheduler.requests[self.index].is_empty()
            {
                let refused = self.has_refused.get().then_some(REFUSED_PATIENCE);
                let next = self.timers.next();
                let next = next.map(|at| at.saturating_duration_since(now()));
                let timer = sooner(next, refused);
                self.poll(Some(left.min(timer.unwrap_or(left))));
            }
        }
        let report = |task: &Header| self.scheduler.ending.report(task, false);
        self.home.rest(|rest| rest.for_each(|task| report(task)));
        for task in self.refused.take() {
            report(task.header());
        }
        // What destructors spawned up to the end is not theirs to hold up any more.
        while let Some(task) = self.queue.pop_unstarted() {
            report(task.header());
        }
        false
    }

    /// Does what other threads ask of it.
    #[inline]
    pub(super) fn run_requests(&self) {
        let requests = &self.scheduler.requests[self.index];
        if !requests.is_empty() {
            requests.run(self);
        }
    }

    /// Always inlined, for the reason that `suspend` gives.
    #[inline(always)]
    fn resume(&self, next: Ready) {
        self.resume_within(next, BUDGET);
    }

    /// A turn, with so many operations that need not wait.
    #[inline(always)]
    pub(super) fn resume_within(&self, next: Ready, budget: u32) {
        self.budget.set(budget);
        let next = match looks().any() {
            false => next,
            true => self.look_before(next),
        };
        self.home.resume(next, self);
    }

    /// What is noted before a turn: its time, if that is wanted.
    #[cold]
    #[inline(never)]
    fn look_before(&self, next: Ready) -> Ready {
        let looks = looks();
        if looks.depths() {
            let paint = self.scheduler.config.paint_stacks;
            self.home
                .rest(|rest| watermark::before_turn(&rest.of(&next), paint));
        }
        self.turn_since.set(looks.times().then(now));
        next
    }

    /// Has the running coroutine leave its stack while it unwinds: see [`ledger`](super::ledger).
    #[cold]
    #[inline(never)]
    pub(super) fn without_panics(&self, leave: impl FnOnce()) {
        let aside = self.ledgers.borrow_mut().lay_aside();
        if let Aside::Left(Some(error)) = &aside {
            tell_of_missing_ledger(error);
        }
        leave();
        self.ledgers.borrow_mut().take_up(aside);
    }

    /// Takes away what an ended coroutine has left of its count: a panic hook that panics after a wait replaces
    /// an unwinding by another, and both are caught as one.
    #[cold]
    fn strike_off(&self) {
        let mut ledgers = self.ledgers.borrow_mut();
        match ledgers.lay_aside() {
            Aside::Laid(_) => {}
            left @ Aside::Left(_) => ledgers.take_up(left),
        }
    }

    #[inline]
    pub(super) fn begin(&self, task: Unstarted) {
        let stack = if task.needs_stack() {
            match self.acquire_stack(task.header().origin.class) {
                Ok(stack) => Some(stack),
                Err(error) => return self.refuse(task, error),
            }
        } else {
            None
        };
        count(&self.counts.begun);
        self.resume(self.home.begin(task, stack));
    }

    /// A task gets no stack. What its closure owns may lock and wait when it is dropped, which nothing may here:
    /// so it becomes a coroutine all the same, as soon as there is a stack for that.
    #[cold]
    fn refuse(&self, task: Unstarted, error: io::Error) {
        self.scheduler.slabs.count_refused();
        task.cancel_group(&mut ready);
        let failure = match self.scheduler.is_stopping() {
            true => Failure::Interrupted(Interrupt::Cancelled),
            false => Failure::NoStack(error),
        };
        self.refused.borrow_mut().push_back(task.refuse(failure));
        self.has_refused.set(true);
        self.begin_refused();
    }

    /// Has those who got no stack drop what they own, one by one on the stack that is kept for that. If one of
    /// them waits so long that it may wait for another, they take their share of all stacks.
    #[cold]
    pub(super) fn begin_refused(&self) {
        while self.has_refused.get() {
            let reserve = self.stacks.borrow_mut().take_reserve();
            let stack = reserve.or_else(|| {
                let class = self.scheduler.default_class;
                let waited = self
                    .recent()
                    .saturating_duration_since(self.refused_at.get());
                let stack = (waited >= REFUSED_PATIENCE).then(|| self.acquire_stack(class));
                stack?.ok()
            });
            let Some(stack) = stack else { return };
            let task = {
                let mut refused = self.refused.borrow_mut();
                let first = refused.pop_front();
                self.has_refused.set(!refused.is_empty());
                first
            };
            let Some(task) = task else { return };
            self.refused_at.set(self.recent());
            if self.scheduler.is_stopping() {
                let scope = task.header().waiter.own_scope();
                scope.cancel(Cause::Shutdown, &mut ready);
            }
            self.resume(self.home.begin_refused(task, stack, refusal::note));
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

    fn next_unstarted(&self) -> Option<Unstarted> {
        let rounds = self.home.rounds.load(Ordering::Relaxed).wrapping_add(1);
        self.home.rounds.store(rounds, Ordering::Relaxed);
        if rounds.is_multiple_of(OTHERS_EVERY)
            && let Some(task) = self.take_from_others()
        {
            return Some(task);
        }
        self.queue
            .pop_unstarted()
            .or_else(|| self.take_from_others())
    }

    /// New work from other threads: what only this worker may begin, what it should, what any may.
    pub(super) fn take_from_others(&self) -> Option<Unstarted> {
        if let Some(task) = self.home.assigned.lock().pop_front() {
            return Some(task);
        }
        [&self.home.offered, &self.scheduler.injector]
            .into_iter()
            .find_map(|from| self.queue.take_batch(from))
    }

    /// Brings some other worker's new coroutines here.
    fn steal(&self) -> bool {
        let stealers = &self.scheduler.stealers;
        if stealers.len() == 1 {
            return false;
        }
        for offset in 1..stealers.len() {
            let victim = &stealers[(self.index + offset) % stealers.len()];
            if self.queue.steal(victim) {
                return true;
            }
        }
        // What another was offered it has had time to come to.
        if !self.sleeper.has_searched() {
            return false;
        }
        let mut offered = self.scheduler.remotes.iter().map(|home| &home.offered);
        match offered.find_map(|from| self.queue.take_batch(from)) {
            Some(task) => {
                self.queue.share_again(task);
                true
            }
            None => false,
        }
    }

    fn sleep(&self) {
        let scheduler = &*self.scheduler;
        let alone = scheduler.workers() == 1;
        if !alone && self.sleeper.spin(&self.home.parker) {
            self.timers.begin_round();
            self.take_inbox();
            return;
        }
        let tidy_at = match self.trimmer.tidy(self) {
            Tidy::Done => None,
            Tidy::At(at) => Some(at),
            Tidy::Unfinished => {
                self.poll(Some(Duration::ZERO));
                self.awake_since.set(self.recent());
                return;
            }
        };
        let fell_asleep = (!alone).then(now);
        if let Some(now) = fell_asleep {
            scheduler.compare_load(self.awake_since.get(), now);
        }
        let has_work = || {
            scheduler.has_work_to_steal()
                || !self.home.assigned.lock().is_empty()
                || !self.home.offered.is_empty()
                || !scheduler.requests[self.index].is_empty()
                || scheduler.is_stopping()
        };
        let waited = Cell::new(false);
        let wait = |search_in| {
            waited.set(true);
            count(&self.counts.sleeps);
            let refused = self.has_refused.get().then_some(REFUSED_PATIENCE);
            let next = sooner(self.timers.next(), tidy_at);
            let timeout = next.map(|at| at.saturating_duration_since(now()));
            self.poll(sooner(sooner(timeout, refused), search_in));
        };
        let parker = &self.home.parker;
        scheduler.idle.sleep(parker, &self.sleeper, has_work, wait);
        if !waited.get() {
            // Something had come before, so no poll has ended this round.
            self.timers.begin_round();
        }
        let before = self.counts.woken_from_elsewhere.get();
        self.take_inbox();
        let woken = self.counts.woken_from_elsewhere.get() != before;
        if let Some(at) = fell_asleep {
            let now = now();
            self.awake_since.set(now);
            if woken {
                self.sleeper.note_sleep(now - at);
            }
        }
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

    /// Waits, for as long as the shutdown does, for those who are about to ring; else keeps what they look at for
    /// good.
    fn await_rings(&self) {
        let until = self.scheduler.ending.give_up_at();
        if !self.sleeper.hear_rings(&self.home.parker, until, now) {
            let _kept_for_good = Arc::into_raw(self.home.remote().clone());
        }
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

    /// Queues a task that any worker may begin.
    #[inline]
    pub(crate) fn spawn(&self, task: Unstarted) {
        if self.scheduler.workers() == 1 {
            self.spawn_local(task);
        } else {
            self.spawn_shared(task);
        }
    }

    /// Kept out of line: with one worker nobody comes by.
    #[inline(never)]
    fn spawn_shared(&self, task: Unstarted) {
        match self.queue.share(task) {
            Queued::Next => self.scheduler.offer(),
            Queued::Behind => self.scheduler.wake_one(),
            Queued::No(task) => {
                self.scheduler.injector.push(task);
                self.scheduler.wake_one();
            }
        }
    }

    /// Queues a task for the worker with the fewest coroutines, if this one has many more.
    pub(crate) fn spawn_least_loaded(&self, task: Unstarted) {
        let own = self.home.live.load(Ordering::Relaxed);
        match self.scheduler.fewest() {
            Some((home, fewest)) if own > fewest + fewest / 8 + MARGIN => {
                self.scheduler.offer_to(home, task);
            }
            _ => self.spawn(task),
        }
    }

    /// Queues a task that must begin here.
    pub(crate) fn spawn_local(&self, task: Unstarted) {
        self.queue.push_local(task);
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

    /// Counts an operation that succeeded at once; gives way when there were many in this turn.
    #[inline]
    pub(crate) fn spend(&self) {
        let left = self.budget.get();
        if left > 0 {
            self.budget.set(left - 1);
        } else {
            give_way();
        }
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

impl Host for Worker {
    #[inline]
    fn look(&self, task: &Still<'_>, looks: Looks, ended: bool) {
        if let Some(begun) = self.turn_since.take()
            && !ended
        {
            let record = &task.record;
            let now = now();
            record.since.set(Some(now));
            record.ran.set(record.ran.get() + (now - begun));
            count(&record.turns);
        }
        if looks.depths() {
            watermark::after_turn(self.id(), task, ended);
        }
    }

    #[inline]
    fn take_stack(&self, stack: Stack) {
        if std::thread::panicking() {
            self.strike_off();
        }
        self.stacks.borrow_mut().release(stack);
    }

    #[inline]
    fn disarm(&self, timer: Key) -> Option<Timed> {
        self.timers.disarm(timer)
    }

    #[inline]
    fn ready(&self, claimed: Claimed) {
        Worker::ready(self, claimed);
    }
}

/// Cancels a coroutine because its runtime ends. The children of another are cancelled with that one, or kept
/// by its shields.
pub(super) fn shut_down(task: &Header) {
    if task.leader().is_none() {
        task.waiter.own_scope().cancel(Cause::Shutdown, &mut ready);
    }
}

/// Once in the process.
#[cold]
fn tell_of_missing_ledger(error: &io::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        // Its wait has begun: a logger that waits here would do so twice at a time.
        let line = format!(
            "a coroutine waits while it unwinds, and the thread that would keep its panic apart could not be \
             started: others on its worker are taken for unwinding meanwhile: {error}"
        );
        later::say(Level::Error, line);
    }
}

/// Kept out of line, with the registers that it saves: every operation that need not wait comes by here.
#[cold]
#[inline(never)]
fn give_way() {
    super::yield_turn();
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
