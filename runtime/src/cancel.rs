//! Cancellation: tokens, shields, and asking whether one is cancelled.
//!
//! Cancelling is a request that is delivered at the next wait, and at every wait after that. A wait
//! that can return an error returns one; a wait that cannot unwinds to the edge of the scope. Taking
//! a lock is not a wait in this sense, so destructors may lock.

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

pub use crate::error::{Cancelled, Cause, Interrupt};
#[cfg(feature = "fault-injection")]
pub use crate::faults::at_every_suspension;
use crate::{
    error::{Elapsed, Unwind},
    scheduler::on_waiter,
    stay::{self, Frame},
    sync::channel::{self, Receiver, Sender},
    sys::spin::SpinLock,
    wait::{self, ready},
    waiter::{Cut, Scope, Target, Waiter},
};

/// Cancels what runs under it, from anywhere.
///
/// Clones are the same token. Cancelling cannot be undone.
///
/// # Examples
/// ```
/// use maniple::cancel::CancelToken;
/// use std::time::Duration;
/// maniple::run(|| {
///     let token = CancelToken::new();
///     let theirs = token.clone();
///     maniple::spawn(move || theirs.cancel());
///     let cut = token.run(|| maniple::sleep(Duration::from_secs(60)));
///     assert!(cut.is_err());
/// });
/// ```
#[derive(Clone)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

struct Shared {
    scope: Scope,
    /// Dropped by cancelling, which disconnects what [`CancelToken::cancelled`] gave out.
    bells: SpinLock<Vec<Sender<()>>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                scope: Scope::new(Target::Nothing),
                bells: SpinLock::new(Vec::new()),
            }),
        }
    }

    /// Cancels everything that runs, or will run, under this token. Returns at once.
    pub fn cancel(&self) {
        self.cancel_as(Cause::Token);
    }

    /// Hands a cancellation on, with its cause, to where it cannot reach by itself.
    pub(crate) fn cancel_as(&self, cause: Cause) {
        let Shared { scope, bells } = &*self.shared;
        scope.cancel(cause, &mut |claimed| ready(claimed));
        let bells = std::mem::take(&mut *bells.lock());
        drop(bells);
    }

    /// Whether [`CancelToken::cancel`] has been called. Asked again and again in vain, it gives way to others.
    pub fn is_cancelled(&self) -> bool {
        let cancelled = self.shared.scope.is_cancelled();
        if !cancelled {
            wait::spend();
        }
        cancelled
    }

    /// A channel that never has a message and is disconnected by [`CancelToken::cancel`], so that
    /// [`select!`](crate::select) can wait for the token among other things.
    ///
    /// Waiting for it is no cancellation of the caller's: that is what [`CancelToken::run`] is for.
    ///
    /// # Examples
    /// ```
    /// use maniple::{cancel::CancelToken, select, sync::channel};
    /// let (work, stop) = (channel::unbounded::<u32>(), CancelToken::new());
    /// let told = stop.cancelled();
    /// stop.cancel();
    /// select! {
    ///     recv(work.1) -> _ => unreachable!("there is no work"),
    ///     recv(told) -> _ => println!("told to stop"),
    /// }
    /// ```
    pub fn cancelled(&self) -> Receiver<()> {
        let (bell, told) = channel::bounded(0);
        let mut bells = self.shared.bells.lock();
        bells.retain(|bell| !bell.is_disconnected());
        // Under the lock, so that a cancellation either is seen here or finds the bell.
        if !self.shared.scope.is_cancelled() {
            bells.push(bell);
        }
        told
    }

    /// Runs `f`, and the groups that it makes, under this token as well as under the scopes around.
    ///
    /// If `f` returns a value it is kept, whether or not the token was cancelled meanwhile.
    ///
    /// # Errors
    /// [`Cancelled`] if a wait in `f` that cannot return an error was cut short by this token.
    ///
    /// # Panics
    /// With the panic of `f`, if it panics.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T, Cancelled> {
        on_waiter(|waiter| self.run_as(waiter, f))
    }

    fn run_as<T>(&self, waiter: &Waiter, f: impl FnOnce() -> T) -> Result<T, Cancelled> {
        let frame = Frame::of(waiter);
        let run = || catch_unwind(AssertUnwindSafe(f));
        let result = frame.run_under(&self.shared.scope, waiter, run);
        result.or_else(|payload| match payload.downcast_ref::<Unwind>() {
            // What cancels the scopes around as well is theirs to catch.
            Some(Unwind::Cancelled)
                if self.shared.scope.is_cancelled() && !waiter.is_cancelled() =>
            {
                Err(Cancelled)
            }
            _ => resume_unwind(payload),
        })
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.shared.scope.is_cancelled())
            .finish()
    }
}

/// Runs `f` without delivering cancellation or deadlines from outside; they are delivered afterwards.
///
/// For short critical sections that must not be cut in half, such as writing a complete frame.
/// Timeouts and tokens used inside `f` work. A shield has no bound, so what `f` waits for must come:
/// [`shield_for`] has one.
///
/// # Examples
/// ```
/// use maniple::cancel::{CancelToken, shield};
/// use std::time::Duration;
/// let token = CancelToken::new();
/// token.cancel();
/// let done = token.run(|| {
///     shield(|| maniple::sleep(Duration::from_millis(1)));
///     "after the shield"
/// });
/// assert_eq!(done, Ok("after the shield"));
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    stay::apart(f)
}

/// Asks whether the caller should go on: the cancellation point for code that computes.
///
/// # Errors
/// [`Interrupt`] if the scope is cancelled or its deadline has passed.
///
/// # Examples
/// ```
/// fn sum(numbers: &[u64]) -> Result<u64, maniple::cancel::Interrupt> {
///     let mut sum = 0;
///     for chunk in numbers.chunks(10_000) {
///         maniple::cancel::check()?;
///         sum += chunk.iter().sum::<u64>();
///     }
///     Ok(sum)
/// }
/// assert_eq!(sum(&[1, 2, 3]), Ok(6));
/// ```
pub fn check() -> Result<(), Interrupt> {
    let checked = on_waiter(|waiter| {
        let interrupt = match waiter.deadline() {
            _ if waiter.is_cancelled() => Interrupt::Cancelled,
            Some(deadline) if deadline <= crate::scheduler::now() => Interrupt::Elapsed,
            _ => return Ok(()),
        };
        waiter.note_cut();
        Err(interrupt)
    });
    wait::spend();
    checked
}

/// Tells whether a wait of the caller's was cut short since this was made: by a cancellation or a deadline, be it that
/// the scope has ended since. A wait that was refused before it began counts, and [`check`] that failed; one whose own
/// time was up does not (`recv_timeout`, a socket's read timeout), nor one that a [`shield`] kept whole.
///
/// For what must not be used again once a call was left in the middle: a pool drops such a connection, on which the
/// answer may still come.
///
/// It speaks of the coroutine, or plain thread, that asks, which need not be the one that made it. If that one has not
/// been cut for more than 2³¹ cuts of others in the process, it may say yes for no reason.
///
/// # Examples
/// ```
/// use maniple::{cancel::CutWatch, sync::channel, timeout};
/// use std::time::Duration;
/// maniple::run(|| {
///     let (_sender, answers) = channel::unbounded::<u32>();
///     let watch = CutWatch::start();
///     let soon = Duration::from_millis(1);
///     assert!(answers.recv_timeout(soon).is_err() && !watch.has_seen_one());
///     assert!(timeout(soon, || answers.recv()).unwrap().is_err());
///     // Though the deadline is not in force any more:
///     assert!(watch.has_seen_one());
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CutWatch(Cut);

impl CutWatch {
    /// Begins to watch.
    #[inline]
    pub fn start() -> Self {
        Self(Cut::last())
    }

    /// Whether a wait of the caller's was cut short since.
    #[inline]
    pub fn has_seen_one(self) -> bool {
        on_waiter(|waiter| waiter.was_cut_after(self.0))
    }
}

/// Whether the caller's scope has been cancelled.
pub fn is_cancelled() -> bool {
    let cancelled = on_waiter(Waiter::is_cancelled);
    if !cancelled {
        wait::spend();
    }
    cancelled
}

/// Why the caller's scope has been cancelled, if it has.
pub fn cause() -> Option<Cause> {
    wait::cause()
}

/// Shields `f` like [`shield`], for at most `bound`: a deadline of its own that is not shielded off.
///
/// # Errors
/// [`Elapsed`] if a wait in `f` that cannot return an error was cut short by the bound.
///
/// # Examples
/// ```
/// use maniple::cancel::shield_for;
/// use std::time::Duration;
/// let flushed = shield_for(Duration::from_secs(1), || "flushed");
/// assert_eq!(flushed, Ok("flushed"));
/// ```
pub fn shield_for<T>(bound: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    shield(|| crate::timeout(bound, f))
}

/// Runs `f` under a token that is cancelled at the suspension which follows `after` others; also says
/// whether there was such a suspension.
///
/// To find what a cancellation breaks: call it with 0, 1, 2… until it says `false`, as [`at_every_suspension`]
/// does, on a runtime with one worker, since suspensions of all coroutines on the caller's worker count; giving way
/// with [`yield_now`](crate::yield_now) is none. Needs the feature `fault-injection`.
///
/// # Errors
/// Fails as [`CancelToken::run`] does.
///
/// # Examples
/// ```
/// use maniple::cancel::cancel_at;
/// let runtime = maniple::Runtime::builder().workers(1).build()?;
/// runtime.run(|| {
///     let sleep = || maniple::sleep(std::time::Duration::from_millis(1));
///     assert!(matches!(cancel_at(0, sleep), (Err(_), true)));
///     assert!(matches!(cancel_at(1, sleep), (Ok(()), false)));
/// });
/// # Ok::<_, std::io::Error>(())
/// ```
#[cfg(feature = "fault-injection")]
pub fn cancel_at<T>(after: u32, f: impl FnOnce() -> T) -> (Result<T, Cancelled>, bool) {
    let token = CancelToken::new();
    let theirs = token.clone();
    crate::waiter::fault::arm(after, Box::new(move || theirs.cancel()));
    let result = token.run(f);
    (result, !crate::waiter::fault::disarm())
}

/// Whether what was caught is no panic, but a wait that cannot return an error and was cut short: by a cancelled
/// scope, or a deadline.
///
/// Who catches panics to make something of them hands such a payload on to [`std::panic::resume_unwind`], since it is
/// on its way to the edge of that scope.
///
/// # Examples
/// ```
/// use std::{panic::{AssertUnwindSafe, catch_unwind, resume_unwind}, time::Duration};
/// use maniple::cancel::is_cut_short;
///
/// fn guarded(f: impl FnOnce()) {
///     match catch_unwind(AssertUnwindSafe(f)) {
///         Err(cut) if is_cut_short(&*cut) => resume_unwind(cut),
///         Err(_) => println!("a panic, and no more of it"),
///         Ok(()) => {}
///     }
/// }
/// maniple::run(|| {
///     guarded(|| panic!("intended"));
///     let soon = Duration::from_millis(5);
///     assert!(maniple::timeout(soon, || guarded(|| maniple::sleep(60 * soon))).is_err());
/// });
/// ```
pub fn is_cut_short(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Unwind>()
}

/// Whether an I/O error says that the caller's scope was cancelled.
pub fn is_cancelled_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Cancelled>())
}
