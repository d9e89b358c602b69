//! A thread pool for what cannot suspend: name look-ups, file I/O, C libraries, long computations.
//!
//! The coroutine waits, its worker does not. The pool starts a thread when work waits and none is
//! idle, up to a limit; threads that stay idle end. Work beyond that queues, up to a limit too.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    scheduler::current_coroutine,
    strand::{Outcome, Strand},
    sys::spin::SpinLock,
    wait::{self, Cuttable, Reason, Waited, ready},
};

/// Threads that the pool starts at most.
pub const MAX_THREADS: usize = 128;

/// Jobs that wait for a thread at most.
pub const MAX_QUEUED: usize = 16 * 1024;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Runs `job` on a thread of the pool while the calling coroutine waits. A plain thread, which has
/// nobody to hold up, runs it itself.
///
/// If the wait is cut short by cancellation or a deadline the job is left to finish by itself, unless
/// no thread has taken it up yet; its result is dropped.
///
/// # Errors
/// If the queue is full ([`MAX_QUEUED`], kind `WouldBlock`), no thread could be started, the scope was
/// cancelled or its deadline passed.
///
/// # Panics
/// With the panic of `job`.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let text = maniple::run(|| maniple::offload(|| std::fs::read_to_string("/proc/version")))??;
/// assert!(text.contains("Linux"));
/// # Ok(())
/// # }
/// ```
pub fn offload<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if current_coroutine().is_none() {
        return Ok(job());
    }
    wait::check()?;
    let ticket = Arc::new(Ticket(SpinLock::new(Progress {
        state: State::Queued,
        waiting: None,
    })));
    let theirs = ticket.clone();
    POOL.submit(Box::new(move || theirs.work(job)))?;
    loop {
        let waited = wait::wait(
            Reason::Offload,
            None,
            Cuttable::Yes,
            |strand| ticket.arm(strand),
            || ticket.0.lock().waiting = None,
        );
        match waited {
            Waited::AtOnce | Waited::Notified => return Ok(ticket.take()),
            Waited::Cut(interrupt) => {
                ticket.abandon();
                return Err(interrupt.into());
            }
            Waited::TimedOut | Waited::Again => {}
        }
    }
}

/// Jobs that wait for a thread.
pub(crate) fn queued() -> usize {
    POOL.state
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .queue
        .len()
}

/// What the coroutine and the thread share about one job.
struct Ticket<T>(SpinLock<Progress<T>>);

struct Progress<T> {
    state: State<T>,
    waiting: Option<NonNull<Strand>>,
}

// SAFETY: the strand is touched under the lock alone, while it waits.
unsafe impl<T: Send> Send for Progress<T> {}

enum State<T> {
    Queued,
    Running,
    Done(Result<T, Box<dyn Any + Send>>),
    /// Taken, or given up before it began.
    Gone,
}

impl<T> Ticket<T> {
    fn work(&self, job: impl FnOnce() -> T) {
        {
            let mut progress = self.0.lock();
            match progress.state {
                State::Queued => progress.state = State::Running,
                _ => return,
            }
        }
        let result = catch_unwind(AssertUnwindSafe(job));
        let claimed = {
            let mut progress = self.0.lock();
            progress.state = State::Done(result);
            progress
                .waiting
                .take()
                // SAFETY: a waiting strand takes itself out under this lock before its wait returns.
                .and_then(|strand| unsafe { Strand::claim(strand, Outcome::Notified) })
        };
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }

    fn arm(&self, strand: &Strand) -> bool {
        let mut progress = self.0.lock();
        if matches!(progress.state, State::Done(_)) {
            return false;
        }
        strand.word.arm(true);
        progress.waiting = Some(NonNull::from(strand));
        true
    }

    fn abandon(&self) {
        let mut progress = self.0.lock();
        if matches!(progress.state, State::Queued) {
            progress.state = State::Gone;
        }
    }

    fn take(&self) -> T {
        let state = std::mem::replace(&mut self.0.lock().state, State::Gone);
        match state {
            State::Done(Ok(value)) => value,
            State::Done(Err(payload)) => resume_unwind(payload),
            _ => unreachable!("notified only when done"),
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

static POOL: Pool = Pool {
    state: Mutex::new(PoolState {
        queue: VecDeque::new(),
        threads: 0,
        idle: 0,
    }),
    work: Condvar::new(),
};

struct Pool {
    state: Mutex<PoolState>,
    work: Condvar,
}

struct PoolState {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Pool {
    fn submit(&'static self, job: Job) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.queue.len() >= MAX_QUEUED {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("offload queue is full: {MAX_QUEUED} jobs wait for {MAX_THREADS} threads"),
            ));
        }
        state.queue.push_back(job);
        if state.idle >= state.queue.len() {
            self.work.notify_one();
        } else if state.threads < MAX_THREADS {
            state.threads += 1;
            let started = std::thread::Builder::new()
                .name("maniple-offload".to_owned())
                .spawn(|| self.serve());
            if let Err(error) = started {
                state.threads -= 1;
                if state.threads == 0 {
                    state.queue.pop_back();
                    return Err(error);
                }
                log::warn!("no further offload thread: {error}");
            }
        }
        Ok(())
    }

    fn serve(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                job();
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.idle += 1;
            let (locked, waited) = self
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = locked;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}
