//! A notification: wakes who waits for it, or one who comes later.

use std::{
    fmt,
    time::{Duration, Instant},
};

#[cfg(feature = "fault-injection")]
use crate::sys::planted::{Planted, is_planted};
use crate::{
    error::Interrupt,
    scheduler::now,
    wait::{self, Interruptible, Node, QUEUE, Reason, Waited, Waiters, ready},
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
    waiters: Waiters<State>,
}

struct State {
    /// A notification for the next to wait.
    permit: bool,
}

impl Notify {
    /// One without waiters, and nothing kept.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            waiters: Waiters::new(State { permit: false }),
        }
    }

    /// One without waiters, and nothing kept.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            waiters: Waiters::new(State { permit: false }),
        }
    }

    /// Waits for a notification, or takes the one that was kept.
    ///
    /// A cancellation point: in a cancelled scope, or once its deadline passes, it unwinds to the scope's
    /// edge, and has taken no notification.
    pub fn notified(&self) {
        if let Err(interrupt) = self.notified_until(None) {
            wait::unwind(Reason::Notify, interrupt);
        }
    }

    /// Waits like [`Notify::notified`], for at most `timeout`; tells whether a notification came.
    pub fn notified_timeout(&self, timeout: Duration) -> bool {
        match self.notified_until(now().checked_add(timeout)) {
            Ok(notified) => notified,
            Err(interrupt) => {
                wait::unwind(Reason::Notify, interrupt);
                false
            }
        }
    }

    /// Wakes the longest waiter; if there is none, the next to wait need not.
    pub fn notify_one(&self) {
        let claimed = {
            let mut state = self.waiters.lock();
            let claimed = state.notify_one(QUEUE);
            state.permit |= claimed.is_none();
            #[cfg(feature = "fault-injection")]
            if is_planted(Planted::ForgetsNotifications) {
                state.permit = false;
            }
            claimed
        };
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }

    /// Wakes all who wait now; nothing is kept for those who come later.
    pub fn notify_waiters(&self) {
        self.waiters.wake_all(QUEUE);
    }

    /// Whether a notification came before `deadline`.
    fn notified_until(&self, deadline: Option<Instant>) -> Result<bool, Interrupt> {
        wait::check()?;
        loop {
            let mut state = self.waiters.lock();
            if std::mem::take(&mut state.permit) {
                drop(state);
                wait::spend();
                return Ok(true);
            }
            let mut node = Node::new(());
            let waited = state.wait(
                QUEUE,
                &mut node,
                Reason::Notify,
                deadline,
                Interruptible::Yes,
                |_, _| {},
            );
            match waited {
                Waited::Notified => return Ok(true),
                Waited::TimedOut => return Ok(false),
                Waited::Interrupted(interrupt) => return Err(interrupt),
                Waited::AtOnce | Waited::Again => {}
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
            .field("kept", &self.waiters.lock().permit)
            .finish()
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::{cancel::CancelToken, error::Cause, scheduler::current_waiter, waiter::Waiter};
    use loom::{sync::Arc, thread::JoinHandle};

    fn model(body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(body);
    }

    /// Cancels the caller's waits from another thread, which the caller joins.
    fn canceller() -> JoinHandle<()> {
        let owner = current_waiter().as_ptr() as usize;
        loom::thread::spawn(move || {
            // SAFETY: the caller joins this thread before it ends.
            let owner = unsafe { &*(owner as *const Waiter) };
            owner
                .own_scope()
                .cancel(Cause::Handle, &mut |claimed| ready(claimed));
        })
    }

    /// A notification and a cancellation race for a waiter: the notification is taken or kept.
    #[test]
    fn loom_a_notification_is_not_lost_to_a_cancelled_waiter() {
        model(|| {
            let notify = Arc::new(Notify::new());
            let theirs = notify.clone();
            let notifier = loom::thread::spawn(move || theirs.notify_one());
            let canceller = canceller();
            let taken = notify.notified_until(None).is_ok();
            notifier.join().unwrap();
            canceller.join().unwrap();
            assert!(taken ^ notify.waiters.lock().permit);
        });
    }

    /// Two wait and one of them is cancelled while `notify` is called; true if that one was notified.
    fn two_waiters(notify: &Arc<Notify>, call: fn(&Notify)) -> (bool, JoinHandle<bool>) {
        let token = CancelToken::new();
        let (theirs, under) = (notify.clone(), token.clone());
        let hasty = loom::thread::spawn(move || {
            let run = under.run(|| theirs.notified_until(None).is_ok());
            run == Ok(true)
        });
        let theirs = notify.clone();
        let patient = loom::thread::spawn(move || theirs.notified_until(None) == Ok(true));
        token.cancel();
        call(notify);
        (hasty.join().unwrap(), patient)
    }

    /// What the cancelled one does not take reaches the other.
    #[test]
    fn loom_a_notification_passes_a_cancelled_waiter_by() {
        model(|| {
            let notify = Arc::new(Notify::new());
            let (taken, patient) = two_waiters(&notify, Notify::notify_one);
            if taken {
                notify.notify_one();
            }
            assert!(patient.join().unwrap());
            assert!(!notify.waiters.lock().permit);
        });
    }

    /// Waking all goes over nodes on the stacks of those it wakes, and of one who gives up.
    #[test]
    fn loom_waking_all_meets_one_who_gives_up() {
        model(|| {
            let notify = Arc::new(Notify::new());
            let (_, patient) = two_waiters(&notify, Notify::notify_waiters);
            // It may have come too late to be among all.
            notify.notify_one();
            assert!(patient.join().unwrap());
        });
    }
}
