//! The handle of a coroutine: the right to its result.

use std::{borrow::Cow, fmt};

use super::{Handle, Id, JoinError};
use crate::{coroutine::Name, error::Cause, wait::Interruptible};

/// Owns the right to a coroutine's result.
///
/// Dropping it detaches the coroutine. A result that nobody takes is dropped by the last to come: by the
/// coroutine, as its last act on its own stack and with its own locals, if its handle was dropped before it
/// had returned; else by the one who drops the handle, there and then. A panic of the result's destructor is
/// logged, as an error that names the coroutine, and harms neither.
pub struct JoinHandle<T>(Handle<T>);

impl<T> JoinHandle<T> {
    #[inline]
    pub(crate) fn new(handle: Handle<T>) -> Self {
        Self(handle)
    }

    /// Waits for the coroutine to end and returns its result.
    ///
    /// Works from a coroutine, and blocks a plain thread. The wait is cut short by cancellation and by
    /// the deadline of the caller's scope, and the handle is then dropped, which detaches the coroutine.
    ///
    /// # Errors
    /// If the coroutine panicked, was cancelled or never got a stack, or the wait was cut short.
    #[inline]
    pub fn join(self) -> Result<T, JoinError> {
        self.0.join(Interruptible::Yes)
    }

    pub(crate) fn handle(&mut self) -> &mut Handle<T> {
        &mut self.0
    }

    /// Whether the coroutine has ended. Asked again and again in vain, it gives way to others.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Cancels the coroutine: every wait it makes from now on is cut short.
    ///
    /// If it has not begun it never will. Returns at once; [`JoinHandle::join`] waits for the end.
    pub fn cancel(&self) {
        self.0.cancel(Cause::Handle);
    }

    /// Cancels the coroutine like [`JoinHandle::cancel`], with the cause that
    /// [`cancel::cause`](crate::cancel::cause) and [`JoinError::cause`] give.
    ///
    /// # Examples
    /// ```
    /// use maniple::cancel::Cause;
    /// # maniple::run(|| {
    /// let working = maniple::spawn(|| maniple::sleep(std::time::Duration::from_secs(60)));
    /// working.cancel_because(Cause::Disconnected);
    /// assert_eq!(working.join().unwrap_err().cause(), Some(Cause::Disconnected));
    /// # });
    /// ```
    pub fn cancel_because(&self, cause: Cause) {
        self.0.cancel(cause);
    }

    /// The coroutine's id.
    pub fn id(&self) -> Id {
        Id::from_raw(self.0.task().header().origin.id)
    }

    /// The coroutine's name, if it was given one.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.0.task().header().origin.name.as_ref().map(Name::text)
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("finished", &self.is_finished())
            .finish()
    }
}
