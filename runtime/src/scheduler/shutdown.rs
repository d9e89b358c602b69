//! The end of a runtime, in order: refuse, cancel, wait for the grace time, report what is left.

use std::{
    sync::{Condvar, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Scheduler, now};
use crate::{
    coroutine::{Gate, Header, Name},
    sys::{fenced, later},
};

/// What a shutdown and the workers tell each other.
#[derive(Default)]
pub(super) struct Ending {
    state: Mutex<State>,
    worker_ended: Condvar,
}

#[derive(Default)]
struct State {
    threads: Vec<JoinHandle<()>>,
    /// Which workers have ended, or given up.
    ended: Vec<usize>,
    /// Which workers have given up.
    kept: Vec<usize>,
    give_up_at: Option<Instant>,
    stuck: Vec<Stuck>,
}

/// A coroutine that did not end within the grace time; its memory is kept.
#[derive(Clone, Debug)]
pub(crate) struct Stuck {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) spawned_at: &'static std::panic::Location<'static>,
    /// What it waits for, or `None` if it never gave its worker back.
    pub(crate) waits_for: Option<String>,
}

impl Stuck {
    fn of(header: &Header, runs: bool) -> Self {
        Self {
            id: header.origin.id,
            name: header.origin.name.as_ref().map(Name::to_string),
            spawned_at: header.origin.spawned_at,
            waits_for: (!runs).then(|| header.reason.get().to_string()),
        }
    }
}

/// As good as for ever, and not so long that no clock could tell its end.
const LONGEST_GRACE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a worker may take to notice, beyond the grace time, before it counts as held by the coroutine that it runs.
const NOTICE: Duration = Duration::from_millis(200);

/// What it may take if it runs none: then it is the kernel that lets it wait, and only it can tell who is left.
const PATIENCE: Duration = Duration::from_secs(10);

impl Ending {
    pub(super) fn add_thread(&self, thread: JoinHandle<()>) {
        self.lock().threads.push(thread);
    }

    /// The worker's thread is about to end.
    pub(super) fn worker_ended(&self, index: usize) {
        self.lock().ended.push(index);
        self.worker_ended.notify_all();
    }

    /// The worker has reported what did not end; its thread never will.
    pub(super) fn worker_gave_up(&self, index: usize) {
        let mut state = self.lock();
        state.kept.push(index);
        state.ended.push(index);
        drop(state);
        self.worker_ended.notify_all();
    }

    pub(super) fn give_up_at(&self) -> Instant {
        self.lock().give_up_at.unwrap_or_else(now)
    }

    /// What was reported; nothing the next time.
    pub(super) fn take_stuck(&self) -> Vec<Stuck> {
        std::mem::take(&mut self.lock().stuck)
    }

    pub(super) fn report(&self, header: &Header, runs: bool) {
        let stuck = Stuck::of(header, runs);
        let mut state = self.lock();
        // One that held its worker may wait by now.
        state.stuck.retain(|other| other.id != stuck.id);
        state.stuck.push(stuck);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheduler {
    /// Ends everything within `grace`; returns what did not end. Later calls return nothing.
    pub(crate) fn shut_down(&self, grace: Duration) -> Vec<Stuck> {
        let give_up_at = now() + grace.min(LONGEST_GRACE);
        self.begin_end(give_up_at);
        let threads = std::mem::take(&mut self.ending.lock().threads);
        for home in &self.remotes {
            home.parker.wake();
        }
        let all_ended = self.await_workers(threads.len(), give_up_at + NOTICE)
            || self.await_starved(threads.len(), give_up_at + PATIENCE);
        if all_ended {
            let kept = std::mem::take(&mut self.ending.lock().kept);
            for (index, thread) in threads.into_iter().enumerate() {
                if !kept.contains(&index) {
                    // What would have unwound out of it has aborted the process.
                    let _ended = thread.join();
                }
            }
        }
        self.refuse_injected();
        super::refusal::tell_rest();
        later::say_all();
        self.ending.take_stuck()
    }

    /// Has workers wind down, once they come to look.
    pub(super) fn begin_end(&self, give_up_at: Instant) {
        (self.ending.lock().give_up_at).get_or_insert(give_up_at);
        self.stopping.store(true, Ordering::SeqCst);
    }

    fn await_workers(&self, expected: usize, until: Instant) -> bool {
        let mut state = self.ending.lock();
        while state.ended.len() < expected {
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return false;
            }
            state = self
                .ending
                .worker_ended
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Names the coroutines that hold their workers, and waits for workers that none holds.
    fn await_starved(&self, expected: usize, until: Instant) -> bool {
        let mut held = Vec::new();
        loop {
            let ended = self.ending.lock().ended.clone();
            let pending = |held: &[usize]| -> Vec<usize> {
                (0..expected)
                    .filter(|index| !ended.contains(index) && !held.contains(index))
                    .collect()
            };
            held.extend(self.report_running(pending(&held)));
            if pending(&held).is_empty() || now() >= until {
                return self.await_workers(expected, now());
            }
            if self.await_workers(expected, until.min(now() + NOTICE)) {
                return true;
            }
        }
    }

    /// The coroutine that runs on that worker now, if that can be told.
    pub(crate) fn who_holds(&self, worker: usize) -> Option<Stuck> {
        let gate = Gate::shut().ok()?;
        gate.with_running(&self.remotes[worker], |header, _| Stuck::of(header, true))
    }

    /// Names the coroutines that hold one of these workers; returns which are held.
    fn report_running(&self, workers: Vec<usize>) -> Vec<usize> {
        let Ok(gate) = Gate::shut() else {
            fenced::tell!(
                warn,
                "a coroutine may hold its worker and cannot be named: no membarrier(2)"
            );
            return workers;
        };
        let names = |&index: &usize| {
            gate.with_running(&self.remotes[index], |header, _| {
                self.ending.report(header, true)
            })
            .is_some()
        };
        workers.into_iter().filter(names).collect()
    }
}
