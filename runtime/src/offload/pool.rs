//! Threads that come when work waits and go when none comes, and the queue before them.

use std::{
    cell::Cell,
    collections::VecDeque,
    io, ptr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::sys::fenced;

/// Calls what it is given once its thread is as good as free: before its caller can know that it has ended,
/// so that who hands in one job after another finds the thread.
pub(super) type Job = Box<dyn FnOnce(&mut dyn FnMut()) + Send>;

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
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Threads that run a job.
    busy: usize,
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
        let limit = self
            .settings
            .queue_limit
            .saturating_add(self.settings.max_threads);
        if state.queue.len() + state.busy >= limit {
            let Settings {
                name,
                max_threads,
                queue_limit,
                ..
            } = &self.settings;
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!(
                    "queue of {name} is full: {queue_limit} jobs wait for {max_threads} threads"
                ),
            ));
        }
        state.queue.push_back(job);
        if state.idle >= state.queue.len() {
            self.work.notify_one();
        } else if state.threads < self.settings.max_threads {
            state.threads += 1;
            let own = self.clone();
            let started = std::thread::Builder::new()
                .name(self.settings.name.clone())
                .spawn(move || own.serve());
            if let Err(error) = started {
                state.threads -= 1;
                if state.threads == 0 {
                    let job = state.queue.pop_back();
                    drop(state);
                    drop(job);
                    return Err(error);
                }
                drop(state);
                let name = &self.settings.name;
                fenced::tell!(warn, "no further thread for {name}: {error}");
            }
        }
        Ok(())
    }

    fn serve(&self) {
        SERVING.set(self);
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
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
        let mut free = || {
            if std::mem::take(&mut busy) {
                self.lock().busy -= 1;
            }
        };
        // The job's own panic is its caller's. What is left: destructors of what nobody takes.
        fenced::call_or_tell(
            || "dropping an offloaded job or its result".to_owned(),
            || job(&mut free),
        );
        free();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
