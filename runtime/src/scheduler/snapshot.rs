//! What a worker tells of itself and its coroutines, on its own thread, between two turns.
//!
//! Nothing of a worker may be looked at from elsewhere, so another thread has the worker look at itself, by a
//! [`Request`](super::requests::Request). While a coroutine holds a worker, that serves none. Then it is looked at
//! from outside, through a [`Gate`] at the end of the turn.

use std::{
    cell::Cell,
    ops::Range,
    panic::Location,
    sync::{Arc, LazyLock, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Scheduler, Worker};
use crate::{
    coroutine::{Gate, Header, Name, Origin, Remote, Still},
    driver::sim,
    sys::{
        memory,
        spin::SpinLock,
        thread_trace::{self, Doing},
        trace::Trace,
    },
    waiter::Reason,
};

/// The schedulers of this process that have not ended.
static ALL: LazyLock<SpinLock<Vec<Weak<Scheduler>>>> = LazyLock::new(|| SpinLock::new(Vec::new()));

pub(super) fn register(scheduler: &Arc<Scheduler>) {
    let mut all = ALL.lock();
    all.retain(|scheduler| scheduler.strong_count() > 0);
    all.push(Arc::downgrade(scheduler));
}

/// The schedulers of this process, the oldest first; in a simulated world, the one that it has.
pub(crate) fn schedulers() -> Vec<Arc<Scheduler>> {
    if sim::current().is_some() {
        let own = Worker::current().map(|worker| worker.scheduler.clone());
        return own.into_iter().collect();
    }
    ALL.lock().iter().filter_map(Weak::upgrade).collect()
}

/// What a worker is at, as seen from another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// A turn of a coroutine.
    Turn,
    /// Its loop: whatever code runs there.
    Between,
    /// It waits for the kernel, or has no thread.
    Rest,
}

/// Which turn a worker is at, as seen from another thread.
pub(crate) struct Turn {
    home: Arc<Remote>,
    pub(crate) worker: String,
    pub(crate) at: At,
    /// The turn's number, the round's, and the worker's: the same for as long as the worker is held.
    pub(crate) number: (u64, u32, u32),
}

impl Scheduler {
    fn turn(&self, index: usize) -> Turn {
        let home = &self.remotes[index];
        let runs = home.is_in_turn();
        let rests =
            home.polling.load(Ordering::Relaxed) || home.thread_id.load(Ordering::Relaxed) == 0;
        Turn {
            worker: format!("{}-{index}", self.config.thread_name),
            at: match (runs, rests) {
                (true, _) => At::Turn,
                (false, true) => At::Rest,
                (false, false) => At::Between,
            },
            number: (
                home.turn.load(Ordering::Relaxed),
                home.rounds.load(Ordering::Relaxed),
                home.worker_id,
            ),
            home: home.clone(),
        }
    }
}

/// The turns that all workers of the process are at.
pub(crate) fn turns() -> Vec<Turn> {
    let schedulers = schedulers();
    let of_one = |scheduler: &Arc<Scheduler>| {
        let turns = (0..scheduler.workers()).map(|index| scheduler.turn(index));
        turns.collect::<Vec<_>>()
    };
    schedulers.iter().flat_map(of_one).collect()
}

/// Who keeps a worker.
pub(crate) struct Culprit {
    /// The coroutine in words; `None` for what runs between two turns.
    pub(crate) coroutine: Option<String>,
    stack: Range<usize>,
}

impl Turn {
    /// Who keeps the worker, if it is still at that turn.
    pub(crate) fn culprit(&self) -> Option<Culprit> {
        if self.at != At::Turn {
            return self.is_still_on().then(|| Culprit {
                coroutine: None,
                stack: self.home.stack(),
            });
        }
        let gate = Gate::shut().ok()?;
        let seen = gate.with_running(&self.home, |header, _| {
            self.is_still_on().then(|| {
                let Origin {
                    id,
                    name,
                    spawned_at,
                    ..
                } = &header.origin;
                let name = name.as_ref();
                let name = name.map_or_else(String::new, |name| format!(" {:?}", name.text()));
                Culprit {
                    coroutine: Some(format!("coroutine {id}{name}, spawned at {spawned_at},")),
                    stack: header.stack_range(),
                }
            })
        });
        seen.flatten()
    }

    /// Where the worker's thread is, if it is still at that turn and on the stack that it should be on.
    pub(crate) fn whereabouts(&self, culprit: &Culprit) -> Option<Trace> {
        let thread = self.home.thread_id.load(Ordering::Relaxed);
        if thread == 0 || culprit.stack.is_empty() {
            return None;
        }
        let seen = match thread_trace::doing(thread) {
            Doing::Runs => {
                let query = thread_trace::Query {
                    thread,
                    stack: culprit.stack.clone(),
                    turn: &self.home.turn,
                    number: self.number.0,
                };
                thread_trace::of_running(&query).ok()?
            }
            doing @ Doing::Sleeps { at, stack_pointer } => {
                let _gate = Gate::shut().ok()?;
                let _kept = self.home.at_gate.lock();
                if !self.is_still_on() {
                    return None;
                }
                let seen = thread_trace::of_sleeping(at, stack_pointer, &culprit.stack);
                // What it did meanwhile may not fit together.
                seen.filter(|_| self.is_still_on() && thread_trace::doing(thread) == doing)
            }
            Doing::Unknown => None,
        };
        seen.map(|seen| Trace::of(seen.addresses(MOST_FRAMES).into_iter()))
    }

    /// Whether nothing has changed since.
    fn is_still_on(&self) -> bool {
        let (turn, round, _) = self.number;
        let home = &self.home;
        home.is_in_turn() == (self.at == At::Turn)
            && home.turn.load(Ordering::Relaxed) == turn
            && home.rounds.load(Ordering::Relaxed) == round
            && home.thread_id.load(Ordering::Relaxed) != 0
            && !home.polling.load(Ordering::Relaxed)
    }
}

impl Remote {
    /// The addresses of its thread's own stack.
    fn stack(&self) -> Range<usize> {
        let [lowest, highest] = self.thread_stack.each_ref();
        lowest.load(Ordering::Relaxed)..highest.load(Ordering::Relaxed)
    }
}

/// A worker that does not answer, looked at from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldView {
    /// The coroutine that holds it; without one it is held between two.
    pub(crate) holder: Option<CoroutineView>,
    /// The others that have begun there.
    pub(crate) others: Vec<CoroutineView>,
    /// Where its thread is, if that was asked for and can be told.
    pub(crate) trace: Option<Trace>,
}

impl Scheduler {
    /// Looks at a worker that does not answer; `None` if it is not held after all.
    pub(crate) fn look_at_held(&self, index: usize, traces: bool) -> Option<HeldView> {
        let turn = self.turn(index);
        if turn.at == At::Rest {
            return None;
        }
        let culprit = turn.culprit()?;
        let mut view = HeldView {
            trace: traces.then(|| turn.whereabouts(&culprit)).flatten(),
            ..HeldView::default()
        };
        if turn.at == At::Between {
            return Some(view);
        }
        let gate = Gate::shut().ok()?;
        let home = &self.remotes[index];
        let seen = gate.with_running(home, |header, others| {
            view.holder = Some(describe_running(header));
            others.for_each(|header| view.others.push(describe(header)));
        });
        seen.map(|()| view)
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

/// A coroutine that is suspended, or holds its worker.
#[derive(Clone, Debug)]
pub(crate) struct CoroutineView {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) leader: Option<u64>,
    /// Whether it holds its worker.
    pub(crate) runs: bool,
    /// `None` if it may go on.
    pub(crate) waits_for: Option<Reason>,
    /// Whether its wait ends by itself.
    pub(crate) has_deadline: bool,
    pub(crate) since: Option<Instant>,
    pub(crate) ran: Option<Duration>,
    pub(crate) turns: Option<u64>,
    pub(crate) stack: Range<usize>,
    pub(crate) depth: usize,
    pub(crate) touched: Option<usize>,
    pub(crate) trace: Option<Trace>,
}

/// Frames that a trace keeps.
const MOST_FRAMES: usize = 128;

/// Describes a worker, on its own thread, and its coroutines if wanted; with backtraces if wanted.
pub(crate) fn of_worker(worker: &Worker, coroutines: bool, traces: bool) -> WorkerView {
    let mut view = worker.own_view();
    if coroutines {
        let seen = &mut view.coroutines;
        let mut look = |task: &Still<'_>| {
            let trace = traces.then(|| {
                let mut trace = Trace::with_room(MOST_FRAMES);
                task.trace(&mut trace).then_some(trace)
            });
            seen.push(CoroutineView {
                trace: trace.flatten(),
                ..describe(task)
            });
        };
        worker.home.rest(|rest| rest.for_each(&mut look));
    }
    view
}
/// What others may tell of a coroutine while it runs, kept by the gate.
fn describe_running(header: &Header) -> CoroutineView {
    CoroutineView {
        id: header.origin.id,
        name: header.origin.name.as_ref().map(Name::to_string),
        spawned_at: header.origin.spawned_at,
        leader: header.leader(),
        runs: true,
        waits_for: None,
        has_deadline: false,
        since: None,
        ran: None,
        turns: None,
        stack: header.stack_range(),
        depth: 0,
        touched: memory::resident(header.stack_range()).ok(),
        trace: None,
    }
}

/// What can be told of a coroutine that is suspended, while its worker does nothing.
fn describe(header: &Header) -> CoroutineView {
    let reason = header.reason.get();
    let may_go_on = reason == Reason::Yield || header.waiter.claim.outcome().is_some();
    let tracked = header.record.since.get().is_some();
    CoroutineView {
        id: header.origin.id,
        name: header.origin.name.as_ref().map(Name::to_string),
        spawned_at: header.origin.spawned_at,
        leader: header.leader(),
        runs: false,
        waits_for: (!may_go_on).then_some(reason),
        has_deadline: header.alarm.is_set(),
        since: header.record.since.get(),
        ran: tracked.then(|| header.record.ran.get()),
        turns: tracked.then(|| header.record.turns.get()),
        stack: header.stack_range(),
        depth: header.depth(),
        touched: memory::resident(header.stack_range()).ok(),
        trace: None,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::Runtime;

    const LONG: Duration = Duration::from_secs(60);

    #[inline(never)]
    fn held_in_here(free: &AtomicBool) {
        while !free.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        std::hint::black_box(());
    }

    fn scheduler_of(name: &str) -> (Runtime, Arc<Scheduler>) {
        let runtime = Runtime::builder().workers(1).thread_name(name);
        let runtime = runtime.build().unwrap();
        let mut all = schedulers().into_iter();
        let scheduler = all.find(|scheduler| scheduler.config.thread_name == name);
        (runtime, scheduler.unwrap())
    }

    /// Looks until the worker is seen there.
    fn until(scheduler: &Scheduler, at: At) -> Turn {
        let begun = Instant::now();
        loop {
            let turn = scheduler.turn(0);
            if turn.at == at {
                return turn;
            }
            assert!(begun.elapsed() < LONG, "{:?}", turn.at);
        }
    }

    #[test]
    fn a_worker_that_is_held_between_two_coroutines_is_seen_there() {
        let (_runtime, scheduler) = scheduler_of("held-between");
        until(&scheduler, At::Rest);
        let free = Arc::new(AtomicBool::new(false));
        let theirs = free.clone();
        scheduler.run_on_worker(0, Box::new(move |_| held_in_here(&theirs)));
        until(&scheduler, At::Between);
        let begun = Instant::now();
        let seen = loop {
            let held = scheduler.look_at_held(0, true).expect("it is held");
            assert!(held.holder.is_none() && held.others.is_empty());
            let frames = held.trace.map(|trace| trace.frames()).unwrap_or_default();
            let is_it = |frame: &crate::sys::trace::Frame| frame.function.contains("held_in_here");
            if frames.iter().any(is_it) {
                break true;
            }
            if begun.elapsed() > LONG {
                break false;
            }
        };
        free.store(true, Ordering::Release);
        assert!(seen);
        until(&scheduler, At::Rest);
    }

    #[test]
    fn of_a_turn_that_is_over_nobody_is_accused() {
        let (runtime, scheduler) = scheduler_of("held-once");
        let free = Arc::new(AtomicBool::new(false));
        let theirs = free.clone();
        let held = runtime.spawn(move || held_in_here(&theirs));
        let turn = until(&scheduler, At::Turn);
        let culprit = turn.culprit().expect("it runs");
        assert!(culprit.coroutine.as_ref().unwrap().contains("snapshot.rs"));
        free.store(true, Ordering::Release);
        held.join().unwrap();
        assert!(turn.culprit().is_none());
        assert!(turn.whereabouts(&culprit).is_none());
    }
}
