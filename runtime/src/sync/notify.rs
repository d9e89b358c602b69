//! A notification: wakes who waits for it, or one who comes later.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    error::Interrupt,
    scheduler::now,
    sys::spin::SpinLock,
    wait::{self, Cuttable, Reason, WaitList, WaitNode, Waited, ready},
};

/// Tells others that there is something to look at, without carrying a value.
///
/// A [`Notify::notify_one`] that finds nobody waiting is kept for the next to wait; several are kept as
/// one. So a consumer that looks at its data, waits, and looks again misses nothing.
///
/// # Examples
/// ```
/// use maniple::sync::{Mutex, Notify};
/// let (inbox, news) = (Mutex::new(Vec::new()), Notify::new());
/// maniple::join!(
///     {
///         while inbox.lock().is_empty() {
///             news.notified();
///         }
///     },
///     {
///         inbox.lock().push("letter");
///         news.notify_one();
///     }
/// );
/// ```
pub struct Notify {
    state: SpinLock<State>,
}

struct State {
    /// A notification for the next to wait.
    permit: bool,
    waiters: WaitList,
}

impl Notify {
    /// One without waiters, and nothing kept.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            state: SpinLock::new(State {
                permit: false,
                waiters: WaitList::new(),
            }),
        }
    }

    /// One without waiters, and nothing kept.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            state: SpinLock::new(State {
                permit: false,
                waiters: WaitList::new(),
            }),
        }
    }

    /// Waits for a notification, or takes the one that was kept.
    ///
    /// A cancellation point: in a cancelled scope, or once its deadline passes, it unwinds to the scope's
    /// edge, and has taken no notification.
    pub fn notified(&self) {
        if let Err(interrupt) = self.notified_until(None) {
            wait::unwind(interrupt);
        }
    }

    /// As [`Notify::notified`], for at most `timeout`; tells whether a notification came.
    pub fn notified_timeout(&self, timeout: Duration) -> bool {
        match self.notified_until(now().checked_add(timeout)) {
            Ok(notified) => notified,
            Err(interrupt) => {
                wait::unwind(interrupt);
                false
            }
        }
    }

    /// Wakes the longest waiter; if there is none, the next to wait need not.
    pub fn notify_one(&self) {
        let claimed = {
            let mut state = self.state.lock();
            // SAFETY: under the list's lock.
            let claimed = unsafe { state.waiters.notify_one() };
            state.permit |= claimed.is_none();
            claimed
        };
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }

    /// Wakes all who wait now; nothing is kept for those who come later.
    pub fn notify_waiters(&self) {
        // SAFETY: under the list's lock.
        let all = unsafe { self.state.lock().waiters.notify_all() };
        all.ready();
    }

    /// Whether a notification came before `deadline`.
    fn notified_until(&self, deadline: Option<Instant>) -> Result<bool, Interrupt> {
        wait::check()?;
        let node = WaitNode::new();
        loop {
            let waited = wait::wait(
                Reason::Notify,
                deadline,
                Cuttable::Yes,
                |strand| {
                    let mut state = self.state.lock();
                    let kept = std::mem::take(&mut state.permit);
                    if !kept {
                        // SAFETY: under the list's lock; taken out below unless notified.
                        unsafe { state.waiters.arm(&node, strand, Cuttable::Yes) };
                    }
                    !kept
                },
                || {
                    // SAFETY: under the list's lock, in this list or none.
                    unsafe { self.state.lock().waiters.remove(&node) };
                },
            );
            match waited {
                Waited::AtOnce => {
                    wait::spend();
                    return Ok(true);
                }
                Waited::Notified => return Ok(true),
                Waited::TimedOut => return Ok(false),
                Waited::Cut(interrupt) => return Err(interrupt),
                Waited::Again => {}
            }
        }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify")
            .field("kept", &self.state.lock().permit)
            .finish()
    }
}
