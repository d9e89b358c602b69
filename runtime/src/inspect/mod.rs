//! A look inside: what every coroutine waits for, where it is, and what the workers do.
//!
//! [`snapshot()`] asks each worker between two turns, so a coroutine is never seen in the middle of
//! anything; [`dump`] is the same as text, with a backtrace for each suspended coroutine. A worker that
//! a coroutine holds cannot answer. It is looked at from outside: who holds it is told, and who else is there.
//!
//! Looking costs nothing while nobody looks. Times and turns are counted only while [`track`]ed, since
//! that takes two readings of the clock for each turn.
//!
//! ```
//! use maniple::inspect;
//! use std::time::Duration;
//! maniple::run(|| {
//!     let sleeper = maniple::task::Builder::new()
//!         .name("sleeper")
//!         .spawn(|| maniple::sleep(Duration::from_secs(60)))?;
//!     maniple::yield_now();
//!     let seen = inspect::snapshot();
//!     let found = seen.coroutines().find(|coroutine| coroutine.name() == Some("sleeper"));
//!     println!("{}", found.expect("it sleeps"));
//!     sleeper.cancel();
//!     Ok::<_, std::io::Error>(())
//! })?;
//! # Ok::<_, std::io::Error>(())
//! ```

mod depths;
mod dump;
mod quit;
mod section;
mod stacks;
mod stall;

use std::{
    fmt,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

pub use depths::{DepthsOf, Distribution, MeasureDepths, depth_label, depths, measure_depths};
pub use dump::dump;
pub(crate) use dump::text_of;
pub use quit::dump_on_sigquit;
pub use section::add_section;
pub use stacks::{GuardKind, Stacks, stacks};
#[doc(hidden)]
pub use stall::watch_stalls_unasked;
pub use stall::{StallWatch, watch_stalls};

use crate::{
    coroutine::Looks,
    scheduler::{
        Scheduler, now,
        snapshot::{self, CoroutineView, HeldView, WorkerView},
    },
    sync::channel::{self, RecvTimeoutError},
    sys::trace::Trace,
    task::Id,
    waiter::Reason,
};

/// Begins, or ends, to time and count turns, for all runtimes of the process. Off by default.
///
/// Costs two readings of the clock, some 50 ns, for each turn of a coroutine.
pub fn track(on: bool) {
    Looks::set_times(on);
}

/// Asks every worker of every runtime in the process for what it does and for its coroutines.
///
/// May be called from coroutines and plain threads, also during a shutdown, and by several at once. Workers have
/// 200 ms in all to begin to answer; those that a coroutine holds for longer are [busy](Worker::is_busy), and
/// looked at from outside. The calling coroutine itself is seen waiting for the answers. Each worker stops for the
/// time it takes to look at its coroutines, some microseconds for each.
pub fn snapshot() -> Snapshot {
    collect(false)
}

/// How long workers may take to begin to answer.
const PATIENCE: Duration = Duration::from_millis(200);

fn collect(traces: bool) -> Snapshot {
    // Neither a deadline nor a cancellation of the caller's makes workers look busy.
    crate::cancel::shield(|| {
        let schedulers = snapshot::schedulers();
        let asked: Vec<_> = schedulers
            .iter()
            .flat_map(|scheduler| (0..scheduler.workers()).map(move |index| (scheduler, index)))
            .map(|(scheduler, index)| (scheduler, index, Asked::of(scheduler, index, traces)))
            .collect();
        let until = now() + PATIENCE;
        let told: Vec<_> = asked
            .into_iter()
            .map(|(scheduler, index, asked)| {
                let name = format!("{}-{index}", scheduler.config.thread_name);
                (name, asked.wait(scheduler, index, traces, until))
            })
            .collect();
        let at = now();
        let workers = told.into_iter();
        Snapshot {
            at,
            workers: workers
                .map(|(name, told)| Worker::new(name, told, at))
                .collect(),
            offload_queued: crate::offload::queued(),
            on_standby: schedulers.iter().map(|each| each.on_standby()).sum(),
        }
    })
}

/// A worker that was asked.
struct Asked {
    begun: Arc<AtomicBool>,
    answer: channel::Receiver<WorkerView>,
}

/// What a worker told, or what was seen of it.
enum Told {
    Answer(WorkerView),
    Held(HeldView),
    /// It neither answered nor seemed to be held.
    Nothing,
    /// It has ended, or is about to.
    Ended,
}

impl Asked {
    fn of(scheduler: &Scheduler, index: usize, traces: bool) -> Self {
        let (tell, answer) = channel::bounded(1);
        let begun = Arc::new(AtomicBool::new(false));
        let theirs = begun.clone();
        scheduler.run_on_worker(
            index,
            Box::new(move |worker| {
                theirs.store(true, Ordering::Relaxed);
                // Nobody listens any more if it took too long.
                let _ = tell.try_send(snapshot::of_worker(worker, true, traces));
            }),
        );
        Self { begun, answer }
    }

    fn wait(self, scheduler: &Scheduler, index: usize, traces: bool, until: Instant) -> Told {
        match self.answer.recv_deadline(until) {
            Ok(view) => return Told::Answer(view),
            Err(RecvTimeoutError::Disconnected) => return Told::Ended,
            Err(_) => {}
        }
        // One with many coroutines takes longer.
        if !self.begun.load(Ordering::Relaxed)
            && let Some(held) = scheduler.look_at_held(index, traces)
        {
            return Told::Held(held);
        }
        let more = if self.begun.load(Ordering::Relaxed) {
            self.answer.recv().ok()
        } else {
            self.answer.recv_timeout(PATIENCE).ok()
        };
        more.map_or(Told::Nothing, Told::Answer)
    }
}

/// What [`snapshot()`] saw.
#[derive(Clone, Debug)]
pub struct Snapshot {
    at: Instant,
    workers: Vec<Worker>,
    offload_queued: usize,
    on_standby: usize,
}

impl Snapshot {
    /// When the last worker had answered.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// The workers of all runtimes.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The coroutines that have begun and not ended, those that held their workers included.
    pub fn coroutines(&self) -> impl Iterator<Item = &Coroutine> {
        let workers = self.workers.iter();
        workers.flat_map(|worker| worker.holder.iter().chain(&worker.coroutines))
    }

    /// Jobs that wait for a thread of [`offload`](crate::offload()), file calls and look-ups of names included.
    pub fn offload_queued(&self) -> usize {
        self.offload_queued
    }

    /// Coroutines that [wait for a descriptor before they begin](crate::task::spawn_when_readable).
    pub fn on_standby(&self) -> usize {
        self.on_standby
    }

    /// Whether all coroutines wait for each other: each waits for something that only another coroutine,
    /// or a plain thread, could bring about; no timer, descriptor or offloaded job is awaited.
    ///
    /// A hint: a plain thread may still come. False if a worker was busy, or there is no coroutine.
    pub fn looks_deadlocked(&self) -> bool {
        let from_outside = |coroutine: &Coroutine| match coroutine.waits_for {
            None => true,
            Some(reason) => {
                // As has the one that asks.
                coroutine.has_deadline
                    || matches!(
                        reason,
                        Reason::Readable(_)
                            | Reason::Writable(_)
                            | Reason::Either(_)
                            | Reason::Offload
                    )
            }
        };
        self.coroutines().next().is_some()
            && self.on_standby == 0
            && !self
                .workers
                .iter()
                .any(|worker| worker.state != State::Answered)
            && !self.coroutines().any(from_outside)
    }
}

/// A worker, as it was seen. Counts are since its start.
#[derive(Clone, Debug)]
pub struct Worker {
    name: String,
    state: State,
    view: WorkerView,
    holder: Option<Coroutine>,
    /// Where its thread is, if it is held.
    trace: Option<Trace>,
    coroutines: Vec<Coroutine>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Answered,
    /// Kept from answering.
    Busy,
    Ended,
}

impl Worker {
    fn new(name: String, told: Told, at: Instant) -> Self {
        let (state, mut view, held) = match told {
            Told::Answer(view) => (State::Answered, view, HeldView::default()),
            Told::Held(held) => (State::Busy, WorkerView::default(), held),
            Told::Nothing => (State::Busy, WorkerView::default(), HeldView::default()),
            Told::Ended => (State::Ended, WorkerView::default(), HeldView::default()),
        };
        let coroutines = std::mem::take(&mut view.coroutines).into_iter();
        let coroutines = coroutines.chain(held.others);
        Self {
            name,
            state,
            view,
            holder: held.holder.map(|view| Coroutine::new(view, at)),
            trace: held.trace,
            coroutines: coroutines.map(|view| Coroutine::new(view, at)).collect(),
        }
    }

    /// The name of its thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was kept from answering, by a coroutine that held it or by code between two coroutines; all
    /// counts are then zero.
    pub fn is_busy(&self) -> bool {
        self.state == State::Busy
    }

    /// The coroutine that held it, if it was busy for that.
    pub fn holder(&self) -> Option<&Coroutine> {
        self.holder.as_ref()
    }

    /// Its coroutines that have begun and not ended, but for its [`holder`](Self::holder). None if it was held
    /// between two coroutines, or has ended with its runtime.
    pub fn coroutines(&self) -> &[Coroutine] {
        &self.coroutines
    }

    /// Turns it has given to coroutines.
    pub fn turns(&self) -> u64 {
        self.view.turns
    }

    /// Coroutines it has begun.
    pub fn begun(&self) -> u64 {
        self.view.begun
    }

    /// How often it has taken coroutines over that another worker had not begun.
    pub fn steals(&self) -> u64 {
        self.view.stolen
    }

    /// How often it has asked the kernel for events.
    pub fn polls(&self) -> u64 {
        self.view.polls
    }

    /// How often it went to sleep.
    pub fn sleeps(&self) -> u64 {
        self.view.sleeps
    }

    /// Wake-ups of its coroutines by other threads.
    pub fn wakes_from_elsewhere(&self) -> u64 {
        self.view.woken_from_elsewhere
    }

    /// Coroutines that can go on and wait for their turn.
    pub fn ready(&self) -> usize {
        self.view.ready
    }

    /// Spawned coroutines in its queue that have not begun.
    pub fn unstarted(&self) -> usize {
        self.view.unstarted
    }

    /// Timers that are armed, those of waits that have ended and may arm the next included.
    pub fn timers(&self) -> usize {
        self.view.timers
    }

    /// Descriptors that it watches.
    pub fn descriptors(&self) -> usize {
        self.view.descriptors
    }
}

/// A coroutine, as it was seen between two turns, or while it or another held its worker.
#[derive(Clone, Debug)]
pub struct Coroutine {
    id: Id,
    name: Option<String>,
    spawned_at: &'static Location<'static>,
    leader: Option<u64>,
    runs: bool,
    waits_for: Option<Reason>,
    has_deadline: bool,
    since: Option<Instant>,
    /// Until the snapshot.
    waited: Option<Duration>,
    ran: Option<Duration>,
    turns: Option<u64>,
    stack: std::ops::Range<usize>,
    depth: usize,
    touched: Option<usize>,
    trace: Option<Trace>,
}

impl Coroutine {
    fn new(view: CoroutineView, at: Instant) -> Self {
        Self {
            id: Id::from_raw(view.id),
            name: view.name,
            spawned_at: view.spawned_at,
            leader: view.leader,
            runs: view.runs,
            waits_for: view.waits_for,
            has_deadline: view.has_deadline,
            since: view.since,
            waited: view.since.map(|since| at.saturating_duration_since(since)),
            ran: view.ran,
            turns: view.turns,
            stack: view.stack,
            depth: view.depth,
            touched: view.touched,
            trace: view.trace,
        }
    }

    /// Its id, as [`JoinHandle::id`](crate::JoinHandle::id) gives it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at
    }

    /// The coroutine that leads its group, if it is the child of one.
    pub fn leader(&self) -> Option<Id> {
        self.leader.map(Id::from_raw)
    }

    /// What it waits for, in words, with the descriptor or coroutine where there is one; `None` if it can go
    /// on and waits for its turn only, or [runs](Self::is_running).
    pub fn waits_for(&self) -> Option<String> {
        self.waits_for.map(|reason| reason.to_string())
    }

    /// Whether it ran, and held its worker.
    pub fn is_running(&self) -> bool {
        self.runs
    }

    /// When it was last suspended, if that was [`track`]ed.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How long it has run in all since tracking began, if that was [`track`]ed.
    pub fn run_time(&self) -> Option<Duration> {
        self.ran
    }

    /// Turns it has had since tracking began, if that was [`track`]ed.
    pub fn turns(&self) -> Option<u64> {
        self.turns
    }

    /// The addresses of its stack, the guard page at the low end included.
    pub fn stack(&self) -> std::ops::Range<usize> {
        self.stack.clone()
    }

    /// Bytes of stack in use now; 0 for the one that holds a worker, and for one that is suspended on a stack of
    /// another library's.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes of the stack that memory backs: whole pages, at least what this coroutine, or one before it on
    /// the same stack, has used at its deepest since the stack was trimmed, if it was.
    pub fn touched(&self) -> Option<usize> {
        self.touched
    }
}

/// One line: id, name, state, origin.
impl fmt::Display for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        match self.waits_for {
            Some(reason) => write!(f, ", waits for {reason}")?,
            None if self.runs => f.write_str(", runs")?,
            None => f.write_str(", can go on")?,
        }
        if let Some(waited) = self.waited {
            write!(f, " since {waited:.1?}")?;
        }
        if let Some(leader) = self.leader {
            write!(f, ", child of coroutine {leader}")?;
        }
        write!(f, ", spawned at {}", self.spawned_at)
    }
}
