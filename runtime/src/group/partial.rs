//! What is in by a deadline: [`partial_timeout`] and [`partial_deadline`].

use std::time::{Duration, Instant};

use crate::{
    error::Interrupt,
    group::{cause, group},
    scheduler::now,
    time,
};

/// What became of one of several calls that had until a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<T> {
    /// It returned in time. A call that returns a `Result` may have had a wait cut short and say so in it.
    Done(T),
    /// It was cut short, by the deadline or by a cancellation from outside, and unwound.
    Cut(Interrupt),
}

impl<T> Part<T> {
    /// The value, unless it was cut short.
    pub fn done(self) -> Option<T> {
        match self {
            Part::Done(value) => Some(value),
            Part::Cut(_) => None,
        }
    }

    /// Whether there is no value.
    pub fn is_cut(&self) -> bool {
        matches!(self, Part::Cut(_))
    }
}

/// Runs the calls concurrently for at most `timeout` and returns how each ended, in their order.
///
/// At the deadline the waits of what still runs are cut short, as under [`timeout`](crate::timeout); what
/// was done by then is kept. It returns once all calls have ended, at the deadline or before. An
/// earlier deadline or a cancellation of the caller reaches the calls too, and their parts are
/// returned all the same.
///
/// Elsewhere: Java's `StructuredTaskScope` with `awaitAll` and a timeout, then asking each subtask for
/// its state; in Kotlin `withTimeoutOrNull` around each `async`, in Trio `move_on_after` around a nursery
/// whose tasks write to places of their own, as in Go with `context.WithTimeout`.
///
/// # Panics
/// With a call's panic; the others are cancelled.
///
/// # Examples
/// ```
/// use maniple::group::{Part, partial_timeout};
/// use std::time::Duration;
/// let parts = partial_timeout(Duration::from_millis(20), [0, 60_000].map(|millis| move || {
///     maniple::sleep(Duration::from_millis(millis));
///     millis
/// }));
/// assert_eq!(parts[0], Part::Done(0));
/// assert!(parts[1].is_cut());
/// ```
pub fn partial_timeout<I, F, T>(timeout: Duration, calls: I) -> Vec<Part<T>>
where
    I: IntoIterator<Item = F>,
    F: FnOnce() -> T + Send,
    T: Send,
{
    match now().checked_add(timeout) {
        Some(at) => partial_deadline(at, calls),
        None => parts(calls),
    }
}

/// Makes all calls and returns what is done at `at`, like [`partial_timeout`].
///
/// # Panics
/// With a call's panic; the others are cancelled.
pub fn partial_deadline<I, F, T>(at: Instant, calls: I) -> Vec<Part<T>>
where
    I: IntoIterator<Item = F>,
    F: FnOnce() -> T + Send,
    T: Send,
{
    // The iterator may wait, and is under the caller's deadline alone.
    let calls: Vec<F> = calls.into_iter().collect();
    time::deadline(at, || parts(calls)).expect("the leader's one wait is not cut short")
}

fn parts<F: FnOnce() -> T + Send, T: Send>(calls: impl IntoIterator<Item = F>) -> Vec<Part<T>> {
    let calls: Vec<F> = calls.into_iter().collect();
    let mut values: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    let Ok(()) = group(|g| -> Result<(), std::convert::Infallible> {
        for (call, value) in calls.into_iter().zip(&mut values) {
            drop(g.spawn(move || *value = Some(call())));
        }
        Ok(())
    });
    let cut = cause();
    let part = |value: Option<T>| value.map_or(Part::Cut(cut), Part::Done);
    values.into_iter().map(part).collect()
}
