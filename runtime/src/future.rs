//! The border to `async` code: futures in coroutines, coroutines as futures.
//!
//! [`block_on`] waits for a future as for anything else; awaiting a [`JoinHandle`] in another executor
//! waits for a coroutine there. Futures that need an executor's own reactor, as tokio's sockets do, find
//! it only if that runtime has been entered.

use std::{
    fmt,
    future::{Future, IntoFuture},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use crate::{
    error::Elapsed,
    net::Interest,
    scheduler::now,
    task::{JoinError, JoinHandle},
    wait::{self, Interruptible, Reason, Waited, ready},
    waiter::Parking,
};

/// Runs `future` to its end on the calling coroutine, which waits whenever the future does. On a plain
/// thread it blocks that thread.
///
/// The future is polled here alone, so it need not be `Send`, and it may itself call what blocks in this
/// crate. Its wakers may go to any thread and outlive the call.
///
/// A cancellation point: in a cancelled scope, or past its deadline, the wait unwinds to the scope's edge
/// and drops the future. A future that wakes itself while it is polled gives other coroutines their turn.
///
/// # Panics
/// With the panic of the future.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// maniple::run(|| {
///     let task = maniple::spawn(|| 20);
///     assert_eq!(maniple::block_on(async { task.await.unwrap() + 22 }), 42);
///
///     let never = std::future::pending::<()>();
///     assert!(maniple::timeout(Duration::from_millis(5), || maniple::block_on(never)).is_err());
/// });
/// ```
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    if let Err(interrupt) = wait::check() {
        wait::unwind(Reason::Future, interrupt);
    }
    let mut future = pin!(future.into_future());
    let woken = Arc::new(Woken(Parking::new()));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            wait::spend();
            return output;
        }
        woken.wait();
    }
}

/// Polls what is not ready yet again and again, for a coroutine that waits meanwhile, always with the same waker.
///
/// In place of [`block_on`] for code that is polled part by part, as protocols are that somebody else has
/// written, and for waits that are to return errors: one that is cut short returns an error and does not
/// unwind. One poller serves one coroutine at a time.
///
/// # Examples
/// ```
/// use std::{future::poll_fn, pin::pin, task::Poll, time::{Duration, Instant}};
/// use maniple::future::Poller;
/// maniple::run(|| {
///     let poller = Poller::new();
///     let task = maniple::spawn(|| 21);
///     let mut task = pin!(IntoFuture::into_future(task));
///     let answer = poller.wait(None, |context| task.as_mut().poll(context));
///     assert_eq!(answer.unwrap().unwrap(), 21);
///
///     let soon = Instant::now() + Duration::from_millis(5);
///     let never = poller.wait(Some(soon), |_| Poll::<()>::Pending);
///     assert_eq!(never.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// });
/// ```
pub struct Poller {
    woken: Arc<Woken>,
    waker: Waker,
}

impl Poller {
    /// One that nobody has woken yet.
    pub fn new() -> Self {
        let woken = Arc::new(Woken(Parking::new()));
        Self {
            waker: Waker::from(woken.clone()),
            woken,
        }
    }

    /// Its waker: what wakes by it has the next wait end, or the present one.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Polls until that is ready.
    ///
    /// # Errors
    /// Past `until` (kind `TimedOut`), or if the wait was cut short, in a cancelled scope or past its
    /// deadline. What was polled can be polled again.
    ///
    /// # Panics
    /// With the panic of `poll`.
    pub fn wait<T>(
        &self,
        until: Option<Instant>,
        poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> io::Result<T> {
        self.wait_beside(until, || None, poll)
    }

    /// Polls until that is ready, whenever it is woken and whenever a socket is ready, if `interest`
    /// says after a poll that one is waited for, which `poll` reads or writes without waiting.
    ///
    /// # Errors
    /// Those of [`Poller::wait`], and if the kernel cannot watch the socket.
    ///
    /// # Panics
    /// With the panic of `poll`.
    pub fn wait_beside<'a, T>(
        &self,
        until: Option<Instant>,
        interest: impl Fn() -> Option<Interest<'a>>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> io::Result<T> {
        wait::check()?;
        let mut context = Context::from_waker(&self.waker);
        loop {
            if let Poll::Ready(output) = poll(&mut context) {
                wait::spend();
                return Ok(output);
            }
            if until.is_some_and(|until| until <= now()) {
                return Err(Elapsed.into());
            }
            self.woken.wait_beside(until, interest())?;
        }
    }
}

impl Default for Poller {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

/// Whether the future asked to be polled again. A token of its own, which [`unpark`] does not set: code
/// around the future may park for reasons of its own.
///
/// [`unpark`]: crate::task::Current::unpark
struct Woken(Parking);

impl Woken {
    fn wait(&self) {
        loop {
            let waited = wait::wait(
                Reason::Future,
                None,
                Interruptible::Yes,
                |waiter| self.0.arm(waiter),
                || self.0.forget(),
            );
            match waited {
                Waited::Notified => return,
                // Woken while it was polled, perhaps by itself and for ever.
                Waited::AtOnce => {
                    wait::spend();
                    return wait::check().unwrap_or_else(|cut| wait::unwind(Reason::Future, cut));
                }
                // Where it cannot unwind, in a destructor, the future is asked once more.
                Waited::Interrupted(interrupt) => return wait::unwind(Reason::Future, interrupt),
                Waited::TimedOut | Waited::Again => {}
            }
        }
    }
}

impl Woken {
    /// One wait until it is woken or the socket is ready. It may end for nothing.
    fn wait_beside(
        &self,
        until: Option<Instant>,
        interest: Option<Interest<'_>>,
    ) -> io::Result<()> {
        if let Some(interest) = interest {
            return interest.wait(until, |waiter| self.0.arm(waiter), || self.0.forget());
        }
        let (yes, arm) = (Interruptible::Yes, |waiter: &_| self.0.arm(waiter));
        match wait::wait(Reason::Future, until, yes, arm, || self.0.forget()) {
            Waited::AtOnce => {
                wait::spend();
                wait::check().map_err(Into::into)
            }
            Waited::Interrupted(interrupt) => Err(interrupt.into()),
            Waited::Notified | Waited::TimedOut | Waited::Again => Ok(()),
        }
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(claimed) = self.0.unpark() {
            ready(claimed);
        }
    }
}

/// A coroutine's end as a future, for any executor; what awaiting a [`JoinHandle`] makes.
///
/// It yields what [`JoinHandle::join`] returns. Dropping it detaches the coroutine.
///
/// # Panics
/// If it is polled after it has yielded.
///
/// # Examples
/// ```
/// # use std::{future::IntoFuture, pin::pin, task::{Context, Poll, Wake, Waker}, sync::Arc, thread};
/// /// The smallest executor: one future, one thread.
/// fn execute<F: IntoFuture>(future: F) -> F::Output {
///     struct Unpark(thread::Thread);
///     impl Wake for Unpark {
///         fn wake(self: Arc<Self>) {
///             self.0.unpark();
///         }
///     }
///     let mut future = pin!(future.into_future());
///     let waker = Waker::from(Arc::new(Unpark(thread::current())));
///     loop {
///         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
///             Poll::Ready(output) => return output,
///             Poll::Pending => thread::park(),
///         }
///     }
/// }
///
/// let page = execute(async {
///     let title = maniple::spawn(|| "title");
///     let body = maniple::spawn(|| "body");
///     Ok::<_, maniple::JoinError>(format!("{}: {}", title.await?, body.await?))
/// });
/// assert_eq!(page.unwrap(), "title: body");
/// ```
#[must_use = "a future does nothing unless it is polled, and detaches the coroutine when dropped"]
pub struct JoinFuture<T> {
    /// `None` once it has yielded.
    handle: Option<JoinHandle<T>>,
}

impl<T> JoinFuture<T> {
    /// Cancels the coroutine, as [`JoinHandle::cancel`]; the future still yields how it ended.
    pub fn cancel(&self) {
        if let Some(handle) = &self.handle {
            handle.cancel();
        }
    }
}

impl<T> IntoFuture for JoinHandle<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = JoinFuture<T>;

    fn into_future(self) -> JoinFuture<T> {
        JoinFuture { handle: Some(self) }
    }
}

impl<T> Future for JoinFuture<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = self.handle.as_mut().expect("polled after it has yielded");
        let Some(result) = handle.handle().poll(context.waker()) else {
            return Poll::Pending;
        };
        self.handle = None;
        Poll::Ready(result)
    }
}

impl<T> Drop for JoinFuture<T> {
    fn drop(&mut self) {
        if let Some(handle) = &mut self.handle {
            handle.handle().task().forget_waiter();
        }
    }
}

impl<T> fmt::Debug for JoinFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinFuture").field(&self.handle).finish()
    }
}
