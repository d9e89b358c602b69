//! The end of a runtime, in order: refuse, cancel, wait for the grace time, report what is left.

use std::{
    sync::{Condvar, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Scheduler, now, snapshot::Gate};
use crate::{
    coroutine::Header,
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
    /// Workers that have ended, or given up.
    ended: usize,
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

/// As good as for ever, and not so long that no clock could tell its end.
const LONGEST_GRACE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a worker may take to notice, beyond the grace time, before it counts as held.
const NOTICE: Duration = Duration::from_millis(200);

impl Ending {
    pub(super) fn add_thread(&self, thread: JoinHandle<()>) {
        self.lock().threads.push(thread);
    }

    /// The worker's thread is about to end.
    pub(super) fn worker_ended(&self) {
        self.lock().ended += 1;
        self.worker_ended.notify_all();
    }

    /// The worker has reported what did not end; its thread never will.
    pub(super) fn worker_gave_up(&self, index: usize) {
        let mut state = self.lock();
        state.kept.push(index);
        state.ended += 1;
        drop(state);
        self.worker_ended.notify_all();
    }

    pub(super) fn give_up_at(&self) -> Instant {
        self.lock().give_up_at.unwrap_or_else(now)
    }

    pub(super) fn report(&self, header: &Header, runs: bool) {
        let stuck = Stuck {
            id: header.origin.id,
            name: header.origin.name.as_deref().map(str::to_owned),
            spawned_at: header.origin.spawned_at,
            waits_for: (!runs).then(|| header.reason.get().to_string()),
        };
        self.lock().stuck.push(stuck);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheduler {
    /// Ends everything within `grace`; returns what did not end. Later calls return nothing.
    pub(crate) fn shut_down(&self, grace: Duration) -> Vec<Stuck> {
        let give_up_at = now() + grace.min(LONGEST_GRACE);
        let threads = {
            let mut state = self.ending.lock();
            state.give_up_at.get_or_insert(give_up_at);
            std::mem::take(&mut state.threads)
        };
        self.stopping.store(true, Ordering::SeqCst);
        for home in &self.remotes {
            home.parker.wake();
        }
        let all_ended = self.await_workers(threads.len(), give_up_at + NOTICE);
        if all_ended {
            let kept = std::mem::take(&mut self.ending.lock().kept);
            for (index, thread) in threads.into_iter().enumerate() {
                if !kept.contains(&index) {
                    // What would have unwound out of it has aborted the process.
                    let _ended = thread.join();
                }
            }
        } else {
            self.report_running();
        }
        self.refuse_injected();
        super::refusal::tell_rest();
        later::say_all();
        std::mem::take(&mut self.ending.lock().stuck)
    }

    fn await_workers(&self, expected: usize, until: Instant) -> bool {
        let mut state = self.ending.lock();
        while state.ended < expected {
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

    /// Names the coroutines that hold their workers.
    fn report_running(&self) {
        let Ok(gate) = Gate::shut() else {
            fenced::tell!(
                warn,
                "a coroutine holds its worker and cannot be named: no membarrier(2)"
            );
            return;
        };
        for home in &self.remotes {
            gate.with_running(home, |header| self.ending.report(header, true));
        }
    }
}
