//! One job: the submitter's ticket for it, and what the pool does with it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use maniple::{
    cancel::{CancelToken, is_cancelled},
    log_limit::LogLimit,
    log_within, panics,
    sync::{channel::RecvError, oneshot},
    time::remaining,
};

use super::error::{JobError, Panic};
use crate::lines::{MOST_LINES, panic_message};

/// What a submitter holds of its job: the result is had by [`Ticket::join`]. Dropping it detaches the job,
/// which then runs with nobody to hear of it.
///
/// # Examples
/// ```
/// use maniple_parts::pool::Pool;
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let pool = Pool::builder("sums").workers(2).build()?;
///     let (small, large) = (pool.submit(|| 1 + 1)?, pool.submit(|| 40 + 2)?);
///     assert_eq!((small.join()?, large.join()?), (2, 42));
///     Ok(())
/// })
/// # }
/// ```
#[must_use = "dropping a ticket detaches the job: nobody will hear of its panic"]
pub struct Ticket<T> {
    pub(super) pool: Arc<str>,
    pub(super) answer: oneshot::Receiver<Result<T, JobError>>,
    pub(super) token: CancelToken,
}

impl<T> Ticket<T> {
    /// Waits for the job's result, from a coroutine or a plain thread.
    ///
    /// The wait is cut short by cancellation and by the deadline of the caller's scope. The job is then
    /// cancelled too: withdrawn if it has not begun.
    ///
    /// # Errors
    /// What became of the job in place of a result; see [`JobError`].
    pub fn join(self) -> Result<T, JobError> {
        let Self {
            pool,
            answer,
            token,
        } = self;
        match answer.recv() {
            Ok(result) => result,
            // The pool's runtime has ended, and the job with it.
            Err(RecvError::Disconnected) => Err(JobError::Cancelled { pool }),
            Err(RecvError::Cancelled) => {
                token.cancel();
                Err(JobError::Cancelled { pool })
            }
            Err(RecvError::Elapsed) => {
                token.cancel();
                Err(JobError::Elapsed { pool })
            }
        }
    }

    /// Cancels the job: withdrawn if it has not begun, else its waits are cut short from now on. Returns at
    /// once. A withdrawn job keeps its place in the queue until its turn comes.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Whether the job has ended, in whichever way.
    pub fn is_finished(&self) -> bool {
        self.answer.is_closed()
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("pool", &self.pool)
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// A job in the queue.
pub(super) struct Queued {
    job: Box<dyn FnOnce(Turn<'_>) -> Ended + Send>,
    pub(super) since: Instant,
}

/// What is to become of a job.
enum Turn<'a> {
    /// It runs, under the pool's token.
    Run(&'a CancelToken),
    /// It is taken out of the queue for a newer one.
    Drop,
    /// It is taken out of the queue: the pool ends.
    Withdraw,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Panicked,
    Cancelled,
    Elapsed,
    Dropped,
    Withdrawn,
}

impl Queued {
    /// Packs `f` with what it inherits from the caller, and makes its ticket.
    pub(super) fn new<T, F>(pool: &Arc<str>, f: F) -> (Self, Ticket<T>)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (promise, answer) = oneshot::channel();
        let token = CancelToken::new();
        let since = maniple::time::now();
        let deadline = remaining().map(|left| since + left);
        let ticket = Ticket {
            pool: pool.clone(),
            answer,
            token: token.clone(),
        };
        let pool = pool.clone();
        let job = move |turn: Turn<'_>| {
            let (ended, result) = decide(pool, f, turn, &token, deadline);
            // Nobody may wait for it any more.
            let _ = promise.send(result);
            ended
        };
        let queued = Self {
            job: Box::new(job),
            since,
        };
        (queued, ticket)
    }

    pub(super) fn run(self, stop: &CancelToken) -> Ended {
        self.end(Turn::Run(stop))
    }

    pub(super) fn drop_for_newer(self) -> Ended {
        self.end(Turn::Drop)
    }

    pub(super) fn withdraw(self) -> Ended {
        self.end(Turn::Withdraw)
    }

    /// What a job captured, and a result that nobody waits for, are dropped here; that may panic too.
    fn end(self, turn: Turn<'_>) -> Ended {
        catch_unwind(AssertUnwindSafe(|| (self.job)(turn))).unwrap_or_else(|payload| {
            static RATE: LogLimit = LogLimit::new(MOST_LINES);
            let text = panic_message(&*payload);
            log_within!(
                RATE,
                error,
                "dropping a job, or its result, panicked: {text}"
            );
            panics::discard(payload);
            Ended::Panicked
        })
    }
}

fn decide<T>(
    pool: Arc<str>,
    f: impl FnOnce() -> T,
    turn: Turn<'_>,
    token: &CancelToken,
    deadline: Option<Instant>,
) -> (Ended, Result<T, JobError>) {
    let stop = match turn {
        Turn::Drop => return (Ended::Dropped, Err(JobError::Dropped { pool })),
        Turn::Withdraw => return (Ended::Withdrawn, Err(JobError::Cancelled { pool })),
        Turn::Run(stop) => stop,
    };
    if token.is_cancelled() || stop.is_cancelled() {
        return (Ended::Withdrawn, Err(JobError::Cancelled { pool }));
    }
    if deadline.is_some_and(|deadline| deadline <= maniple::time::now()) {
        return (Ended::Elapsed, Err(JobError::Elapsed { pool }));
    }
    let timed = || match deadline {
        Some(deadline) => maniple::deadline(deadline, f),
        None => Ok(f()),
    };
    match catch_unwind(AssertUnwindSafe(|| token.run(|| stop.run(timed)))) {
        Ok(Ok(Ok(Ok(value)))) => (Ended::Done, Ok(value)),
        Ok(Ok(Ok(Err(_)))) => (Ended::Elapsed, Err(JobError::Elapsed { pool })),
        Ok(Ok(Err(_)) | Err(_)) => (Ended::Cancelled, Err(JobError::Cancelled { pool })),
        // Not the job but who runs it has been cancelled. What has a text to it is a panic all the same.
        Err(payload) if is_cancelled() && panics::message(&*payload).is_none() => {
            (Ended::Cancelled, Err(JobError::Cancelled { pool }))
        }
        Err(payload) => {
            let panic = Panic::new(payload);
            static RATE: LogLimit = LogLimit::new(MOST_LINES);
            log_within!(RATE, error, "a job of pool `{pool}` panicked: {panic}");
            (Ended::Panicked, Err(JobError::Panicked { pool, panic }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unrun() -> (Queued, Ticket<()>) {
        Queued::new(&"p".into(), || panic!("it must not run"))
    }

    #[test]
    fn a_job_whose_turn_comes_too_late_does_not_run() {
        let late = maniple::timeout(std::time::Duration::ZERO, unrun);
        let (queued, ticket) = late.unwrap();
        assert_eq!(queued.run(&CancelToken::new()), Ended::Elapsed);
        assert!(matches!(ticket.join(), Err(JobError::Elapsed { .. })));
    }

    #[test]
    fn a_job_that_was_cancelled_before_its_turn_does_not_run() {
        let (queued, ticket) = unrun();
        ticket.cancel();
        assert_eq!(queued.run(&CancelToken::new()), Ended::Withdrawn);
        assert!(matches!(ticket.join(), Err(JobError::Cancelled { .. })));
    }

    #[test]
    fn a_job_that_is_lost_tells_its_ticket() {
        let (queued, ticket) = unrun();
        assert!(!ticket.is_finished());
        drop(queued);
        assert!(ticket.is_finished());
        assert!(matches!(ticket.join(), Err(JobError::Cancelled { .. })));
    }

    #[test]
    fn errors_can_be_sent_and_shared() {
        fn check<E: std::error::Error + Send + Sync + 'static>() {}
        check::<JobError>();
        check::<super::super::SubmitError>();
    }
}
