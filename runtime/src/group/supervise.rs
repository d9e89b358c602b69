//! Failures as data: [`supervised`] for calls, [`Group::supervise`] for children, [`Restart`] for those
//! that are to live long.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use crate::{
    cancel,
    error::Unwind,
    group::{Child, Group, group},
    scheduler::now,
    sys::fenced,
    task::{End, JoinError},
    time,
};

/// Runs the calls concurrently and returns how each ended, in their order: a failure touches no other.
///
/// An error that a call returns is its value; a panic is the [`JoinError`] in its place, as is having
/// been cut short by a cancellation or a deadline, which reach all the calls.
///
/// Elsewhere: Kotlin's `supervisorScope`, Java's `StructuredTaskScope` with `awaitAll`, JavaScript's
/// `Promise.allSettled`. In Go a `sync.WaitGroup` without `errgroup`; in Eio and Trio each task catches
/// its own.
///
/// # Panics
/// If a call could not get a stack.
///
/// # Examples
/// ```
/// let calls: [fn() -> u32; 2] = [|| 7, || panic!("only this one")];
/// let ended = maniple::group::supervised(calls);
/// assert_eq!(*ended[0].as_ref().unwrap(), 7);
/// assert!(ended[1].as_ref().unwrap_err().is_panic());
/// ```
pub fn supervised<I, F, T>(calls: I) -> Vec<Result<T, JoinError>>
where
    I: IntoIterator<Item = F>,
    F: FnOnce() -> T + Send,
    T: Send,
{
    let Ok(ended) = group(|g| -> Result<_, Infallible> {
        let children: Vec<_> = calls.into_iter().map(|call| g.supervise(call)).collect();
        Ok(children.into_iter().map(Child::conclude).collect())
    });
    ended
}

impl<'scope, E> Group<'scope, '_, E> {
    /// Spawns a child like [`Group::spawn`], whose panic is only its own: the siblings run on, and
    /// [`Child::join`] returns it. The panic hook has reported it, should nobody join.
    ///
    /// # Examples
    /// ```
    /// use maniple::JoinError;
    /// let sum: Result<u32, JoinError> = maniple::group(|g| {
    ///     let fragile = g.supervise(|| -> u32 { panic!("as expected") });
    ///     let steady = g.spawn(|| 40);
    ///     Ok(fragile.join().unwrap_or(2) + steady.join()?)
    /// });
    /// assert_eq!(sum.unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn supervise<F, T>(&'scope self, body: F) -> Child<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
        E: Send,
    {
        self.start_unguarded(None, move || End::Value(body()))
    }
}

/// How often, and after what pauses, something that is to live long is begun again when it fails.
///
/// After each failure, an error or a panic, [`Restart::run`] pauses: first for the start of `backoff`, then
/// twice as long for each further failure `within` the same time, up to its end. After more than `max`
/// failures within that time it gives up. What fails rarely thus begins again at once, for ever.
///
/// Elsewhere: a supervisor's intensity and period in Erlang/OTP; in Kotlin a `supervisorScope` and a flow's
/// `retryWhen`; Go, Java, Eio and Trio leave the loop to the user.
///
/// # Examples
/// ```
/// use maniple::group::Restart;
/// use std::time::Duration;
/// let restart = Restart {
///     max: 5,
///     within: Duration::from_secs(60),
///     backoff: Duration::from_millis(1)..=Duration::from_secs(1),
/// };
/// let served: Result<_, maniple::JoinError> = maniple::group(|g| {
///     let feed = g.spawn(|| {
///         restart.run(|attempt| match attempt {
///             0 => Err("connection lost"),
///             1 => panic!("unexpected message"),
///             _ => Ok(attempt),
///         })
///     });
///     feed.join()
/// });
/// assert_eq!(served.unwrap().unwrap(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// So many failures within the time are borne; one more is the end.
    pub max: usize,
    /// The time after which a failure is forgotten.
    pub within: Duration,
    /// The shortest pause and the longest.
    pub backoff: RangeInclusive<Duration>,
}

impl Default for Restart {
    /// At most 5 within a minute, after pauses from 10 ms to 5 s.
    fn default() -> Self {
        Self {
            max: 5,
            within: Duration::from_secs(60),
            backoff: Duration::from_millis(10)..=Duration::from_secs(5),
        }
    }
}

impl Restart {
    /// Calls `body`, with the number of earlier calls, until it returns `Ok`.
    ///
    /// For a child of its own, of a group or not. What is to run again although it ended well returns
    /// an error of that meaning.
    ///
    /// # Errors
    /// [`GaveUp`], with the last failure, after too many of them; or after one in a scope that has been
    /// cancelled or is past its deadline. A pause is cut short like any sleep: it unwinds.
    pub fn run<T, E>(&self, mut body: impl FnMut(usize) -> Result<T, E>) -> Result<T, GaveUp<E>> {
        let mut recent = VecDeque::new();
        for attempt in 0.. {
            let last = match catch_unwind(AssertUnwindSafe(|| body(attempt))) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => FailedAttempt::Error(error),
                Err(payload) if payload.is::<Unwind>() => resume_unwind(payload),
                Err(payload) => FailedAttempt::Panic(JoinError::panicked(payload)),
            };
            let failed_at = now();
            recent.retain(|&at| failed_at.saturating_duration_since(at) < self.within);
            recent.push_back(failed_at);
            if recent.len() > self.max || cancel::check().is_err() {
                let failures = recent.len();
                return Err(GaveUp { failures, last });
            }
            fenced::drop_value(last, "what an attempt failed with");
            time::sleep(self.pause(recent.len()));
        }
        unreachable!("the attempts are counted for ever")
    }

    fn pause(&self, failures: usize) -> Duration {
        let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let pause = self.backoff.start().saturating_mul(factor);
        pause.min(*self.backoff.end())
    }
}

/// What [`Restart::run`] gave up for.
#[derive(Debug)]
#[non_exhaustive]
pub struct GaveUp<E> {
    /// How many failures there were within the time.
    pub failures: usize,
    /// The last of them.
    pub last: FailedAttempt<E>,
}

/// How an attempt under [`Restart::run`] failed.
#[derive(Debug)]
pub enum FailedAttempt<E> {
    /// It returned this error.
    Error(E),
    /// It panicked; [`JoinError::into_panic`] has the payload.
    Panic(JoinError),
}

impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gave up after {} failures, the last: ", self.failures)?;
        match &self.last {
            FailedAttempt::Error(error) => error.fmt(f),
            FailedAttempt::Panic(panic) => panic.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for GaveUp<E> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let restart = Restart {
            backoff: Duration::from_millis(3)..=Duration::from_millis(20),
            ..Restart::default()
        };
        let pauses =
            [1, 2, 3, 4, 5, 40, usize::MAX].map(|failures| restart.pause(failures).as_millis());
        assert_eq!(pauses, [3, 6, 12, 20, 20, 20, 20]);
    }
}
