//! Threads that come when work waits and go when none comes, and the queue before them.

use std::{
    cell::Cell,
    collections::VecDeque,
    io, ptr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    scheduler::{now, on_coroutine},
    sys::{fenced, later},
    wait,
};

/// Calls what it is given once its thread is as good as free: before its caller can know that it has ended,
/// so that who hands in one job after another finds the thread. Says whether the caller had left it behind.
pub(super) type Job = Box<dyn FnOnce(&mut dyn FnMut(bool)) + Send>;

pub(super) struct Pool {
    pub(super) settings: Settings,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) max_threads: usize,
    pub(super) queue_limit: usize,
    pub(super) idle: Duration,
    /// Threads beyond `max_threads` that may stand in for those whose jobs were left behind.
    pub(super) most_left: usize,
}

#[derive(Default)]
struct State {
    /// With the moment at which each came.
    queue: VecDeque<(Instant, Job)>,
    threads: usize,
    idle: usize,
    /// Threads that run a job.
    busy: usize,
    /// Those of them whose job was left behind by its caller. A job that ends just then may be taken off before it
    /// was added.
    left: isize,
    /// When it was last said that no thread is free.
    told: Option<Instant>,
    /// Nothing more will be submitted.
    closed: bool,
}

thread_local! {
    /// The pool whose thread this is, if any.
    static SERVING: Cell<*const Pool> = const { Cell::new(ptr::null()) };
}

impl Settings {
    pub(super) fn check(&self) -> io::Result<()> {
        let wrong = if self.max_threads == 0 {
            "max_threads is 0"
        } else if self.name.contains('\0') {
            "its name has a NUL"
        } else {
            return Ok(());
        };
        let message = format!("offload pool {:?}: {wrong}", self.name);
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state: Mutex::default(),
            work: Condvar::new(),
        })
    }

    /// Whether the calling thread is one of this pool's.
    pub(super) fn serves_here(&self) -> bool {
        ptr::eq(SERVING.get(), self)
    }

    pub(super) fn threads(&self) -> usize {
        self.lock().threads
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().queue.len()
    }

    /// Lets the threads end once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    pub(super) fn submit(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let mut state = self.lock();
        // A job that a thread is about to take up waits for none.
        let limit = self.settings.queue_limit.saturating_add(self.most(&state));
        if state.queue.len() + state.busy >= limit {
            let Settings {
                name,
                max_threads,
                queue_limit,
                ..
            } = &self.settings;
            let full = io::Error::new(
                io::ErrorKind::WouldBlock,
                format!(
                    "queue of {name} is full: {queue_limit} jobs wait for {max_threads} threads"
                ),
            );
            self.tell_if_stuck(state);
            // Who asks again and again gives way to others.
            wait::spend();
            return Err(full);
        }
        state.queue.push_back((now(), job));
        if state.idle >= state.queue.len() {
            self.work.notify_one();
        } else if state.threads < self.most(&state) {
            if let Err(error) = self.start_thread(&mut state) {
                if state.threads == 0 {
                    let job = state.queue.pop_back();
                    drop(state);
                    drop(job);
                    return Err(error);
                }
                drop(state);
                self.tell_of_no_thread(&error);
            }
        } else {
            self.tell_if_stuck(state);
        }
        Ok(())
    }

    /// A caller has left a job behind that runs on: another thread may stand in for its.
    pub(super) fn job_was_left(self: &Arc<Self>) {
        let mut state = self.lock();
        state.left += 1;
        if state.idle < state.queue.len()
            && state.threads < self.most(&state)
            && let Err(error) = self.start_thread(&mut state)
        {
            drop(state);
            self.tell_of_no_thread(&error);
        }
    }

    /// A caller has given up waiting for a thread.
    pub(super) fn job_was_withdrawn(&self) {
        self.tell_if_stuck(self.lock());
    }

    /// Threads that there may be now.
    fn most(&self, state: &State) -> usize {
        let left = usize::try_from(state.left).unwrap_or(0);
        let Settings {
            max_threads,
            most_left,
            ..
        } = self.settings;
        max_threads.saturating_add(left.min(most_left))
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        state.threads += 1;
        let own = self.clone();
        let started = std::thread::Builder::new()
            .name(self.settings.name.clone())
            // One that went by unwinding would be counted for ever, and its pool wait for it.
            .spawn(move || fenced::or_abort("a thread of an offload pool", || own.serve()));
        if started.is_err() {
            state.threads -= 1;
        }
        started.map(drop)
    }

    #[cold]
    fn tell_of_no_thread(&self, error: &io::Error) {
        let name = &self.settings.name;
        tell(format!("no further thread for {name}: {error}"));
    }

    /// Logs, now and then, that jobs have waited long for a thread.
    fn tell_if_stuck(&self, mut state: MutexGuard<'_, State>) {
        let Some((since, _)) = state.queue.front() else {
            return;
        };
        let now = now();
        let waited = now.saturating_duration_since(*since);
        let told = state.told.map(|told| now.saturating_duration_since(told));
        if state.idle > 0 || waited < LONG_WAIT || told.is_some_and(|told| told < TELL_EVERY) {
            return;
        }
        state.told = Some(now);
        let State { threads, left, .. } = *state;
        let jobs = state.queue.len();
        drop(state);
        let name = &self.settings.name;
        tell(format!(
            "all {threads} threads of {name} are busy, {left} of them with what its caller has left behind; {jobs} \
             jobs wait, the first for {waited:?}"
        ));
    }

    fn serve(&self) {
        SERVING.set(self);
        let mut state = self.lock();
        loop {
            // One that stood in for another which is free again.
            if state.threads > self.most(&state) {
                break;
            }
            if let Some((_, job)) = state.queue.pop_front() {
                state.busy += 1;
                drop(state);
                self.work_off(job);
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (locked, waited) = self
                .work
                .wait_timeout(state, self.settings.idle)
                .unwrap_or_else(PoisonError::into_inner);
            state = locked;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn work_off(&self, job: Job) {
        let mut busy = true;
        let mut free = |was_left| {
            if std::mem::take(&mut busy) {
                let mut state = self.lock();
                state.busy -= 1;
                state.left -= isize::from(was_left);
            }
        };
        // The job's own panic is its caller's. What is left: destructors of what nobody takes.
        fenced::call_or_tell(
            || "dropping an offloaded job or its result".to_owned(),
            || job(&mut free),
        );
        free(false);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs it, unless the caller is a coroutine: that may hand in a job from within a logger, which writes into a file.
#[cold]
fn tell(line: String) {
    match on_coroutine(|task| task.is_some()) {
        true => later::say(log::Level::Warn, line),
        false => fenced::tell!(warn, "{line}"),
    }
}

/// How long a job waits for a thread before that is worth a word.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// That word is said no more often.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn threads_that_stand_in_for_those_left_behind_have_a_limit() {
        let pool = Pool::new(Settings {
            name: "stand-ins".to_owned(),
            max_threads: 1,
            queue_limit: 10,
            idle: PATIENCE,
            most_left: 2,
        });
        let (begun, has_begun) = mpsc::channel();
        let gates: Vec<_> = (0..6)
            .map(|job| {
                let (open, opened) = mpsc::channel::<()>();
                let begun = begun.clone();
                let work: Job = Box::new(move |free| {
                    begun.send(job).unwrap();
                    _ = opened.recv();
                    free(true);
                });
                pool.submit(work).unwrap();
                // The first and two that stand in; the others find no thread, however many are left behind.
                let runs = job < 3;
                if runs {
                    assert_eq!(has_begun.recv_timeout(PATIENCE), Ok(job));
                }
                pool.job_was_left();
                assert_eq!(pool.threads(), 3.min(job + 1));
                open
            })
            .collect();
        assert!(has_begun.try_recv().is_err());
        assert_eq!(pool.queued(), 3);
        drop(gates);
        for _ in 3..6 {
            assert!(has_begun.recv_timeout(PATIENCE).is_ok());
        }
        pool.close();
        let until = Instant::now() + PATIENCE;
        while pool.threads() > 0 {
            assert!(Instant::now() < until, "{} threads stay", pool.threads());
            std::thread::yield_now();
        }
    }
}
