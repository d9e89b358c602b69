//! A worker pool: a bounded queue of jobs, a dispatcher, and workers that were started ahead.
//!
//! ```text
//!   submit ──► queue (bounded) ──► dispatcher ──► job channel of worker 1 ──► runs it ──► ticket
//!                                     ▲   └─────► job channel of worker 2 …
//!                                     └── the workers that are free, first come first served
//! ```
//!
//! Spawning a coroutine costs little, so a pool is not there to save that: it is there to bound how much of
//! one kind of work goes on at a time, how much of it waits, and to say what happens beyond ([`WhenFull`]).
//!
//! # What a job inherits
//!
//! As with [`offload`](mod@maniple::offload): the submitter's deadline, as it is when the job is submitted, and
//! the cancellation of who waits for it, once that wait ([`Ticket::join`]) has been cut. A job whose ticket
//! was dropped is on its own, but for the deadline. Submit under [`shield`](maniple::cancel::shield) to hand on none.
//!
//! [Coroutine-local values](maniple::local) are not handed on: a job finds those of the worker, with what earlier jobs
//! left there, or of the submitter that runs it.
//!
//! A job may submit to its own pool, but one that waits there, for room or for a ticket, may wait for itself:
//! give it a deadline.

mod builder;
mod error;
mod report;
mod settings;
mod ticket;
mod workers;

use std::{cell::Cell, fmt, sync::Arc, time::Duration};

use maniple::{
    cancel::{Interrupt, check},
    coroutine_local,
    sync::channel::{SendError, TrySendError},
};

pub use builder::{Builder, MAX_QUEUE, MAX_WORKERS};
pub use error::{JobError, Panic, SubmitError};
pub use maniple::drain::DrainReport;
pub use report::Stats;
pub use settings::{MAX_RUN_HERE, WhenFull};
use ticket::Queued;
pub use ticket::Ticket;
use workers::Workers;

coroutine_local! {
    /// Jobs that run in this submitter now, of all pools.
    static RUN_HERE: Cell<usize> = Cell::new(0);
}

/// A job that runs in its submitter, until dropped.
struct RunsHere;

impl RunsHere {
    /// `None` if there are too many. Where a coroutine's local values are gone, as it ends, none is let in.
    fn begin() -> Option<Self> {
        let is_let_in = RUN_HERE.try_with(|depth| {
            let deeper = depth.get() + 1;
            let is_let_in = deeper <= MAX_RUN_HERE;
            if is_let_in {
                depth.set(deeper);
            }
            is_let_in
        });
        matches!(is_let_in, Ok(true)).then(|| Self)
    }
}

impl Drop for RunsHere {
    fn drop(&mut self) {
        // An error says that the count is gone, and the coroutine about to be.
        let _ = RUN_HERE.try_with(|depth| depth.set(depth.get() - 1));
    }
}

/// A pool of workers. Clones are the same pool.
///
/// When the last clone is dropped, what is queued still runs and then the workers end; nobody waits for them.
///
/// # Examples
/// Jobs as closures, and a handler for jobs of one type:
/// ```
/// use maniple_parts::pool::{Pool, WhenFull};
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let pool = Pool::builder("thumbnails").workers(2).queue(16).when_full(WhenFull::Reject).build()?;
///     assert_eq!(pool.submit(|| "small".len())?.join()?, 5);
///
///     let lengths = pool.handler(|path: String| path.len());
///     let tickets = [lengths.submit("a.png".into())?, lengths.submit("bc.png".into())?];
///     let total: usize = tickets.into_iter().map(|ticket| ticket.join().unwrap_or(0)).sum();
///     assert_eq!(total, 11);
///
///     let report = pool.drain(Duration::from_secs(1));
///     assert_eq!((report.cancelled, report.withdrawn, report.left), (0, 0, 0));
///     assert_eq!(pool.stats().done, 3);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

/// Closes it with the last handle.
struct Owner {
    workers: Arc<Workers>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.workers.close();
    }
}

impl Pool {
    /// Hands a job to the pool, from a coroutine or a plain thread.
    ///
    /// # Errors
    /// If the pool is closed, the queue is full and [`WhenFull`] says to reject, or jobs that run here have submitted
    /// others too deep ([`MAX_RUN_HERE`]), the scope is cancelled or its
    /// deadline passed. The job is dropped then.
    ///
    /// # Panics
    /// If dropping a job that was not accepted does. A panic of the job itself is for its ticket, also where the
    /// submitter runs it.
    pub fn submit<T, F>(&self, job: F) -> Result<Ticket<T>, SubmitError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let workers = &self.owner.workers;
        let pool = || workers.name.clone();
        check().map_err(|interrupt| match interrupt {
            Interrupt::Cancelled => SubmitError::Cancelled { pool: pool() },
            Interrupt::Elapsed => SubmitError::Elapsed { pool: pool() },
        })?;
        let Some(queue) = workers.entrance() else {
            return Err(SubmitError::Closed { pool: pool() });
        };
        let (mut queued, ticket) = Queued::new(&workers.name, job);
        workers.tally.lock().submitted += 1;
        let refused = match workers.when_full {
            WhenFull::Wait => match queue.send(queued) {
                Ok(()) => None,
                Err(SendError::Cancelled(job)) => {
                    Some((job, SubmitError::Cancelled { pool: pool() }))
                }
                Err(SendError::Elapsed(job)) => Some((job, SubmitError::Elapsed { pool: pool() })),
                Err(SendError::Disconnected(job)) => {
                    Some((job, SubmitError::Closed { pool: pool() }))
                }
            },
            policy => loop {
                match (queue.try_send(queued), policy) {
                    (Ok(()), _) => break None,
                    (Err(TrySendError::Disconnected(job)), _) => {
                        break Some((job, SubmitError::Closed { pool: pool() }));
                    }
                    (Err(TrySendError::Full(job)), WhenFull::DropOldest) => {
                        workers.drop_oldest();
                        queued = job;
                    }
                    (Err(TrySendError::Full(job)), policy) => {
                        if policy == WhenFull::RunHere
                            && let Some(_here) = RunsHere::begin()
                        {
                            workers.run(job, None);
                            break None;
                        }
                        let (pool, limit) = (pool(), workers.queue);
                        break Some((job, SubmitError::Full { pool, limit }));
                    }
                }
            },
        };
        // The job is dropped after the count, outside the lock: what it captured may panic.
        if let Some((_job, refused)) = refused {
            let mut tally = workers.tally.lock();
            tally.submitted -= 1;
            tally.rejected += u64::from(matches!(refused, SubmitError::Full { .. }));
            drop(tally);
            return Err(refused);
        }
        workers.clear_if_deserted();
        Ok(ticket)
    }

    /// A handler for jobs of one type, which share the pool with all else that is submitted.
    pub fn handler<J, T, F>(&self, handle: F) -> Handler<J, T>
    where
        F: Fn(J) -> T + Send + Sync + 'static,
    {
        Handler {
            pool: self.clone(),
            handle: Arc::new(handle),
        }
    }

    /// Stops accepting, lets what was accepted finish for at most `bound`, then cancels the rest: queued jobs
    /// are withdrawn, the waits of running ones are cut short. Returns once the workers have ended, or 2 s
    /// after that cancellation if a job does not heed it.
    ///
    /// Submitters that wait for room have been accepted, and so have those that run a job themselves. A job that drains
    /// its own pool waits for itself. If the drainer is cancelled meanwhile it unwinds; the pool stays closed and works
    /// on.
    pub fn drain(&self, bound: Duration) -> DrainReport {
        self.owner.workers.drain(bound)
    }

    /// Numbers that belong to one moment.
    pub fn stats(&self) -> Stats {
        self.owner.workers.stats()
    }

    /// Whether it accepts no more jobs: drained, draining, or its runtime has ended.
    pub fn is_closed(&self) -> bool {
        self.owner.workers.entrance().is_none()
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.owner.workers.name
    }

    /// How many workers it was built with.
    pub fn workers(&self) -> usize {
        self.owner.workers.count
    }

    /// What a submission does while the queue is full.
    pub fn when_full(&self) -> WhenFull {
        self.owner.workers.when_full
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("stats", &self.stats())
            .finish()
    }
}

/// Jobs of one type, done by one function in a pool's workers. Clones are the same handler.
///
/// # Examples
/// See [`Pool`].
pub struct Handler<J, T> {
    pool: Pool,
    handle: Arc<dyn Fn(J) -> T + Send + Sync>,
}

impl<J: Send + 'static, T: Send + 'static> Handler<J, T> {
    /// Hands a job to the pool.
    ///
    /// # Errors
    /// If the pool is closed, the queue is full and [`WhenFull`] says to reject, or jobs that run here have submitted
    /// others too deep ([`MAX_RUN_HERE`]), the scope is cancelled or its deadline passed. The job is dropped then.
    pub fn submit(&self, job: J) -> Result<Ticket<T>, SubmitError> {
        let handle = self.handle.clone();
        self.pool.submit(move || handle(job))
    }
}

impl<J, T> Clone for Handler<J, T> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            handle: self.handle.clone(),
        }
    }
}

impl<J, T> fmt::Debug for Handler<J, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("pool", &self.pool).finish()
    }
}
