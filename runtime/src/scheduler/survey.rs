//! What a worker tells of itself and its coroutines, on its own thread, between two turns.
//!
//! Nothing of a worker may be looked at from elsewhere, so whoever wants to know leaves a [`Question`] on
//! its [`Desk`] and wakes it. The worker answers at the start of its next round; while a coroutine holds
//! it, it does not. A desk without questions costs a load of one flag a round.

use std::{
    cell::Cell,
    io,
    panic::Location,
    ptr::NonNull,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Scheduler, Worker};
use crate::{
    coroutine::{self, Alarm, Header, Home},
    strand::Reason,
    sys::{memory, spin::SpinLock, trace::Trace, witness},
};

pub(crate) type Question = Box<dyn FnOnce(&Worker) + Send>;

/// Where questions to one worker lie.
pub(crate) struct Desk {
    has_some: AtomicBool,
    questions: SpinLock<Vec<Question>>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            has_some: AtomicBool::new(false),
            questions: SpinLock::new(Vec::new()),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        !self.has_some.load(Ordering::SeqCst)
    }

    #[cold]
    pub(super) fn answer(&self, worker: &Worker) {
        self.has_some.store(false, Ordering::SeqCst);
        let questions = std::mem::take(&mut *self.questions.lock());
        questions.into_iter().for_each(|question| question(worker));
    }

    /// Drops what will not be answered any more, which tells those who ask.
    pub(super) fn close(&self) {
        drop(std::mem::take(&mut *self.questions.lock()));
    }
}

impl Scheduler {
    /// Has the worker of that index answer, on its thread; `question` is dropped if it cannot.
    pub(crate) fn ask(&self, index: usize, question: Question) {
        let desk = &self.desks[index];
        desk.questions.lock().push(question);
        desk.has_some.store(true, Ordering::SeqCst);
        if self.is_stopping() {
            desk.close();
            return;
        }
        let home = &self.homes[index];
        if home.inbox.nudge() {
            home.bell.ring();
        }
    }
}

/// The schedulers of this process that have not ended.
static ALL: LazyLock<SpinLock<Vec<Weak<Scheduler>>>> = LazyLock::new(|| SpinLock::new(Vec::new()));

pub(super) fn register(scheduler: &Arc<Scheduler>) {
    let mut all = ALL.lock();
    all.retain(|scheduler| scheduler.strong_count() > 0);
    all.push(Arc::downgrade(scheduler));
}

/// The schedulers of this process, the oldest first.
pub(crate) fn schedulers() -> Vec<Arc<Scheduler>> {
    ALL.lock().iter().filter_map(Weak::upgrade).collect()
}

/// What is noted of each turn.
static LOOKS: AtomicU8 = AtomicU8::new(0);

/// What is noted of each turn: one load, and a branch that is never taken while it is nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks(u8);

impl Looks {
    const TIMES: u8 = 1;
    const DEPTHS: u8 = 2;

    #[inline]
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether turns are timed and counted.
    #[inline]
    pub(crate) fn times(self) -> bool {
        self.0 & Self::TIMES != 0
    }

    /// Whether the depth of stacks is measured.
    #[inline]
    pub(crate) fn depths(self) -> bool {
        self.0 & Self::DEPTHS != 0
    }

    fn set(bit: u8, on: bool) {
        match on {
            true => LOOKS.fetch_or(bit, Ordering::Relaxed),
            false => LOOKS.fetch_and(!bit, Ordering::Relaxed),
        };
    }
}

pub(crate) fn set_tracking(on: bool) {
    Looks::set(Looks::TIMES, on);
}

pub(crate) fn set_measuring(on: bool) {
    Looks::set(Looks::DEPTHS, on);
}

#[inline]
pub(crate) fn looks() -> Looks {
    Looks(LOOKS.load(Ordering::Relaxed))
}

/// Whether coroutines that run may be looked at from other threads, as `Worker::end` must then know.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// From now on [`turns`] may be asked for culprits.
pub(crate) fn guard_running() -> io::Result<()> {
    WATCHED.store(true, Ordering::SeqCst);
    if memory::barrier_on_all_threads() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "running coroutines cannot be looked at: no membarrier(2)",
    ))
}

#[inline]
pub(super) fn is_watched() -> bool {
    WATCHED.load(Ordering::Relaxed)
}

/// Which turn a worker is at, as seen from another thread.
pub(crate) struct Turn {
    home: Arc<Home>,
    pub(crate) worker: String,
    pub(crate) worker_id: u32,
    pub(crate) number: u64,
    /// Whether a coroutine runs.
    pub(crate) running: bool,
}

/// The turns that all workers of the process are at.
pub(crate) fn turns() -> Vec<Turn> {
    let schedulers = schedulers();
    let of_one = |scheduler: &Arc<Scheduler>| {
        let name = scheduler.config.thread_name.clone();
        let homes = scheduler.homes.iter().enumerate();
        let turn = move |(index, home): (usize, &Arc<Home>)| Turn {
            worker: format!("{name}-{index}"),
            worker_id: home.worker_id,
            number: home.turn.load(Ordering::Relaxed),
            running: !home.running.load(Ordering::Relaxed).is_null(),
            home: home.clone(),
        };
        homes.map(turn).collect::<Vec<_>>()
    };
    schedulers.iter().flat_map(of_one).collect()
}

impl Turn {
    /// Where the worker's thread is, if it is still this turn.
    pub(crate) fn whereabouts(&self) -> Option<Trace> {
        let thread = self.home.thread_id.load(Ordering::Relaxed);
        let trace = witness::whereabouts(thread).ok()??;
        let same = self.home.turn.load(Ordering::SeqCst) == self.number;
        same.then_some(trace)
    }

    /// Who runs, if it is still this turn: id, name and origin. Needs [`guard_running`] before.
    pub(crate) fn culprit(&self) -> Option<String> {
        let _kept = self.home.reporting.lock();
        let running = self.home.running.load(Ordering::SeqCst);
        if self.home.turn.load(Ordering::SeqCst) != self.number {
            return None;
        }
        // SAFETY: since `guard_running` a coroutine that ends clears `running` and then takes the lock held
        // here before its memory goes.
        let origin = &unsafe { running.as_ref() }?.origin;
        let name = origin.name.as_deref();
        let name = name.map_or_else(String::new, |name| format!(" {name:?}"));
        let (id, at) = (origin.id, origin.spawned_at);
        Some(format!("coroutine {id}{name}, spawned at {at},"))
    }
}

/// What a worker has done since it started.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) begun: Cell<u64>,
    pub(super) stolen: Cell<u64>,
    pub(super) polls: Cell<u64>,
    pub(super) sleeps: Cell<u64>,
    pub(super) woken_from_elsewhere: Cell<u64>,
}

/// Adds one to a count.
#[inline]
pub(super) fn count(cell: &Cell<u64>) {
    cell.set(cell.get().wrapping_add(1));
}

/// A worker's answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerView {
    pub(crate) turns: u64,
    pub(crate) begun: u64,
    pub(crate) stolen: u64,
    pub(crate) polls: u64,
    pub(crate) sleeps: u64,
    pub(crate) woken_from_elsewhere: u64,
    pub(crate) ready: usize,
    pub(crate) unstarted: usize,
    pub(crate) timers: usize,
    pub(crate) descriptors: usize,
    pub(crate) coroutines: Vec<CoroutineView>,
}

/// A suspended coroutine.
#[derive(Clone, Debug)]
pub(crate) struct CoroutineView {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) leader: Option<u64>,
    /// `None` if it may go on.
    pub(crate) waits_for: Option<Reason>,
    /// Whether its wait ends by itself.
    pub(crate) has_deadline: bool,
    pub(crate) since: Option<Instant>,
    pub(crate) ran: Option<Duration>,
    pub(crate) turns: Option<u64>,
    pub(crate) stack: std::ops::Range<usize>,
    pub(crate) depth: usize,
    pub(crate) touched: Option<usize>,
    pub(crate) trace: Option<Trace>,
}

/// Frames that a trace keeps.
const MOST_FRAMES: usize = 128;

impl Worker {
    /// Describes this worker, and its coroutines if wanted; with backtraces if wanted.
    pub(crate) fn survey(&self, coroutines: bool, traces: bool) -> WorkerView {
        let mut view = self.own_view();
        if coroutines {
            let seen = &mut view.coroutines;
            // SAFETY: the list is this thread's, and a coroutine that writes its trace changes no list.
            unsafe {
                self.live()
                    .for_each(|task| seen.push(describe(task, traces)));
            }
        }
        view
    }
}

/// # Safety
/// `task` is alive, of this thread's worker, and suspended.
unsafe fn describe(task: NonNull<Header>, traces: bool) -> CoroutineView {
    // SAFETY: alive by the caller's promise.
    let header = unsafe { task.as_ref() };
    let reason = header.reason.get();
    let may_go_on = reason == Reason::Yield || header.strand.word.outcome().is_some();
    let tracked = header.record.since.get().is_some();
    CoroutineView {
        id: header.origin.id,
        name: header.origin.name.as_deref().map(str::to_owned),
        spawned_at: header.origin.spawned_at,
        leader: header.leader(),
        waits_for: (!may_go_on).then_some(reason),
        has_deadline: header.alarm.due.get() != Alarm::NEVER,
        since: header.record.since.get(),
        ran: tracked.then(|| header.record.ran.get()),
        turns: tracked.then(|| header.record.turns.get()),
        stack: header.stack_range(),
        depth: header.depth(),
        touched: memory::resident(header.stack_range()).ok(),
        trace: traces
            .then(|| {
                let mut trace = Trace::with_room(MOST_FRAMES);
                // SAFETY: suspended, on this thread.
                unsafe { coroutine::trace(task, &mut trace) }.then_some(trace)
            })
            .flatten(),
    }
}
